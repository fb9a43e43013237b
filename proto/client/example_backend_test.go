// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package client_test

import (
	"context"
	"log"
	"net"
	"os"
	"path/filepath"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/protoadapt"
	"google.golang.org/protobuf/types/known/durationpb"

	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

// answers is a backend that knows two instances and always says the same. The examples need one; a real
// one is tested with this client in the modules that may import it.
type answers struct {
	backendv1.UnimplementedBackendServiceServer
	backendv1.UnimplementedInstanceServiceServer
	backendv1.UnimplementedLoadBalancerServiceServer
	backendv1.UnimplementedPoolServiceServer
}

// exampleBackend serves on a socket until it is stopped.
func exampleBackend() (socket string, stop func()) {
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		log.Fatal(err)
	}
	socket = filepath.Join(dir, "b.sock")
	listener, err := net.Listen("unix", socket)
	if err != nil {
		log.Fatal(err)
	}
	server := grpc.NewServer()
	backendv1.RegisterBackendServiceServer(server, answers{})
	backendv1.RegisterInstanceServiceServer(server, answers{})
	backendv1.RegisterLoadBalancerServiceServer(server, answers{})
	backendv1.RegisterPoolServiceServer(server, answers{})
	go func() { _ = server.Serve(listener) }()
	return socket, func() {
		server.Stop()
		_ = os.RemoveAll(dir)
	}
}

func instances() []*backendv1.Instance {
	return []*backendv1.Instance{
		{Id: "instance-1", Name: "web-1", RunState: backendv1.RunState_RUN_STATE_RUNNING},
		{Id: "instance-2", Name: "web-2", RunState: backendv1.RunState_RUN_STATE_RUNNING},
	}
}

func failure(code codes.Code, reason, message string, more ...protoadapt.MessageV1) error {
	s, err := status.New(code, message).WithDetails(append([]protoadapt.MessageV1{
		&errdetails.ErrorInfo{Domain: "oxide.computer", Reason: reason},
	}, more...)...)
	if err != nil {
		return err
	}
	return s.Err()
}

func (answers) GetInfo(context.Context, *backendv1.GetInfoRequest) (*backendv1.GetInfoResponse, error) {
	return &backendv1.GetInfoResponse{ApiRevision: backendv1.APIRevision}, nil
}

// ListInstances has pages of one instance.
func (answers) ListInstances(_ context.Context, request *backendv1.ListInstancesRequest,
) (*backendv1.ListInstancesResponse, error) {
	if request.GetPageToken() == "" {
		return &backendv1.ListInstancesResponse{Instances: instances()[:1], NextPageToken: "more"}, nil
	}
	return &backendv1.ListInstancesResponse{Instances: instances()[1:]}, nil
}

func (answers) GetInstance(_ context.Context, request *backendv1.GetInstanceRequest,
) (*backendv1.GetInstanceResponse, error) {
	return nil, failure(codes.NotFound, "INSTANCE_NOT_FOUND",
		"there is no instance "+request.GetName()+" in the project demo")
}

func (answers) ListPools(ctx context.Context, _ *backendv1.ListPoolsRequest,
) (*backendv1.ListPoolsResponse, error) {
	// As the backend does for its own errors: the caller decides whether to ask again.
	_ = grpc.SetTrailer(ctx, map[string][]string{"grpc-retry-pushback-ms": {"-1"}})
	return nil, failure(codes.Unavailable, "OXIDE_UNAVAILABLE", "Oxide does not answer",
		&errdetails.RetryInfo{RetryDelay: durationpb.New(5 * time.Second)})
}

func (answers) WatchInstances(_ *backendv1.WatchInstancesRequest,
	stream grpc.ServerStreamingServer[backendv1.WatchInstancesResponse],
) error {
	for _, instance := range instances() {
		if err := stream.Send(&backendv1.WatchInstancesResponse{
			Event: &backendv1.WatchInstancesResponse_Instance{Instance: instance},
		}); err != nil {
			return err
		}
	}
	if err := stream.Send(&backendv1.WatchInstancesResponse{
		Event: &backendv1.WatchInstancesResponse_SnapshotComplete{
			SnapshotComplete: new(backendv1.SnapshotComplete),
		},
	}); err != nil {
		return err
	}
	<-stream.Context().Done()
	return nil
}

// SyncLoadBalancers has each load balancer on the first instance.
func (answers) SyncLoadBalancers(stream grpc.BidiStreamingServer[
	backendv1.SyncLoadBalancersRequest, backendv1.SyncLoadBalancersResponse],
) error {
	for {
		request, err := stream.Recv()
		if err != nil {
			return err
		}
		item := request.GetLoadBalancer()
		if item == nil {
			continue
		}
		if err := stream.Send(&backendv1.SyncLoadBalancersResponse{
			Event: &backendv1.SyncLoadBalancersResponse_State{State: &backendv1.LoadBalancerState{
				Key: item.GetKey(), OwnerUid: item.GetOwnerUid(), Generation: item.GetGeneration(),
				Phase: backendv1.Phase_PHASE_READY, Explanation: "web-1 carries it",
				Addresses: []*backendv1.LoadBalancerAddress{{Address: "198.51.100.10"}},
			}},
		}); err != nil {
			return err
		}
	}
}
