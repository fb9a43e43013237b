// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package session

import (
	"context"
	"net/netip"
	"time"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/coalesce"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/ownership"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/plan"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/oxide"
)

// kinds are all kinds of addresses, in their order.
var kinds = []ownership.Kind{ownership.FloatingIP, ownership.ExternalSubnet}

// resources calls Oxide for the addresses of one kind.
type resources interface {
	// list reads all of the project, together with everybody who does, and returns when that began.
	list(ctx context.Context) (all []plan.Address, began time.Time, err error)
	byID(ctx context.Context, id string) (plan.Address, error)
	byName(ctx context.Context, name string) (plan.Address, error)
	create(ctx context.Context, name, description string, desired plan.Desired) (plan.Address, error)
	describe(ctx context.Context, id, description string) (plan.Address, error)
	attach(ctx context.Context, id, instanceID string) (plan.Address, error)
	detach(ctx context.Context, id string) error
	remove(ctx context.Context, id string) error
}

// floatingIPs are the resources of that kind.
type floatingIPs struct {
	api    API
	reader *coalesce.Reader[[]oxide.FloatingIP]
}

func (f *floatingIPs) list(ctx context.Context) ([]plan.Address, time.Time, error) {
	return readList(ctx, f.reader, fromFloatingIP)
}

func (f *floatingIPs) byID(ctx context.Context, id string) (plan.Address, error) {
	return converted(fromFloatingIP)(f.api.FloatingIPByID(ctx, id))
}

func (f *floatingIPs) byName(ctx context.Context, name string) (plan.Address, error) {
	return converted(fromFloatingIP)(f.api.FloatingIPByName(ctx, name))
}

func (f *floatingIPs) create(
	ctx context.Context, name, description string, desired plan.Desired,
) (plan.Address, error) {
	source := desired.Source
	return converted(fromFloatingIP)(f.api.CreateFloatingIP(ctx, name, description, oxide.IPAllocator{
		Addr: source.Addr, Pool: source.Pool,
		DefaultPool4: desired.Family == ownership.IPv4, DefaultPool6: desired.Family == ownership.IPv6,
	}))
}

func (f *floatingIPs) describe(ctx context.Context, id, description string) (plan.Address, error) {
	return converted(fromFloatingIP)(f.api.DescribeFloatingIP(ctx, id, description))
}

func (f *floatingIPs) attach(ctx context.Context, id, instanceID string) (plan.Address, error) {
	return converted(fromFloatingIP)(f.api.AttachFloatingIP(ctx, id, instanceID))
}

func (f *floatingIPs) detach(ctx context.Context, id string) error {
	return f.api.DetachFloatingIP(ctx, id)
}

func (f *floatingIPs) remove(ctx context.Context, id string) error {
	return f.api.DeleteFloatingIP(ctx, id)
}

func fromFloatingIP(ip oxide.FloatingIP) plan.Address {
	return plan.Address{
		Kind: ownership.FloatingIP, ID: ip.ID, Name: ip.Name, Description: ip.Description, Addr: ip.Addr,
		Bits: ip.Addr.BitLen(), PoolID: ip.PoolID, ProjectID: ip.ProjectID, InstanceID: ip.InstanceID,
		Created: ip.TimeCreated.UnixNano(),
	}
}

// externalSubnets are the resources of that kind.
type externalSubnets struct {
	api    API
	reader *coalesce.Reader[[]oxide.ExternalSubnet]
}

func (e *externalSubnets) list(ctx context.Context) ([]plan.Address, time.Time, error) {
	return readList(ctx, e.reader, fromExternalSubnet)
}

func (e *externalSubnets) byID(ctx context.Context, id string) (plan.Address, error) {
	return converted(fromExternalSubnet)(e.api.ExternalSubnetByID(ctx, id))
}

func (e *externalSubnets) byName(ctx context.Context, name string) (plan.Address, error) {
	return converted(fromExternalSubnet)(e.api.ExternalSubnetByName(ctx, name))
}

func (e *externalSubnets) create(
	ctx context.Context, name, description string, desired plan.Desired,
) (plan.Address, error) {
	source, bits := desired.Source, desired.Family.Bits()
	allocator := oxide.SubnetAllocator{
		Pool: source.Pool, Bits: bits,
		DefaultPool4: desired.Family == ownership.IPv4, DefaultPool6: desired.Family == ownership.IPv6,
	}
	if source.Addr.IsValid() {
		allocator.Prefix = netip.PrefixFrom(source.Addr, bits)
	}
	return converted(fromExternalSubnet)(e.api.CreateExternalSubnet(ctx, name, description, allocator))
}

func (e *externalSubnets) describe(ctx context.Context, id, description string) (plan.Address, error) {
	return converted(fromExternalSubnet)(e.api.DescribeExternalSubnet(ctx, id, description))
}

func (e *externalSubnets) attach(ctx context.Context, id, instanceID string) (plan.Address, error) {
	return converted(fromExternalSubnet)(e.api.AttachExternalSubnet(ctx, id, instanceID))
}

func (e *externalSubnets) detach(ctx context.Context, id string) error {
	return e.api.DetachExternalSubnet(ctx, id)
}

func (e *externalSubnets) remove(ctx context.Context, id string) error {
	return e.api.DeleteExternalSubnet(ctx, id)
}

func fromExternalSubnet(s oxide.ExternalSubnet) plan.Address {
	return plan.Address{
		Kind: ownership.ExternalSubnet, ID: s.ID, Name: s.Name, Description: s.Description,
		Addr: s.Prefix.Addr(), Larger: !s.Prefix.IsSingleIP(), Bits: s.Prefix.Bits(),
		PoolID: s.PoolID, ProjectID: s.ProjectID, InstanceID: s.InstanceID, Created: s.TimeCreated.UnixNano(),
	}
}

// converted converts the answer to a call, unless that failed.
func converted[T any](convert func(T) plan.Address) func(T, error) (plan.Address, error) {
	return func(v T, err error) (plan.Address, error) {
		if err != nil {
			return plan.Address{}, err
		}
		return convert(v), nil
	}
}

func readList[T any](
	ctx context.Context, reader *coalesce.Reader[[]T], convert func(T) plan.Address,
) ([]plan.Address, time.Time, error) {
	reading, err := reader.After(ctx)
	if err != nil {
		return nil, time.Time{}, err
	}
	all := make([]plan.Address, 0, len(reading.Facts))
	for _, v := range reading.Facts {
		all = append(all, convert(v))
	}
	return all, reading.Began, nil
}
