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
	// held and nodes are remembered, see scope.
	held  map[Key][]Port
	nodes map[string]bool
	// leave are load balancers whose attached addresses stay where they are, and of which none is
	// released.
	leave map[Key]bool
	// balancers are those to plan, the oldest first.
	balancers []*balancer

	scopes     map[string]bool
	candidates map[string]*Candidate
	// claimed are the addresses that have been given to a load balancer, by id.
	claimed map[string]*claim
	// occupied says who has which place, loads how many floating IPs an instance carries.
	occupied map[place]Key
	loads    map[string]int
}

// balancer is the plan for one load balancer.
type balancer struct {
	want   Desired
	claims []*claim
	// releases end addresses that are no longer wanted, after the wanted ones are attached.
	releases   []Action
	conditions []Condition
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

// isPlaced reports whether all addresses of the load balancer have a place.
func (b *balancer) isPlaced() bool {
	return !slices.ContainsFunc(b.claims, func(c *claim) bool { return c.unplaced != nil })
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
		facts: f, cluster: cluster, held: known.held, nodes: known.nodes, scopes: cluster.scopes(),
		candidates: make(map[string]*Candidate), claimed: make(map[string]*claim),
		occupied: make(map[place]Key), loads: make(map[string]int), leave: make(map[Key]bool),
	}
	for i := range cluster.Candidates {
		p.candidates[cluster.Candidates[i].InstanceID] = &cluster.Candidates[i]
	}
	for _, ip := range f.ips {
		if ip.InstanceID != "" {
			p.loads[ip.InstanceID]++
		}
	}
	inFlight := make(map[Key]bool)
	for _, flight := range flights {
		inFlight[flight.key] = true
		for _, at := range flight.places {
			p.occupied[at] = flight.key
		}
		for _, instance := range flight.arrivals {
			p.loads[instance]++
		}
	}
	for _, want := range set {
		if !inFlight[want.Key] {
			p.balancers = append(p.balancers, &balancer{want: want})
		}
	}
	slices.SortFunc(p.balancers, func(a, b *balancer) int {
		return cmp.Or(a.want.Created.Compare(b.want.Created), compareKeys(a.want.Key, b.want.Key))
	})
	return p
}

// plan plans all load balancers, and returns the plans by key. Refine, if not nil, may change the
// places that were decided.
func (p *planner) plan(refine func(*planner)) map[Key]*balancer {
	p.assign()
	p.locate()
	if refine != nil {
		refine(p)
	}
	return p.result()
}

func (p *planner) result() map[Key]*balancer {
	plans := make(map[Key]*balancer, len(p.balancers))
	for _, b := range p.balancers {
		for _, c := range b.claims {
			b.conditions = append(b.conditions, c.conditions...)
			b.conditions = append(b.conditions, p.firewallConditions(c)...)
			if c.target == "" {
				// An address that is in use is let go only for one that is in use instead.
				b.releases = nil
			}
		}
		if IsReason(b.problem, ReasonNotOwned) {
			b.conditions = append(b.conditions, Condition{NotOwned, b.problem.Error()})
		}
		plans[b.want.Key] = b
	}
	return plans
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

// attaches reports whether the plan brings an address to an instance.
func (b *balancer) attaches() bool {
	return slices.ContainsFunc(b.claims, func(c *claim) bool {
		return c.target != "" && c.target != c.current()
	})
}

// flight returns where the plan sends addresses.
func (b *balancer) flight() *flight {
	f := &flight{key: b.want.Key}
	for _, c := range b.claims {
		if c.target == "" {
			continue
		}
		f.places = append(f.places, places(c.target, c.wanted.Family, b.want.Ports)...)
		if c.target != c.current() {
			f.arrivals = append(f.arrivals, c.target)
		}
	}
	return f
}

// release returns the actions that end an address which is marked as a load balancer's: it is
// detached, and deleted or marked as retained.
func release(ip *fact, key Key, retain bool, why string) ([]Action, error) {
	var actions []Action
	if ip.InstanceID != "" {
		actions = append(actions, detach(ip, key, why))
	}
	end := Action{Type: Delete, Key: key, ID: ip.ID, Name: ip.Name, Addr: ip.Addr, Why: why}
	switch {
	case ip.Marker.Retained:
		return actions, nil
	case retain:
		marker := ip.Marker
		marker.Retained = true
		description, err := WithMarker(ip.Description, marker)
		if err != nil {
			return nil, err
		}
		end.Type, end.Description, end.Why = Mark, description, why+"; its address is retained"
	}
	return append(actions, end), nil
}

func detach(ip *fact, key Key, why string) Action {
	return Action{
		Type: Detach, Key: key, ID: ip.ID, Name: ip.Name, Addr: ip.Addr, InstanceID: ip.InstanceID,
		Why: why,
	}
}

// isLeftover reports whether an address is a user's, and is attached only because a load balancer
// wanted it: the owner still publishes it, together with the private address of the instance that
// it is on.
func (f facts) isLeftover(ip *fact, published []netip.Addr) bool {
	private := f.privateAddr(ip.InstanceID, ip.family())
	return ip.InstanceID != "" && !bearsMarker(ip.Description) &&
		ip.Description != legacyDescription && slices.Contains(published, ip.Addr) &&
		private.IsValid() && slices.Contains(published, private)
}

// Deletion says which load balancer is gone.
type Deletion struct {
	Key Key
	// OwnerUID is the owner's; empty: whoever's.
	OwnerUID string
	// Retain keeps its addresses, marked as retained.
	Retain bool
	// Cluster tells which addresses without a marker may be its own; the zero value: none.
	Cluster Cluster
	// Published are the addresses that the owner published last.
	Published []netip.Addr
}

// planDelete plans the end of a load balancer. Addresses that a newer owner of the same key has are
// not touched, and neither are those that were retained. A user's address is only detached. An
// address of the existing Oxide CCM goes as it would have gone there, unless another load balancer
// publishes it.
func planDelete(f facts, gone Deletion, known *scope) ([]Action, error) {
	const why = "the load balancer is gone"
	cluster := gone.Cluster
	cluster.Scope = gone.Key.Scope
	b := &balancer{want: Desired{Key: gone.Key, OwnerUID: gone.OwnerUID, Published: gone.Published}}
	var others []Desired
	for key, want := range known.set {
		if key != gone.Key {
			others = append(others, want)
		}
	}
	p := newPlanner(f, cluster, others, known, nil)
	p.assign()
	var actions []Action
	for _, ip := range f.sorted() {
		other := p.publisherOf(ip.Addr, b) != nil
		switch {
		case p.isOwn(ip, gone.Key):
			if gone.OwnerUID != "" && ip.Marker.OwnerUID != gone.OwnerUID || other {
				continue
			}
			released, err := release(ip, gone.Key, gone.Retain, why)
			if err != nil {
				return nil, err
			}
			actions = append(actions, released...)
		case p.claimed[ip.ID] != nil || other:
		case gone.OwnerUID != "" && p.isLegacy(ip, b):
			if !known.complete {
				return nil, errFullSetRequired
			}
			owned := *ip
			owned.Marker = p.marker(b, Wanted{Family: ip.family()})
			released, err := release(&owned, gone.Key, gone.Retain, why)
			if err != nil {
				return nil, err
			}
			actions = append(actions, released...)
		case f.isLeftover(ip, gone.Published):
			actions = append(actions, detach(ip, gone.Key, why))
		}
	}
	return actions, nil
}

// orphans returns the addresses that are marked with the scope of a planner and that none of its
// load balancers claims, by key.
func (p *planner) orphans() map[Key][]*fact {
	orphans := make(map[Key][]*fact)
	ending := make(map[string]bool)
	for _, b := range p.balancers {
		for _, a := range b.releases {
			ending[a.ID] = true
		}
	}
	for _, ip := range p.facts.sorted() {
		if ip.Marked && p.scopes[ip.Marker.Key.Scope] && p.claimed[ip.ID] == nil && !ending[ip.ID] {
			orphans[ip.Marker.Key] = append(orphans[ip.Marker.Key], ip)
		}
	}
	return orphans
}
