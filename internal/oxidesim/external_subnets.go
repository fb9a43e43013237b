// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package oxidesim

import (
	"net/netip"
	"time"

	"github.com/google/uuid"
)

const maxExternalSubnets = 32

// externalSubnet is a routed network of a project, its parent; it attaches to an instance as
// a whole, by the same state machine as a floating IP.
type externalSubnet struct {
	meta
	attachment
	net    netip.Prefix
	pool   *subnetPool
	member uuid.UUID
}

type externalSubnetJSON struct {
	identity
	ProjectID  string  `json:"project_id"`
	Subnet     string  `json:"subnet"`
	PoolID     string  `json:"subnet_pool_id"`
	MemberID   string  `json:"subnet_pool_member_id"`
	InstanceID *string `json:"instance_id"`
}

func (e *externalSubnet) json() externalSubnetJSON {
	return externalSubnetJSON{
		identity: e.identity(), ProjectID: e.project.String(), Subnet: e.net.String(),
		PoolID: e.pool.id.String(), MemberID: e.member.String(), InstanceID: optID(e.instance),
	}
}

func (e *externalSubnet) held() *attachment { return &e.attachment }

func (e *externalSubnet) becomes(state attachState, now time.Time) {
	e.state = state
	e.modified = now
	if state == detached {
		e.instance = uuid.Nil
	}
}

func (s *Simulator) externalSubnetFromPath(c *call, least role) (*externalSubnet, error) {
	return findInProject(c, s.db.externalSubnets, "external_subnet", least)
}

func (s *Simulator) externalSubnetList(c *call) (any, error) {
	if err := c.beginScan(nameOrIDSorts); err != nil {
		return nil, err
	}
	p, err := c.createIn(roleViewer)
	if err != nil {
		return nil, err
	}
	return pageOf(c, s.db.externalSubnets.in(p.id), (*externalSubnet).json), nil
}

func (s *Simulator) externalSubnetView(c *call) (any, error) {
	e, err := s.externalSubnetFromPath(c, roleViewer)
	if err != nil {
		return nil, err
	}
	return e.json(), nil
}

// externalSubnetParams is a wanted subnet: a given one, or any of a prefix length.
type externalSubnetParams struct {
	name, description string
	net               netip.Prefix
	bits              int
	pool              poolSelector
}

func (s *Simulator) externalSubnetCreate(c *call) (any, error) {
	f := c.fields()
	w := externalSubnetParams{name: f.name("name"), description: f.str("description")}
	o := f.object("allocator")
	if o.enum("type", "explicit", "auto") == "explicit" {
		w.net = o.prefix("subnet")
	} else {
		w.bits = int(need[uint8](o, "prefix_length", "a u8"))
		w.pool = o.poolSelector()
	}
	if err := f.done(); err != nil {
		return nil, err
	}
	p, err := c.createIn(roleLimited)
	if err != nil {
		return nil, err
	}
	e, err := s.newExternalSubnet(p, w)
	if err != nil {
		return nil, err
	}
	return e.json(), nil
}

// newExternalSubnet makes a subnet. Every lack of room is a 400 here, not a 507, and is answered before
// a taken name is.
func (s *Simulator) newExternalSubnet(
	p *project, w externalSubnetParams,
) (*externalSubnet, error) {
	e := &externalSubnet{
		meta:       s.newMeta(p.id, p.id, w.name, w.description),
		attachment: attachment{state: detached},
	}
	var m *subnetPoolMember
	var err error
	if w.net.IsValid() {
		e.net = w.net
		e.pool, m, err = s.placeOf(p.parent, w.net)
	} else if e.pool, err = s.selectSubnetPool(p.parent, w.pool); err == nil {
		e.net, m, err = s.carve(e.pool, w.bits)
	}
	if err != nil {
		return nil, err
	}
	for _, other := range s.db.externalSubnets.rows {
		if other.net == e.net { // a rack before release 21 offers it again, and then takes it for the name
			return nil, alreadyExists(s.db.externalSubnets.kind, w.name)
		}
	}
	e.member = m.id
	return e, s.db.externalSubnets.insert(e)
}

// placeOf finds the pool and the member of a given subnet that is free.
func (s *Simulator) placeOf(silo uuid.UUID, n netip.Prefix) (*subnetPool, *subnetPoolMember, error) {
	if n != n.Masked() {
		return nil, nil, invalidRequest("the subnet %s has host bits set", n)
	}
	p, m := s.memberFor(silo, n)
	if m == nil || n.Bits() < m.min || n.Bits() > m.max {
		return nil, nil, invalidRequest("%s is in no subnet pool linked to the silo, or not of a "+
			"prefix length that it allows", n)
	}
	if taken, overlaps := s.overlapping(n); overlaps || p.filled {
		return nil, nil, invalidRequest("%s overlaps an external subnet: %s", n, taken)
	}
	return p, m, nil
}

func (s *Simulator) externalSubnetUpdate(c *call) (any, error) {
	e, err := update(c, s.db.externalSubnets, func() (*externalSubnet, error) {
		return s.externalSubnetFromPath(c, roleLimited)
	})
	if err != nil {
		return nil, err
	}
	return e.json(), nil
}

func (s *Simulator) externalSubnetDelete(c *call) (any, error) {
	e, err := s.externalSubnetFromPath(c, roleLimited)
	if err != nil {
		return nil, err
	}
	if e.state != detached {
		return nil, invalidRequest("external subnet cannot be deleted while attached")
	}
	s.db.externalSubnets.remove(e)
	return nil, nil
}

func (s *Simulator) externalSubnetAttach(c *call) (any, error) {
	f := c.fields()
	target := f.ref("instance")
	if err := f.done(); err != nil {
		return nil, err
	}
	s.mu.Lock()
	e, err := s.externalSubnetFromPath(c, roleLimited)
	var i *instance
	if err == nil {
		i, err = c.attachTarget(e.project, target)
	}
	if err != nil {
		s.mu.Unlock()
		return nil, err
	}
	room := func() error { return s.hasRoomForSubnet(i, e.net.Addr()) }
	if err := s.attach(e, i, room); err != nil { // unlocks
		return nil, err
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	out := e.json()
	out.InstanceID = optID(i.id)
	return out, nil
}

func (s *Simulator) hasRoomForSubnet(i *instance, a netip.Addr) error {
	n := s.primaryNIC(i)
	if n == nil || n.stacks[familyOf(a)] == nil {
		return invalidRequest("the instance's primary network interface has no IP stack of "+
			"version %s", familyOf(a))
	}
	if len(s.externalSubnetsOf(i)) >= maxExternalSubnets {
		return invalidRequest("an instance may not have more than %d external subnets",
			maxExternalSubnets)
	}
	return nil
}

func (s *Simulator) externalSubnetsOf(i *instance) []*externalSubnet {
	var out []*externalSubnet
	for _, e := range s.db.externalSubnets.in(i.project) {
		if e.instance == i.id {
			out = append(out, e)
		}
	}
	return out
}

// externalSubnetDetach differs from a floating IP's in two ways: what is not attached is a
// 400, and the body is fresh.
func (s *Simulator) externalSubnetDetach(c *call) (any, error) {
	s.mu.Lock()
	e, err := s.externalSubnetFromPath(c, roleLimited)
	if err == nil && e.state == detached {
		err = invalidRequest("external subnet is not attached to an instance")
	}
	if err != nil {
		s.mu.Unlock()
		return nil, err
	}
	if err := s.detach(e, func() {}); err != nil { // unlocks
		return nil, err
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	return e.json(), nil
}

func (s *Simulator) instanceExternalSubnets(c *call) (any, error) {
	i, err := findInProject(c, s.db.instances, "instance", roleViewer)
	if err != nil {
		return nil, err
	}
	var items []externalSubnetJSON
	for _, e := range s.externalSubnetsOf(i) {
		if e.state == attached {
			items = append(items, e.json())
		}
	}
	return wholePage(items), nil
}
