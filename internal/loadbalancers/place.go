// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package loadbalancers

import (
	"cmp"
	"fmt"
	"hash/fnv"
	"slices"
)

const (
	// maxExternalIPs is how many external IPs an instance can carry besides those of outbound NAT, of
	// which it has one per IP family: Oxide counts these, too.
	maxExternalIPs = 33
)

// place is a port of an instance, where the address of one load balancer may be: packets arrive at
// the instance's private address, so two would be indistinguishable.
type place struct {
	instance string
	family   Family
	port     Port
}

func places(instance string, family Family, ports []Port) []place {
	all := make([]place, 0, len(ports))
	for _, port := range ports {
		all = append(all, place{instance, family, port})
	}
	return all
}

// locate decides where each address goes. An address stays where it is as long as its instance is fit
// to carry it; of two in one place the one whose ports were edited makes way, else the younger one.
// All others go, those in use first and the older ones before the younger, to the healthy candidate
// that carries the fewest addresses.
func (p *planner) locate() {
	var staying, going []*claim
	for _, b := range p.balancers {
		for _, c := range b.claims {
			switch {
			case c.frozen:
				c.target = c.current()
				p.occupy(c, c.target)
			case c.current() != "" && !p.isOurPlace(b, c.ip):
				p.leaveAbroad(c)
			case p.leave[b.want.Key] && (c.current() != "" || len(b.want.Published) > 0):
				c.left, c.target = true, c.current()
				p.occupy(c, c.target)
				p.keepProof(c)
			case p.mayStay(c):
				staying = append(staying, c)
			default:
				going = append(going, c)
			}
		}
	}
	slices.SortStableFunc(staying, func(x, y *claim) int {
		return compareBools(p.isEdited(x), p.isEdited(y))
	})
	for _, c := range staying {
		if holder := p.holderOf(c, c.current()); holder != "" {
			going = append(going, c)
			continue
		}
		c.target = c.current()
		p.occupy(c, c.target)
		p.tellRefused(c)
	}
	slices.SortStableFunc(going, func(x, y *claim) int {
		return cmp.Or(
			compareBools(x.current() == "", y.current() == ""),
			compareBools(p.isEdited(x), p.isEdited(y)),
			x.want.Created.Compare(y.want.Created), compareKeys(x.want.Key, y.want.Key),
		)
	})
	p.guard(going)
	for _, c := range going {
		p.settle(c)
		p.keepProof(c)
	}
}

// keepProof keeps the marker of an adopted scope on an address as long as nothing else proves that it
// may be taken off its place.
func (p *planner) keepProof(c *claim) {
	if c.moveFirst && c.target != "" && c.target == c.current() && !p.isHome(c.of, c.ip) {
		c.prepare = nil
	}
}

// compareBools orders false before true.
func compareBools(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	}
	return 1
}

// isOurPlace reports whether an address is nowhere, or on an instance that is or was of the cluster:
// it is a candidate, was one, or its private address is published. The place of an address of an
// adopted scope may be given up, too: that cluster is gone.
func (p *planner) isOurPlace(b *balancer, ip *fact) bool {
	return p.isHome(b, ip) || p.isAdopted(b, ip)
}

// isHome is isOurPlace for an address whose marker proves nothing about its place.
func (p *planner) isHome(b *balancer, ip *fact) bool {
	at := ip.InstanceID
	if at == "" || p.candidates[at] != nil || p.nodes[at] {
		return true
	}
	private := p.facts.privateAddr(at, ip.family())
	return private.IsValid() && b.want.publishes(private)
}

// isAdopted reports whether an address is marked with another scope that this one takes over from.
func (p *planner) isAdopted(b *balancer, ip *fact) bool {
	return ip.Marked && p.scopes[ip.Marker.Key.Scope] && ip.Marker.Key.Scope != b.want.Key.Scope
}

// leaveAbroad leaves an address on an instance that never was of this cluster: another cluster with
// the same id may have put it there, and two would move it to and fro.
func (p *planner) leaveAbroad(c *claim) {
	c.frozen, c.prepare = true, nil
	c.target = c.current()
	c.conditions = append(c.conditions, p.abroad(c.ip))
}

func (p *planner) abroad(ip *fact) Condition {
	return Condition{ForeignAttachment, fmt.Sprintf(
		"the address %s is on the instance %s, which never was a node of this cluster: it is left "+
			"there; if another cluster has the same id, give one of them an id of its own, else "+
			"detach the address", ip.Addr, p.nameOf(ip.InstanceID))}
}

// mayStay reports whether the instance of an address is fit to carry it further.
func (p *planner) mayStay(c *claim) bool {
	candidate := p.candidates[c.current()]
	return candidate != nil && candidate.Health != Unhealthy && p.isEligible(c, candidate.InstanceID)
}

func (p *planner) isEligible(c *claim, instance string) bool {
	return c.want.Eligible == nil || c.want.Eligible[instance]
}

// guard notes the places where addresses are that this plan takes away: of those that go elsewhere, if
// the plan is carried out for them, and of those that nobody wants any more, which stay until what
// replaces them is there.
func (p *planner) guard(going []*claim) {
	for _, c := range going {
		for _, at := range places(c.current(), c.wanted.Family, c.want.Ports) {
			switch _, taken := p.occupied[at]; {
			case c.current() == "" || taken:
			case p.changes != nil && !p.changes[c.want.Key]:
				p.occupied[at] = c.want.Key
			default:
				p.vacated[at] = c.want.Key
			}
		}
	}
	for _, b := range p.balancers {
		p.guardUnclaimed(b.want)
	}
	for _, want := range p.terminating {
		p.guardUnclaimed(want)
	}
}

// promise gives a load balancer the places that its owner publishes: what is under way may be a call
// that leaves an address where it is, though it is to go to another place that is published already.
func (p *planner) promise(want Desired) {
	for instance := range p.candidates {
		for _, w := range want.Wanted {
			private := p.facts.privateAddr(instance, w.Family)
			if private.IsValid() && want.publishes(private) {
				p.occupyFree(want, instance, w.Family)
			}
		}
	}
}

// guardUnclaimed notes the places of addresses that a load balancer has and does not want any more.
func (p *planner) guardUnclaimed(want Desired) {
	for _, ip := range p.facts.sorted() {
		if ip.InstanceID != "" && p.claimed[ip.ID] == nil &&
			(p.isOwn(ip, want.Key) || want.publishes(ip.Addr)) {
			p.occupyFree(want, ip.InstanceID, ip.family())
		}
	}
}

// occupyFree gives the places of a load balancer's ports on an instance to it, as far as nobody else has
// them.
func (p *planner) occupyFree(want Desired, instance string, family Family) {
	for _, at := range places(instance, family, want.Ports) {
		if _, taken := p.occupied[at]; !taken {
			p.occupied[at] = want.Key
		}
	}
}

// isEdited reports whether a load balancer serves ports that it did not when it got its place.
func (p *planner) isEdited(c *claim) bool {
	held, known := p.held[c.want.Key]
	return known && slices.ContainsFunc(c.want.Ports, func(port Port) bool {
		return !slices.Contains(held, port)
	})
}

// occupy gives the places of a load balancer's ports on an instance to it.
func (p *planner) occupy(c *claim, instance string) {
	if instance == "" {
		return
	}
	for _, at := range places(instance, c.wanted.Family, c.want.Ports) {
		p.occupied[at] = c.want.Key
	}
}

// holderOf returns which other load balancer has a port of this one on an instance, for people;
// empty: none.
func (p *planner) holderOf(c *claim, instance string) string {
	for _, at := range places(instance, c.wanted.Family, c.want.Ports) {
		if holder, taken := p.occupied[at]; taken && holder != c.want.Key {
			return fmt.Sprintf("%s is held by %s", at.port, holder)
		}
	}
	return ""
}

// leaverOf returns which other load balancer leaves a port of this one on an instance by this plan, for
// people; empty: none.
func (p *planner) leaverOf(c *claim, instance string) string {
	for _, at := range places(instance, c.wanted.Family, c.want.Ports) {
		if holder, taken := p.vacated[at]; taken && holder != c.want.Key {
			return fmt.Sprintf("%s is about to be left by %s", at.port, holder)
		}
	}
	return ""
}

// reservation returns which port of a load balancer may be served nowhere, and why; empty: none.
func (p *planner) reservation(c *claim) string {
	for _, port := range c.want.Ports {
		for _, r := range p.cluster.Reserved {
			if r.First <= port.Number && port.Number <= r.Last &&
				(r.Protocol == "" || r.Protocol == port.Protocol) &&
				!slices.Contains(r.Serves, c.want.Key.Name) {
				return fmt.Sprintf("%s is reserved for %s", port, r.Purpose)
			}
		}
	}
	return ""
}

// refusal returns why a port of a load balancer may not be served on an instance; empty: no reason.
func (p *planner) refusal(c *claim, candidate *Candidate) string {
	if reserved := p.reservation(c); reserved != "" {
		return reserved
	}
	for _, port := range c.want.Ports {
		for _, used := range candidate.Used {
			if used.Port == port && !slices.Contains(used.Serves, c.want.Key.Name) {
				return fmt.Sprintf("%s is used by %s", port, used.Holder)
			}
		}
	}
	return ""
}

// tellRefused tells of an address that stays though its port would be refused if it came anew.
func (p *planner) tellRefused(c *claim) {
	if why := p.refusal(c, p.candidates[c.target]); why != "" {
		c.conditions = append(c.conditions, Condition{PortRefused, fmt.Sprintf(
			"%s on the node of the address %s, so either may get the other's traffic: the address "+
				"stays, but would not be attached anew; use another port", why, c.ip.Addr)})
	}
}

// settle finds a place for an address that has none, or cannot stay where it is.
func (p *planner) settle(c *claim) {
	current := c.current()
	fit, obstacle := p.fitFor(c)
	if len(fit) > 0 {
		c.why = "it is attached nowhere"
		switch holder := p.holderOf(c, current); {
		case current != "" && p.mayStay(c):
			c.why = holder
		case current != "":
			c.why = "instance " + current + " is no healthy candidate"
		}
		p.move(c, pick(fit, p.loads, c.want.Key, c.wanted))
		return
	}
	if current != "" {
		holder := p.holderOf(c, current)
		if holder == "" {
			c.target = current
			p.occupy(c, current)
			c.conditions = append(c.conditions, Condition{Degraded, fmt.Sprintf(
				"the address %s stays on instance %s, which is not healthy: no other candidate can "+
					"carry it", c.ip.Addr, p.nameOf(current))})
			return
		}
		c.why = holder
		p.loads[current]--
		if obstacle.waits {
			obstacle = p.conflict(c, holder)
		}
	}
	c.unplaced = obstacle
	c.conditions = append(c.conditions, obstacle.condition())
}

func (p *planner) nameOf(instance string) string {
	if endpoint, known := p.facts.endpoints[instance]; known {
		return endpoint.Name
	}
	return instance
}

// move sends an address to an instance.
func (p *planner) move(c *claim, target string) {
	if current := c.current(); current != "" {
		p.loads[current]--
	}
	c.target = target
	p.loads[target]++
	p.present[target]++
	p.occupy(c, target)
}

// fitFor returns the candidates that can carry an address, or why there is none.
func (p *planner) fitFor(c *claim) ([]*Candidate, *obstacle) {
	var fit, left []*Candidate
	var healthy, full int
	taken := ""
	for i := range p.cluster.Candidates {
		candidate := &p.cluster.Candidates[i]
		at := candidate.InstanceID
		if candidate.Health != Healthy || !p.isEligible(c, at) ||
			!p.facts.privateAddr(at, c.wanted.Family).IsValid() {
			continue
		}
		healthy++
		holder := cmp.Or(p.holderOf(c, at), p.refusal(c, candidate))
		leaver := p.leaverOf(c, at)
		if c.current() == "" {
			// It can wait until the other one has left; one in use cannot, or two would wait for
			// each other.
			holder = cmp.Or(holder, leaver)
		}
		switch {
		case holder != "":
			taken = cmp.Or(taken, holder)
		case p.present[at] >= p.room(at):
			full++
		case leaver != "":
			left = append(left, candidate)
		default:
			fit = append(fit, candidate)
		}
	}
	if len(fit) == 0 {
		fit = left
	}
	switch {
	case len(fit) > 0:
		return fit, nil
	case healthy == 0:
		none := c.obstacle(NoCandidate, 0, fmt.Sprintf("none of %d candidates is healthy and has an "+
			"address of that family", len(p.cluster.Candidates)))
		none.waits = true
		return nil, none
	case taken != "":
		return nil, p.conflict(c, taken)
	}
	return nil, c.obstacle(NoCandidate, ReasonLimit, fmt.Sprintf("each of %d healthy candidates "+
		"carries as many addresses as Oxide allows; add a node", full))
}

// room is how many floating IPs an instance can carry. Where its ephemeral addresses are not known,
// it is taken to have all that it can.
func (p *planner) room(instance string) int {
	endpoint := p.facts.endpoints[instance]
	families := max(len(endpoint.Addrs), 1)
	ephemeral := endpoint.Ephemeral
	if !endpoint.EphemeralKnown {
		ephemeral = families
	}
	return maxExternalIPs - families - ephemeral
}

// pick chooses among candidates: those not to be avoided, then the least loaded, then by a hash, so
// that the choice is stable and spreads.
func pick(fit []*Candidate, loads map[string]int, key Key, w Wanted) string {
	rank := func(c *Candidate) uint64 {
		hash := fnv.New64a()
		fmt.Fprintf(hash, "%s\x00%s\x00%s\x00%s", key.Scope, key.Name, w.Family, c.InstanceID)
		return hash.Sum64()
	}
	return slices.MinFunc(fit, func(a, b *Candidate) int {
		return cmp.Or(
			compareBools(a.Avoid, b.Avoid),
			cmp.Compare(loads[a.InstanceID], loads[b.InstanceID]),
			cmp.Compare(rank(a), rank(b)),
			cmp.Compare(a.InstanceID, b.InstanceID),
		)
	}).InstanceID
}
