// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package rpc

import (
	"context"

	"google.golang.org/grpc"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/ownership"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/plan"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/session"
	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

// AddressOperator changes single addresses by hand.
type AddressOperator interface {
	Adopt(
		ctx context.Context, named plan.Named, key ownership.Key, ownerUID string, dryRun bool,
	) (session.Outcome, error)
	Release(ctx context.Context, named plan.Named, dryRun bool) (session.Outcome, error)
	Orphans(ctx context.Context, scope string) ([]session.LoadBalancer, error)
	DeleteOrphan(ctx context.Context, scope, id string, dryRun bool) ([]session.Action, error)
}

// AddressService implements backendv1.AddressServiceServer.
type AddressService struct {
	backendv1.UnsafeAddressServiceServer
	operator AddressOperator
}

// NewAddressService returns the service.
func NewAddressService(operator AddressOperator) *AddressService {
	return &AddressService{operator: operator}
}

// RegisterService registers the service with a server.
func (s *AddressService) RegisterService(r grpc.ServiceRegistrar) {
	backendv1.RegisterAddressServiceServer(r, s)
}

// AdoptAddress implements backendv1.AddressServiceServer.
func (s *AddressService) AdoptAddress(
	ctx context.Context, req *backendv1.AdoptAddressRequest,
) (*backendv1.AdoptAddressResponse, error) {
	if err := validateAdopt(req); err != nil {
		return nil, err
	}
	found, err := s.operator.Adopt(
		ctx, namedOf(req.GetSource(), req.GetResource()), keyOf(req.GetKey()), req.GetOwnerUid(),
		req.GetDryRun())
	if err != nil {
		return nil, err
	}
	return &backendv1.AdoptAddressResponse{
		Address: addressMessage(found.Address), Actions: actionMessages(found.Actions),
	}, nil
}

// ReleaseAddress implements backendv1.AddressServiceServer.
func (s *AddressService) ReleaseAddress(
	ctx context.Context, req *backendv1.ReleaseAddressRequest,
) (*backendv1.ReleaseAddressResponse, error) {
	if err := validateResource(req.GetSource(), req.GetResource()); err != nil {
		return nil, err
	}
	found, err := s.operator.Release(
		ctx, namedOf(req.GetSource(), req.GetResource()), req.GetDryRun())
	if err != nil {
		return nil, err
	}
	return &backendv1.ReleaseAddressResponse{
		Address: addressMessage(found.Address), Actions: actionMessages(found.Actions),
	}, nil
}

// ListOrphanedAddresses implements backendv1.AddressServiceServer.
func (s *AddressService) ListOrphanedAddresses(
	ctx context.Context, req *backendv1.ListOrphanedAddressesRequest,
) (*backendv1.ListOrphanedAddressesResponse, error) {
	if err := validateToken("scope", req.GetScope()); err != nil {
		return nil, err
	}
	orphans, err := s.operator.Orphans(ctx, req.GetScope())
	if err != nil {
		return nil, err
	}
	return &backendv1.ListOrphanedAddressesResponse{Orphans: loadBalancerMessages(orphans)}, nil
}

// DeleteOrphanedAddress implements backendv1.AddressServiceServer.
func (s *AddressService) DeleteOrphanedAddress(
	ctx context.Context, req *backendv1.DeleteOrphanedAddressRequest,
) (*backendv1.DeleteOrphanedAddressResponse, error) {
	if err := validateToken("scope", req.GetScope()); err != nil {
		return nil, err
	}
	if err := validateID("resource_id", req.GetResourceId()); err != nil {
		return nil, err
	}
	actions, err := s.operator.DeleteOrphan(
		ctx, req.GetScope(), req.GetResourceId(), req.GetDryRun())
	if err != nil {
		return nil, err
	}
	return &backendv1.DeleteOrphanedAddressResponse{Actions: actionMessages(actions)}, nil
}
