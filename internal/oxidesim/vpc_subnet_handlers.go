// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package oxidesim

import (
	"net/netip"

	"github.com/google/uuid"
)

func (s *Simulator) subnetList(c *call) (any, error) {
	if err := c.beginScan(nameOrIDSorts); err != nil {
		return nil, err
	}
	v, err := c.listVPC(roleViewer)
	if err != nil {
		return nil, err
	}
	return pageOf(c, s.db.subnets.in(v.id), (*subnet).json), nil
}

func (s *Simulator) subnetView(c *call) (any, error) {
	n, err := findInVPC(c, s.db.subnets, "subnet", roleViewer)
	if err != nil {
		return nil, err
	}
	return n.json(), nil
}

// subnetNICs lists the NICs on a subnet. NIC names repeat across instances, so in name order
// a page boundary swallows NICs.
func (s *Simulator) subnetNICs(c *call) (any, error) {
	if err := c.beginScan(nameOrIDSorts); err != nil {
		return nil, err
	}
	n, err := findInVPC(c, s.db.subnets, "subnet", roleViewer)
	if err != nil {
		return nil, err
	}
	var on []*nic
	for _, i := range s.db.nics.all() {
		if i.subnet == n {
			on = append(on, i)
		}
	}
	return pageOf(c, on, (*nic).json), nil
}

func (s *Simulator) subnetCreate(c *call) (any, error) {
	f := c.fields()
	name, description, block4 := f.name("name"), f.str("description"), f.prefix("ipv4_block")
	var block6 netip.Prefix
	if f.has("ipv6_block") {
		block6 = f.prefix("ipv6_block")
	}
	router := f.optRef("custom_router")
	if err := f.done(); err != nil {
		return nil, err
	}
	v, err := c.listVPC(roleCollaborator)
	if err != nil {
		return nil, err
	}
	custom, err := s.customRouter(v.id, router)
	if err != nil {
		return nil, err
	}
	n, err := s.newSubnet(v, name, description, block4, block6)
	if err != nil {
		return nil, err
	}
	n.customRouter = custom
	return n.json(), nil
}

// subnetUpdate replaces the custom router along with what else it is given: leaving it out
// detaches the router.
func (s *Simulator) subnetUpdate(c *call) (any, error) {
	f := c.fields()
	router := f.optRef("custom_router")
	if err := f.done(); err != nil {
		return nil, err
	}
	var custom uuid.UUID
	n, err := update(c, s.db.subnets, func() (*subnet, error) {
		n, err := findInVPC(c, s.db.subnets, "subnet", roleCollaborator)
		if err == nil {
			custom, err = s.customRouter(n.parent, router)
		}
		return n, err
	})
	if err != nil {
		return nil, err
	}
	n.customRouter = custom
	s.renameSubnetRoute(n)
	return n.json(), nil
}

// customRouter resolves the router that a subnet shall have; nil is none.
func (s *Simulator) customRouter(vpc uuid.UUID, r *ref) (uuid.UUID, error) {
	if r == nil {
		return uuid.Nil, nil
	}
	found, ok := s.db.routers.rows[r.id], r.isID()
	if !ok {
		var err error
		if found, err = s.db.routers.named(vpc, r.name); err != nil {
			return uuid.Nil, err
		}
	}
	switch {
	case found == nil:
		return uuid.Nil, notFoundByID(s.db.routers.kind, r.id)
	case found.parent != vpc:
		return uuid.Nil, invalidRequest("router and subnet must belong to the same VPC")
	case found.kind == systemRouter:
		return uuid.Nil, invalidRequest("cannot attach a system router to a VPC subnet")
	}
	return found.id, nil
}

func (s *Simulator) subnetDelete(c *call) (any, error) {
	n, err := findInVPC(c, s.db.subnets, "subnet", roleCollaborator)
	if err != nil {
		return nil, err
	}
	for _, i := range s.db.nics.rows {
		if i.subnet == n {
			return nil, invalidRequest(
				"VPC subnet cannot be deleted while network interfaces in the subnet exist")
		}
	}
	s.removeSubnetRoute(n)
	s.db.subnets.remove(n)
	return nil, nil
}
