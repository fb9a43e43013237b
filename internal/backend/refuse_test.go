// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package backend

import (
	"context"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/uds"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/proto/client"
	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

// A process of another user learns at once, from any call, why it is refused and what to do, and can hold
// no more than a few connections.
func TestPeersOfAnotherUserAreRefusedWithTheRemedy(t *testing.T) {
	dir, err := os.MkdirTemp("", "refuse-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	socket, err := uds.Listen(filepath.Join(dir, "made", "b.sock"))
	if err != nil {
		t.Fatal(err)
	}
	counter := prometheus.NewCounter(prometheus.CounterOpts{Name: "x"})
	r := newRefuser(socket.Addr(), counter)
	peers := &uds.PeerListener{UnixListener: socket, UID: uint32(os.Geteuid()) + 1, Refused: r.refuse}
	ctx, stop := context.WithCancel(t.Context())
	accepted := make(chan struct{})
	go func() {
		defer close(accepted)
		_, _ = peers.Accept()
	}()
	served := make(chan error, 1)
	go func() { served <- r.serve(ctx) }()

	conn, err := grpc.NewClient("unix://"+socket.Addr().String(),
		grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	for what, call := range map[string]func() error{
		"a unary call": func() error {
			return conn.Invoke(t.Context(), backendv1.BackendService_GetInfo_FullMethodName, &emptypb.Empty{},
				&emptypb.Empty{})
		},
		"a health check": func() error {
			return conn.Invoke(t.Context(), "/grpc.health.v1.Health/Check", &emptypb.Empty{}, &emptypb.Empty{})
		},
		"a session": func() error {
			stream, err := backendv1.NewLoadBalancerServiceClient(conn).SyncLoadBalancers(t.Context())
			if err != nil {
				return err
			}
			_, err = stream.Recv()
			return err
		},
	} {
		began := time.Now()
		err := call()
		if status.Code(err) != codes.PermissionDenied || !strings.Contains(err.Error(), "run as that user") ||
			!client.HasReason(err, backendv1.ErrorReason_ERROR_REASON_PEER_REFUSED) {
			t.Errorf("%s is answered %v", what, err)
		}
		if took := time.Since(began); took > refusedTimeout {
			t.Errorf("%s took %s", what, took)
		}
	}
	_ = conn.Close()

	// One that says nothing keeps its place for a while, and further ones are closed before they are sent
	// anything.
	var silent []net.Conn
	for range maxRefused {
		silent = append(silent, dialUnix(t, socket))
	}
	further := dialUnix(t, socket)
	if n, err := io.Copy(io.Discard, further); n > 0 {
		t.Errorf("one connection more is sent %d bytes, %v", n, err)
	}
	if got := testutil.ToFloat64(counter); got < maxRefused+2 {
		t.Errorf("%v connections are counted", got)
	}
	stop()
	if err := <-served; err != nil {
		t.Error(err)
	}
	for _, conn := range silent {
		if err := conn.SetReadDeadline(time.Now().Add(refusedTimeout)); err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, conn); os.IsTimeout(err) {
			t.Error("a connection is open after the end")
		}
	}
	_ = socket.Close()
	<-accepted
}

func dialUnix(t *testing.T, socket net.Listener) net.Conn {
	t.Helper()
	conn, err := net.Dial("unix", socket.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}
