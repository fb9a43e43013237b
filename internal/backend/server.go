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
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	channelz "google.golang.org/grpc/channelz/service"
	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/reflection"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/backend/rpc"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/tracing/otlp"
)

const (
	// stopTimeout is how long the program may take to stop. Calls in flight may go on for
	// endTimeout of it; after that their contexts end, so that there is time left to say why.
	stopTimeout = 20 * time.Second
	endTimeout  = 18 * time.Second
	// maxStreams bounds the calls and streams of one connection that run at a time.
	maxStreams = 1000
	// maxHeader bounds the headers of a call, in bytes.
	maxHeader = 64 << 10
	// minPing is how often a client may ping, also without any call. Clients do so every 10 s; what
	// arrives a little early must not count against them.
	minPing = 5 * time.Second
	// handshakeTimeout bounds what comes before a client is known, and before its connection counts as one
	// of that client's.
	handshakeTimeout = 10 * time.Second
	// A client that says nothing for idlePing is asked, and given up when it does not answer for
	// deadTimeout: the other end of a TCP connection may be gone without a word, and its calls with it.
	idlePing    = 2 * time.Minute
	deadTimeout = 20 * time.Second
)

// service is one of the gRPC services.
type service interface {
	RegisterService(r grpc.ServiceRegistrar)
}

type server struct {
	grpc   *grpc.Server
	health *health.Server
	ready  *readiness
	// endStreams ends all streams, endCalls all other calls.
	endStreams, endCalls context.CancelFunc
}

// newServer makes the gRPC server. Around each call, from the outside: it is counted and timed,
// logged, its error is made a status, a request that is not understood completely is refused, the
// call is ended with the program, its error is checked for what it says of all calls, and a panic
// is made an error.
func newServer(
	ctx context.Context, registerer prometheus.Registerer, cfg Config, client identityReader,
	options []grpc.ServerOption, services ...service,
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
	streaming, endStreams := context.WithCancel(context.WithoutCancel(ctx))
	calling, endCalls := context.WithCancel(context.WithoutCancel(ctx))
	s := &server{health: health.NewServer(), endStreams: endStreams, endCalls: endCalls}
	calls := newCallLog()
	s.ready = newReadiness(client, s.health, registerer)
	options = append(append(append(rpc.ReceiveOptions(), otlp.ServerOptions()...),
		grpc.ChainUnaryInterceptor(metrics.UnaryServerInterceptor(), calls.unary,
			rpc.UnaryErrors, rpc.UnarySkew, endCallsWith(calling), s.ready.doubtAll,
			recovery.UnaryServerInterceptor(recovered)),
		grpc.ChainStreamInterceptor(ofKnownMethods(metrics.StreamServerInterceptor()), calls.stream,
			rpc.StreamErrors, endStreamsWith(streaming), recovery.StreamServerInterceptor(recovered)),
		grpc.UnknownServiceHandler(rpc.UnknownMethod),
		grpc.MaxConcurrentStreams(maxStreams),
		grpc.MaxHeaderListSize(maxHeader),
		grpc.ConnectionTimeout(handshakeTimeout),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: idlePing, Timeout: deadTimeout}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{
			MinTime: minPing, PermitWithoutStream: true,
		}),
	), options...)
	s.grpc = grpc.NewServer(options...)
	registrar := rpc.Registrar{ServiceRegistrar: s.grpc}
	for _, svc := range services {
		svc.RegisterService(registrar)
	}
	healthv1.RegisterHealthServer(registrar, s.health)
	reflection.Register(s.grpc)
	if cfg.Channelz {
		channelz.RegisterChannelzServiceToServer(registrar)
	}
	registerer.MustRegister(metrics)
	return s
}

// serve serves until the context ends. Streams end at once then. Calls in flight may end by
// themselves for a while; after that their contexts end, and with them whatever they do.
func (s *server) serve(ctx context.Context, listeners []net.Listener) error {
	stopped := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(stopped)
		s.health.Shutdown()
		s.endStreams()
		defer s.endCalls()
		end := time.AfterFunc(endTimeout, s.endCalls)
		defer end.Stop()
		force := time.AfterFunc(stopTimeout, s.grpc.Stop)
		defer force.Stop()
		s.grpc.GracefulStop()
	})
	var group errgroup.Group
	for _, listener := range listeners {
		group.Go(func() error {
			err := s.grpc.Serve(listener)
			if err != nil {
				s.grpc.Stop()
			}
			return err
		})
	}
	if err := group.Wait(); err != nil {
		stop()
		return fmt.Errorf("serve gRPC: %w", err)
	}
	<-stopped
	return nil
}

func onPanic(ctx context.Context, value any) error {
	slog.ErrorContext(ctx, "a call panicked", "panic", value, "stack", string(debug.Stack()))
	return fmt.Errorf("panic: %v", value)
}
