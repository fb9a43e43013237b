// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package rpc

import (
	"context"

	"google.golang.org/grpc"

	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

// AddressService implements backendv1.AddressServiceServer. None of its calls is offered yet.
type AddressService struct {
	backendv1.UnsafeAddressServiceServer
}

// NewAddressService returns the service.
func NewAddressService() *AddressService { return &AddressService{} }

// RegisterService registers the service with a server.
func (s *AddressService) RegisterService(r grpc.ServiceRegistrar) {
	backendv1.RegisterAddressServiceServer(r, s)
}

// AdoptAddress implements backendv1.AddressServiceServer.
func (s *AddressService) AdoptAddress(
	context.Context, *backendv1.AdoptAddressRequest,
) (*backendv1.AdoptAddressResponse, error) {
	return nil, &unofferedError{"AdoptAddress"}
}

// ReleaseAddress implements backendv1.AddressServiceServer.
func (s *AddressService) ReleaseAddress(
	context.Context, *backendv1.ReleaseAddressRequest,
) (*backendv1.ReleaseAddressResponse, error) {
	return nil, &unofferedError{"ReleaseAddress"}
}

// ListOrphanedAddresses implements backendv1.AddressServiceServer.
func (s *AddressService) ListOrphanedAddresses(
	context.Context, *backendv1.ListOrphanedAddressesRequest,
) (*backendv1.ListOrphanedAddressesResponse, error) {
	return nil, &unofferedError{"ListOrphanedAddresses"}
}

// DeleteOrphanedAddress implements backendv1.AddressServiceServer.
func (s *AddressService) DeleteOrphanedAddress(
	context.Context, *backendv1.DeleteOrphanedAddressRequest,
) (*backendv1.DeleteOrphanedAddressResponse, error) {
	return nil, &unofferedError{"DeleteOrphanedAddress"}
}
