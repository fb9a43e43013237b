// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package backend

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/backend/rpc"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/oxide"
	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

const (
	// readyInterval is how often a working connection is proven: it costs two requests. A call that
	// fails for a reason that concerns all calls has it proven at once.
	readyInterval = 30 * time.Second
	// doubtInterval is how often such calls may cause that.
	doubtInterval = time.Second
	// notReadyInterval is how often a broken one is tried.
	notReadyInterval = 5 * time.Second
	// probeTimeout bounds one probe, with the retries of its reads.
	probeTimeout = 30 * time.Second
)

// identityReader reads silo and project from Oxide: the best probe of the credentials.
type identityReader interface {
	ReadIdentity(ctx context.Context) (oxide.Identity, error)
}

// readiness knows whether Oxide can be reached, accepts the token, and shows the project. What is
// wrong with that may heal, so it never ends the program.
type readiness struct {
	reader identityReader
	health *health.Server
	gauge  prometheus.Gauge
	// doubts holds one entry if a call failed for a reason that concerns all calls.
	doubts chan struct{}

	mu  sync.Mutex
	err error
}

func newReadiness(
	reader identityReader, server *health.Server, registerer prometheus.Registerer,
) *readiness {
	r := &readiness{
		reader: reader, health: server, doubts: make(chan struct{}, 1),
		err: errors.New("the rack has not been asked yet"),
		gauge: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "oxide_backend_ready",
			Help: "Whether Oxide can be reached, accepts the token and shows the project: 1 or 0.",
		}),
	}
	registerer.MustRegister(r.gauge)
	r.publish(false)
	return r
}

// status returns nil, or why the backend is not ready.
func (r *readiness) status() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.err
}

// watch probes Oxide until the context ends.
func (r *readiness) watch(ctx context.Context) {
	for ctx.Err() == nil {
		interval := r.probe(ctx)
		if interval != readyInterval {
			r.pause(ctx, interval, nil)
			continue
		}
		r.pause(ctx, doubtInterval, nil)
		r.pause(ctx, interval-doubtInterval, r.doubts)
	}
}

// pause waits, until a doubt comes up at most.
func (r *readiness) pause(ctx context.Context, d time.Duration, doubts <-chan struct{}) {
	select {
	case <-ctx.Done():
	case <-doubts:
	case <-time.After(d):
	}
}

// doubtAll is a unary interceptor that has readiness proven at once after a call that failed for a
// reason that concerns all calls.
func (r *readiness) doubtAll(
	ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler,
) (any, error) {
	resp, err := handler(ctx, req)
	if rpc.ConcernsAllCalls(err) {
		select {
		case r.doubts <- struct{}{}:
		default:
		}
	}
	return resp, err
}

// probe asks Oxide once, tells what changed, and returns when to ask again.
func (r *readiness) probe(ctx context.Context) time.Duration {
	probeCtx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	id, err := r.reader.ReadIdentity(probeCtx)
	if ctx.Err() != nil {
		return 0
	}
	r.mu.Lock()
	before := r.err
	r.err = err
	r.mu.Unlock()
	r.publish(err == nil)
	switch {
	case err == nil && before != nil:
		slog.InfoContext(ctx, "ready", "silo", id.SiloName, "silo_id", id.SiloID,
			"project", id.ProjectName, "project_id", id.ProjectID)
	case err != nil && (before == nil || before.Error() != err.Error()):
		slog.ErrorContext(ctx, "not ready, and trying again", "error", err)
	}
	if err != nil {
		return notReadyInterval
	}
	return readyInterval
}

func (r *readiness) publish(ready bool) {
	state, value := healthv1.HealthCheckResponse_NOT_SERVING, 0.0
	if ready {
		state, value = healthv1.HealthCheckResponse_SERVING, 1
	}
	r.health.SetServingStatus(backendv1.BackendService_ServiceDesc.ServiceName, state)
	r.gauge.Set(value)
}
