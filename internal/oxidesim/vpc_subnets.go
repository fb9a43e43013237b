// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package oxidesim

import (
	"net/netip"

	"github.com/google/uuid"
)

// reservedAddrs is how many addresses at the start of a subnet are never given to a NIC.
const reservedAddrs = 5

// subnet is a subnet of a VPC, its parent.
type subnet struct {
	meta
	blocks       map[string]netip.Prefix // by IP version
	customRouter uuid.UUID
	used         map[netip.Addr]struct{}
}

type subnetJSON struct {
	identity
	VPCID          string  `json:"vpc_id"`
	IPv4Block      string  `json:"ipv4_block"`
	IPv6Block      string  `json:"ipv6_block"`
	CustomRouterID *string `json:"custom_router_id"`
}

func (n *subnet) json() subnetJSON {
	return subnetJSON{
		identity: n.identity(), VPCID: n.parent.String(),
		IPv4Block: n.blocks[v4].String(), IPv6Block: n.blocks[v6].String(),
		CustomRouterID: optID(n.customRouter),
	}
}

// newSubnet makes a subnet; an absent IPv6 block is chosen from the VPC's prefix.
func (s *Simulator) newSubnet(
	v *vpc, name, description string, block4, block6 netip.Prefix,
) (*subnet, error) {
	if err := checkSubnetBlocks(v, block4, block6); err != nil {
		return nil, err
	}
	siblings := s.db.subnets.in(v.id)
	if !block6.IsValid() {
		block6 = freeSubnet6(v, siblings)
	}
	for _, sib := range siblings {
		for _, b := range []netip.Prefix{block4, block6} {
			if sib.blocks[v4].Overlaps(b) || sib.blocks[v6].Overlaps(b) {
				return nil, invalidRequest("IP address range %q conflicts with an existing subnet",
					b)
			}
		}
	}
	n := &subnet{
		meta:   s.newMeta(v.project, v.id, name, description),
		blocks: map[string]netip.Prefix{v4: block4, v6: block6},
		used:   make(map[netip.Addr]struct{}),
	}
	if err := s.db.subnets.insert(n); err != nil {
		return nil, err
	}
	s.newSubnetRoute(v, n)
	return n, nil
}

func checkSubnetBlocks(v *vpc, block4, block6 netip.Prefix) error {
	switch {
	case !block4.Addr().Is4() || block4.Masked() != block4 || !block4.Addr().IsPrivate():
		return invalidRequest("IPv4 block must be a private network without host bits")
	case block4.Bits() < 8 || block4.Bits() > 26:
		return invalidRequest("IPv4 block must have a prefix length of 8 to 26")
	case !block6.IsValid():
		return nil
	case !block6.Addr().Is6() || block6.Bits() != 64 || !v.prefix.Contains(block6.Addr()):
		return invalidRequest("IPv6 block must be a /64 within the VPC's prefix")
	}
	return nil
}

// freeSubnet6 is the first /64 of the VPC's prefix that no subnet has.
func freeSubnet6(v *vpc, siblings []*subnet) netip.Prefix {
	b := v.prefix.Addr().As16()
	for i := 0; ; i++ {
		b[6], b[7] = byte(i>>8), byte(i)
		p := netip.PrefixFrom(netip.AddrFrom16(b), 64)
		free := true
		for _, sib := range siblings {
			free = free && !sib.blocks[v6].Overlaps(p)
		}
		if free {
			return p
		}
	}
}

// usable says that an address may be given to a NIC of the subnet.
func (n *subnet) usable(a netip.Addr) bool {
	block := n.blocks[familyOf(a)]
	if !block.Contains(a) {
		return false
	}
	first := block.Addr()
	for range reservedAddrs {
		if a == first {
			return false
		}
		first = first.Next()
	}
	next := a.Next() // the last address of an IPv4 block is its broadcast address
	return a.Is6() || next.IsValid() && block.Contains(next)
}

// allocate gives out the first free address of a version.
func (n *subnet) allocate(version string) (netip.Addr, error) {
	a := n.blocks[version].Addr()
	for range reservedAddrs {
		a = a.Next()
	}
	for ; n.usable(a); a = a.Next() {
		if _, taken := n.used[a]; !taken {
			n.used[a] = struct{}{}
			return a, nil
		}
	}
	return a, insufficientCapacity("no available IP addresses for interface")
}

// take gives out one address that the caller asks for.
func (n *subnet) take(a netip.Addr) error {
	if !n.blocks[familyOf(a)].Contains(a) {
		return invalidRequest("IP address %s is not in the subnet", a)
	}
	if !n.usable(a) {
		return invalidRequest("IP address %s is reserved", a)
	}
	if _, taken := n.used[a]; taken {
		return invalidRequest("the IP address %q is not available", a)
	}
	n.used[a] = struct{}{}
	return nil
}
