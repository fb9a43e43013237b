// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package plan

import (
	"net/netip"
	"slices"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/ownership"
)

// holder is who has a place: a load balancer of this plan, or somebody of another scope.
type holder struct {
	b    *balancer
	name string
}

// vacate records that an address is in a place that it leaves.
func (p *planner) vacate(c *claim, instance string) {
	if instance == "" {
		return
	}
	for _, port := range c.ports() {
		at := Place{instance, c.Desired.Family, port}
		_, isOccupied := p.occupied[at]
		if _, isVacated := p.vacated[at]; !isOccupied && !isVacated {
			p.vacated[at] = holder{c.b, c.b.key().Name}
		}
	}
}

// occupy gives an address the places of its ports on an instance.
func (p *planner) occupy(c *claim, instance string) {
	name := c.b.key().Name
	for _, port := range c.ports() {
		p.occupied[Place{instance, c.Desired.Family, port}] = holder{c.b, name}
	}
}

// occupyFree gives an address that is attached the places of a load balancer's ports there, as far as
// nobody else has them, or is there until it leaves.
func (p *planner) occupyFree(b *balancer, ip *Address) {
	if ip.InstanceID == "" {
		return
	}
	name := b.key().Name
	for _, port := range b.portsOf(ip.Kind) {
		at := Place{ip.InstanceID, ip.Family(), port}
		_, isOccupied := p.occupied[at]
		if leaver, isVacated := p.vacated[at]; !isOccupied && (!isVacated || leaver.b == b) {
			p.occupied[at] = holder{b, name}
		}
	}
}

// isHeldAt reports whether another load balancer has a port of this one on an instance.
func (c *claim) isHeldAt(p *planner, instance string) bool {
	return p.isHeld(c.b, c.ports(), instance, c.Desired.Family)
}

func (p *planner) isHeld(b *balancer, ports []Port, instance string, family ownership.Family) bool {
	for _, port := range ports {
		if holds, is := p.occupied[Place{instance, family, port}]; is && holds.b != b {
			return true
		}
	}
	return false
}

// leaverOf returns which other load balancer leaves a port of this one on an instance by this plan;
// empty: none.
func (p *planner) leaverOf(c *claim, instance string) string {
	for _, port := range c.ports() {
		holds, is := p.vacated[Place{instance, c.Desired.Family, port}]
		if is && holds.b != c.b {
			return holds.name
		}
	}
	return ""
}

// publishedPlace returns the other candidate at which the owner of an address publishes it: another
// session has taken that place for it, or an earlier one. Empty: none, or more than one.
func (p *planner) publishedPlace(c *claim) string {
	lb := c.b.LoadBalancer
	if c.Address == nil || c.Kind() != ownership.FloatingIP || !lb.Publishes(c.Address.Addr) {
		return ""
	}
	if p.byPrivate == nil {
		p.byPrivate = make(map[netip.Addr]string, len(p.candidates))
		for _, n := range p.candidates {
			for _, addr := range n.instance.Addrs {
				p.byPrivate[addr] = n.id
			}
		}
	}
	found := ""
	for _, addr := range lb.Published {
		at := p.byPrivate[addr]
		switch {
		case at == "" || at == c.Current() || ownership.FamilyOf(addr) != c.Desired.Family:
		case found != "":
			return ""
		default:
			found = at
		}
	}
	return found
}

// expected returns the places to which requests under way bring addresses of load balancers whose
// ports were not edited: one that was edited makes way for those that keep their targets.
func (p *planner) expected(going []*claim) map[Place]bool {
	var places map[Place]bool
	for _, c := range going {
		if c.heading == "" || c.b.edited {
			continue
		}
		if places == nil {
			places = make(map[Place]bool)
		}
		for _, port := range c.ports() {
			places[Place{c.heading, c.Desired.Family, port}] = true
		}
	}
	return places
}

// isExpected reports whether an address of another load balancer will be in the place of this one.
func (c *claim) isExpected(places map[Place]bool) bool {
	return slices.ContainsFunc(c.ports(), func(port Port) bool {
		return places[Place{c.Current(), c.Desired.Family, port}]
	})
}
