// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package connection

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/connectivity"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/proto/client"
)

// socketDir returns a directory whose path leaves room for the name of a socket.
func socketDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "conn")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

func TestABackendThatAcceptsAndNeverAnswersIsUnreachable(t *testing.T) {
	socket := filepath.Join(socketDir(t), "b.sock")
	// Nobody accepts: the kernel does, as for a process that was stopped.
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	conn, err := Dial(socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	const limit = 300 * time.Millisecond
	start := time.Now()
	if err := WatchReachability(t.Context(), conn, limit); !errors.Is(err, ErrUnreachable) {
		t.Errorf("ended with %v", err)
	}
	if took := time.Since(start); took < limit {
		t.Errorf("gave up after %s", took)
	}
	if state := conn.GetState(); state == connectivity.Ready {
		t.Error("it counts as connected, and has answered nothing")
	}
}

// tunnel connects to a server in the same process, until it freezes: then what is written is
// accepted, further connections too, and nothing is answered.
type tunnel struct {
	conns  chan net.Conn
	frozen atomic.Bool
	closed chan struct{}
	once   sync.Once
}

func newTunnel() *tunnel {
	return &tunnel{conns: make(chan net.Conn), closed: make(chan struct{})}
}

func (l *tunnel) dial(ctx context.Context) (net.Conn, error) {
	here, there := net.Pipe()
	if !l.frozen.Load() {
		select {
		case l.conns <- there:
		case <-l.closed:
			return nil, net.ErrClosed
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	return &tunnelConn{Conn: here, tunnel: l}, nil
}

// Accept implements net.Listener, as do the others below.
func (l *tunnel) Accept() (net.Conn, error) {
	select {
	case conn := <-l.conns:
		return conn, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *tunnel) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

func (l *tunnel) Addr() net.Addr { return &net.UnixAddr{Name: "tunnel", Net: "unix"} }

type tunnelConn struct {
	net.Conn
	tunnel *tunnel
}

func (c *tunnelConn) Read(p []byte) (int, error) {
	for {
		n, err := c.Conn.Read(p)
		if !c.tunnel.frozen.Load() || err != nil {
			return n, err
		}
	}
}

func (c *tunnelConn) Write(p []byte) (int, error) {
	if c.tunnel.frozen.Load() {
		return len(p), nil
	}
	return c.Conn.Write(p)
}

func TestABackendThatFreezesIsUnreachable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server, link := refusingServer(), newTunnel()
		go func() { _ = server.Serve(link) }()
		defer server.Stop()
		conn, err := Dial("/nowhere", client.WithDialer(link.dial))
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.Close() }()

		var gaveUp time.Time
		result := make(chan error, 1)
		go func() {
			err := WatchReachability(t.Context(), conn, limit)
			gaveUp = time.Now()
			result <- err
		}()
		// It answers pings for as long as it likes, without any call.
		time.Sleep(time.Hour)
		synctest.Wait()
		select {
		case err := <-result:
			t.Fatalf("a backend without calls is unreachable: %v", err)
		default:
		}
		if silent := time.Since(conn.LastAnswer()); silent > 20*time.Second {
			t.Errorf("a backend that answers was silent for %s", silent)
		}
		if state := conn.GetState(); state != connectivity.Ready {
			t.Fatalf("the connection is %s", state)
		}

		link.frozen.Store(true)
		last := conn.LastAnswer()
		if err := <-result; !errors.Is(err, ErrUnreachable) {
			t.Errorf("ended with %v", err)
		}
		if after := gaveUp.Sub(last); after != limit {
			t.Errorf("gave up %s after the last answer, want %s", after, limit)
		}
	})
}
