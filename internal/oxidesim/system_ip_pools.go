// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package oxidesim

import (
	"encoding/hex"
	"math/big"
	"net/netip"
	"slices"

	"github.com/google/uuid"
)

// This file is the operator's side of IP pools.

type ipPoolJSON struct {
	identity
	IPVersion string `json:"ip_version"`
	PoolType  string `json:"pool_type"`
}

type rangeJSON struct {
	First string `json:"first"`
	Last  string `json:"last"`
}

type ipPoolRangeJSON struct {
	ID          string    `json:"id"`
	IPPoolID    string    `json:"ip_pool_id"`
	Range       rangeJSON `json:"range"`
	TimeCreated string    `json:"time_created"`
}

type ipPoolLinkJSON struct {
	IPPoolID  string `json:"ip_pool_id"`
	SiloID    string `json:"silo_id"`
	IsDefault bool   `json:"is_default"`
}

type utilizationJSON struct {
	Capacity  float64 `json:"capacity"`
	Remaining float64 `json:"remaining"`
}

func (p *ipPool) json() ipPoolJSON { return ipPoolJSON{p.identity(), p.version, p.kind} }

func (p *ipPool) rangeJSON(r *ipRange) ipPoolRangeJSON {
	return ipPoolRangeJSON{
		ID: r.id.String(), IPPoolID: p.id.String(),
		Range: rangeJSON{r.first.String(), r.last.String()}, TimeCreated: stamp(r.created),
	}
}

func (s *Simulator) systemPool(c *call, least role) (*ipPool, error) {
	r, err := c.pathRef("pool")
	if err != nil {
		return nil, err
	}
	if c.user.fleet == roleNone {
		return nil, refNotFound(s.db.pools.kind, r)
	}
	p, err := byRef(s.db.pools, r)
	if err != nil {
		return nil, err
	}
	return p, c.requireFleet(least)
}

func (s *Simulator) systemPoolList(c *call) (any, error) {
	if err := c.beginScan(nameOrIDSorts); err != nil {
		return nil, err
	}
	if err := c.requireFleet(roleViewer); err != nil {
		return nil, err
	}
	return pageOf(c, s.db.pools.all(), (*ipPool).json), nil
}

func (s *Simulator) systemPoolView(c *call) (any, error) {
	p, err := s.systemPool(c, roleViewer)
	if err != nil {
		return nil, err
	}
	return p.json(), nil
}

func (s *Simulator) systemPoolCreate(c *call) (any, error) {
	f := c.fields()
	name, description := f.name("name"), f.str("description")
	version := f.enumOr("ip_version", v4, v4, v6)
	kind := f.enumOr("pool_type", unicast, unicast, multicast)
	if err := f.done(); err != nil {
		return nil, err
	}
	if err := c.requireFleet(roleCollaborator); err != nil {
		return nil, err
	}
	p := s.newPool(name, description)
	p.version, p.kind = version, kind
	if err := s.db.pools.insert(p); err != nil {
		return nil, err
	}
	return p.json(), nil
}

// newPool is an empty pool, with the defaults of a request that says nothing more.
func (s *Simulator) newPool(name, description string) *ipPool {
	return &ipPool{
		meta: s.newMeta(uuid.Nil, uuid.Nil, name, description), version: v4, kind: unicast,
		links: map[uuid.UUID]bool{}, used: map[netip.Addr]struct{}{},
	}
}

func (s *Simulator) systemPoolUpdate(c *call) (any, error) {
	p, err := update(c, s.db.pools, func() (*ipPool, error) {
		return s.systemPool(c, roleCollaborator)
	})
	if err != nil {
		return nil, err
	}
	return p.json(), nil
}

func (s *Simulator) systemPoolDelete(c *call) (any, error) {
	p, err := s.systemPool(c, roleCollaborator)
	switch {
	case err != nil:
		return nil, err
	case len(p.ranges) > 0:
		return nil, invalidRequest("IP Pool cannot be deleted while it contains IP ranges")
	case len(p.links) > 0:
		return nil, invalidRequest("IP Pool cannot be deleted while it is linked to a silo")
	}
	s.db.pools.remove(p)
	return nil, nil
}

func (s *Simulator) systemPoolRanges(c *call) (any, error) {
	if err := c.beginScan(idSorts); err != nil {
		return nil, err
	}
	p, err := s.systemPool(c, roleViewer)
	if err != nil {
		return nil, err
	}
	rows := append([]*ipRange{}, p.ranges...)
	// Sorted by first address: written in 32 hexadecimal digits, they sort as text.
	return pageBy(c, rows, func(r *ipRange) string {
		b := r.first.As16()
		return hex.EncodeToString(b[:])
	}, p.rangeJSON), nil
}

func readRange(c *call) (first, last netip.Addr, err error) {
	f := c.fields()
	first, last = f.addr("first"), f.addr("last")
	if f.done() == nil && (first.Is4() != last.Is4() || last.Less(first)) {
		f.fail("unable to parse JSON body: not a valid IP range")
	}
	return first, last, f.done()
}

func (s *Simulator) systemPoolRangeAdd(c *call) (any, error) {
	first, last, err := readRange(c)
	if err != nil {
		return nil, err
	}
	p, err := s.systemPool(c, roleCollaborator)
	if err != nil {
		return nil, err
	}
	r, err := s.addRange(p, first, last)
	if err != nil {
		return nil, err
	}
	return p.rangeJSON(r), nil
}

func (s *Simulator) systemPoolRangeRemove(c *call) (any, error) {
	first, last, err := readRange(c)
	if err != nil {
		return nil, err
	}
	p, err := s.systemPool(c, roleCollaborator)
	if err != nil {
		return nil, err
	}
	for i, r := range p.ranges {
		if r.first != first || r.last != last {
			continue
		}
		for a := range p.used {
			if r.contains(a) {
				return nil, invalidRequest("IP pool ranges cannot be deleted while external IP " +
					"addresses are allocated from them")
			}
		}
		p.ranges = append(p.ranges[:i:i], p.ranges[i+1:]...)
		return nil, nil
	}
	return nil, invalidRequest("the provided range does not exist in the pool")
}

// capacity of ranges and members is a float: an IPv6 pool has more than integers hold.
func (p *ipPool) utilization() utilizationJSON {
	total := 0.0
	for _, r := range p.ranges {
		total += countAddrs(r.first, r.last)
	}
	remaining := total - float64(len(p.used))
	if p.filled {
		remaining = 0
	}
	return utilizationJSON{total, remaining}
}

// countAddrs counts the addresses of a range. IPv6 addresses themselves are too large for a float that
// would distinguish neighbours.
func countAddrs(first, last netip.Addr) float64 {
	count := new(big.Int).SetBytes(last.AsSlice())
	count.Sub(count, new(big.Int).SetBytes(first.AsSlice()))
	out, _ := new(big.Float).SetInt(count.Add(count, big.NewInt(1))).Float64()
	return out
}

func (s *Simulator) systemPoolUtilization(c *call) (any, error) {
	p, err := s.systemPool(c, roleViewer)
	if err != nil {
		return nil, err
	}
	return p.utilization(), nil
}

func (s *Simulator) systemPoolSilos(c *call) (any, error) {
	if err := c.beginScan(idSorts); err != nil {
		return nil, err
	}
	p, err := s.systemPool(c, roleViewer)
	if err != nil {
		return nil, err
	}
	return linkPage(c, p.links, func(silo uuid.UUID) ipPoolLinkJSON {
		return ipPoolLinkJSON{p.id.String(), silo.String(), p.links[silo]}
	}), nil
}

// linkPage lists the silos that a pool of either kind is linked to.
func linkPage[V any](c *call, links map[uuid.UUID]bool, view func(uuid.UUID) V) resultsPage[V] {
	var ids []uuid.UUID
	for id := range links {
		ids = append(ids, id)
	}
	return pageBy(c, ids, uuid.UUID.String, view)
}

func readLink(c *call) (silo ref, isDefault bool, err error) {
	f := c.fields()
	silo, isDefault = f.ref("silo"), f.boolean("is_default")
	return silo, isDefault, f.done()
}

func (s *Simulator) systemPoolLink(c *call) (any, error) {
	r, isDefault, err := readLink(c)
	if err != nil {
		return nil, err
	}
	p, err := s.systemPool(c, roleCollaborator)
	if err != nil {
		return nil, err
	}
	sl, err := byRef(s.db.silos, r)
	if err != nil {
		return nil, err
	}
	if _, linked := p.links[sl.id]; linked {
		return nil, alreadyExists("ip-pool-silo-link", p.name)
	}
	if isDefault && s.defaultOf(sl.id, p) != nil {
		return nil, alreadyExists("ip-pool-silo-link", "default")
	}
	p.links[sl.id] = isDefault
	return ipPoolLinkJSON{p.id.String(), sl.id.String(), isDefault}, nil
}

// defaultOf is the silo's default pool of the same version and type as p, or nil.
func (s *Simulator) defaultOf(silo uuid.UUID, p *ipPool) *ipPool {
	for _, q := range s.db.pools.rows {
		if q.links[silo] && q.version == p.version && q.kind == p.kind {
			return q
		}
	}
	return nil
}

func (s *Simulator) linkedSilo(c *call, links map[uuid.UUID]bool) (*silo, error) {
	r, err := c.pathRef("silo")
	if err != nil {
		return nil, err
	}
	sl, err := byRef(s.db.silos, r)
	if err != nil {
		return nil, err
	}
	if _, linked := links[sl.id]; !linked {
		return nil, notFoundOther("ip-pool-silo-link", "the pool is not linked to silo "+sl.name)
	}
	return sl, nil
}

// systemPoolLinkUpdate makes a pool the default, instead of the one that was it, or not.
func (s *Simulator) systemPoolLinkUpdate(c *call) (any, error) {
	f := c.fields()
	isDefault := f.boolean("is_default")
	if err := f.done(); err != nil {
		return nil, err
	}
	p, err := s.systemPool(c, roleCollaborator)
	if err != nil {
		return nil, err
	}
	sl, err := s.linkedSilo(c, p.links)
	if err != nil {
		return nil, err
	}
	if old := s.defaultOf(sl.id, p); isDefault && old != nil {
		old.links[sl.id] = false
	}
	p.links[sl.id] = isDefault
	return ipPoolLinkJSON{p.id.String(), sl.id.String(), isDefault}, nil
}

func (s *Simulator) systemPoolUnlink(c *call) (any, error) {
	p, err := s.systemPool(c, roleCollaborator)
	if err != nil {
		return nil, err
	}
	sl, err := s.linkedSilo(c, p.links)
	if err != nil {
		return nil, err
	}
	if s.siloUses(sl.id, p) {
		return nil, invalidRequest("IP addresses from this pool are in use in the linked silo")
	}
	delete(p.links, sl.id)
	return nil, nil
}

func (s *Simulator) siloUses(silo uuid.UUID, p *ipPool) bool {
	in := func(project uuid.UUID) bool { return s.db.projects.rows[project].parent == silo }
	for _, f := range s.db.floatingIPs.rows {
		if f.pool == p && in(f.project) {
			return true
		}
	}
	for _, i := range s.db.instances.rows {
		held := i.snat != nil && i.snat.pool == p ||
			slices.ContainsFunc(i.ephemeral, func(e *ephemeralIP) bool { return e.pool == p })
		if held && in(i.project) {
			return true
		}
	}
	return false
}
