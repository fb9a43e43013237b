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
	"time"
)

// TCP asks kubelets by TCP: any segment from the host is an answer, also one that refuses the
// connection.
//
// A connection that is closed at once makes a kubelet log a failed TLS handshake, each time. So, on
// Linux, the connection is kept, and further questions are keep-alive segments in it, which the host's
// TCP stack answers and the kubelet does not see. An unanswered one costs the connection, so that the
// next question is a new one: state that a device in between has lost is not taken for silence.
type TCP struct {
	mu   sync.Mutex
	kept map[netip.AddrPort]*connection
	// limit is how many connections are kept at most.
	limit int
}

// connection is one that is kept.
type connection struct {
	*net.TCPConn
	raw syscall.RawConn
}

// question is one that is asked in a connection that was kept, for the address at this index.
type question struct {
	*connection
	index int
	// asked is when, and before how long ago the last segment of the host had come by then.
	asked  time.Time
	before time.Duration
}

// NewTCP returns an Asker for kubelets.
func NewTCP() *TCP {
	return &TCP{kept: make(map[netip.AddrPort]*connection), limit: keptLimit()}
}

// Ask implements Asker.
func (t *TCP) Ask(ctx context.Context, addresses []netip.AddrPort, report func(i int, answer Answer)) {
	var connects sync.WaitGroup
	defer connects.Wait()
	connect := func(i int) {
		connects.Go(func() { report(i, t.connect(ctx, addresses[i])) })
	}
	var questions []*question
	for i, address := range addresses {
		if conn := t.take(address); conn != nil {
			questions = append(questions, &question{connection: conn, index: i})
		} else {
			connect(i)
		}
	}
	askKept(ctx, questions, func(q *question, answer Answer) {
		switch answer {
		case Answered:
			t.keep(addresses[q.index], q.connection)
			report(q.index, Answered)
		case Silent:
			abort(q.TCPConn)
			report(q.index, Silent)
		default: // the connection has ended, at some time since the last question
			abort(q.TCPConn)
			connect(q.index)
		}
	})
}

// connect asks by a new connection.
func (t *TCP) connect(ctx context.Context, address netip.AddrPort) Answer {
	dialer := net.Dialer{KeepAliveConfig: keepAlive}
	conn, err := dialer.DialTCP(ctx, "tcp", netip.AddrPort{}, address)
	if err != nil {
		return answerOf(err)
	}
	if raw, err := conn.SyscallConn(); err == nil {
		t.keep(address, &connection{conn, raw})
	}
	return Answered
}

// Forget implements Asker.
func (t *TCP) Forget(address netip.AddrPort) {
	if conn := t.take(address); conn != nil {
		abort(conn.TCPConn)
	}
}

func (t *TCP) take(address netip.AddrPort) *connection {
	t.mu.Lock()
	defer t.mu.Unlock()
	conn := t.kept[address]
	delete(t.kept, address)
	return conn
}

func (t *TCP) keep(address netip.AddrPort, conn *connection) {
	t.mu.Lock()
	_, other := t.kept[address]
	kept := !other && len(t.kept) < t.limit
	if kept {
		t.kept[address] = conn
	}
	t.mu.Unlock()
	if !kept {
		abort(conn.TCPConn)
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
