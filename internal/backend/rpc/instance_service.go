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
	return fromIdentified(found), nil
}

func (s *InstanceService) get(
	ctx context.Context, req *backendv1.GetInstanceRequest,
) (instances.Identified, error) {
	view := viewOf(req.GetView())
	direct := req.GetFreshness() == backendv1.Freshness_FRESHNESS_DIRECT
	switch selector := req.GetInstance().(type) {
	case *backendv1.GetInstanceRequest_Id:
		return s.identify(ctx, instances.Machine{ID: selector.Id}, req.GetAbsenceProof(), view, direct)
	case *backendv1.GetInstanceRequest_Machine:
		return s.identify(ctx, toMachine(selector.Machine), req.GetAbsenceProof(), view, direct)
	case *backendv1.GetInstanceRequest_Name:
		found, err := s.finder.ByName(ctx, selector.Name, view)
		return instances.Identified{Instance: found, By: instances.ByName}, err
	}
	found, err := s.finder.ByHostname(ctx, req.GetHostname(), view)
	return instances.Identified{Instance: found, By: instances.ByHostname}, err
}

func (s *InstanceService) identify(
	ctx context.Context, machine instances.Machine, proof *backendv1.AbsenceProof, view instances.View,
	direct bool,
) (instances.Identified, error) {
	if proof == nil {
		return s.finder.Identify(ctx, machine, view, direct)
	}
	return s.finder.ProveMachineAbsent(ctx, machine, instances.Proof{
		SiloID: proof.GetSiloId(), ProjectID: proof.GetProjectId(),
		Witnesses: proof.GetWitnessInstanceIds(),
	}, view)
}

// ListInstances implements backendv1.InstanceServiceServer.
func (s *InstanceService) ListInstances(
	ctx context.Context, req *backendv1.ListInstancesRequest,
) (*backendv1.ListInstancesResponse, error) {
	size, err := pageSize(req.GetPageSize())
	if err != nil {
		return nil, err
	}
	if err := validateListInstances(req); err != nil {
		return nil, err
	}
	after, err := decodePageToken(req, isID)
	if err != nil {
		return nil, err
	}
	found, more, err := s.finder.List(ctx, instances.Query{
		IDs: req.GetIds(), Names: req.GetNames(), Groups: req.GetAntiAffinityGroups(),
		View: viewOf(req.GetView()), MaxAge: ageOf(req.GetMaxAge()),
	}, after[0], size)
	if err != nil {
		return nil, err
	}
	resp := &backendv1.ListInstancesResponse{}
	for _, instance := range found {
		resp.Instances = append(resp.Instances, fromInstance(instance))
	}
	if more {
		resp.NextPageToken = encodePageToken(req, found[len(found)-1].ID)
	}
	return resp, nil
}

// BatchGetInstances implements backendv1.InstanceServiceServer.
func (s *InstanceService) BatchGetInstances(
	ctx context.Context, req *backendv1.BatchGetInstancesRequest,
) (*backendv1.BatchGetInstancesResponse, error) {
	if err := validateBatch(req); err != nil {
		return nil, err
	}
	selectors := make([]instances.Selector, 0, len(req.GetInstances()))
	for _, selector := range req.GetInstances() {
		selectors = append(selectors, instances.Selector{ID: selector.GetId(), Name: selector.GetName()})
	}
	found, err := s.finder.Batch(ctx, selectors, viewOf(req.GetView()), ageOf(req.GetMaxAge()))
	if err != nil {
		return nil, err
	}
	resp := &backendv1.BatchGetInstancesResponse{}
	for _, selected := range found {
		resp.Results = append(resp.Results, resultMessage(selected))
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
