// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package sanity

import (
	"context"
	"net"
	"slices"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"

	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

// maxAnswer is the largest message that is accepted.
const maxAnswer = 64 << 20

// conn is a connection to the backend, without any repetition: what comes is seen as it is.
type conn struct {
	grpc      *grpc.ClientConn
	backend   backendv1.BackendServiceClient
	instances backendv1.InstanceServiceClient
	balancers backendv1.LoadBalancerServiceClient
	addresses backendv1.AddressServiceClient
	firewall  backendv1.FirewallServiceClient
	pools     backendv1.PoolServiceClient
	health    healthv1.HealthClient
}

func (w *world) connect() (*conn, error) { return w.connectBy(w.options.Dial) }

func (w *world) connectBy(dial func(context.Context) (net.Conn, error)) (*conn, error) {
	c, err := grpc.NewClient("passthrough:///backend",
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			return dial(ctx)
		}),
		grpc.WithDisableRetry(), grpc.WithDisableServiceConfig(), grpc.WithIdleTimeout(0),
		grpc.WithDefaultCallOptions(grpc.WaitForReady(true), grpc.MaxCallRecvMsgSize(maxAnswer)),
		grpc.WithUnaryInterceptor(w.seen.unary), grpc.WithStreamInterceptor(w.seen.stream),
	)
	if err != nil {
		return nil, err
	}
	return &conn{
		grpc: c, backend: backendv1.NewBackendServiceClient(c),
		instances: backendv1.NewInstanceServiceClient(c),
		balancers: backendv1.NewLoadBalancerServiceClient(c),
		addresses: backendv1.NewAddressServiceClient(c),
		firewall:  backendv1.NewFirewallServiceClient(c),
		pools:     backendv1.NewPoolServiceClient(c), health: healthv1.NewHealthClient(c),
	}, nil
}

// another makes a further connection for a case.
func (c *checker) another() *conn {
	further, err := c.connect()
	c.must("a further connection", err)
	c.cleanup(func(context.Context) { _ = further.grpc.Close() })
	return further
}

// seen is which methods were called and which reasons came.
type seen struct {
	mu      sync.Mutex
	methods map[string]bool
	reasons map[backendv1.ErrorReason]bool
}

func (s *seen) method(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.methods[name] = true
}

func (s *seen) reason(reason backendv1.ErrorReason) {
	if reason == backendv1.ErrorReason_ERROR_REASON_UNSPECIFIED {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reasons[reason] = true
}

func (s *seen) unary(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn,
	invoke grpc.UnaryInvoker, opts ...grpc.CallOption,
) error {
	s.method(method)
	err := invoke(ctx, method, req, reply, cc, opts...)
	s.reason(reasonOf(err))
	return err
}

func (s *seen) stream(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string,
	open grpc.Streamer, opts ...grpc.CallOption,
) (grpc.ClientStream, error) {
	s.method(method)
	stream, err := open(ctx, desc, cc, method, opts...)
	if err != nil {
		s.reason(reasonOf(err))
		return nil, err
	}
	return &seenStream{ClientStream: stream, seen: s}, nil
}

type seenStream struct {
	grpc.ClientStream
	seen *seen
}

func (s *seenStream) RecvMsg(m any) error {
	err := s.ClientStream.RecvMsg(m)
	s.seen.reason(reasonOf(err))
	return err
}

// names returns what was seen, sorted.
func (s *seen) names() (methods, reasons []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for method := range s.methods {
		methods = append(methods, method)
	}
	for reason := range s.reasons {
		reasons = append(reasons, nameOf(reason))
	}
	slices.Sort(methods)
	slices.Sort(reasons)
	return methods, reasons
}
