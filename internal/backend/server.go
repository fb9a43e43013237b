// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package backend

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"runtime/debug"
	"time"

	grpcprom "github.com/grpc-ecosystem/go-grpc-middleware/providers/prometheus"
	"github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors/recovery"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	channelz "google.golang.org/grpc/channelz/service"
	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/reflection"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/backend/rpc"
)

const (
	// stopTimeout is how long calls in flight may go on after the end was asked for.
	stopTimeout = 20 * time.Second
	// maxMessage bounds a request: a full set of some thousand load balancers and nodes.
	maxMessage = 16 << 20
)

// service is one of the gRPC services.
type service interface {
	RegisterService(r grpc.ServiceRegistrar)
}

type server struct {
	grpc   *grpc.Server
	health *health.Server
	ready  *readiness
	// endStreams ends all streams.
	endStreams context.CancelFunc
}

// newServer makes the gRPC server. Around each call, from the outside: it is counted and timed,
// logged, its error is made a status, looked at for what it says of all calls, and a panic is made
// an error.
func newServer(
	ctx context.Context, registry *prometheus.Registry, cfg Config, client identityReader,
	services ...service,
) *server {
	metrics := grpcprom.NewServerMetrics(
		grpcprom.WithServerCounterOptions(grpcprom.WithNamespace("oxide_backend")),
		grpcprom.WithServerHandlingTimeHistogram(
			grpcprom.WithHistogramNamespace("oxide_backend"),
			grpcprom.WithHistogramBuckets(
				[]float64{.001, .005, .025, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 120}),
		),
	)
	recovered := recovery.WithRecoveryHandlerContext(onPanic)
	serving, endStreams := context.WithCancel(context.WithoutCancel(ctx))
	s := &server{health: health.NewServer(), endStreams: endStreams}
	s.ready = newReadiness(client, s.health, registry)
	s.grpc = grpc.NewServer(
		grpc.ChainUnaryInterceptor(metrics.UnaryServerInterceptor(), logUnary,
			rpc.UnaryErrors, s.ready.doubtAll, recovery.UnaryServerInterceptor(recovered)),
		grpc.ChainStreamInterceptor(metrics.StreamServerInterceptor(), logStream,
			rpc.StreamErrors, endWith(serving), recovery.StreamServerInterceptor(recovered)),
		grpc.MaxRecvMsgSize(maxMessage),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{
			MinTime: 10 * time.Second, PermitWithoutStream: true,
		}),
	)
	for _, svc := range services {
		svc.RegisterService(s.grpc)
	}
	healthv1.RegisterHealthServer(s.grpc, s.health)
	reflection.Register(s.grpc)
	if cfg.Channelz {
		channelz.RegisterChannelzServiceToServer(s.grpc)
	}
	metrics.InitializeMetrics(s.grpc)
	registry.MustRegister(metrics)
	return s
}

// serve serves until the context ends. Calls in flight may then end by themselves for a while; after
// that their contexts end, and with them whatever they do.
func (s *server) serve(ctx context.Context, listener net.Listener) error {
	stopped := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(stopped)
		s.health.Shutdown()
		s.endStreams()
		force := time.AfterFunc(stopTimeout, s.grpc.Stop)
		defer force.Stop()
		s.grpc.GracefulStop()
	})
	if err := s.grpc.Serve(listener); err != nil {
		stop()
		return fmt.Errorf("serve gRPC: %w", err)
	}
	<-stopped
	return nil
}

// endWith ends the context of each stream with the given one: a stream would else hold up the end of
// the program for as long as its client likes.
func endWith(serving context.Context) grpc.StreamServerInterceptor {
	return func(
		srv any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, handler grpc.StreamHandler,
	) error {
		ctx, cancel := context.WithCancel(stream.Context())
		defer cancel()
		defer context.AfterFunc(serving, cancel)()
		return handler(srv, &endingStream{ServerStream: stream, ctx: ctx})
	}
}

type endingStream struct {
	grpc.ServerStream
	ctx context.Context //nolint:containedctx // a stream hands it out
}

// Context implements grpc.ServerStream.
func (s *endingStream) Context() context.Context { return s.ctx }

func onPanic(ctx context.Context, value any) error {
	slog.ErrorContext(ctx, "a call panicked", "panic", value, "stack", string(debug.Stack()))
	return fmt.Errorf("panic: %v", value)
}
