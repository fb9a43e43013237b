// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package loadbalancers

import (
	"cmp"
	"net/netip"
	"slices"
)

// planner makes the plan for all load balancers of a scope at once: only so can it tell which of them
// has a place that several want. It is a pure function of what it is given: the same gives the same
// plan.
type planner struct {
	facts   facts
	cluster Cluster
	// held, nodes and lent are remembered, see scope.
	held        map[Key][]Port
	nodes, lent map[string]bool
	// leave are load balancers whose attached addresses stay where they are, and of which none is
	// released, see EnsureOptions.LeaveAttached.
	leave map[Key]bool
	// changes are those whose plans are carried out; nil: all.
	changes map[Key]bool
	// balancers are those to plan, the oldest first; underWay are those in flight; terminating those that
	// are yet to be deleted.
	balancers   []*balancer
	underWay    map[Key]*balancer
	terminating []Desired

	scopes     map[string]bool
	candidates map[string]*Candidate
	// claimed are the addresses that have been given to a load balancer, by id.
	claimed map[string]*claim
	// detached are a user's addresses that are let go: two load balancers may publish one.
	detached map[string]bool
	// allocated are the very addresses that are created, and for whom.
	allocated map[netip.Addr]Key
	// occupied says who has which place; vacated has the places that an address leaves by this plan: it
	// is there until it has left.
	occupied, vacated map[place]Key
	// loads are how many floating IPs an instance carries in the end, present how many there may be
	// until then: what leaves and what comes.
	loads, present map[string]int
}

// balancer is the plan for one load balancer.
type balancer struct {
	want   Desired
	claims []*claim
	// releases end addresses that are no longer wanted, after the wanted ones are attached.
	releases []Action
	// former are the addresses that the releases are about; kept those of them that are in use until
	// one that is wanted has a place.
	former, kept []*fact
	conditions   []Condition
	// problem is what is wrong with its wishes. What it has stays, and is placed as ever.
	problem error
}

func (b *balancer) claimOf(family Family) *claim {
	for _, c := range b.claims {
		if c.wanted.Family == family {
			return c
		}
	}
	return nil
}

// isSettled reports whether all addresses of the load balancer have a place that was decided now.
func (b *balancer) isSettled() bool {
	return !slices.ContainsFunc(b.claims, func(c *claim) bool { return c.unplaced != nil || c.left })
}

// refusal returns why an address of the load balancer has no place, if more than time is wanting.
func (b *balancer) refusal() error {
	for _, c := range b.claims {
		if c.unplaced != nil && !c.unplaced.waits {
			return c.unplaced.err()
		}
	}
	return nil
}

// newPlanner begins a plan. Load balancers that are in flight are not planned; their places are
// taken.
func newPlanner(f facts, cluster Cluster, set []Desired, known *scope, flights []*flight) *planner {
	p := &planner{
		facts: f, cluster: cluster, scopes: cluster.scopes(),
		held: known.held, nodes: known.nodes, lent: known.lent, terminating: known.terminating,
		candidates: make(map[string]*Candidate), claimed: make(map[string]*claim),
		occupied: make(map[place]Key), vacated: make(map[place]Key),
		loads: make(map[string]int), present: make(map[string]int), leave: make(map[Key]bool),
		underWay: make(map[Key]*balancer), allocated: make(map[netip.Addr]Key),
		detached: make(map[string]bool),
	}
	p.cluster.Candidates = slices.Clone(cluster.Candidates)
	cluster = p.cluster
	slices.SortFunc(cluster.Candidates, func(a, b Candidate) int {
		return cmp.Compare(a.InstanceID, b.InstanceID)
	})
	for i := range cluster.Candidates {
		p.candidates[cluster.Candidates[i].InstanceID] = &cluster.Candidates[i]
	}
	for _, ip := range f.ips {
		if ip.InstanceID != "" {
			p.loads[ip.InstanceID]++
			p.present[ip.InstanceID]++
		}
	}
	for _, flight := range flights {
		b := &balancer{want: Desired{Key: flight.key}}
		p.underWay[flight.key] = b
		for _, id := range flight.ips {
			p.claimed[id] = &claim{of: b, want: &b.want}
		}
		for _, at := range flight.places {
			p.occupied[at] = flight.key
		}
		if flight.ended.IsZero() {
			for _, instance := range flight.arrivals {
				p.loads[instance]++
				p.present[instance]++
			}
		}
	}
	for _, want := range set {
		if flying := p.underWay[want.Key]; flying != nil {
			flying.want = want
			p.promise(want)
		} else {
			p.balancers = append(p.balancers, &balancer{want: want})
		}
	}
	slices.SortFunc(p.balancers, func(a, b *balancer) int {
		return cmp.Or(a.want.Created.Compare(b.want.Created), compareKeys(a.want.Key, b.want.Key))
	})
	return p
}

// plan plans all load balancers, and returns the plans by key. Level spreads the addresses evenly, too,
// and then it reports whether that moves any.
func (p *planner) plan(level bool) (plans map[Key]*balancer, levelled bool) {
	p.assign()
	p.locate()
	levelled = level && p.level()
	return p.result(), levelled
}

func (p *planner) result() map[Key]*balancer {
	plans := make(map[Key]*balancer, len(p.balancers))
	for _, b := range p.balancers {
		for _, c := range b.claims {
			b.conditions = append(b.conditions, c.conditions...)
			for _, closed := range p.firewallConditions(c) {
				if !slices.Contains(b.conditions, closed) { // once for two families
					b.conditions = append(b.conditions, closed)
				}
			}
			if c.target == "" {
				// An address that is in use is let go only for one that is in use instead.
				b.releases, b.kept = nil, p.undisputed(b)
			}
		}
		if IsReason(b.problem, ReasonNotOwned) {
			b.conditions = append(b.conditions, Condition{NotOwned, b.problem.Error()})
		}
		plans[b.want.Key] = b
	}
	return plans
}

// undisputed returns the addresses that a load balancer does not want any more, and that are where
// nobody else has its ports.
func (p *planner) undisputed(b *balancer) []*fact {
	return slices.DeleteFunc(slices.Clone(b.former), func(ip *fact) bool {
		return slices.ContainsFunc(places(ip.InstanceID, ip.family(), b.want.Ports), func(at place) bool {
			holder, taken := p.occupied[at]
			return ip.InstanceID == "" || taken && holder != b.want.Key
		})
	})
}

func (p *planner) firewallConditions(c *claim) []Condition {
	at, known := p.facts.endpoints[c.target]
	rules := p.facts.firewalls[at.VPCID]
	if !known || rules == nil {
		return nil
	}
	condition, closed := firewallCondition(c.want.Key, rules, at, c.wanted.Family, c.want.Ports)
	if !closed {
		return nil
	}
	return []Condition{condition}
}

// actions returns what is to be done to an address: it is created or marked, and brought to its
// place. Oxide cannot move one in a single step: it is detached first.
func (c *claim) actions() []Action {
	base := Action{Key: c.want.Key, Why: c.why, Wanted: c.wanted}
	if c.ip != nil {
		base.ID, base.Name, base.Addr = c.ip.ID, c.ip.Name, c.ip.Addr
	}
	var away, there []Action
	if current := c.current(); current != c.target {
		if current != "" {
			off := base
			off.Type, off.InstanceID = Detach, current
			away = append(away, off)
		}
		if c.target != "" {
			on := base
			on.Type, on.InstanceID = Attach, c.target
			there = append(there, on)
		}
	}
	if c.moveFirst {
		return slices.Concat(away, c.prepare, there)
	}
	return slices.Concat(c.prepare, away, there)
}

// needsFullSet reports whether the plan may be wrong as long as other load balancers are not known:
// an address is moved, which may conflict with theirs, or taken over from the existing CCM, which may
// be theirs, or let go, though they may publish it.
func (b *balancer) needsFullSet() bool {
	return len(b.releases) > 0 || slices.ContainsFunc(b.claims, func(c *claim) bool {
		return c.legacy || c.target != c.current()
	})
}

// flight returns what the plan does not leave to others while it is carried out.
func (b *balancer) flight() *flight {
	f := &flight{key: b.want.Key}
	at := func(instance string, family Family) {
		if instance != "" {
			f.places = append(f.places, places(instance, family, b.want.Ports)...)
		}
	}
	for _, c := range b.claims {
		if c.ip != nil {
			f.ips = append(f.ips, c.ip.ID)
		}
		at(c.current(), c.wanted.Family)
		if c.target != c.current() {
			at(c.target, c.wanted.Family)
			if c.target != "" {
				f.arrivals = append(f.arrivals, c.target)
			}
		}
	}
	for _, a := range b.releases {
		f.ips = append(f.ips, a.ID)
		at(a.InstanceID, familyOf(a.Addr))
	}
	return f
}
