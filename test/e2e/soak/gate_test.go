// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package soak

import (
	"errors"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"sync"
	"testing"
	"time"
)

// gateHost is an address of loopback at which hardly anybody else listens: the gate comes back at
// the port that it had.
const gateHost = "127.0.0.2"

// gate passes requests on to the rack. While it is shut, its port refuses connections.
type gate struct {
	// URL is what the backend knows as the rack.
	URL string

	address   string
	proxy     *httputil.ReverseProxy
	transport *http.Transport
	server    *http.Server
	running   sync.WaitGroup

	mu sync.Mutex
	// idle are the connections that wait for a request.
	idle map[net.Conn]struct{}
}

func newGate(t *testing.T, upstream string) *gate {
	t.Helper()
	to, err := url.Parse(upstream)
	if err != nil {
		t.Fatal(err)
	}
	g := &gate{
		address: gateHost + ":0", transport: new(http.Transport), idle: make(map[net.Conn]struct{}),
	}
	g.proxy = httputil.NewSingleHostReverseProxy(to)
	g.proxy.Transport = g.transport
	// What breaks off here is broken off there: a gateway's own answer is none of the rack's.
	g.proxy.ErrorHandler = func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) }
	if err := g.open(); err != nil {
		t.Fatal(err)
	}
	g.URL = "http://" + g.address
	return g
}

// open lets requests through, again if it was shut.
func (g *gate) open() error {
	listener, err := net.Listen("tcp", g.address)
	if err != nil {
		return err
	}
	g.address = listener.Addr().String()
	g.server = &http.Server{
		Handler: g.proxy, ReadHeaderTimeout: 30 * time.Second, ConnState: g.keep,
	}
	g.running.Go(func() { _ = g.server.Serve(listener) })
	return nil
}

// keep keeps which connections wait for a request.
func (g *gate) keep(conn net.Conn, state http.ConnState) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if state == http.StateIdle {
		g.idle[conn] = struct{}{}
	} else {
		delete(g.idle, conn)
	}
}

// dropIdle closes the connections that wait for a request, as many a server does.
func (g *gate) dropIdle() {
	g.mu.Lock()
	defer g.mu.Unlock()
	for conn := range g.idle {
		_ = conn.Close()
	}
}

// shut drops all connections, and refuses others.
func (g *gate) shut() error {
	err := g.server.Close()
	g.running.Wait()
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

// close ends everything.
func (g *gate) close() {
	_ = g.shut()
	g.transport.CloseIdleConnections()
}
