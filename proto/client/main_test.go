// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package client

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"

	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

// No goroutine outlives the tests. goleak would say so too, and put seven more modules into the
// graph of everybody who imports this one.
func TestMain(m *testing.M) {
	code := m.Run()
	left := goroutines()
	for deadline := time.Now().Add(5 * time.Second); len(left) > 0 && time.Now().Before(deadline); {
		time.Sleep(10 * time.Millisecond)
		left = goroutines()
	}
	if code == 0 && len(left) > 0 {
		fmt.Fprintf(os.Stderr, "%d goroutines are left, for example\n%s\n", len(left), left[0])
		code = 1
	}
	os.Exit(code)
}

// goroutines returns the stacks of all goroutines but this one and those of the runtime and the
// testing package.
func goroutines() []string {
	text := make([]byte, 1<<20)
	all := strings.Split(string(text[:runtime.Stack(text, true)]), "\n\n")
	var left []string
	for _, stack := range all[1:] {
		if !strings.Contains(stack, "os/signal.") && !strings.Contains(stack, "\ntesting.(*M)") {
			left = append(left, stack)
		}
	}
	return left
}

// server is a backend of our own on a real socket, which can be stopped and started again. It
// answers the calls that it offers with what a test's own function returns.
type server struct {
	backendv1.UnsafeInstanceServiceServer
	backendv1.UnimplementedLoadBalancerServiceServer

	socket string
	grpc   *grpc.Server

	mu      sync.Mutex
	methods []string
	onCall  func(ctx context.Context, nth int) error
}

// socketDir returns a directory whose path leaves room for the name of a socket.
func socketDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "conn")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// newServer returns a server that is not started yet.
func newServer(t *testing.T, onCall func(ctx context.Context, nth int) error) *server {
	t.Helper()
	s := &server{socket: filepath.Join(socketDir(t), "b.sock"), onCall: onCall}
	t.Cleanup(s.stop)
	return s
}

func (s *server) start(t *testing.T) {
	t.Helper()
	listener, err := net.Listen("unix", s.socket)
	if err != nil {
		t.Fatal(err)
	}
	s.grpc = grpc.NewServer()
	backendv1.RegisterInstanceServiceServer(s.grpc, s)
	backendv1.RegisterLoadBalancerServiceServer(s.grpc, s)
	serving := s.grpc
	go func() { _ = serving.Serve(listener) }()
}

// stop ends the server as a kill would: calls in flight are cut off.
func (s *server) stop() {
	if s.grpc != nil {
		s.grpc.Stop()
		s.grpc = nil
	}
}

func (s *server) called(ctx context.Context, method string) error {
	s.mu.Lock()
	s.methods = append(s.methods, method)
	nth := len(s.methods)
	s.mu.Unlock()
	if s.onCall == nil {
		return nil
	}
	return s.onCall(ctx, nth)
}

// calls is how many calls arrived.
func (s *server) calls() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.methods)
}

func (s *server) GetInstance(ctx context.Context, _ *backendv1.GetInstanceRequest,
) (*backendv1.GetInstanceResponse, error) {
	return &backendv1.GetInstanceResponse{}, s.called(ctx, "GetInstance")
}

func (s *server) ListInstances(ctx context.Context, _ *backendv1.ListInstancesRequest,
) (*backendv1.ListInstancesResponse, error) {
	return &backendv1.ListInstancesResponse{}, s.called(ctx, "ListInstances")
}

func (s *server) BatchGetInstances(ctx context.Context, _ *backendv1.BatchGetInstancesRequest,
) (*backendv1.BatchGetInstancesResponse, error) {
	return &backendv1.BatchGetInstancesResponse{}, s.called(ctx, "BatchGetInstances")
}

func (s *server) WatchInstances(_ *backendv1.WatchInstancesRequest,
	stream grpc.ServerStreamingServer[backendv1.WatchInstancesResponse],
) error {
	return s.called(stream.Context(), "WatchInstances")
}

func (s *server) RebalanceLoadBalancers(ctx context.Context,
	_ *backendv1.RebalanceLoadBalancersRequest,
) (*backendv1.RebalanceLoadBalancersResponse, error) {
	return &backendv1.RebalanceLoadBalancersResponse{}, s.called(ctx, "RebalanceLoadBalancers")
}

// dial connects to the server's socket.
func (s *server) dial(t *testing.T) *grpc.ClientConn {
	t.Helper()
	conn, err := Dial(s.socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// within returns a context that ends after d.
func within(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}
