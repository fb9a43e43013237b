// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package backend

import (
	"context"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"
)

// pipes is a listener whose connections never leave the process, so that a bubble of synctest knows
// when all wait.
type pipes struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
	dialed atomic.Int32
}

func newPipes() *pipes {
	return &pipes{conns: make(chan net.Conn), closed: make(chan struct{})}
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case conn := <-p.conns:
		return conn, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error {
	p.once.Do(func() { close(p.closed) })
	return nil
}

func (p *pipes) Addr() net.Addr { return &net.IPAddr{} }

func (p *pipes) dial(ctx context.Context, _ string) (net.Conn, error) {
	p.dialed.Add(1)
	here, there := net.Pipe()
	select {
	case p.conns <- there:
		return here, nil
	case <-p.closed:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// waiter is a service with one call, which waits until its context ends.
type waiter struct{ began chan struct{} }

func (w *waiter) RegisterService(r grpc.ServiceRegistrar) {
	r.RegisterService(&grpc.ServiceDesc{
		ServiceName: "test.Waiter", HandlerType: (*any)(nil),
		Methods: []grpc.MethodDesc{{MethodName: "Wait", Handler: func(
			srv any, ctx context.Context, decode func(any) error, chain grpc.UnaryServerInterceptor,
		) (any, error) {
			req := &emptypb.Empty{}
			if err := decode(req); err != nil {
				return nil, err
			}
			info := &grpc.UnaryServerInfo{Server: srv, FullMethod: "/test.Waiter/Wait"}
			return chain(ctx, req, info, func(ctx context.Context, _ any) (any, error) {
				close(w.began)
				<-ctx.Done()
				return nil, ctx.Err()
			})
		}}},
	}, w)
}

// inProcess runs a test with a server, which the function stop ends, and with a connection to it.
func inProcess(
	t *testing.T, services []service,
	test func(t *testing.T, conn *grpc.ClientConn, p *pipes, stop context.CancelFunc),
) {
	t.Helper()
	inProcessWith(t, prometheus.NewRegistry(), services, test)
}

// inProcessWith is inProcess with the registry of the server's metrics.
func inProcessWith(
	t *testing.T, registry *prometheus.Registry, services []service,
	test func(t *testing.T, conn *grpc.ClientConn, p *pipes, stop context.CancelFunc),
) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		p := newPipes()
		s := newServer(t.Context(), registry, Config{}, nil, nil, services...)
		ctx, stop := context.WithCancel(t.Context())
		served := make(chan error, 1)
		go func() { served <- s.serve(ctx, []net.Listener{p}) }()
		conn, err := grpc.NewClient("passthrough:///backend",
			grpc.WithTransportCredentials(insecure.NewCredentials()),
			grpc.WithContextDialer(p.dial), grpc.WithIdleTimeout(0),
			grpc.WithKeepaliveParams(keepalive.ClientParameters{
				Time: 10 * time.Second, Timeout: 10 * time.Second, PermitWithoutStream: true,
			}))
		if err != nil {
			t.Fatal(err)
		}
		test(t, conn, p, stop)
		_ = conn.Close()
		stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
}

// A client that pings every ten seconds, with and without a call, is not sent away.
func TestAClientMayPingEveryTenSeconds(t *testing.T) {
	inProcess(t, nil, func(t *testing.T, conn *grpc.ClientConn, p *pipes, _ context.CancelFunc) {
		client := healthv1.NewHealthClient(conn)
		check := func(when string) {
			t.Helper()
			if _, err := client.Check(t.Context(), &healthv1.HealthCheckRequest{}); err != nil {
				t.Errorf("%s: %v", when, err)
			}
		}
		check("at first")
		time.Sleep(10 * time.Minute)
		check("after ten idle minutes")
		ctx, cancel := context.WithCancel(t.Context())
		stream, err := client.Watch(ctx, &healthv1.HealthCheckRequest{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := stream.Recv(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Minute)
		check("after ten minutes with a silent stream")
		cancel()
		if n := p.dialed.Load(); n != 1 {
			t.Errorf("%d connections: the server has ended some", n)
		}
	})
}

// A call that lasts too long is ended while there is time to say why.
func TestACallThatTheStopEndsSaysSo(t *testing.T) {
	w := &waiter{began: make(chan struct{})}
	inProcess(t, []service{w}, func(
		t *testing.T, conn *grpc.ClientConn, _ *pipes, stop context.CancelFunc,
	) {
		result := make(chan error, 1)
		go func() {
			result <- conn.Invoke(t.Context(), "/test.Waiter/Wait", &emptypb.Empty{}, &emptypb.Empty{})
		}()
		<-w.began
		began := time.Now()
		stop()
		err := <-result
		if took := time.Since(began); took != endTimeout {
			t.Errorf("it was ended after %s, want %s", took, endTimeout)
		}
		st := status.Convert(err)
		if st.Code() != codes.Unavailable || len(st.Details()) != 2 {
			t.Fatalf("got %v %v", st, st.Details())
		}
		info, _ := st.Details()[0].(*errdetails.ErrorInfo)
		retry, _ := st.Details()[1].(*errdetails.RetryInfo)
		if info.GetReason() != "BACKEND_STOPPING" || retry.GetRetryDelay().AsDuration() != time.Second {
			t.Errorf("got %v", st.Details())
		}
	})
}

// A caller that goes away gets CANCELLED, also while the program stops.
func TestACallerThatGoesAwayIsNotToldOfTheStop(t *testing.T) {
	calling, stop := context.WithCancel(t.Context())
	caller, leave := context.WithCancel(t.Context())
	leave()
	stop()
	_, err := endCallsWith(calling)(caller, nil, nil, func(ctx context.Context, _ any) (any, error) {
		return nil, ctx.Err()
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}
