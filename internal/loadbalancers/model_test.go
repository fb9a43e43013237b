// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package loadbalancers

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/oxide"
)

// model is what a rack would make of actions: floating IPs by id. It refuses what Oxide refuses.
type model struct {
	facts map[string]fact
	made  int
}

func newModel(found ips) *model {
	m := &model{facts: make(map[string]fact)}
	for _, f := range found {
		m.facts[f.ID] = f
	}
	return m
}

func (m *model) ips() ips {
	var all ips
	for _, f := range m.facts {
		all = append(all, f)
	}
	return all
}

// apply carries out the plan for all load balancers, and returns how much it changed.
func (m *model) apply(t *testing.T, p *planner) int {
	t.Helper()
	n := 0
	for _, b := range p.balancers {
		for _, c := range b.claims {
			id := ""
			if c.ip != nil {
				id = c.ip.ID
			}
			for _, a := range c.actions() {
				id = m.step(t, id, a)
				n++
			}
		}
		for _, a := range b.releases {
			m.step(t, a.ID, a)
			n++
		}
	}
	return n
}

// step carries out one action, and returns the id of the floating IP.
func (m *model) step(t *testing.T, id string, a Action) string {
	t.Helper()
	if a.Type == Create {
		return m.create(t, a)
	}
	f, known := m.facts[id]
	if !known {
		t.Fatalf("%s of a floating IP %q that is not there", a.Type, id)
	}
	switch a.Type {
	case Mark:
		f.Description = a.Description
		f = newFact(f.FloatingIP)
	case Attach:
		if f.InstanceID != "" {
			t.Fatalf("%s is attached to %s while it is on %s", id, a.InstanceID, f.InstanceID)
		}
		f.InstanceID = a.InstanceID
	case Detach:
		if f.InstanceID != a.InstanceID {
			t.Fatalf("%s is detached from %s while it is on %q", id, a.InstanceID, f.InstanceID)
		}
		f.InstanceID = ""
	case Delete:
		if f.InstanceID != "" {
			t.Fatalf("%s is deleted while it is on %s", id, f.InstanceID)
		}
		delete(m.facts, id)
		return id
	case Create:
	}
	m.facts[id] = f
	return id
}

func (m *model) create(t *testing.T, a Action) string {
	t.Helper()
	for _, f := range m.facts {
		if f.Name == a.Name {
			t.Fatalf("the name %s is taken", a.Name)
		}
		if f.Addr == a.Wanted.Source.Addr {
			t.Fatalf("the address %s is taken", f.Addr)
		}
	}
	m.made++
	id := fmt.Sprintf("made-%d", m.made)
	addr := a.Wanted.Source.Addr
	if !addr.IsValid() {
		addr = netip.AddrFrom4([4]byte{203, 0, byte(m.made / 250), byte(m.made%250 + 1)})
		if a.Wanted.Family == IPv6 {
			addr = netip.AddrFrom16([16]byte{0: 0x20, 1: 1, 14: byte(m.made / 250), 15: byte(m.made % 250)})
		}
	}
	m.facts[id] = newFact(oxide.FloatingIP{
		ID: id, Name: a.Name, Addr: addr, Description: a.Description, PoolID: "pool-1",
	})
	return id
}
