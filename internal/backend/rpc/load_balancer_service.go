// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package rpc

import (
	"context"

	"google.golang.org/grpc"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers"
	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

// LoadBalancerService implements backendv1.LoadBalancerServiceServer.
type LoadBalancerService struct {
	backendv1.UnsafeLoadBalancerServiceServer
	manager *loadbalancers.Manager
}

// NewLoadBalancerService returns the service.
func NewLoadBalancerService(manager *loadbalancers.Manager) *LoadBalancerService {
	return &LoadBalancerService{manager: manager}
}

// RegisterService registers the service with a server.
func (s *LoadBalancerService) RegisterService(r grpc.ServiceRegistrar) {
	backendv1.RegisterLoadBalancerServiceServer(r, s)
}

// EnsureLoadBalancer implements backendv1.LoadBalancerServiceServer.
func (s *LoadBalancerService) EnsureLoadBalancer(
	ctx context.Context, req *backendv1.EnsureLoadBalancerRequest,
) (*backendv1.EnsureLoadBalancerResponse, error) {
	if err := validateEnsure(req); err != nil {
		return nil, err
	}
	result, err := s.manager.Ensure(
		ctx, toCluster(req.GetCluster()), toDesired(req.GetLoadBalancer()),
		loadbalancers.EnsureOptions{
			DryRun: req.GetDryRun(), LeaveAttached: req.GetLeaveAttached(),
		})
	if err != nil {
		return nil, err
	}
	return &backendv1.EnsureLoadBalancerResponse{
		LoadBalancer: fromLoadBalancer(result.LoadBalancer),
		Actions:      fromActions(result.Actions),
	}, nil
}

// ReconcileLoadBalancers implements backendv1.LoadBalancerServiceServer.
func (s *LoadBalancerService) ReconcileLoadBalancers(
	ctx context.Context, req *backendv1.ReconcileLoadBalancersRequest,
) (*backendv1.ReconcileLoadBalancersResponse, error) {
	if err := validateReconcile(req); err != nil {
		return nil, err
	}
	found, err := s.manager.Reconcile(
		ctx, toCluster(req.GetCluster()), toSet(req.GetLoadBalancers()), toSetOptions(req))
	if err != nil {
		return nil, err
	}
	resp := &backendv1.ReconcileLoadBalancersResponse{Orphans: fromLoadBalancers(found.Orphans)}
	resp.Results, resp.Actions = fromResults(found.Results)
	return resp, nil
}

// RebalanceLoadBalancers implements backendv1.LoadBalancerServiceServer.
func (s *LoadBalancerService) RebalanceLoadBalancers(
	ctx context.Context, req *backendv1.RebalanceLoadBalancersRequest,
) (*backendv1.RebalanceLoadBalancersResponse, error) {
	if err := validateSet(req.GetCluster(), req.GetLoadBalancers(), nil); err != nil {
		return nil, err
	}
	rebalance := func() (loadbalancers.SetResult, error) {
		return s.manager.Rebalance(
			ctx, toCluster(req.GetCluster()), toSet(req.GetLoadBalancers()), req.GetDryRun())
	}
	if len(req.GetCluster().GetCandidates()) == 0 && len(req.GetLoadBalancers()) == 0 {
		rebalance = func() (loadbalancers.SetResult, error) {
			return s.manager.RebalanceSoon(ctx, req.GetCluster().GetScope(), req.GetDryRun())
		}
	}
	found, err := rebalance()
	if err != nil {
		return nil, err
	}
	resp := &backendv1.RebalanceLoadBalancersResponse{}
	resp.Results, resp.Actions = fromResults(found.Results)
	return resp, nil
}

// GetLoadBalancer implements backendv1.LoadBalancerServiceServer.
func (s *LoadBalancerService) GetLoadBalancer(
	ctx context.Context, req *backendv1.GetLoadBalancerRequest,
) (*backendv1.GetLoadBalancerResponse, error) {
	if err := validateKey("key", req.GetKey()); err != nil {
		return nil, err
	}
	lb, err := s.manager.Get(ctx, toKey(req.GetKey()))
	if err != nil {
		return nil, err
	}
	return &backendv1.GetLoadBalancerResponse{LoadBalancer: fromLoadBalancer(lb)}, nil
}

// ListLoadBalancers implements backendv1.LoadBalancerServiceServer.
func (s *LoadBalancerService) ListLoadBalancers(
	ctx context.Context, req *backendv1.ListLoadBalancersRequest,
) (*backendv1.ListLoadBalancersResponse, error) {
	size, err := pageSize(req.GetPageSize())
	if err != nil {
		return nil, err
	}
	after, err := decodePageToken(req.GetPageToken(), 2)
	if err != nil {
		return nil, err
	}
	if req.GetScope() != "" {
		if err := validateToken("scope", req.GetScope()); err != nil {
			return nil, err
		}
	}
	found, more, err := s.manager.List(
		ctx, req.GetScope(), loadbalancers.Key{Scope: after[0], Name: after[1]}, size)
	if err != nil {
		return nil, err
	}
	resp := &backendv1.ListLoadBalancersResponse{LoadBalancers: fromLoadBalancers(found)}
	if more {
		last := found[len(found)-1].Key
		resp.NextPageToken = encodePageToken(last.Scope, last.Name)
	}
	return resp, nil
}

// DeleteLoadBalancer implements backendv1.LoadBalancerServiceServer.
func (s *LoadBalancerService) DeleteLoadBalancer(
	ctx context.Context, req *backendv1.DeleteLoadBalancerRequest,
) (*backendv1.DeleteLoadBalancerResponse, error) {
	if err := validateDelete(req); err != nil {
		return nil, err
	}
	actions, err := s.manager.Delete(ctx, loadbalancers.Deletion{
		Key: toKey(req.GetKey()), OwnerUID: req.GetOwnerUid(), Retain: req.GetRetainAddresses(),
		Cluster: toCluster(req.GetCluster()), Published: toAddrs(req.GetPublishedAddresses()),
		Wanted: toWanted(req.GetAddresses()),
	}, req.GetDryRun())
	if err != nil {
		return nil, err
	}
	return &backendv1.DeleteLoadBalancerResponse{Actions: fromActions(actions)}, nil
}
