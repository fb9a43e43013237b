// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package oxidesim

import (
	"net/netip"
	"time"

	"github.com/google/uuid"
)

// attachState is where a floating IP (or external subnet) stands; the API does not show it.
type attachState string

const (
	detached  attachState = "detached"
	attaching attachState = "attaching"
	attached  attachState = "attached"
	detaching attachState = "detaching"
)

// attachment ties an address to an instance. The instance is set in every state but
// detached.
type attachment struct {
	state    attachState
	instance uuid.UUID
}

// floatingIP is an address of a project, its parent.
type floatingIP struct {
	meta
	attachment
	ip   netip.Addr
	pool *ipPool
}

type floatingIPJSON struct {
	identity
	IP         string  `json:"ip"`
	IPPoolID   string  `json:"ip_pool_id"`
	ProjectID  string  `json:"project_id"`
	InstanceID *string `json:"instance_id"`
}

func (f *floatingIP) json() floatingIPJSON {
	return floatingIPJSON{
		identity: f.identity(), IP: f.ip.String(), IPPoolID: f.pool.id.String(),
		ProjectID: f.project.String(), InstanceID: optID(f.instance),
	}
}

func (f *floatingIP) held() *attachment { return &f.attachment }

// becomes moves the hidden state on, which every observer can tell by time_modified only.
func (f *floatingIP) becomes(state attachState, now time.Time) {
	f.state = state
	f.modified = now
	if state == detached {
		f.instance = uuid.Nil
	}
}

func (s *Simulator) floatingIPList(c *call) (any, error) {
	if err := c.beginScan(nameOrIDSorts); err != nil {
		return nil, err
	}
	p, err := c.createIn(roleViewer)
	if err != nil {
		return nil, err
	}
	return pageOf(c, s.db.floatingIPs.in(p.id), (*floatingIP).json), nil
}

func (s *Simulator) floatingIPView(c *call) (any, error) {
	f, err := findInProject(c, s.db.floatingIPs, "floating_ip", roleViewer)
	if err != nil {
		return nil, err
	}
	return f.json(), nil
}

// floatingIPParams is a wanted floating IP: a given address, or one from a pool.
type floatingIPParams struct {
	name, description string
	ip                netip.Addr
	pool              poolSelector
}

func readFloatingIP(f *fields) floatingIPParams {
	p := floatingIPParams{name: f.name("name"), description: f.str("description")}
	o := f.defaulted("address_allocator")
	if o == nil {
		return p
	}
	if o.enum("type", "explicit", "auto") == "explicit" {
		p.ip = o.addr("ip")
	} else {
		p.pool = o.poolSelector()
	}
	return p
}

func (s *Simulator) floatingIPCreate(c *call) (any, error) {
	f := c.fields()
	params := readFloatingIP(f)
	if err := f.done(); err != nil {
		return nil, err
	}
	p, err := c.createIn(roleLimited)
	if err != nil {
		return nil, err
	}
	fip, err := s.newFloatingIP(p, params)
	if err != nil {
		return nil, err
	}
	return fip.json(), nil
}

func (s *Simulator) newFloatingIP(p *project, w floatingIPParams) (*floatingIP, error) {
	fip := &floatingIP{
		meta:       s.newMeta(p.id, p.id, w.name, w.description),
		attachment: attachment{state: detached},
	}
	var err error
	if w.ip.IsValid() {
		if fip.pool = s.poolOf(p.parent, w.ip); fip.pool == nil {
			return nil, invalidRequest("the IP %s is in no pool linked to the current silo", w.ip)
		}
	} else if fip.pool, err = s.selectPool(p.parent, w.pool); err != nil {
		return nil, err
	}
	if err := s.db.floatingIPs.checkNew(p.id, w.name, w.description); err != nil {
		return nil, err
	}
	if w.ip.IsValid() {
		fip.ip, err = w.ip, fip.pool.take(w.ip)
	} else {
		fip.ip, err = fip.pool.allocate()
	}
	if err != nil {
		return nil, err
	}
	return fip, s.db.floatingIPs.insert(fip)
}

func (s *Simulator) floatingIPUpdate(c *call) (any, error) {
	fip, err := update(c, s.db.floatingIPs, func() (*floatingIP, error) {
		return findInProject(c, s.db.floatingIPs, "floating_ip", roleLimited)
	})
	if err != nil {
		return nil, err
	}
	return fip.json(), nil
}

func (s *Simulator) floatingIPDelete(c *call) (any, error) {
	fip, err := findInProject(c, s.db.floatingIPs, "floating_ip", roleLimited)
	if err != nil {
		return nil, err
	}
	if fip.state != detached {
		return nil, invalidRequest("floating IP cannot be deleted while attached to an instance")
	}
	fip.pool.release(fip.ip)
	s.db.floatingIPs.remove(fip)
	return nil, nil
}

func (s *Simulator) floatingIPAttach(c *call) (any, error) {
	f := c.fields()
	f.enum("kind", "instance")
	parent := f.ref("parent")
	if err := f.done(); err != nil {
		return nil, err
	}
	s.mu.Lock()
	fip, err := findInProject(c, s.db.floatingIPs, "floating_ip", roleLimited)
	var i *instance
	if err == nil {
		i, err = c.attachTarget(fip.project, parent)
	}
	if err != nil {
		s.mu.Unlock()
		return nil, err
	}
	room := func() error { return s.hasRoomFor(i, fip.ip) }
	if err := s.attach(fip, i, room); err != nil { // unlocks
		return nil, err
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	out := fip.json()
	out.InstanceID = optID(i.id)
	return out, nil
}

// attachTarget resolves the instance that something of a project is to be attached to: by
// name in that project, by id anywhere, but then it must be in the same project.
func (c *call) attachTarget(project uuid.UUID, r ref) (*instance, error) {
	if !r.isID() {
		return c.sim.db.instances.named(project, r.name)
	}
	i, err := see(c, c.sim.db.instances, r.id)
	if err == nil && i.project != project {
		return nil, invalidRequest("the instance must be in the same project")
	}
	if err == nil {
		err = c.require(i.project, roleLimited)
	}
	return i, err
}

// floatingIPDetach answers 202 whether it was attached or not. The body of a real detach is
// a snapshot from its beginning: it still carries the instance.
func (s *Simulator) floatingIPDetach(c *call) (any, error) {
	s.mu.Lock()
	fip, err := findInProject(c, s.db.floatingIPs, "floating_ip", roleLimited)
	if err != nil || fip.state == detached {
		defer s.mu.Unlock()
		if err != nil {
			return nil, err
		}
		return fip.json(), nil
	}
	var snapshot floatingIPJSON
	if err := s.detach(fip, func() { snapshot = fip.json() }); err != nil { // unlocks
		return nil, err
	}
	return snapshot, nil
}
