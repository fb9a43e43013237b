// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package plan

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/ownership"
)

// model is what a rack would make of plans: floating IPs by id. It refuses what Oxide refuses.
type model struct {
	found map[string]Address
	made  int
}

func newModel(found ips) *model {
	m := &model{found: make(map[string]Address)}
	for _, a := range found {
		m.found[a.ID] = a
	}
	return m
}

func (m *model) ips() ips {
	var all ips
	for _, a := range m.found {
		all = append(all, a)
	}
	slices.SortFunc(all, func(x, y Address) int { return cmp.Compare(x.ID, y.ID) })
	return all
}

// apply carries out the plan for all load balancers, and returns how much it changed.
func (m *model) apply(t *testing.T, r *Result) int {
	t.Helper()
	n := 0
	for _, p := range r.LoadBalancers {
		for _, c := range p.Claims {
			n += m.applyClaim(t, c)
		}
		if slices.ContainsFunc(p.Claims, func(c *Claim) bool { return c.Blocked != "" }) {
			continue // what is released waits for it
		}
		for _, release := range p.Releases {
			n += m.end(t, release)
		}
	}
	return n
}

func (m *model) applyClaim(t *testing.T, c *Claim) int {
	t.Helper()
	n, id := 0, ""
	if c.Address != nil {
		id = c.Address.ID
	}
	if c.Create != nil {
		id = m.create(t, c.Create)
		n++
	}
	a := m.found[id]
	if c.Mark != nil && a.Description != c.Mark.Description {
		a.Description = c.Mark.Description
		n++
	}
	if a.InstanceID != c.Target && a.InstanceID != "" {
		a.InstanceID = ""
		n++
	}
	if a.InstanceID != c.Target {
		a.InstanceID = c.Target
		n++
	}
	m.found[id] = a
	return n
}

func (m *model) end(t *testing.T, release Release) int {
	t.Helper()
	a, known := m.found[release.Address.ID]
	if !known {
		t.Fatalf("the end of a floating IP %q that is not there", release.Address.ID)
	}
	n := 0
	if a.InstanceID != "" {
		a.InstanceID = ""
		n++
	}
	m.found[a.ID] = a
	switch release.End {
	case EndsDeleted:
		delete(m.found, a.ID)
		n++
	case EndsRetained:
		a.Description = release.Description
		m.found[a.ID] = a
		n++
	case EndsDetached:
	}
	return n
}

func (m *model) create(t *testing.T, c *Creation) string {
	t.Helper()
	for _, a := range m.found {
		if a.Name == c.Name && a.Kind == c.Desired.Source.Kind {
			t.Fatalf("the name %s is taken", c.Name)
		}
		if a.Addr == c.Desired.Source.Addr && !a.Larger { // pools do not overlap
			t.Fatalf("the address %s is taken", a.Addr)
		}
	}
	m.made++
	id := fmt.Sprintf("made-%d", m.made)
	addr := c.Desired.Source.Addr
	if !addr.IsValid() {
		addr = netip.AddrFrom4([4]byte{203, 0, byte(m.made / 250), byte(m.made%250 + 1)})
		if c.Desired.Family == IPv6 {
			addr = netip.AddrFrom16([16]byte{0: 0x20, 1: 1, 14: byte(m.made / 250), 15: byte(m.made % 250)})
		}
	}
	m.found[id] = Address{
		Kind: c.Desired.Source.Kind, ID: id, Name: c.Name, Addr: addr, Description: c.Description,
		PoolID: poolID(c.Desired.Source.Kind),
	}
	return id
}

// poolID is the id of the pool from which all resources of a kind come.
func poolID(kind ownership.Kind) string {
	if kind == ExternalSubnet {
		return "subnet-pool-1"
	}
	return "pool-1"
}
