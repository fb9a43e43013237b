// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package rpc

import (
	"context"
	"time"

	"google.golang.org/grpc"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/ownership"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/plan"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/session"
	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

// AddressOperator knows all addresses, and changes single ones.
type AddressOperator interface {
	Adopt(
		ctx context.Context, named plan.Named, key ownership.Key, ownerUID string, dryRun bool,
	) (session.Outcome, error)
	Release(ctx context.Context, named plan.Named, dryRun bool) (session.Outcome, error)
	Orphans(ctx context.Context, scope string) ([]session.LoadBalancer, error)
	DeleteOrphan(ctx context.Context, scope, id string, dryRun bool) ([]session.Action, error)

	Addresses(
		ctx context.Context, filter session.AddressFilter, maxAge time.Duration, after string, limit int,
	) ([]plan.Address, bool, error)
	Reserve(ctx context.Context, req session.ReserveRequest) (plan.Address, bool, error)
	Attach(ctx context.Context, req session.AttachRequest) (session.Attached, error)
	Detach(ctx context.Context, kind ownership.Kind, id, instanceID string) (plan.Address, error)
	Delete(ctx context.Context, kind ownership.Kind, id string) error
}

// listMaxAge is how old a list of addresses may be where nothing is said.
const listMaxAge = 10 * time.Second

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

// ListAddresses implements backendv1.AddressServiceServer.
func (s *AddressService) ListAddresses(
	ctx context.Context, req *backendv1.ListAddressesRequest,
) (*backendv1.ListAddressesResponse, error) {
	size, err := pageSize(req.GetPageSize())
	if err != nil {
		return nil, err
	}
	kinds, err := kindsOf(req.GetSource())
	if err != nil {
		return nil, err
	}
	if err := validateListAddresses(req); err != nil {
		return nil, err
	}
	after, err := decodePageToken(req, isID)
	if err != nil {
		return nil, err
	}
	maxAge := listMaxAge
	if asked := ageOf(req.GetMaxAge()); asked != nil {
		maxAge = *asked
	}
	found, more, err := s.operator.Addresses(ctx, session.AddressFilter{
		Scope: req.GetScope(), Kinds: kinds, Attached: req.Attached, InstanceID: req.GetInstanceId(),
		Names: req.GetNames(),
	}, maxAge, after[0], size)
	if err != nil {
		return nil, err
	}
	resp := &backendv1.ListAddressesResponse{}
	for i := range found {
		resp.Addresses = append(resp.Addresses, resourceMessage(&found[i]))
	}
	if more {
		resp.NextPageToken = encodePageToken(req, found[len(found)-1].ID)
	}
	return resp, nil
}

// ReserveAddress implements backendv1.AddressServiceServer.
func (s *AddressService) ReserveAddress(
	ctx context.Context, req *backendv1.ReserveAddressRequest,
) (*backendv1.ReserveAddressResponse, error) {
	if err := validateReserve(req); err != nil {
		return nil, err
	}
	ip, created, err := s.operator.Reserve(ctx, reservationOf(req))
	if err != nil {
		return nil, err
	}
	return &backendv1.ReserveAddressResponse{Address: resourceMessage(&ip), Created: created}, nil
}

// AttachAddress implements backendv1.AddressServiceServer.
func (s *AddressService) AttachAddress(
	ctx context.Context, req *backendv1.AttachAddressRequest,
) (*backendv1.AttachAddressResponse, error) {
	if err := validateAttach(req); err != nil {
		return nil, err
	}
	attached, err := s.operator.Attach(ctx, attachmentOf(req))
	if err != nil {
		return nil, err
	}
	return &backendv1.AttachAddressResponse{
		Address: resourceMessage(&attached.Address), PreviousInstanceId: attached.Previous,
	}, nil
}

// DetachAddress implements backendv1.AddressServiceServer.
func (s *AddressService) DetachAddress(
	ctx context.Context, req *backendv1.DetachAddressRequest,
) (*backendv1.DetachAddressResponse, error) {
	if err := validateDetach(req); err != nil {
		return nil, err
	}
	ip, err := s.operator.Detach(
		ctx, resourceKinds[req.GetSource()], req.GetResourceId(), req.GetInstanceId())
	if err != nil {
		return nil, err
	}
	return &backendv1.DetachAddressResponse{Address: resourceMessage(&ip)}, nil
}

// DeleteAddress implements backendv1.AddressServiceServer.
func (s *AddressService) DeleteAddress(
	ctx context.Context, req *backendv1.DeleteAddressRequest,
) (*backendv1.DeleteAddressResponse, error) {
	if err := validateResourceID(req.GetSource(), req.GetResourceId()); err != nil {
		return nil, err
	}
	err := s.operator.Delete(ctx, resourceKinds[req.GetSource()], req.GetResourceId())
	if err != nil {
		return nil, err
	}
	return &backendv1.DeleteAddressResponse{}, nil
}
