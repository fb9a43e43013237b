// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package instances

import (
	"context"
	"net/netip"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/oxide"
)

// Endpoint is where packets arrive that are sent to an address of a load balancer: the primary
// network interface of an instance.
type Endpoint struct {
	InstanceID string
	// Name is the instance's, or its id while the name is not known.
	Name string
	// Addrs are the private addresses, at most one per family.
	Addrs []netip.Addr
	// VPCID, VPCName and SubnetName are what rules of a firewall go by.
	VPCID, VPCName, SubnetName string
	// Ephemeral is how many ephemeral addresses the instance has, if EphemeralKnown.
	Ephemeral      int
	EphemeralKnown bool
}

// Addr returns the private address of a length in bits; an invalid one if there is none.
func (e Endpoint) Addr(bits int) netip.Addr {
	for _, addr := range e.Addrs {
		if addr.BitLen() == bits {
			return addr
		}
	}
	return netip.Addr{}
}

// Endpoints returns where packets arrive on instances, for those that have a network interface.
// Facts are up to a minute old; for an instance that is not in them they are read anew.
func (f *Finder) Endpoints(ctx context.Context, ids []string) (map[string]Endpoint, error) {
	n, err := f.inventory.networksOf(ctx, endpointMissingMaxAge, ids...)
	if err != nil {
		return nil, err
	}
	names := map[string]oxide.Instance{}
	if last := f.inventory.listings.Latest(); last != nil {
		names = last.Facts.byID
	}
	found := make(map[string]Endpoint, len(ids))
	for _, id := range ids {
		nics := n.interfaces[id]
		if len(nics) == 0 || !nics[0].Primary {
			continue
		}
		primary := nics[0]
		subnet := n.subnets[primary.SubnetID]
		e := Endpoint{
			InstanceID: id, Name: id, Addrs: primary.Addrs,
			VPCID: primary.VPCID, VPCName: subnet.VPCName, SubnetName: subnet.Name,
		}
		if instance, known := names[id]; known {
			e.Name = instance.Name
		}
		e.Ephemeral, e.EphemeralKnown = f.inventory.countEphemerals(id)
		found[id] = e
	}
	return found, nil
}
