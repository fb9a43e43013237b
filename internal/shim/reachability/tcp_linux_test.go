// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package reachability

import (
	"context"
	"net"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// discard makes a socket's TCP stack drop whatever arrives for it, so that it is as silent as a host
// that is gone; or ends that. Connections that a listener accepts later do as it does.
func discard(t testing.TB, socket syscall.Conn, everything bool) {
	t.Helper()
	raw, err := socket.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var failure error
	err = raw.Control(func(fd uintptr) {
		if everything {
			program := unix.SockFprog{Len: 1, Filter: &unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K}}
			failure = unix.SetsockoptSockFprog(int(fd), unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &program)
		} else {
			failure = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_DETACH_FILTER, 0)
		}
	})
	if err != nil || failure != nil {
		t.Fatal(err, failure)
	}
}

// A kubelet sees one connection, and nothing in it, however often its host is asked.
func TestOneConnectionIsKeptForAllQuestions(t *testing.T) {
	for _, host := range []string{"127.0.0.1", "::1"} {
		t.Run(host, func(t *testing.T) {
			t.Parallel()
			listener, address := listen(t, host)
			asker := NewTCP()
			defer asker.Forget(address)
			var conn *net.TCPConn
			for i := range 4 {
				if got := ask(t, asker, address, timeout); got != Answered {
					t.Fatal(got)
				}
				if i == 0 {
					conn = accept(t, listener)
				}
				time.Sleep(period) // the kernel's clock
			}
			noMore(t, listener)
			conn.SetReadDeadline(time.Now())
			if n, err := conn.Read(make([]byte, 1)); n > 0 || err == nil {
				t.Errorf("%d bytes were sent, %v", n, err)
			}
		})
	}
}

// A question in a connection that was idle for a while is answered within milliseconds, not when the
// kernel would have asked by itself.
func TestAQuestionInAKeptConnectionIsSentAtOnce(t *testing.T) {
	t.Parallel()
	listener, address := listen(t, "127.0.0.1")
	asker := NewTCP()
	defer asker.Forget(address)
	ask(t, asker, address, timeout)
	raw, err := accept(t, listener).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	time.Sleep(2500 * time.Millisecond) // the kernel's clock
	received := func() (segments uint32) {
		raw.Control(func(fd uintptr) {
			info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
			if err != nil {
				t.Fatal(err)
			}
			segments = info.Segs_in
		})
		return segments
	}
	before := received()
	if got := ask(t, asker, address, timeout); got != Answered {
		t.Error(got)
	}
	if got := received() - before; got != 1 {
		t.Errorf("it cost %d segments", got)
	}
	before = received()
	time.Sleep(2500 * time.Millisecond)
	if got := received() - before; got != 0 {
		t.Errorf("%d segments were sent without a question", got)
	}
}

// A connection that the kubelet has closed is replaced within the same question.
func TestAConnectionThatTheKubeletClosesIsReplaced(t *testing.T) {
	listener, address := listen(t, "127.0.0.1")
	asker := NewTCP()
	defer asker.Forget(address)
	for range 3 {
		if got := ask(t, asker, address, timeout); got != Answered {
			t.Fatal(got)
		}
		accept(t, listener).Close()
	}
}

// Silence in the kept connection is silence, and ends the connection; the next question is a new one,
// so that a device in between that has lost its state for the connection costs one silent probe only.
func TestAnUnansweredQuestionIsSilenceAndEndsTheConnection(t *testing.T) {
	t.Parallel()
	listener, address := listen(t, "127.0.0.1")
	asker := NewTCP()
	defer asker.Forget(address)
	if got := ask(t, asker, address, timeout); got != Answered {
		t.Fatal(got)
	}
	discard(t, accept(t, listener), true)
	time.Sleep(freshAnswer) // the kernel's clock
	begin := time.Now()
	if got := ask(t, asker, address, timeout); got != Silent {
		t.Fatal(got)
	}
	if took := time.Since(begin); took < timeout || took > timeout+500*time.Millisecond {
		t.Errorf("took %s", took)
	}
	if got := ask(t, asker, address, timeout); got != Answered {
		t.Fatal(got)
	}
	accept(t, listener)
}

// A host that does not answer at all is silent, until it does.
func TestAnUnansweredConnectIsSilence(t *testing.T) {
	t.Parallel()
	listener, address := listen(t, "127.0.0.1")
	discard(t, listener, true)
	asker := NewTCP()
	defer asker.Forget(address)
	for range 3 {
		if got := ask(t, asker, address, 100*time.Millisecond); got != Silent {
			t.Fatal(got)
		}
	}
	discard(t, listener, false)
	if got := ask(t, asker, address, timeout); got != Answered {
		t.Fatal(got)
	}
}

// The real thing in real time: of three hosts one falls silent, is unreachable after three seconds and
// a bit, and reachable as soon as it answers again.
func TestASilentHostIsUnreachableWithinSeconds(t *testing.T) {
	t.Parallel()
	changed := make(chan string, 100)
	prober := New(func(node string) { changed <- node })
	var listeners []*net.TCPListener
	var targets []Target
	for i := range 3 {
		listener, address := listen(t, "127.0.0.1")
		listeners = append(listeners, listener)
		targets = append(targets, Target{Node: nameOf(i), Address: address, Carries: true})
	}
	prober.SetTargets(targets)
	asker := NewTCP()
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() {
		prober.Run(ctx, asker, func(context.Context, string) (Lease, error) { return Lease{Age: time.Minute}, nil })
	})
	defer running.Wait()
	defer cancel()
	await := func(node string, want State) time.Duration {
		t.Helper()
		begin := time.Now()
		late := time.After(20 * time.Second)
		for prober.Observe(node).State != want {
			select {
			case <-changed:
			case <-late:
				t.Fatalf("%s: %+v", node, prober.Observe(node))
			}
		}
		return time.Since(begin)
	}
	for i := range 3 {
		await(nameOf(i), Reachable)
	}
	conn := accept(t, listeners[0])
	discard(t, listeners[0], true)
	discard(t, conn, true)
	took := await(nameOf(0), Unreachable)
	if took < 2*time.Second || took > 6*time.Second {
		t.Errorf("unreachable after %s", took)
	}
	if now := prober.Observe(nameOf(0)); now.InDoubt {
		t.Errorf("%+v", now)
	}
	discard(t, listeners[0], false)
	if took := await(nameOf(0), Reachable); took > 4*time.Second {
		t.Errorf("reachable after %s", took)
	}
	cancel()
	running.Wait()
	if len(asker.kept) > 0 {
		t.Errorf("%d connections are kept", len(asker.kept))
	}
}
