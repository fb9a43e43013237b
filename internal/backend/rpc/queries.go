// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package rpc

import (
	"context"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/ownership"
	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

// RebalanceLoadBalancers implements backendv1.LoadBalancerServiceServer.
func (s *LoadBalancerService) RebalanceLoadBalancers(
	ctx context.Context, req *backendv1.RebalanceLoadBalancersRequest,
) (*backendv1.RebalanceLoadBalancersResponse, error) {
	if err := validateToken("scope", req.GetScope()); err != nil {
		return nil, err
	}
	planned, err := s.sessions.Rebalance(ctx, req.GetScope(), req.GetDryRun())
	if err != nil {
		return nil, err
	}
	message := planMessage(planned)
	return &backendv1.RebalanceLoadBalancersResponse{
		LoadBalancers: message.GetLoadBalancers(), Actions: message.GetActions(),
	}, nil
}

// GetLoadBalancer implements backendv1.LoadBalancerServiceServer.
func (s *LoadBalancerService) GetLoadBalancer(
	ctx context.Context, req *backendv1.GetLoadBalancerRequest,
) (*backendv1.GetLoadBalancerResponse, error) {
	if err := validateKey("key", req.GetKey()); err != nil {
		return nil, err
	}
	lb, err := s.sessions.Get(ctx, keyOf(req.GetKey()))
	if err != nil {
		return nil, err
	}
	return &backendv1.GetLoadBalancerResponse{LoadBalancer: loadBalancerMessage(lb)}, nil
}

// ListLoadBalancers implements backendv1.LoadBalancerServiceServer.
func (s *LoadBalancerService) ListLoadBalancers(
	ctx context.Context, req *backendv1.ListLoadBalancersRequest,
) (*backendv1.ListLoadBalancersResponse, error) {
	size, err := pageSize(req.GetPageSize())
	if err != nil {
		return nil, err
	}
	after, err := validateList(req)
	if err != nil {
		return nil, err
	}
	found, more, err := s.sessions.List(
		ctx, req.GetScope(), ownership.Key{Scope: after[0], Name: after[1]}, size)
	if err != nil {
		return nil, err
	}
	resp := &backendv1.ListLoadBalancersResponse{LoadBalancers: loadBalancerMessages(found)}
	if more {
		last := found[len(found)-1].Key
		resp.NextPageToken = encodePageToken(req, last.Scope, last.Name)
	}
	return resp, nil
}
