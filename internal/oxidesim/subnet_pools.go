// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package oxidesim

import (
	"net/netip"
	"time"

	"github.com/google/uuid"
)

// subnetPool is a rack-wide pool of networks that external subnets are cut out of.
type subnetPool struct {
	meta
	version string
	members []*subnetPoolMember
	links   map[uuid.UUID]bool
}

type subnetPoolMember struct {
	id       uuid.UUID
	net      netip.Prefix
	min, max int // least and greatest prefix length of a subnet
	created  time.Time
}

type siloSubnetPoolJSON struct {
	identity
	IPVersion string `json:"ip_version"`
	IsDefault bool   `json:"is_default"`
}

func (p *subnetPool) siloJSON(silo uuid.UUID) siloSubnetPoolJSON {
	return siloSubnetPoolJSON{p.identity(), p.version, p.links[silo]}
}

func (s *Simulator) linkedSubnetPool(silo uuid.UUID, r ref) (*subnetPool, error) {
	p, err := byRef(s.db.subnetPools, r)
	if err != nil {
		return nil, err
	}
	if _, linked := p.links[silo]; !linked {
		return nil, refNotFound(s.db.subnetPools.kind, r)
	}
	return p, nil
}

func (s *Simulator) subnetPoolList(c *call) (any, error) {
	if err := c.beginScan(nameOrIDSorts); err != nil {
		return nil, err
	}
	if err := c.requireSilo(roleViewer); err != nil {
		return nil, err
	}
	return s.siloSubnetPools(c, c.user.parent), nil
}

func (s *Simulator) siloSubnetPools(c *call, silo uuid.UUID) resultsPage[siloSubnetPoolJSON] {
	var linked []*subnetPool
	for _, p := range s.db.subnetPools.rows {
		if _, ok := p.links[silo]; ok {
			linked = append(linked, p)
		}
	}
	return pageOf(c, linked, func(p *subnetPool) siloSubnetPoolJSON { return p.siloJSON(silo) })
}

func (s *Simulator) subnetPoolView(c *call) (any, error) {
	r, err := c.pathRef("pool")
	if err != nil {
		return nil, err
	}
	p, err := s.linkedSubnetPool(c.user.parent, r)
	if err != nil {
		return nil, err
	}
	return p.siloJSON(c.user.parent), nil
}

// selectSubnetPool finds the pool that a selector means. Unlike with IP pools, no default or
// more than one is a 400.
func (s *Simulator) selectSubnetPool(silo uuid.UUID, sel poolSelector) (*subnetPool, error) {
	if sel.pool != nil {
		return s.linkedSubnetPool(silo, *sel.pool)
	}
	var found *subnetPool
	for _, p := range s.db.subnetPools.rows {
		if !p.links[silo] || sel.version != "" && sel.version != p.version {
			continue
		}
		if found != nil {
			return nil, invalidRequest(
				"there are default subnet pools of both IP versions: the version must be given")
		}
		found = p
	}
	if found == nil {
		return nil, invalidRequest("no default subnet pool is linked to the current silo")
	}
	return found, nil
}

// memberFor is the member that a given subnet lies in, of the pools linked to a silo.
func (s *Simulator) memberFor(silo uuid.UUID, n netip.Prefix) (*subnetPool, *subnetPoolMember) {
	for _, p := range s.db.subnetPools.rows {
		if _, linked := p.links[silo]; !linked {
			continue
		}
		for _, m := range p.members {
			if m.net.Contains(n.Addr()) && m.net.Bits() <= n.Bits() {
				return p, m
			}
		}
	}
	return nil, nil
}

// overlapping says whether some external subnet already has a part of a network.
func (s *Simulator) overlapping(n netip.Prefix) (netip.Prefix, bool) {
	for _, e := range s.db.externalSubnets.rows {
		if e.net.Overlaps(n) {
			return e.net, true
		}
	}
	return netip.Prefix{}, false
}

// carve finds a free subnet of a prefix length in a pool.
func (s *Simulator) carve(p *subnetPool, bits int) (netip.Prefix, *subnetPoolMember, error) {
	fits := false
	for _, m := range p.members {
		if bits < m.min || bits > m.max {
			continue
		}
		fits = true
		for a := m.net.Addr(); a.IsValid() && m.net.Contains(a); {
			n := netip.PrefixFrom(a, bits)
			taken, overlaps := s.overlapping(n)
			if !overlaps {
				return n, m, nil
			}
			a = after(n, taken)
		}
	}
	if !fits {
		return netip.Prefix{}, nil, invalidRequest(
			"no member of the subnet pool allows the prefix length %d", bits)
	}
	return netip.Prefix{}, nil, invalidRequest("no subnet of prefix length %d is available", bits)
}

// after is the first address behind two networks that overlap: behind the greater one.
func after(a, b netip.Prefix) netip.Addr {
	big := a
	if b.Bits() < a.Bits() {
		big = b.Masked()
	}
	return lastOf(big).Next()
}

// lastOf is the last address of a network.
func lastOf(p netip.Prefix) netip.Addr {
	b := p.Addr().AsSlice()
	for i := p.Bits(); i < len(b)*8; i++ {
		b[i/8] |= 1 << (7 - i%8)
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}
