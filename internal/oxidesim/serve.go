// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package oxidesim

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"
)

// ServeOptions say where a rack listens.
type ServeOptions struct {
	// Listen are the addresses; none means one on a free port of 127.0.0.1.
	Listen []string
}

// Server is a rack that listens.
type Server struct {
	*Simulator
	// URL is where the rack listens first; URLs are all.
	URL  string
	URLs []string

	http *http.Server
	wg   sync.WaitGroup
}

// Serve makes the rack listen. Close ends it, and the rack with it.
func (s *Simulator) Serve(o ServeOptions) (*Server, error) {
	if len(o.Listen) == 0 {
		o.Listen = []string{"127.0.0.1:0"}
	}
	srv := &Server{Simulator: s, http: &http.Server{
		Handler: s.Handler(), ReadHeaderTimeout: 10 * time.Second,
	}}
	var listeners []net.Listener
	for _, addr := range o.Listen {
		l, err := net.Listen("tcp", addr)
		if err != nil {
			for _, open := range listeners {
				_ = open.Close()
			}
			return nil, fmt.Errorf("listen on %s: %w", addr, err)
		}
		listeners = append(listeners, l)
		srv.URLs = append(srv.URLs, "http://"+l.Addr().String())
	}
	srv.URL = srv.URLs[0]
	for _, l := range listeners {
		srv.wg.Go(func() { _ = srv.http.Serve(l) })
	}
	return srv, nil
}

// Close stops listening, ends requests in flight, and closes the rack.
func (srv *Server) Close() {
	srv.Simulator.Close() // whatever waits gives up
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if err := srv.http.Shutdown(ctx); errors.Is(err, context.DeadlineExceeded) {
		_ = srv.http.Close()
	}
	srv.wg.Wait()
}

// TB is what Start needs of a *testing.T.
type TB interface {
	Helper()
	Cleanup(func())
	Fatalf(format string, args ...any)
}

// TestTimeScale is the time scale of Start, unless told: a minute lasts 60 ms.
const TestTimeScale = 0.001

// Start builds a rack and makes it listen on loopback until the test ends.
func Start(t TB, cfg Config) *Server {
	t.Helper()
	if cfg.TimeScale == 0 {
		cfg.TimeScale = TestTimeScale
	}
	s, err := New(cfg)
	if err != nil {
		t.Fatalf("oxidesim: %v", err)
	}
	srv, err := s.Serve(ServeOptions{})
	if err != nil {
		s.Close()
		t.Fatalf("oxidesim: %v", err)
	}
	t.Cleanup(srv.Close)
	return srv
}
