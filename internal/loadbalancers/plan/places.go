// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package plan

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/ownership"
)

// standing is whether an address may stay where it is.
type standing int

const (
	// mustLeave: it is attached nowhere, or its instance is not fit to carry it.
	mustLeave standing = iota
	stays
	// leavesInstance and leavesServing: it leaves if another candidate can take it, because its
	// instance is taken out of service, or because what it reaches there is leaving.
	leavesInstance
	leavesServing
)

// locate decides where each address goes. First the addresses that stay where they are get their
// places: of two in one place the one whose ports were edited makes way, else the younger one. Then
// those on their way keep their targets. All others go, those in use first and the older ones
// before the younger.
func (p *planner) locate() {
	staying, going := p.sortOut()
	expected := p.expected(going)
	var yielding []*claim
	isGuarded := false
	for _, c := range staying {
		if c.b.edited && !isGuarded {
			p.guardReplaced()
			isGuarded = true
		}
		switch {
		case c.b.edited && c.isExpected(expected):
			yielding = append(yielding, c)
		case !p.keepPlace(c):
			going = append(going, c)
		}
	}
	p.guard(going)
	slices.SortStableFunc(going, compareUrgency)
	var rest, unbound []*claim
	for _, c := range going {
		switch {
		case c.heading == "":
			unbound = append(unbound, c)
		case !p.keepHeading(c):
			rest = append(rest, c)
		}
	}
	for _, c := range yielding {
		if p.keepPlace(c) {
			continue
		}
		if c.lost {
			p.vacate(c, c.Current())
		}
		unbound = append(unbound, c)
	}
	slices.SortStableFunc(unbound, compareUrgency)
	unbound = slices.DeleteFunc(unbound, func(c *claim) bool { return p.keepAnnounced(c, c.announced()) })
	for _, c := range unbound {
		if !p.keepAnnounced(c, p.publishedPlace(c)) {
			rest = append(rest, c)
		}
	}
	slices.SortStableFunc(rest, compareUrgency)
	for _, c := range rest {
		if c.planNext && !c.lost {
			p.chooseNext(c)
		} else {
			p.settle(c)
		}
	}
	for _, b := range p.live {
		for _, c := range b.claims {
			p.keepProof(c)
		}
	}
}

// keepPlace gives an address the place where it is, unless another one has it, and reports whether that
// is all there is to decide.
func (p *planner) keepPlace(c *claim) bool {
	if c.isHeldAt(p, c.Current()) || c.hasOlderAt(c.Current()) {
		c.lost = true
		return false
	}
	p.occupy(c, c.Current())
	c.Target = c.Current()
	return c.standing == stays && !c.planNext
}

// compareUrgency orders addresses in use before others, unedited before edited ones, and older
// before younger ones.
func compareUrgency(x, y *claim) int {
	if order := compareBools(!x.inUse(), !y.inUse()); order != 0 {
		return order
	}
	if order := compareBools(x.b.edited, y.b.edited); order != 0 {
		return order
	}
	switch a, b := x.b.LoadBalancer, y.b.LoadBalancer; {
	case a.Created < b.Created:
		return -1
	case a.Created > b.Created:
		return 1
	default:
		return ownership.CompareKeys(a.Key, b.Key)
	}
}

// sortOut returns the addresses that may stay where they are, in the order in which they get their
// places, and those that go.
func (p *planner) sortOut() (staying, going []*claim) {
	for _, b := range p.live {
		for _, c := range b.claims {
			c.counted = c.Current()
			if c.Address != nil {
				if to := p.in.InFlight[c.Address.ID].Instance; to != "" && to != c.Current() {
					c.heading, c.counted = to, to
				}
			}
			switch {
			case c.Frozen:
				c.Target = c.Current()
				p.occupyFree(c.b, c.Address)
			case c.Current() != "" && !p.mayDetach(b, c.Address):
				p.leaveForeign(c)
			case c.heading != "":
				going = append(going, c)
			case c.staysReserved():
			default:
				if c.standing = p.standingOf(c); c.standing == mustLeave {
					going = append(going, c)
				} else {
					staying = append(staying, c)
				}
			}
		}
	}
	slices.SortStableFunc(staying, func(x, y *claim) int { return compareBools(x.b.edited, y.b.edited) })
	return staying, going
}

// staysReserved reports whether an address gets no place: it is in use nowhere, and it is not known
// what is desired of it, which instances may carry it among that.
func (c *claim) staysReserved() bool {
	lb := c.b.LoadBalancer
	return lb.Preserve && !lb.NoPublication && !c.inUse() && c.announced() == "" &&
		c.Address != nil && !lb.Publishes(c.Address.Addr)
}

// standingOf says whether an address may stay where it is.
func (p *planner) standingOf(c *claim) standing {
	current := c.Current()
	if current == "" {
		return mustLeave
	}
	candidate := p.node(current).candidate
	serving, eligible := c.b.serving(current)
	switch {
	case candidate == nil || candidate.Health == Unhealthy || !eligible:
		return mustLeave
	case serving == IsLeaving:
		return leavesServing
	case candidate.Health == Draining, candidate.Health == Leaving:
		return leavesInstance
	}
	c.planNext = candidate.Health == Suspect && candidate.PlanNext
	return stays
}

// leaveForeign leaves an address on an instance that never was of this cluster: another cluster
// with the same id may have put it there, and two would move it to and fro.
func (p *planner) leaveForeign(c *claim) {
	c.Frozen, c.Foreign, c.Mark, c.MarkLast = true, true, nil, false
	c.Target = c.Current()
	c.b.warn(ForeignAttachment, p.foreign(c.Address))
	p.occupyFree(c.b, c.Address)
}

func (p *planner) foreign(ip *Address) string {
	return fmt.Sprintf("the address %s is on the instance %s, which never was a node of this cluster: "+
		"it is left there; if another cluster has the same id, give one of them an id of its own, else "+
		"detach the address", ip.Addr, p.displayName(ip.InstanceID))
}

// keepProof keeps the marker of an adopted scope on an address as long as nothing else proves that
// it may be taken off its place.
func (p *planner) keepProof(c *claim) {
	if c.MarkLast && c.Target != "" && c.Target == c.Current() && !p.onClusterNode(c.b, c.Address) {
		c.Mark, c.MarkLast = nil, false
	}
}

// guard records the places where addresses are that this plan takes away: of those that go
// elsewhere, and of those that are desired no more, which stay until what replaces them is there.
func (p *planner) guard(going []*claim) {
	for _, c := range going {
		if c.Target == "" {
			p.vacate(c, c.Current())
		}
	}
	for _, b := range p.all {
		for _, ip := range p.unclaimed(b) {
			if p.isUsedBy(b, ip) {
				p.occupyFree(b, ip)
			}
		}
	}
}

// isUsedBy reports whether an address that is not desired was a load balancer's until now.
func (p *planner) isUsedBy(b *balancer, ip *Address) bool {
	return p.isOwn(ip, b.key()) || b.LoadBalancer.Publishes(ip.Addr) || slices.Contains(b.former, ip)
}

// guardReplaced gives load balancers whose ports were not edited the places where addresses are that
// are about to be replaced by ones that are attached nowhere yet: one that was edited makes way for
// them, too.
func (p *planner) guardReplaced() {
	for _, b := range p.live {
		if b.edited {
			continue
		}
		for _, ip := range p.unclaimed(b) {
			if p.isUsedBy(b, ip) && slices.ContainsFunc(b.claims, func(c *claim) bool {
				return !c.inUse() && c.Desired.Family == ip.Family() && c.Kind() == ip.Kind
			}) {
				p.occupyFree(b, ip)
			}
		}
	}
}

// keepHeading has an address go where a request under way brings it, unless somebody has that
// place.
func (p *planner) keepHeading(c *claim) bool {
	n := p.node(c.heading)
	_, eligible := c.b.serving(n.id)
	if n.candidate == nil || n.candidate.Health > Suspect || !eligible || c.isHeldAt(p, n.id) ||
		c.isDoubledAt(n.id) {
		p.vacate(c, c.heading) // it will be there, and leave
		return false
	}
	why := "it is on its way there"
	if leaves := p.whyLeaves(c); leaves != "" {
		why = p.displayName(c.Current()) + " " + leaves
	}
	p.send(c, n, why)
	return true
}

// keepAnnounced has an address go to the place that was taken for it, if that can still take it.
func (p *planner) keepAnnounced(c *claim, to string) bool {
	if to == "" || to == c.Current() {
		return false
	}
	n := p.node(to)
	if n.candidate == nil || n.candidate.Backoff || n.candidate.Health == Draining {
		return false // it may still be chosen
	}
	switch p.fitnessOf(c, n, p.needsServing(c)) {
	case fits:
	case vacated:
		if c.planNext && !c.lost {
			return false
		}
	case unusable, doubled, taken, waits, full:
		return false
	}
	if c.planNext && !c.lost {
		p.sendNext(c, n)
	} else {
		p.send(c, n, p.whyMove(c))
	}
	return true
}

// settle finds a place for an address that has none, cannot stay where it is, or is to leave it.
func (p *planner) settle(c *claim) {
	if fit := p.fitFor(c); len(fit) > 0 {
		p.send(c, p.pick(c, fit), p.whyMove(c))
		return
	}
	current := c.Current()
	switch {
	case current == "":
		c.Unscheduled = p.unscheduled(c)
	case c.hasOlderAt(current):
		c.Why = p.displayName(current) + " carries another address of the load balancer"
		c.Unscheduled = p.unscheduled(c)
	case !c.isHeldAt(p, current):
		p.stay(c)
		return
	default:
		c.Why = p.describeHolders(c, current)
		if c.Unscheduled = p.unscheduled(c); c.Unscheduled.Condition == NoCandidate &&
			c.Unscheduled.OnlyTime {
			c.Unscheduled = p.conflict(c, p.blockersAt(c, p.node(current)))
		}
	}
	if c.counted != "" {
		p.node(c.counted).load--
		c.counted = ""
	}
}

// stay leaves an address where it is because nothing else can carry it.
func (p *planner) stay(c *claim) {
	c.Target = c.Current()
	p.occupy(c, c.Target)
	p.count(c, p.node(c.Target))
	if c.standing != mustLeave || c.heading != "" {
		return
	}
	c.degraded = true
	c.b.warn(Degraded, p.whyDegraded(c))
}

// chooseNext chooses where an address will have to go soon.
func (p *planner) chooseNext(c *claim) {
	fit := slices.DeleteFunc(p.fitFor(c), func(n *node) bool {
		return n.id == c.Current() || p.leaverOf(c, n.id) != ""
	})
	if len(fit) > 0 {
		p.sendNext(c, p.pick(c, fit))
	}
}

func (p *planner) sendNext(c *claim, n *node) {
	c.Next = n.id
	n.next++
	n.present[c.Kind()]++
	p.occupy(c, n.id)
}

// send has an address go to an instance.
func (p *planner) send(c *claim, n *node, why string) {
	if current := c.Current(); c.Target != "" && c.Target == current && n.id != current {
		// It had its place for as long as it had to.
		for _, port := range c.ports() {
			at := Place{current, c.Desired.Family, port}
			if p.occupied[at].b == c.b {
				delete(p.occupied, at)
			}
		}
		p.vacate(c, current)
	}
	c.Target, c.Why, c.Blocked = n.id, why, p.leaverOf(c, n.id)
	if n.id != c.Current() && n.id != c.heading {
		n.present[c.Kind()]++
	}
	p.count(c, n)
	p.occupy(c, n.id)
}

// count makes an address count for the load of an instance.
func (p *planner) count(c *claim, n *node) {
	if c.counted == n.id {
		return
	}
	if c.counted != "" {
		p.node(c.counted).load--
	}
	n.load++
	c.counted = n.id
}

// whyMove says why an address goes somewhere.
func (p *planner) whyMove(c *claim) string {
	current := c.Current()
	if current == "" {
		return "it is attached nowhere"
	}
	if c.lost && c.hasOlderAt(current) {
		return p.displayName(current) + " carries another address of the load balancer"
	}
	why := p.displayName(current) + " " + cmp.Or(p.whyLeaves(c), "no longer has its place")
	if c.lost {
		return cmp.Or(p.describeHolders(c, current), why)
	}
	return why
}
