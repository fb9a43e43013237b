// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package rpc

import (
	"context"

	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

// Calls whose implementation follows.

// ListAddresses implements backendv1.AddressServiceServer.
func (s *AddressService) ListAddresses(
	context.Context, *backendv1.ListAddressesRequest,
) (*backendv1.ListAddressesResponse, error) {
	return nil, &unofferedError{"ListAddresses"}
}

// ReserveAddress implements backendv1.AddressServiceServer.
func (s *AddressService) ReserveAddress(
	context.Context, *backendv1.ReserveAddressRequest,
) (*backendv1.ReserveAddressResponse, error) {
	return nil, &unofferedError{"ReserveAddress"}
}

// AttachAddress implements backendv1.AddressServiceServer.
func (s *AddressService) AttachAddress(
	context.Context, *backendv1.AttachAddressRequest,
) (*backendv1.AttachAddressResponse, error) {
	return nil, &unofferedError{"AttachAddress"}
}

// DetachAddress implements backendv1.AddressServiceServer.
func (s *AddressService) DetachAddress(
	context.Context, *backendv1.DetachAddressRequest,
) (*backendv1.DetachAddressResponse, error) {
	return nil, &unofferedError{"DetachAddress"}
}

// DeleteAddress implements backendv1.AddressServiceServer.
func (s *AddressService) DeleteAddress(
	context.Context, *backendv1.DeleteAddressRequest,
) (*backendv1.DeleteAddressResponse, error) {
	return nil, &unofferedError{"DeleteAddress"}
}

// BatchGetInstances implements backendv1.InstanceServiceServer.
func (s *InstanceService) BatchGetInstances(
	context.Context, *backendv1.BatchGetInstancesRequest,
) (*backendv1.BatchGetInstancesResponse, error) {
	return nil, &unofferedError{"BatchGetInstances"}
}
