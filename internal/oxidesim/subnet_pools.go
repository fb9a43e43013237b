// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package oxidesim

import (
	"net/netip"
	"slices"
	"time"

	"github.com/google/uuid"
)

// subnetPool is a rack-wide pool of networks that external subnets are cut out of.
type subnetPool struct {
	meta
	version string
	members []*subnetPoolMember
	links   map[uuid.UUID]bool
	filled  bool // a story: nothing is left in it
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

// carve finds the lowest free subnet of a prefix length in a pool. That no member allows the length, or
// that all is given away, is one and the same answer.
func (s *Simulator) carve(p *subnetPool, bits int) (netip.Prefix, *subnetPoolMember, error) {
	var found netip.Prefix
	var of *subnetPoolMember
	for _, m := range p.members {
		if p.filled || bits < m.min || bits > m.max {
			continue
		}
		for _, g := range s.gaps(m) {
			if n, fits := g.lowest(bits); fits && (of == nil || n.Addr().Less(found.Addr())) {
				found, of = n, m
			}
		}
	}
	if of == nil {
		return found, nil, invalidRequest("all subnets are used in the subnet pool %s", p.name)
	}
	return found, of, nil
}

// gap is what is between two external subnets of a pool's member, both ends included.
type gap struct{ first, last netip.Addr }

// gaps lists what is free in a member, in order. Racks before release 21 count wrongly: what is free
// begins for them with the last address of the subnet before, and one address is no gap. For subnets of
// several addresses that makes no difference, since they are aligned.
func (s *Simulator) gaps(m *subnetPoolMember) []gap {
	var taken []netip.Prefix
	for _, e := range s.db.externalSubnets.rows {
		if e.member == m.id {
			taken = append(taken, e.net)
		}
	}
	slices.SortFunc(taken, func(a, b netip.Prefix) int { return a.Addr().Compare(b.Addr()) })
	var gaps []gap
	free := m.net.Addr()
	add := func(last netip.Addr) {
		if free.IsValid() && last.IsValid() && (free.Less(last) || free == last && !s.before21()) {
			gaps = append(gaps, gap{free, last})
		}
	}
	for _, n := range taken {
		add(n.Addr().Prev())
		free = lastOf(n)
		if !s.before21() {
			free = free.Next()
		}
	}
	add(lastOf(m.net))
	return gaps
}

// lowest is the first subnet of a prefix length in a gap, if one fits.
func (g gap) lowest(bits int) (netip.Prefix, bool) {
	n := netip.PrefixFrom(g.first, bits).Masked()
	if n.Addr() != g.first {
		n = netip.PrefixFrom(lastOf(n).Next(), bits)
	}
	return n, n.IsValid() && !g.last.Less(lastOf(n))
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
