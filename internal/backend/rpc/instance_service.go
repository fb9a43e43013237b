// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package rpc

import (
	"context"

	"google.golang.org/grpc"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/instances"
	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

// InstanceService implements backendv1.InstanceServiceServer.
type InstanceService struct {
	backendv1.UnsafeInstanceServiceServer
	finder *instances.Finder
}

// NewInstanceService returns the service.
func NewInstanceService(finder *instances.Finder) *InstanceService {
	return &InstanceService{finder: finder}
}

// RegisterService registers the service with a server.
func (s *InstanceService) RegisterService(r grpc.ServiceRegistrar) {
	backendv1.RegisterInstanceServiceServer(r, s)
}

// GetInstance implements backendv1.InstanceServiceServer. Every answer is read from Oxide directly,
// whichever freshness was asked for.
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
	return &backendv1.GetInstanceResponse{Instance: fromInstance(found)}, nil
}

func (s *InstanceService) get(
	ctx context.Context, req *backendv1.GetInstanceRequest,
) (instances.Instance, error) {
	if proof := req.GetAbsenceProof(); proof != nil {
		return s.finder.ProveAbsent(ctx, req.GetId(), instances.Proof{
			SiloID: proof.GetSiloId(), ProjectID: proof.GetProjectId(),
			Witnesses: proof.GetWitnessInstanceIds(),
		})
	}
	switch selector := req.GetInstance().(type) {
	case *backendv1.GetInstanceRequest_Id:
		return s.finder.ByID(ctx, selector.Id)
	case *backendv1.GetInstanceRequest_Name:
		return s.finder.ByName(ctx, selector.Name)
	}
	return s.finder.ByHostname(ctx, req.GetHostname())
}

// ListInstances implements backendv1.InstanceServiceServer.
func (s *InstanceService) ListInstances(
	ctx context.Context, req *backendv1.ListInstancesRequest,
) (*backendv1.ListInstancesResponse, error) {
	size, err := pageSize(req.GetPageSize())
	if err != nil {
		return nil, err
	}
	after, err := decodePageToken(req.GetPageToken(), 1)
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
	*backendv1.WatchInstancesRequest, grpc.ServerStreamingServer[backendv1.WatchInstancesResponse],
) error {
	return &unofferedError{"WatchInstances"}
}
