// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package oxidesim

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"
)

// ServeOptions say where and how a rack listens.
type ServeOptions struct {
	// Listen are the addresses, as of the several Nexus of a rack; none means one on a free
	// port of 127.0.0.1.
	Listen []string
	// Dead are addresses where connections are refused: a Nexus that is gone. They are held,
	// so that nobody else listens there.
	Dead []string
	// Hang are addresses where connections open and nothing ever answers.
	Hang []string
	// TLS serves HTTPS, with a certificate by a private CA that is made for the occasion.
	TLS bool
	// TLSNames are names that the certificate is good for, besides localhost and the
	// addresses listened on.
	TLSNames []string
}

// Server is a rack that listens.
type Server struct {
	*Simulator
	// URL is where the rack listens first; URLs are all such places, DeadURLs those where it
	// does not answer.
	URL      string
	URLs     []string
	DeadURLs []string
	// CAPEM is the CA of a rack that serves TLS, in PEM; else nil.
	CAPEM []byte

	tls *tls.Config

	mu    sync.Mutex
	gates map[string]*gate // by address
	held  []func()         // closes dead addresses
	wg    sync.WaitGroup
}

// gate is one address with an HTTP server behind it, which can go away and come back.
type gate struct {
	server *http.Server // nil while stopped
}

// Serve makes the rack listen. Close ends it, and the rack with it.
func (s *Simulator) Serve(o ServeOptions) (*Server, error) {
	if len(o.Listen) == 0 {
		o.Listen = []string{"127.0.0.1:0"}
	}
	srv := &Server{Simulator: s, gates: map[string]*gate{}}
	if o.TLS {
		if err := srv.makeIdentity(o); err != nil {
			return nil, err
		}
	}
	if err := srv.open(o); err != nil {
		srv.stopListening()
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.server = srv
	return srv, nil
}

func (srv *Server) makeIdentity(o ServeOptions) error {
	names := append([]string{"localhost", "127.0.0.1", "::1"}, o.TLSNames...)
	for _, addr := range o.Listen {
		host, _, err := net.SplitHostPort(addr)
		if err == nil && host != "" && !slices.Contains(names, host) {
			names = append(names, host)
		}
	}
	id, err := newIdentity(names)
	if err != nil {
		return err
	}
	srv.CAPEM = id.caPEM
	srv.tls = &tls.Config{
		Certificates: []tls.Certificate{id.server}, MinVersion: tls.VersionTLS12,
		NextProtos: []string{"h2", "http/1.1"},
	}
	return nil
}

func (srv *Server) url(addr string) string {
	if srv.tls != nil {
		return "https://" + addr
	}
	return "http://" + addr
}

func (srv *Server) open(o ServeOptions) error {
	for _, addr := range o.Listen {
		l, err := net.Listen("tcp", addr)
		if err != nil {
			return fmt.Errorf("listen on %s: %w", addr, err)
		}
		srv.URLs = append(srv.URLs, srv.url(l.Addr().String()))
		srv.start(l)
	}
	srv.URL = srv.URLs[0]
	for _, addr := range o.Hang {
		l, err := net.Listen("tcp", addr) // nobody accepts: the kernel does, up to a backlog
		if err != nil {
			return fmt.Errorf("hold %s: %w", addr, err)
		}
		srv.held = append(srv.held, func() { _ = l.Close() })
		srv.DeadURLs = append(srv.DeadURLs, srv.url(l.Addr().String()))
	}
	for _, addr := range o.Dead {
		bound, release, err := holdAddress(addr)
		if err != nil {
			return fmt.Errorf("hold %s: %w", addr, err)
		}
		srv.held = append(srv.held, release)
		srv.DeadURLs = append(srv.DeadURLs, srv.url(bound))
	}
	return nil
}

// start serves on a listener until its gate is stopped.
func (srv *Server) start(l net.Listener) {
	addr := l.Addr().String()
	hs := &http.Server{
		Handler: srv.Handler(), ReadHeaderTimeout: 10 * time.Second,
		ErrorLog: log.New(io.Discard, "", 0), // refused handshakes are the clients' to tell
	}
	srv.mu.Lock()
	srv.gates[addr] = &gate{server: hs}
	srv.mu.Unlock()
	srv.wg.Go(func() {
		if srv.tls != nil {
			hs.TLSConfig = srv.tls.Clone()
			_ = hs.ServeTLS(l, "", "") // ends with the gate
			return
		}
		_ = hs.Serve(l)
	})
}

// StopListening makes one address dead: its connections are cut, new ones are refused. The
// address is HOST:PORT as in URLs.
func (srv *Server) StopListening(addr string) error {
	srv.mu.Lock()
	g, ok := srv.gates[addr]
	if !ok || g.server == nil {
		srv.mu.Unlock()
		return fmt.Errorf("not listening on %q", addr)
	}
	hs := g.server
	g.server = nil
	srv.mu.Unlock()
	return hs.Close()
}

// ResumeListening undoes StopListening.
func (srv *Server) ResumeListening(addr string) error {
	srv.mu.Lock()
	g, ok := srv.gates[addr]
	stopped := ok && g.server == nil
	srv.mu.Unlock()
	if !stopped {
		return fmt.Errorf("%q is no stopped address", addr)
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return fmt.Errorf("listen on %s again: %w", addr, err)
	}
	srv.start(l)
	return nil
}

// Close stops listening, ends requests in flight, and closes the rack.
func (srv *Server) Close() {
	srv.Simulator.Close() // whatever waits gives up
	srv.stopListening()
}

func (srv *Server) stopListening() {
	//nolint:forbidigo // closing has a time limit of its own, and no caller with a context
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	srv.mu.Lock()
	var open []*http.Server
	for _, g := range srv.gates {
		if g.server != nil {
			open = append(open, g.server)
			g.server = nil
		}
	}
	held := srv.held
	srv.held = nil
	srv.mu.Unlock()
	for _, hs := range open {
		if err := hs.Shutdown(ctx); errors.Is(err, context.DeadlineExceeded) {
			_ = hs.Close()
		}
	}
	for _, release := range held {
		release()
	}
	srv.wg.Wait()
}
