// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package oxidesim

import (
	"net/netip"
	"slices"
)

// nicCreate needs a stopped instance.
func (s *Simulator) nicCreate(c *call) (any, error) {
	f := c.fields()
	params := readNIC(f)
	if err := f.done(); err != nil {
		return nil, err
	}
	r, err := c.mustQueryRef("instance")
	if err != nil {
		return nil, err
	}
	i, err := findRefInProject(c, s.db.instances, r, roleLimited)
	if err != nil {
		return nil, err
	}
	if i.state != stopped {
		return nil, invalidRequest("instance must be stopped to attach a new network interface")
	}
	n, err := s.newNIC(i, params)
	if err != nil {
		return nil, err
	}
	return n.json(), nil
}

// nicUpdate replaces the transit IPs along with what else it is given: leaving them out
// clears those of both IP versions. Whatever is changed, the instance must be stopped. An
// interface can be made the primary one, but not the contrary.
func (s *Simulator) nicUpdate(c *call) (any, error) {
	f := c.fields()
	primary, transit := f.boolOr("primary", false), f.prefixes("transit_ips")
	if err := f.done(); err != nil {
		return nil, err
	}
	n, err := update(c, s.db.nics, func() (*nic, error) {
		n, err := c.nicFromPath(roleLimited)
		if err != nil {
			return nil, err
		}
		if i := s.db.instances.rows[n.parent]; i.state != stopped {
			return nil, invalidRequest("instance must be stopped to update its network interfaces")
		}
		return n, checkTransit(transit, func(version string) bool {
			return n.stacks[version] != nil
		})
	})
	if err != nil {
		return nil, err
	}
	for version, st := range n.stacks {
		st.transit = slices.DeleteFunc(slices.Clone(transit), func(p netip.Prefix) bool {
			return familyOf(p.Addr()) != version
		})
	}
	if primary {
		for _, sib := range s.db.nics.in(n.parent) {
			sib.primary = sib == n
		}
	}
	return n.json(), nil
}

// nicDelete needs a stopped or failed instance; the primary NIC goes last.
func (s *Simulator) nicDelete(c *call) (any, error) {
	n, err := c.nicFromPath(roleLimited)
	if err != nil {
		return nil, err
	}
	if i := s.db.instances.rows[n.parent]; i.state != stopped && i.state != failed {
		return nil, invalidRequest("instance must be stopped or failed to detach a network " +
			"interface")
	}
	if n.primary && len(s.db.nics.children[n.parent]) > 1 {
		return nil, invalidRequest("the primary interface may not be deleted while secondary " +
			"interfaces are attached")
	}
	s.removeNIC(n)
	return nil, nil
}
