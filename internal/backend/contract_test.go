// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package backend_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/oxidesim"
	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

// Whatever a caller does wrong, the status has one ErrorInfo and one short line.
func TestWhateverIsCalledTheStatusSaysWhy(t *testing.T) {
	rack := oxidesim.Start(t, oxidesim.Config{})
	metrics := freeAddress(t)
	p := start(t, rack.URL, "--metrics-listen", metrics)
	p.awaitReady()
	call := func(method string, req proto.Message) func(context.Context) error {
		return func(ctx context.Context) error {
			return p.conn.Invoke(ctx, method, req, &emptypb.Empty{})
		}
	}
	orphan := &backendv1.DeleteOrphanedAddressRequest{Scope: "c1", ResourceId: "x"}
	orphan.ProtoReflect().SetUnknown(protowire.AppendVarint(
		protowire.AppendTag(nil, 99, protowire.VarintType), 1))
	longToken := &backendv1.ListInstancesRequest{PageToken: strings.Repeat("x", 600)}
	longName := &backendv1.GetInstanceRequest{
		Instance: &backendv1.GetInstanceRequest_Name{Name: strings.Repeat("\n", 10_000)},
	}
	for _, tc := range []struct {
		name   string
		call   func(context.Context) error
		code   codes.Code
		reason string
	}{
		{"an unknown method", call("/oxide.backend.v1.BackendService/Invented", &emptypb.Empty{}),
			codes.Unimplemented, "UNIMPLEMENTED"},
		{"an unknown service", call("/invented.Service/"+strings.Repeat("x", 2000), &emptypb.Empty{}),
			codes.Unimplemented, "UNIMPLEMENTED"},
		{"a request that is too large", call(
			backendv1.LoadBalancerService_PlanLoadBalancers_FullMethodName,
			wrapperspb.Bytes(make([]byte, 17<<20)),
		), codes.InvalidArgument, "INVALID_REQUEST"},
		{"a request that cannot be decoded", call(
			backendv1.InstanceService_GetInstance_FullMethodName, wrapperspb.Bytes([]byte{0xff}),
		), codes.InvalidArgument, "INVALID_REQUEST"},
		{"a stream whose request cannot be decoded", func(ctx context.Context) error {
			stream, err := p.conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true},
				backendv1.InstanceService_WatchInstances_FullMethodName)
			if err != nil {
				return err
			}
			// A field of the wrong length.
			broken := &emptypb.Empty{}
			broken.ProtoReflect().SetUnknown([]byte{0x0a, 0x05, 0x01})
			if err := errors.Join(stream.SendMsg(broken), stream.CloseSend()); err != nil {
				return err
			}
			return stream.RecvMsg(&emptypb.Empty{})
		}, codes.InvalidArgument, "INVALID_REQUEST"},
		{"health of an unknown service", call(healthv1.Health_Check_FullMethodName,
			&healthv1.HealthCheckRequest{Service: "invented"},
		), codes.NotFound, "RESOURCE_NOT_FOUND"},
		{"fields of a newer API", call(
			backendv1.AddressService_DeleteOrphanedAddress_FullMethodName, orphan,
		), codes.Unimplemented, "VERSION_SKEW"},
		{"a long page token", call(backendv1.InstanceService_ListInstances_FullMethodName, longToken),
			codes.InvalidArgument, "INVALID_REQUEST"},
		{"a long name", call(backendv1.InstanceService_GetInstance_FullMethodName, longName),
			codes.InvalidArgument, "INVALID_REQUEST"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			err := tc.call(t.Context())
			st := status.Convert(err)
			if st.Code() != tc.code || reasonOf(err) != tc.reason {
				t.Errorf("got %v, reason %q", err, reasonOf(err))
			}
			if len(st.Message()) > 400 || strings.ContainsAny(st.Message(), "\n\r") {
				t.Errorf("%d bytes: %q", len(st.Message()), st.Message())
			}
		})
	}
	if text := read(t, "http://"+metrics+"/metrics"); strings.Contains(text, "nvented") {
		t.Error("a name that a caller invented is remembered as a metric")
	}
}

func TestTheBackendSaysItsRevisionAndWhetherItChangesAnything(t *testing.T) {
	rack := oxidesim.Start(t, oxidesim.Config{})
	for _, readOnly := range []bool{false, true} {
		var args []string
		if readOnly {
			args = append(args, "--read-only")
		}
		p := start(t, rack.URL, args...)
		p.awaitReady()
		info, err := backendv1.NewBackendServiceClient(p.conn).
			GetInfo(t.Context(), &backendv1.GetInfoRequest{})
		if err != nil || info.GetApiRevision() != backendv1.APIRevision ||
			info.GetReadOnly() != readOnly {
			t.Errorf("GetInfo: %v, %v", info, err)
		}
	}
}
