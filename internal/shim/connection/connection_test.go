// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package connection

import (
	"context"
	"net"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"
	"k8s.io/component-base/metrics/legacyregistry"

	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestCallsAreMeasuredByMethodAndCode(t *testing.T) {
	RegisterMetrics()
	RegisterMetrics() // Twice must not panic.
	socket := filepath.Join(socketDir(t), "b.sock")
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	server := refusingServer()
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(server.Stop)
	conn, err := Dial(socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if _, err := backendv1.NewBackendServiceClient(conn).
		GetInfo(t.Context(), new(backendv1.GetInfoRequest)); err == nil {
		t.Fatal("the call succeeded")
	}
	if conn.LastAnswer().IsZero() {
		t.Error("the answer is not recorded")
	}
	families, err := legacyregistry.DefaultGatherer.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		if family.GetName() != "oxide_ccm_backend_call_duration_seconds" {
			continue
		}
		for _, metric := range family.GetMetric() {
			labels := make(map[string]string)
			for _, label := range metric.GetLabel() {
				labels[label.GetName()] = label.GetValue()
			}
			if labels["method"] == backendv1.BackendService_GetInfo_FullMethodName &&
				labels["code"] == "FailedPrecondition" && len(labels) == 2 {
				return
			}
		}
	}
	t.Error("no metric counts the call")
}

// refusingServer is a server whose only call fails, and which permits the pings of its clients.
func refusingServer() *grpc.Server {
	server := grpc.NewServer(grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{
		MinTime: 10 * time.Second, PermitWithoutStream: true,
	}))
	backendv1.RegisterBackendServiceServer(server, refusing{})
	return server
}

type refusing struct {
	backendv1.UnsafeBackendServiceServer
}

func (refusing) GetInfo(context.Context, *backendv1.GetInfoRequest,
) (*backendv1.GetInfoResponse, error) {
	return nil, status.Error(codes.FailedPrecondition, "no")
}
