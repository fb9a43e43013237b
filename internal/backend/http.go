// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package backend

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

const (
	// httpTimeout bounds how long a request may take to come.
	httpTimeout = 10 * time.Second
	// maxHTTPHeader bounds its headers, in bytes.
	maxHTTPHeader = 16 << 10
)

// healthHandler serves /livez, which does not depend on Oxide, because a restart would not mend
// that; and /readyz, which does.
func healthHandler(ready *readiness) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintln(w, "ok")
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if err := ready.status(); err != nil {
			http.Error(w, "not ready: "+err.Error(), http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ok")
	})
	return mux
}

func metricsHandler(gatherer prometheus.Gatherer) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(gatherer, promhttp.HandlerOpts{}))
	return mux
}

// serveHTTP serves until the context ends; a nil listener serves nothing.
func serveHTTP(ctx context.Context, listener net.Listener, handler http.Handler) error {
	if listener == nil {
		return nil
	}
	server := &http.Server{
		Handler: handler, ReadHeaderTimeout: httpTimeout, ReadTimeout: httpTimeout,
		IdleTimeout: 2 * time.Minute, MaxHeaderBytes: maxHTTPHeader,
	}
	stop := context.AfterFunc(ctx, func() { _ = server.Close() })
	defer stop()
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve HTTP on %s: %w", listener.Addr(), err)
	}
	return nil
}
