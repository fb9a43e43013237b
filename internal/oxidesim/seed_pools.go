// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package oxidesim

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/google/uuid"
)

// SubnetPoolSeed is a pool of networks for external subnets.
type SubnetPoolSeed struct {
	Name        string                 `json:"name"`
	Description string                 `json:"description,omitempty"`
	IPVersion   string                 `json:"ip_version,omitempty"` // v4 (default) or v6
	Members     []SubnetPoolMemberSeed `json:"members,omitempty"`
	Silos       []PoolLinkSeed         `json:"silos,omitempty"`
}

// SubnetPoolMemberSeed is a network, and the prefix lengths that may be cut out of it (by
// default from its own to that of single addresses).
type SubnetPoolMemberSeed struct {
	Subnet    string `json:"subnet"`
	MinLength *uint8 `json:"min_prefix_length,omitempty"`
	MaxLength *uint8 `json:"max_prefix_length,omitempty"`
}

func (s *Simulator) applyPool(w PoolSeed) error {
	p, err := s.db.pools.named(uuid.Nil, w.Name)
	if err == nil {
		err = describe(s, s.db.pools, p, w.Description)
	} else {
		p = s.newPool(w.Name, w.Description)
		p.version, p.kind = orDefault(w.IPVersion, v4), orDefault(w.PoolType, unicast)
		err = s.db.pools.insert(p)
	}
	if err != nil {
		return err
	}
	for _, r := range w.Ranges {
		first, err := netip.ParseAddr(r.First)
		if err != nil {
			return fmt.Errorf("range: first: %w", err)
		}
		last, err := netip.ParseAddr(r.Last)
		if err != nil {
			return fmt.Errorf("range: last: %w", err)
		}
		if slices.ContainsFunc(p.ranges, func(have *ipRange) bool {
			return have.first == first && have.last == last
		}) {
			continue
		}
		if _, err := s.addRange(p, first, last); err != nil {
			return err
		}
	}
	for _, l := range w.Silos {
		sl, err := s.db.silos.named(uuid.Nil, l.Silo)
		if err != nil {
			return err
		}
		p.links[sl.id] = l.Default
	}
	return nil
}

// applySubnetPool adds a pool, or to one. Made the default of a silo, it takes the place of another.
func (s *Simulator) applySubnetPool(w SubnetPoolSeed) error {
	p, err := s.db.subnetPools.named(uuid.Nil, w.Name)
	if err == nil {
		err = describe(s, s.db.subnetPools, p, w.Description)
	} else {
		p = s.newSubnetPool(w.Name, w.Description, orDefault(w.IPVersion, v4))
		err = s.db.subnetPools.insert(p)
	}
	if err != nil {
		return err
	}
	for _, m := range w.Members {
		net, err := netip.ParsePrefix(m.Subnet)
		if err != nil {
			return err
		}
		if slices.ContainsFunc(p.members, func(have *subnetPoolMember) bool {
			return have.net == net
		}) {
			continue
		}
		if _, err := s.addMember(p, net, m.MinLength, m.MaxLength); err != nil {
			return err
		}
	}
	for _, l := range w.Silos {
		sl, err := s.db.silos.named(uuid.Nil, l.Silo)
		if err != nil {
			return err
		}
		s.linkSubnetPool(p, sl.id, l.Default)
	}
	return nil
}
