// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package oxidesim

import (
	"net/netip"

	"github.com/google/uuid"
)

// This file is the operator's side of subnet pools.

type subnetPoolJSON struct {
	identity
	IPVersion string `json:"ip_version"`
}

type subnetPoolMemberJSON struct {
	ID          string `json:"id"`
	PoolID      string `json:"subnet_pool_id"`
	Subnet      string `json:"subnet"`
	MinLength   int    `json:"min_prefix_length"`
	MaxLength   int    `json:"max_prefix_length"`
	TimeCreated string `json:"time_created"`
}

type subnetPoolLinkJSON struct {
	PoolID    string `json:"subnet_pool_id"`
	SiloID    string `json:"silo_id"`
	IsDefault bool   `json:"is_default"`
}

func (p *subnetPool) json() subnetPoolJSON { return subnetPoolJSON{p.identity(), p.version} }

func (p *subnetPool) memberJSON(m *subnetPoolMember) subnetPoolMemberJSON {
	return subnetPoolMemberJSON{
		ID: m.id.String(), PoolID: p.id.String(), Subnet: m.net.String(),
		MinLength: m.min, MaxLength: m.max, TimeCreated: stamp(m.created),
	}
}

func (s *Simulator) systemSubnetPool(c *call, least role) (*subnetPool, error) {
	r, err := c.pathRef("pool")
	if err != nil {
		return nil, err
	}
	if c.user.fleet == roleNone {
		return nil, refNotFound(s.db.subnetPools.kind, r)
	}
	p, err := byRef(s.db.subnetPools, r)
	if err != nil {
		return nil, err
	}
	return p, c.requireFleet(least)
}

func (s *Simulator) systemSubnetPoolList(c *call) (any, error) {
	if err := c.beginScan(nameOrIDSorts); err != nil {
		return nil, err
	}
	if err := c.requireFleet(roleViewer); err != nil {
		return nil, err
	}
	return pageOf(c, s.db.subnetPools.all(), (*subnetPool).json), nil
}

func (s *Simulator) systemSubnetPoolView(c *call) (any, error) {
	p, err := s.systemSubnetPool(c, roleViewer)
	if err != nil {
		return nil, err
	}
	return p.json(), nil
}

func (s *Simulator) systemSubnetPoolCreate(c *call) (any, error) {
	f := c.fields()
	name, description, version := f.name("name"), f.str("description"), f.enum("ip_version", v4, v6)
	if err := f.done(); err != nil {
		return nil, err
	}
	if err := c.requireFleet(roleCollaborator); err != nil {
		return nil, err
	}
	p := s.newSubnetPool(name, description, version)
	if err := s.db.subnetPools.insert(p); err != nil {
		return nil, err
	}
	return p.json(), nil
}

func (s *Simulator) newSubnetPool(name, description, version string) *subnetPool {
	return &subnetPool{
		meta: s.newMeta(uuid.Nil, uuid.Nil, name, description), version: version,
		links: map[uuid.UUID]bool{},
	}
}

func (s *Simulator) systemSubnetPoolUpdate(c *call) (any, error) {
	p, err := update(c, s.db.subnetPools, func() (*subnetPool, error) {
		return s.systemSubnetPool(c, roleCollaborator)
	})
	if err != nil {
		return nil, err
	}
	return p.json(), nil
}

func (s *Simulator) systemSubnetPoolDelete(c *call) (any, error) {
	p, err := s.systemSubnetPool(c, roleCollaborator)
	switch {
	case err != nil:
		return nil, err
	case len(p.members) > 0:
		return nil, invalidRequest("subnet pool cannot be deleted while it has members")
	case len(p.links) > 0:
		return nil, invalidRequest("subnet pool cannot be deleted while it is linked to a silo")
	}
	s.db.subnetPools.remove(p)
	return nil, nil
}

func (s *Simulator) systemSubnetPoolMembers(c *call) (any, error) {
	if err := c.beginScan(idSorts); err != nil {
		return nil, err
	}
	p, err := s.systemSubnetPool(c, roleViewer)
	if err != nil {
		return nil, err
	}
	rows := append([]*subnetPoolMember{}, p.members...)
	key := func(m *subnetPoolMember) string { return m.id.String() }
	return pageBy(c, rows, key, p.memberJSON), nil
}

func (s *Simulator) systemSubnetPoolMemberAdd(c *call) (any, error) {
	f := c.fields()
	net := f.prefix("subnet")
	least := opt[uint8](f, "min_prefix_length", "a u8")
	most := opt[uint8](f, "max_prefix_length", "a u8")
	if err := f.done(); err != nil {
		return nil, err
	}
	p, err := s.systemSubnetPool(c, roleCollaborator)
	if err != nil {
		return nil, err
	}
	m, err := s.addMember(p, net, least, most)
	if err != nil {
		return nil, err
	}
	return p.memberJSON(m), nil
}

// addMember adds a network to a pool. Absent bounds are the network's own prefix length and
// that of a single address.
func (s *Simulator) addMember(
	p *subnetPool, net netip.Prefix, least, most *uint8,
) (*subnetPoolMember, error) {
	m := &subnetPoolMember{
		id: uuid.New(), net: net, min: net.Bits(), max: net.Addr().BitLen(),
		created: s.clock.now(),
	}
	if least != nil {
		m.min = int(*least)
	}
	if most != nil {
		m.max = int(*most)
	}
	switch {
	case net != net.Masked():
		return nil, invalidRequest("the subnet %s has host bits set", net)
	case familyOf(net.Addr()) != p.version:
		return nil, invalidRequest("the subnet %s does not fit a pool of version %s", net, p.version)
	case m.min < net.Bits() || m.min > m.max || m.max > net.Addr().BitLen():
		return nil, invalidRequest("prefix lengths %d to %d do not fit %s", m.min, m.max, net)
	}
	for _, other := range s.db.subnetPools.rows {
		for _, o := range other.members {
			if o.net.Overlaps(net) {
				return nil, invalidRequest("%s overlaps the subnet pool member %s", net, o.net)
			}
		}
	}
	p.members = append(p.members, m)
	return m, nil
}

func (s *Simulator) systemSubnetPoolMemberRemove(c *call) (any, error) {
	f := c.fields()
	net := f.prefix("subnet")
	if err := f.done(); err != nil {
		return nil, err
	}
	p, err := s.systemSubnetPool(c, roleCollaborator)
	if err != nil {
		return nil, err
	}
	for i, m := range p.members {
		if m.net != net {
			continue
		}
		for _, e := range s.db.externalSubnets.rows {
			if e.member == m.id {
				return nil, invalidRequest("the member has external subnets in use")
			}
		}
		p.members = append(p.members[:i:i], p.members[i+1:]...)
		return nil, nil
	}
	return nil, invalidRequest("the subnet %s does not exist in the pool", net)
}

func (s *Simulator) systemSubnetPoolUtilization(c *call) (any, error) {
	p, err := s.systemSubnetPool(c, roleViewer)
	if err != nil {
		return nil, err
	}
	size := func(n netip.Prefix) float64 { return countAddrs(n.Addr(), lastOf(n)) }
	var out utilizationJSON
	for _, m := range p.members {
		out.Capacity += size(m.net)
	}
	out.Remaining = out.Capacity
	for _, e := range s.db.externalSubnets.rows {
		if e.pool == p {
			out.Remaining -= size(e.net)
		}
	}
	return out, nil
}

func (s *Simulator) systemSubnetPoolSilos(c *call) (any, error) {
	if err := c.beginScan(idSorts); err != nil {
		return nil, err
	}
	p, err := s.systemSubnetPool(c, roleViewer)
	if err != nil {
		return nil, err
	}
	return linkPage(c, p.links, func(silo uuid.UUID) subnetPoolLinkJSON {
		return subnetPoolLinkJSON{p.id.String(), silo.String(), p.links[silo]}
	}), nil
}

func (s *Simulator) systemSubnetPoolLink(c *call) (any, error) {
	r, isDefault, err := readLink(c)
	if err != nil {
		return nil, err
	}
	p, err := s.systemSubnetPool(c, roleCollaborator)
	if err != nil {
		return nil, err
	}
	sl, err := byRef(s.db.silos, r)
	if err != nil {
		return nil, err
	}
	if _, linked := p.links[sl.id]; linked {
		return nil, alreadyExists("subnet-pool-silo-link", p.name)
	}
	if isDefault && s.defaultSubnetPool(sl.id, p.version) != nil {
		return nil, alreadyExists("subnet-pool-silo-link", "default")
	}
	p.links[sl.id] = isDefault
	return subnetPoolLinkJSON{p.id.String(), sl.id.String(), isDefault}, nil
}

func (s *Simulator) defaultSubnetPool(silo uuid.UUID, version string) *subnetPool {
	for _, q := range s.db.subnetPools.rows {
		if q.links[silo] && q.version == version {
			return q
		}
	}
	return nil
}

// linkSubnetPool lets a silo use a pool. There is one default per IP version: a new one takes the place
// of the old one.
func (s *Simulator) linkSubnetPool(p *subnetPool, silo uuid.UUID, isDefault bool) {
	if old := s.defaultSubnetPool(silo, p.version); isDefault && old != nil {
		old.links[silo] = false
	}
	p.links[silo] = isDefault
}

func (s *Simulator) systemSubnetPoolLinkUpdate(c *call) (any, error) {
	f := c.fields()
	isDefault := f.boolean("is_default")
	if err := f.done(); err != nil {
		return nil, err
	}
	p, err := s.systemSubnetPool(c, roleCollaborator)
	if err != nil {
		return nil, err
	}
	sl, err := s.linkedSilo(c, p.links)
	if err != nil {
		return nil, err
	}
	s.linkSubnetPool(p, sl.id, isDefault)
	return subnetPoolLinkJSON{p.id.String(), sl.id.String(), isDefault}, nil
}

func (s *Simulator) systemSubnetPoolUnlink(c *call) (any, error) {
	p, err := s.systemSubnetPool(c, roleCollaborator)
	if err != nil {
		return nil, err
	}
	sl, err := s.linkedSilo(c, p.links)
	if err != nil {
		return nil, err
	}
	for _, e := range s.db.externalSubnets.rows {
		if e.pool == p && s.db.projects.rows[e.project].parent == sl.id {
			return nil, invalidRequest("subnets from this pool are in use in the linked silo")
		}
	}
	delete(p.links, sl.id)
	return nil, nil
}
