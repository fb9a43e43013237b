// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package rpc

import (
	"context"

	"google.golang.org/grpc"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/ownership"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/pools"
	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

// PoolService implements backendv1.PoolServiceServer.
type PoolService struct {
	backendv1.UnsafePoolServiceServer
	lister *pools.Lister
}

// NewPoolService returns the service.
func NewPoolService(lister *pools.Lister) *PoolService { return &PoolService{lister: lister} }

// RegisterService registers the service with a server.
func (s *PoolService) RegisterService(r grpc.ServiceRegistrar) {
	backendv1.RegisterPoolServiceServer(r, s)
}

// ListPools implements backendv1.PoolServiceServer.
func (s *PoolService) ListPools(
	ctx context.Context, req *backendv1.ListPoolsRequest,
) (*backendv1.ListPoolsResponse, error) {
	size, err := pageSize(req.GetPageSize())
	if err != nil {
		return nil, err
	}
	kinds, err := kindsOf(req.GetSource())
	if err != nil {
		return nil, err
	}
	filter := pools.Filter{Kinds: kinds}
	if asked := req.GetFamily(); asked != backendv1.IpFamily_IP_FAMILY_UNSPECIFIED {
		family, known := families[asked]
		if !known {
			return nil, invalidf("family", "%d is not known", asked)
		}
		filter.Bits = family.Bits()
	}
	after, err := decodePageToken(req, isID)
	if err != nil {
		return nil, err
	}
	found, more, err := s.lister.List(ctx, filter, after[0], size)
	if err != nil {
		return nil, err
	}
	resp := &backendv1.ListPoolsResponse{}
	for _, pool := range found {
		resp.Pools = append(resp.Pools, poolMessage(pool))
	}
	if more {
		resp.NextPageToken = encodePageToken(req, found[len(found)-1].ID)
	}
	return resp, nil
}

func poolMessage(pool pools.Pool) *backendv1.Pool {
	message := &backendv1.Pool{
		Source: sourceMessages[pool.Kind], Id: pool.ID, Name: pool.Name,
		IsDefault: pool.Default, Multicast: pool.Multicast,
	}
	for _, family := range []ownership.Family{ownership.IPv4, ownership.IPv6} {
		if pool.Bits == family.Bits() {
			message.Family = familyMessages[family]
		}
	}
	if pool.Use != nil {
		message.Utilization = &backendv1.PoolUtilization{Capacity: pool.Use.Capacity, Free: pool.Use.Free}
	}
	return message
}

// kindsOf returns the kinds that a filter admits; none: all.
func kindsOf(source backendv1.AddressSource) ([]ownership.Kind, error) {
	if source == backendv1.AddressSource_ADDRESS_SOURCE_UNSPECIFIED {
		return nil, nil
	}
	kind, known := resourceKinds[source]
	if !known {
		return nil, invalidf("source", "%d is not known", source)
	}
	return []ownership.Kind{kind}, nil
}
