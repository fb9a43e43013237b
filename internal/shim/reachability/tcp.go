// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package reachability

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
)

// TCP asks kubelets by TCP: any segment from the host is an answer, also one that refuses the
// connection.
//
// A connection that is closed at once makes a kubelet log a failed TLS handshake, each time. So,
// where the system allows it (see keepsConnections), the connection is kept, and further questions
// are keep-alive segments in it, which the host's TCP stack answers and the kubelet does not see. An
// unanswered one costs the connection, so that the next question is a new one: state that a device
// in between has lost is not taken for silence.
type TCP struct {
	mu   sync.Mutex
	kept map[netip.AddrPort]*net.TCPConn
	// limit is how many connections are kept at most.
	limit int
}

// NewTCP returns an Asker for kubelets.
func NewTCP() *TCP {
	return &TCP{kept: make(map[netip.AddrPort]*net.TCPConn), limit: keptLimit()}
}

// Ask implements Asker.
func (t *TCP) Ask(ctx context.Context, address netip.AddrPort) Answer {
	if conn := t.take(address); conn != nil {
		answer := askKept(ctx, conn)
		if answer == Answered {
			t.keep(address, conn)
			return Answered
		}
		abort(conn)
		if answer == Silent {
			return Silent
		}
		// The connection has ended, at some time since the last question.
	}
	dialer := net.Dialer{KeepAliveConfig: keepAlive}
	conn, err := dialer.DialTCP(ctx, "tcp", netip.AddrPort{}, address)
	if err != nil {
		return answerOf(err)
	}
	t.keep(address, conn)
	return Answered
}

// Forget implements Asker.
func (t *TCP) Forget(address netip.AddrPort) {
	if conn := t.take(address); conn != nil {
		abort(conn)
	}
}

func (t *TCP) take(address netip.AddrPort) *net.TCPConn {
	t.mu.Lock()
	defer t.mu.Unlock()
	conn := t.kept[address]
	delete(t.kept, address)
	return conn
}

func (t *TCP) keep(address netip.AddrPort, conn *net.TCPConn) {
	t.mu.Lock()
	_, other := t.kept[address]
	kept := !other && len(t.kept) < t.limit
	if kept {
		t.kept[address] = conn
	}
	t.mu.Unlock()
	if !kept {
		abort(conn)
	}
}

// abort closes a connection by a reset: the kernel would go on sending the end of it to a host that
// is gone.
func abort(conn *net.TCPConn) {
	_ = conn.SetLinger(0)
	_ = conn.Close()
}

// answerOf is what the failure of a connect says of the host. What fails at this end, a missing
// route, descriptor, port or permission, says nothing.
func answerOf(err error) Answer {
	switch {
	case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, syscall.ECONNRESET):
		return Answered
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded),
		errors.Is(err, syscall.ETIMEDOUT), errors.Is(err, syscall.EHOSTUNREACH),
		errors.Is(err, syscall.EHOSTDOWN):
		return Silent
	default:
		return Inconclusive
	}
}
