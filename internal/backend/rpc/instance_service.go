// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package rpc

import (
	"context"
	"time"

	"google.golang.org/grpc"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/instances"
	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

// InstanceService implements backendv1.InstanceServiceServer.
type InstanceService struct {
	backendv1.UnsafeInstanceServiceServer
	finder    *instances.Finder
	inventory *instances.Inventory
	lag       func(time.Duration)
}

// NewInstanceService returns the service. The function lag is called with the age of facts when
// a watcher has received them.
func NewInstanceService(
	finder *instances.Finder, inventory *instances.Inventory, lag func(time.Duration),
) *InstanceService {
	return &InstanceService{finder: finder, inventory: inventory, lag: lag}
}

// RegisterService registers the service with a server.
func (s *InstanceService) RegisterService(r grpc.ServiceRegistrar) {
	backendv1.RegisterInstanceServiceServer(r, s)
}

// GetInstance implements backendv1.InstanceServiceServer.
func (s *InstanceService) GetInstance(
	ctx context.Context, req *backendv1.GetInstanceRequest,
) (*backendv1.GetInstanceResponse, error) {
	if err := validateGetInstance(req); err != nil {
		return nil, err
	}
	found, err := s.get(ctx, req)
	if err != nil {
		return nil, err
	}
	if req.GetIncludeRack() {
		found.RackID = s.inventory.Rack(ctx, found.ID)
	}
	return &backendv1.GetInstanceResponse{Instance: fromInstance(found)}, nil
}

func (s *InstanceService) get(
	ctx context.Context, req *backendv1.GetInstanceRequest,
) (instances.Instance, error) {
	view := instances.Full
	if req.GetView() == backendv1.InstanceView_INSTANCE_VIEW_BASIC {
		view = instances.Basic
	}
	direct := req.GetFreshness() == backendv1.Freshness_FRESHNESS_DIRECT
	proof := req.GetAbsenceProof()
	switch selector := req.GetInstance().(type) {
	case *backendv1.GetInstanceRequest_Id:
		switch {
		case proof != nil:
			return s.finder.ProveAbsent(ctx, selector.Id, instances.Proof{
				SiloID: proof.GetSiloId(), ProjectID: proof.GetProjectId(),
				Witnesses: proof.GetWitnessInstanceIds(),
			}, view)
		case direct:
			return s.finder.ByIDNow(ctx, selector.Id, view)
		}
		return s.finder.ByID(ctx, selector.Id, view)
	case *backendv1.GetInstanceRequest_Name:
		return s.finder.ByName(ctx, selector.Name, view)
	}
	return s.finder.ByHostname(ctx, req.GetHostname(), view)
}

// ListInstances implements backendv1.InstanceServiceServer.
func (s *InstanceService) ListInstances(
	ctx context.Context, req *backendv1.ListInstancesRequest,
) (*backendv1.ListInstancesResponse, error) {
	size, err := pageSize(req.GetPageSize())
	if err != nil {
		return nil, err
	}
	after, err := decodePageToken(req.GetPageToken(), isID)
	if err != nil {
		return nil, err
	}
	found, more, err := s.finder.List(ctx, after[0], size)
	if err != nil {
		return nil, err
	}
	resp := &backendv1.ListInstancesResponse{}
	for _, instance := range found {
		resp.Instances = append(resp.Instances, fromInstance(instance))
	}
	if more {
		resp.NextPageToken = encodePageToken(found[len(found)-1].ID)
	}
	return resp, nil
}

// WatchInstances implements backendv1.InstanceServiceServer.
func (s *InstanceService) WatchInstances(
	req *backendv1.WatchInstancesRequest,
	stream grpc.ServerStreamingServer[backendv1.WatchInstancesResponse],
) error {
	return s.inventory.Watch(stream.Context(), req.GetIncludeRack(),
		func(e instances.Event) error { return stream.Send(fromEvent(e)) }, s.lag)
}
