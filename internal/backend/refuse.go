// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package backend

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/keepalive"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/backend/rpc"
)

const (
	// maxRefused bounds the connections of refused peers that are answered at a time; further ones are
	// closed at once.
	maxRefused = 16
	// refusedTimeout bounds how long such a connection is open.
	refusedTimeout = 5 * time.Second
	// refusedStreams bounds the calls of such a connection at a time, and refusedHeader their headers.
	refusedStreams = 4
	refusedHeader  = 4 << 10
)

// refuser says to the processes of other users why they are refused: it answers each of their calls, on
// a server that has no service at all. It is the listener of that server.
type refuser struct {
	counter prometheus.Counter
	server  *grpc.Server
	address net.Addr
	// conns are the connections that the server has yet to accept.
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once

	mu   sync.Mutex
	open map[*refusedConn]struct{}
	// ended: no further connection is answered.
	ended bool
}

func newRefuser(address net.Addr, counter prometheus.Counter) *refuser {
	return &refuser{
		counter: counter, address: address,
		server: grpc.NewServer(
			grpc.UnknownServiceHandler(rpc.RefusePeer),
			grpc.ConnectionTimeout(refusedTimeout),
			grpc.KeepaliveParams(keepalive.ServerParameters{
				MaxConnectionAge: refusedTimeout, MaxConnectionAgeGrace: time.Second,
			}),
			grpc.MaxConcurrentStreams(refusedStreams),
			grpc.MaxHeaderListSize(refusedHeader),
		),
		conns: make(chan net.Conn, maxRefused), closed: make(chan struct{}),
		open: make(map[*refusedConn]struct{}),
	}
}

// refuse takes over a connection.
func (r *refuser) refuse(conn net.Conn, uid uint32, err error) {
	r.counter.Inc()
	slog.Warn("refused a connection of another user's process", "uid", uid, "error", err)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ended || len(r.open) >= maxRefused {
		_ = conn.Close()
		return
	}
	refused := &refusedConn{Conn: conn, refuser: r}
	r.open[refused] = struct{}{}
	select {
	case r.conns <- refused:
	default: // those before it are closed, and not accepted yet
		delete(r.open, refused)
		_ = conn.Close()
	}
}

// serve answers until the context ends, and then closes all connections.
func (r *refuser) serve(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() {
		r.mu.Lock()
		r.ended = true
		for conn := range r.open {
			_ = conn.Conn.Close()
		}
		r.mu.Unlock()
		r.server.Stop()
	})
	defer stop()
	if err := r.server.Serve(r); ctx.Err() == nil {
		return fmt.Errorf("refuse other users: %w", err)
	}
	return nil
}

// Accept implements net.Listener.
func (r *refuser) Accept() (net.Conn, error) {
	select {
	case conn := <-r.conns:
		return conn, nil
	case <-r.closed:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (r *refuser) Close() error {
	r.once.Do(func() { close(r.closed) })
	return nil
}

// Addr implements net.Listener.
func (r *refuser) Addr() net.Addr { return r.address }

// refusedConn is a connection of a refused peer.
type refusedConn struct {
	net.Conn
	refuser *refuser
}

// Close implements net.Conn.
func (c *refusedConn) Close() error {
	c.refuser.mu.Lock()
	delete(c.refuser.open, c)
	c.refuser.mu.Unlock()
	return c.Conn.Close()
}
