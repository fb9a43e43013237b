// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package faults

import (
	"context"
	"crypto/tls"
	"net/http"
	"time"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/rack"
)

// readiness is what becomes of the backend's readiness during a fault.
type readiness int

const (
	// lost: it says that it is not ready, and why.
	lost readiness = iota
	// kept: it stays ready all the time.
	kept
	// either: parts of what it asks fail, so that it may be both.
	either
)

// row is one fault.
type row struct {
	name string
	// begin starts the fault, and end ends it.
	begin, end func(context.Context, *world) error
	ready      readiness
	// says is a part of why it is not ready.
	says string
	// unready is how many nodes are not ready; 0 means three.
	unready int
	// addresses is how many addresses the rack's name has; 0: the rack has an address and no name.
	addresses int
	// restarts: the shim may lose its lease, and be started again.
	restarts bool
	// blind: kube-apiserver itself is away.
	blind bool
	// sample: this row is run in CI.
	sample bool
}

// server returns the TLS configuration of a rack whose certificate is valid now, moved by a skew.
func (w *world) server(skew time.Duration) (*tls.Config, error) {
	return w.authority.server(skew, rackName, "127.0.0.1", "127.0.0.2", "127.0.0.3")
}

// every makes a fault of each request to the rack.
func every(f rack.Fault) rack.Fault {
	f.Operation = "*"
	return f
}

// onRack returns what begins and ends faults of requests.
func onRack(r row, faults ...rack.Fault) row {
	r.begin = func(ctx context.Context, w *world) error {
		for _, f := range faults {
			if err := w.rack.AddFault(ctx, f); err != nil {
				return err
			}
		}
		return nil
	}
	r.end = func(ctx context.Context, w *world) error { return w.rack.ClearFaults(ctx) }
	return r
}

// status returns a fault of all requests with a status.
func status(r row, status int, code string) row {
	return onRack(r, every(rack.Fault{Status: status, ErrorCode: code}))
}

// latency returns a fault of all requests that take longer.
func latency(r row, by time.Duration) row {
	return onRack(r, every(rack.Fault{LatencyMS: int(by.Milliseconds())}))
}

// between returns a fault of the first n addresses of the rack.
func between(r row, n int, to mode) row {
	all := func(to mode) func(context.Context, *world) error {
		return func(_ context.Context, w *world) error {
			for _, g := range w.gates[:n] {
				if err := g.set(to); err != nil {
					return err
				}
			}
			return nil
		}
	}
	r.begin, r.end = all(to), all(open)
	return r
}

// certificate returns a fault of the rack's certificate.
func certificate(r row, broken func(*world) (*tls.Config, error)) row {
	to := func(config func(*world) (*tls.Config, error)) func(context.Context, *world) error {
		return func(_ context.Context, w *world) error {
			made, err := config(w)
			if err == nil {
				w.gates[0].certify(made)
			}
			return err
		}
	}
	r.begin = to(broken)
	r.end = to(func(w *world) (*tls.Config, error) { return w.server(0) })
	return r
}

// partition returns a fault between kube-apiserver and the shim.
func partition(r row, to mode) row {
	r.begin = func(_ context.Context, w *world) error { return w.lane.gate.set(to) }
	r.end = func(_ context.Context, w *world) error { return w.lane.gate.set(open) }
	return r
}

const (
	html        = "<html><body>Please sign in to the guest network</body></html>"
	unavailable = "ServiceNotAvailable"
)

// rows are all faults.
func rows() []row {
	return []row{
		latency(row{name: "latency 1 s", ready: kept, sample: true}, time.Second),
		latency(row{name: "latency 5 s", ready: kept}, 5*time.Second),
		latency(row{name: "latency 20 s", says: "time for it was up"}, 20*time.Second),
		latency(row{name: "latency 60 s", says: "time for it was up"}, time.Minute),
		status(row{name: "429 for everything", says: "429"}, http.StatusTooManyRequests, ""),
		status(row{name: "500 for everything", says: "500"}, http.StatusInternalServerError, "Internal"),
		status(row{name: "502 for everything", says: "502"}, http.StatusBadGateway, ""),
		status(row{name: "503 for everything", says: "503", sample: true},
			http.StatusServiceUnavailable, unavailable),
		status(row{name: "503 for everything, 30 unready nodes", says: "503", unready: 30},
			http.StatusServiceUnavailable, unavailable),
		status(row{name: "504 for everything", says: "504"}, http.StatusGatewayTimeout, ""),
		onRack(row{name: "503 for a third of all requests", ready: either}, every(rack.Fault{
			Status: http.StatusServiceUnavailable, ErrorCode: unavailable, Probability: 1. / 3, Seed: 1,
		})),
		status(row{name: "401 for everything", says: "401"}, http.StatusUnauthorized, "Unauthorized"),
		status(row{name: "403 for everything", says: "403"}, http.StatusForbidden, "Forbidden"),
		status(row{name: "404 ObjectNotFound for everything", says: "Not Found", sample: true},
			http.StatusNotFound, "ObjectNotFound"),
		status(row{name: "404 ObjectNotFound, 30 unready nodes", says: "Not Found", unready: 30},
			http.StatusNotFound, "ObjectNotFound"),
		onRack(row{name: "404 ObjectNotFound for instances", ready: kept},
			rack.Fault{Operation: "instance_*", Status: http.StatusNotFound, ErrorCode: "ObjectNotFound"}),
		status(row{name: "404 without a code", says: "404"}, http.StatusNotFound, ""),
		status(row{name: "507 for everything", says: "507"}, http.StatusInsufficientStorage, ""),
		onRack(row{name: "507 for new floating IPs", ready: kept}, rack.Fault{
			Operation: "floating_ip_create", Status: http.StatusInsufficientStorage,
			ErrorCode: "InsufficientCapacity",
		}),
		onRack(row{name: "resets before anything is done", says: "closed"}, every(rack.Fault{Reset: true})),
		onRack(row{name: "changes done, answers reset", ready: kept},
			rack.Fault{Operation: "floating_ip_create", Reset: true, Execute: true},
			rack.Fault{Operation: "floating_ip_attach", Reset: true, Execute: true}),
		onRack(row{name: "truncated bodies", says: "understood", sample: true},
			every(rack.Fault{Truncate: 10})),
		onRack(row{name: "bodies that break off", says: "closed"},
			every(rack.Fault{Truncate: 10, Reset: true})),
		onRack(row{name: "200 with HTML", says: "understood"},
			every(rack.Fault{Body: html, ContentType: "text/html"})),
		onRack(row{name: "502 with HTML", says: "502"},
			every(rack.Fault{Status: http.StatusBadGateway, Body: html, ContentType: "text/html"})),
		between(row{name: "the rack is silent", says: "time for it was up"}, 1, silent),
		between(row{name: "the rack is off", says: "time for it was up"}, 1, dead),
		between(row{name: "no TLS", says: "TLS"}, 1, plain),
		certificate(row{name: "certificate of an unknown authority", says: "authority"},
			func(*world) (*tls.Config, error) {
				other, err := newAuthority()
				if err != nil {
					return nil, err
				}
				return other.server(0, "127.0.0.1")
			}),
		certificate(row{name: "certificate for another name", says: "another host name"},
			func(w *world) (*tls.Config, error) { return w.authority.server(0, "elsewhere.test") }),
		certificate(row{name: "clock 2 h behind the rack's", says: "not valid before"},
			func(w *world) (*tls.Config, error) { return w.server(2 * time.Hour) }),
		certificate(row{name: "clock 2 h ahead of the rack's", says: "expired"},
			func(w *world) (*tls.Config, error) { return w.server(-2 * time.Hour) }),
		between(row{name: "one of three addresses refuses", ready: either, addresses: 3}, 1, reset),
		between(row{name: "one of three addresses is off", ready: either, addresses: 3}, 1, dead),
		between(row{name: "one of three addresses is silent", ready: either, addresses: 3}, 1, silent),
		{
			name: "kube-apiserver restarts", ready: kept, restarts: true, blind: true,
			begin: func(_ context.Context, w *world) error {
				w.cluster.KillAPIServer()
				return nil
			},
			end: func(ctx context.Context, w *world) error { return w.cluster.ResumeAPIServer(ctx) },
		},
		partition(row{name: "kube-apiserver is silent to the shim", ready: kept, restarts: true}, silent),
		partition(row{
			name: "kube-apiserver resets the shim", ready: kept, restarts: true, sample: true,
		}, reset),
	}
}
