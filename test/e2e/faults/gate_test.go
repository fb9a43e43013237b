// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package faults

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// mode is what a gate does with connections.
type mode int

const (
	// open passes everything on.
	open mode = iota
	// silent passes nothing on until it is open again, and then what was held: as packets that are lost
	// and sent again.
	silent
	// reset drops all connections.
	reset
	// plain answers every connection with a line of text, which is no TLS.
	plain
	// dead answers no attempt to connect, as a host that is off.
	dead
)

// gate is a listener on loopback that passes connections on to a rack or an API server, and is what
// fails between those and the programs.
type gate struct {
	address  netip.AddrPort
	upstream string

	mu       sync.Mutex
	mode     mode
	changed  chan struct{}
	tls      *tls.Config
	listener net.Listener
	conns    map[net.Conn]struct{}
	release  func()
	running  sync.WaitGroup
}

// newGate returns a gate at an address, or at any port of it if that is 0. With a TLS configuration it
// speaks TLS with the programs, and passes on what that has in it.
func newGate(at netip.AddrPort, upstream string, config *tls.Config) (*gate, error) {
	g := &gate{
		address: at, upstream: upstream, tls: config, changed: make(chan struct{}),
		conns: make(map[net.Conn]struct{}), release: func() {},
	}
	return g, g.listen()
}

func (g *gate) listen() error {
	listener, err := net.Listen("tcp", g.address.String())
	if err != nil {
		return fmt.Errorf("a gate cannot listen: %w", err)
	}
	g.address, g.listener = netip.MustParseAddrPort(listener.Addr().String()), listener
	g.running.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			g.running.Go(func() { g.serve(conn) })
		}
	})
	return nil
}

// set changes what it does. From any mode but silence the connections that there are end.
func (g *gate) set(to mode) error {
	g.mu.Lock()
	from := g.mode
	g.mode = to
	close(g.changed)
	g.changed = make(chan struct{})
	g.mu.Unlock()
	if to != silent && from != silent {
		g.drop()
	}
	if to == dead {
		_ = g.listener.Close()
		return g.fillBacklog()
	}
	if from == dead {
		g.release()
		return g.listen()
	}
	return nil
}

// certify has it present other certificates from now on, to whoever connects again: all do.
func (g *gate) certify(config *tls.Config) {
	g.mu.Lock()
	g.tls = config
	g.mu.Unlock()
	g.drop()
}

// fillBacklog listens with the shortest queue there is, accepts nothing, and fills it: the kernel then
// drops what asks for a connection, without an answer.
func (g *gate) fillBacklog() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	err = errors.Join(
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1),
		unix.Bind(fd, &unix.SockaddrInet4{Port: int(g.address.Port()), Addr: g.address.Addr().As4()}),
		unix.Listen(fd, 0))
	var filling []net.Conn
	for err == nil {
		conn, failed := net.DialTimeout("tcp", g.address.String(), 200*time.Millisecond)
		if failed != nil {
			break
		}
		filling = append(filling, conn)
	}
	g.release = func() {
		_ = unix.Close(fd)
		for _, conn := range filling {
			_ = conn.Close()
		}
		g.release = func() {}
	}
	return err
}

// drop resets all connections.
func (g *gate) drop() {
	g.mu.Lock()
	defer g.mu.Unlock()
	for conn := range g.conns {
		abort(conn)
	}
}

// abort ends a connection with a reset.
func abort(conn net.Conn) {
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = conn.Close()
}

// close ends everything.
func (g *gate) close() {
	_ = g.listener.Close()
	g.release()
	g.mu.Lock()
	g.mode = reset
	close(g.changed)
	g.changed = make(chan struct{})
	g.mu.Unlock()
	g.drop()
	g.running.Wait()
}

// pass waits while it is silent, and returns what it does then.
func (g *gate) pass() mode {
	for {
		g.mu.Lock()
		now, changed := g.mode, g.changed
		g.mu.Unlock()
		if now != silent {
			return now
		}
		<-changed
	}
}

func (g *gate) serve(conn net.Conn) {
	g.mu.Lock()
	g.conns[conn] = struct{}{}
	config := g.tls
	g.mu.Unlock()
	defer func() {
		g.mu.Lock()
		delete(g.conns, conn)
		g.mu.Unlock()
		_ = conn.Close()
	}()
	switch g.pass() {
	case open:
	case plain:
		_, _ = conn.Write([]byte("HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\nspeak plain HTTP here\n"))
		return
	default:
		abort(conn)
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	from := conn
	if config != nil {
		secured := tls.Server(conn, config)
		if secured.HandshakeContext(ctx) != nil {
			return
		}
		from = secured
	}
	to, err := (&net.Dialer{}).DialContext(ctx, "tcp", g.upstream)
	if err != nil {
		abort(conn)
		return
	}
	var both sync.WaitGroup
	both.Go(func() { g.copy(to, from); abort(conn); abort(to) })
	both.Go(func() { g.copy(from, to); abort(to); abort(conn) })
	both.Wait()
}

// copy passes on what is read, until there is no more.
func (g *gate) copy(to, from net.Conn) {
	buffer := make([]byte, 32<<10)
	for {
		n, err := from.Read(buffer)
		if g.pass() != open {
			return
		}
		if n > 0 {
			if _, err := to.Write(buffer[:n]); err != nil {
				return
			}
		}
		if err != nil {
			if half, ok := from.(*tls.Conn); ok && n > 0 {
				_ = half.CloseWrite()
			}
			return
		}
	}
}
