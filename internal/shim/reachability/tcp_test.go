// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package reachability

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"syscall"
	"testing"
	"time"
)

// listen returns a listener on a free port of a loopback address, and its address.
func listen(t testing.TB, host string) (*net.TCPListener, netip.AddrPort) {
	t.Helper()
	var config net.ListenConfig
	config.SetMultipathTCP(false) // its sockets take no filters
	listener, err := config.Listen(t.Context(), "tcp", net.JoinHostPort(host, "0"))
	if err != nil {
		t.Skipf("no listener on %s: %v", host, err)
	}
	t.Cleanup(func() { listener.Close() })
	return listener.(*net.TCPListener), listener.Addr().(*net.TCPAddr).AddrPort()
}

// accept returns the next connection of a listener.
func accept(t testing.TB, listener *net.TCPListener) *net.TCPConn {
	t.Helper()
	listener.SetDeadline(time.Now().Add(10 * time.Second))
	conn, err := listener.AcceptTCP()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// noMore fails the test if a connection waits to be accepted.
func noMore(t testing.TB, listener *net.TCPListener) {
	t.Helper()
	listener.SetDeadline(time.Now().Add(20 * time.Millisecond))
	if conn, err := listener.AcceptTCP(); err == nil {
		conn.Close()
		t.Error("there was another connection")
	}
}

// awaitEnd waits until the peer ends a connection, which it does by a reset: it would go on sending the
// end of it to a host that is gone.
func awaitEnd(t testing.TB, conn *net.TCPConn) {
	t.Helper()
	conn.SetReadDeadline(time.Now().Add(10 * time.Second))
	if n, err := conn.Read(make([]byte, 1)); n > 0 || !errors.Is(err, syscall.ECONNRESET) {
		t.Fatalf("read %d bytes, %v", n, err)
	}
}

// ask asks as the prober does, with a deadline.
func ask(t testing.TB, asker *TCP, address netip.AddrPort, limit time.Duration) Answer {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	return askOne(ctx, asker, address)
}

func askOne(ctx context.Context, asker *TCP, address netip.AddrPort) (answer Answer) {
	asker.Ask(ctx, []netip.AddrPort{address}, func(_ int, got Answer) { answer = got })
	return answer
}

// A dead kubelet on a living host refuses the connection, for ever: that is an answer.
func TestAClosedPortIsAnAnswer(t *testing.T) {
	for _, host := range []string{"127.0.0.1", "::1"} {
		t.Run(host, func(t *testing.T) {
			listener, address := listen(t, host)
			listener.Close()
			asker := NewTCP()
			for range 50 {
				if got := ask(t, asker, address, timeout); got != Answered {
					t.Fatal(got)
				}
			}
			if len(asker.kept) > 0 {
				t.Errorf("%d connections are kept", len(asker.kept))
			}
		})
	}
}

// A host whose kubelet stops and starts again lives all the time.
func TestAListenerThatComesAndGoesAnswersAllTheTime(t *testing.T) {
	for _, host := range []string{"127.0.0.1", "::1"} {
		t.Run(host, func(t *testing.T) {
			listener, address := listen(t, host)
			asker := NewTCP()
			defer asker.Forget(address)
			for range 3 {
				if got := ask(t, asker, address, timeout); got != Answered {
					t.Fatal("up:", got)
				}
				conn := accept(t, listener)
				listener.Close()
				conn.SetLinger(0)
				conn.Close()
				if got := ask(t, asker, address, timeout); got != Answered {
					t.Fatal("down:", got)
				}
				var err error
				if listener, err = net.ListenTCP("tcp", net.TCPAddrFromAddrPort(address)); err != nil {
					t.Fatal(err)
				}
			}
			listener.Close()
		})
	}
}

// Who asks no more leaves no connection behind.
func TestForgetEndsTheConnection(t *testing.T) {
	listener, address := listen(t, "127.0.0.1")
	asker := NewTCP()
	if got := ask(t, asker, address, timeout); got != Answered {
		t.Fatal(got)
	}
	conn := accept(t, listener)
	asker.Forget(address)
	awaitEnd(t, conn)
	asker.Forget(address)
}

// Beyond the limit a question costs a connection of its own, which ends with the answer.
func TestNoMoreConnectionsAreKeptThanTheLimit(t *testing.T) {
	first, kept := listen(t, "127.0.0.1")
	second, closed := listen(t, "127.0.0.1")
	asker := NewTCP()
	asker.limit = min(asker.limit, 1)
	defer asker.Forget(kept)
	if got := ask(t, asker, kept, timeout); got != Answered {
		t.Fatal(got)
	}
	accept(t, first)
	for range 3 {
		if got := ask(t, asker, closed, timeout); got != Answered {
			t.Fatal(got)
		}
		awaitEnd(t, accept(t, second))
	}
	if len(asker.kept) > asker.limit {
		t.Errorf("%d connections are kept", len(asker.kept))
	}
}

// Whoever asks the same address at the same time is answered, one connection is kept, and the others
// are ended.
func TestOneAddressMayBeAskedSideBySide(t *testing.T) {
	listener, address := listen(t, "127.0.0.1")
	asker := NewTCP()
	answers := make(chan Answer)
	for range 20 {
		go func() { answers <- ask(t, asker, address, timeout) }()
	}
	for range 20 {
		if got := <-answers; got != Answered {
			t.Error(got)
		}
	}
	asker.Forget(address)
	listener.SetDeadline(time.Now().Add(100 * time.Millisecond))
	for {
		conn, err := listener.AcceptTCP()
		if err != nil {
			break // all are accepted
		}
		awaitEnd(t, conn)
		conn.Close()
	}
}

// The end of the prober is no silence.
func TestACanceledQuestionIsInconclusive(t *testing.T) {
	_, address := listen(t, "127.0.0.1")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if got := askOne(ctx, NewTCP(), address); got != Inconclusive {
		t.Error(got)
	}
}

// Only what the host did not answer is silence; what fails at this end says nothing.
func TestWhatTheFailureOfAConnectSays(t *testing.T) {
	for failure, want := range map[error]Answer{
		syscall.ECONNREFUSED: Answered, syscall.ECONNRESET: Answered,
		context.DeadlineExceeded: Silent, os.ErrDeadlineExceeded: Silent, syscall.ETIMEDOUT: Silent,
		syscall.EHOSTUNREACH: Silent, syscall.EHOSTDOWN: Silent,
		context.Canceled: Inconclusive, syscall.EMFILE: Inconclusive, syscall.ENFILE: Inconclusive,
		syscall.ENETUNREACH: Inconclusive, syscall.ENETDOWN: Inconclusive, syscall.ENOBUFS: Inconclusive,
		syscall.ENOMEM: Inconclusive, syscall.EACCES: Inconclusive, syscall.EPERM: Inconclusive,
		syscall.EADDRNOTAVAIL: Inconclusive, syscall.EAGAIN: Inconclusive, syscall.EINVAL: Inconclusive,
		net.ErrClosed: Inconclusive,
	} {
		wrapped := &net.OpError{Op: "dial", Net: "tcp", Err: os.NewSyscallError("connect", failure)}
		for _, err := range []error{failure, wrapped, fmt.Errorf("asked: %w", wrapped)} {
			if got := answerOf(err); got != want {
				t.Errorf("%v: %s", err, got)
			}
		}
	}
}
