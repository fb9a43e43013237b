// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package plan

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/firewall"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/ownership"
)

// Make makes the plan for all load balancers of a scope at once: only so it is known which of them
// has a place that several could have. It changes nothing in its input, and the same input gives
// the same plan.
func Make(in *Input) *Result {
	p := newPlanner(in)
	p.assign()
	for _, b := range p.live {
		p.release(b)
	}
	for _, b := range p.ending {
		p.end(b)
	}
	p.locate()
	for _, b := range p.live {
		p.locateFormer(b)
	}
	rebalanced := in.Rebalance && p.rebalance()
	return p.result(rebalanced)
}

// planner is a plan while it is made.
type planner struct {
	in *Input
	// scopes are those whose markers are the cluster's own: its own first, then the adopted ones.
	scopes []string
	// all are the load balancers, the oldest first; live and ending are parts of it.
	all, live, ending []*balancer
	// nodes are the instances, by id; candidates those that may carry addresses, ordered by id.
	nodes      map[string]*node
	candidates []*node
	// claimed are the addresses that a load balancer has, by id.
	claimed map[string]*claim
	// detached are a user's addresses that are released: two load balancers may publish one.
	detached map[string]bool
	// allocated are the very addresses that are created, and for whom; named the names that they get.
	allocated map[netip.Addr]ownership.Key
	named     map[Named]bool
	// occupied says who has which place; vacated has the places that an address leaves by this
	// plan: it is there until it has left.
	occupied, vacated map[Place]holder
	// publishers are the load balancers that publish an address; nil until they are needed. So
	// is private: where packets arrive on instances.
	publishers map[netip.Addr][]*balancer
	private    map[netip.Addr]bool
	// byPrivate are the candidates by their private addresses; nil until they are needed.
	byPrivate map[netip.Addr]string
	// reservedEverywhere are the ranges that are reserved on all addresses.
	reservedEverywhere []ReservedPorts
	// left are addresses that are attached and belong to nobody, if leftFound.
	left      []*Address
	leftFound bool
	// rules are those of each VPC in their order.
	rules map[string][]firewall.Rule
}

// balancer is the plan for one load balancer while it is made.
type balancer struct {
	Planned
	claims []*claim
	// wants are the addresses that it is to have, of the optional ones those that can be had.
	wants []*want
	// edited: it serves ports that it did not when it got its place.
	edited bool
	// former are the addresses that Releases are about.
	former []*Address
	// reservation is which of its ports may be served nowhere, and why, once it is known.
	reservation      *blocker
	reservationKnown bool
}

func (b *balancer) key() ownership.Key { return b.LoadBalancer.Key }

// want is an address that a load balancer is to have, and which one it has for that; nil: none yet.
type want struct {
	Desired
	claim *claim
}

// refuse records what is wrong with what is desired. What the load balancer has stays until that is
// corrected.
func (b *balancer) refuse(problem *Problem) {
	if b.Problem == nil {
		b.Problem = problem
	}
}

func (b *balancer) warn(condition ConditionType, message string) {
	b.Conditions = append(b.Conditions, Condition{condition, message})
}

// claim is one address of one load balancer while the plan is made.
type claim struct {
	Claim
	b *balancer
	// heading is the instance to which a request under way brings it, if it is not there; empty:
	// none.
	heading string
	// counted is the instance whose load it counts for.
	counted string
	// standing is whether it may stay where it is; lost: it could, but somebody else has its place.
	standing standing
	lost     bool
	// degraded: it stays, because nothing else can carry it.
	degraded bool
	// planNext: it stays, and its next place is to be chosen.
	planNext bool
	// hash is that of all that distinguishes the claim, if hashed.
	hash   uint64
	hashed bool
}

// ports are those that take places on an instance: packets for an external subnet keep their
// destination, and take none.
func (c *claim) ports() []Port { return c.b.portsOf(c.Kind()) }

func (b *balancer) portsOf(kind ownership.Kind) []Port {
	if kind == ownership.ExternalSubnet {
		return nil
	}
	return b.LoadBalancer.Ports
}

// isDoubledAt reports whether an instance has another address of the same load balancer and family, gets
// one, or is about to be left by one: of several each is to be on another instance.
func (c *claim) isDoubledAt(instance string) bool {
	if instance == "" {
		return false
	}
	return slices.ContainsFunc(c.b.claims, func(other *claim) bool {
		return other != c && other.Desired.Family == c.Desired.Family &&
			(other.Current() == instance || other.Target == instance || other.Next == instance ||
				other.heading == instance)
	})
}

// hasOlderAt reports whether another address of the load balancer and family has an instance, and was
// to be kept before this one. While it is not known what is desired each stays where it is.
func (c *claim) hasOlderAt(instance string) bool {
	return !c.b.LoadBalancer.Preserve && slices.ContainsFunc(c.b.claims, func(other *claim) bool {
		return other != c && other.Desired.Family == c.Desired.Family && other.Target == instance
	})
}

// inUse reports whether it serves, or did until a request under way took it off its place.
func (c *claim) inUse() bool { return c.Current() != "" || c.heading != "" }

// announced returns the place that was taken for it; empty: none.
func (c *claim) announced() string {
	if c.Address == nil {
		return ""
	}
	return c.b.LoadBalancer.Announced[c.Address.ID]
}

func newPlanner(in *Input) *planner {
	size := len(in.LoadBalancers)
	p := &planner{
		in: in, scopes: append([]string{in.Scope}, in.Adopted...),
		all: make([]*balancer, 0, size), live: make([]*balancer, 0, size),
		nodes:    make(map[string]*node, len(in.Candidates)),
		claimed:  make(map[string]*claim, size),
		detached: make(map[string]bool), allocated: make(map[netip.Addr]ownership.Key),
		named:    make(map[Named]bool),
		occupied: make(map[Place]holder, 2*size+len(in.Occupied)), vacated: make(map[Place]holder),
		rules: make(map[string][]firewall.Rule),
	}
	balancers := make([]balancer, size)
	for i, lb := range in.LoadBalancers {
		b := &balancers[i]
		b.LoadBalancer, b.edited = lb, isEdited(lb)
		p.all = append(p.all, b)
	}
	slices.SortFunc(p.all, func(a, b *balancer) int {
		return cmp.Or(cmp.Compare(a.LoadBalancer.Created, b.LoadBalancer.Created),
			ownership.CompareKeys(a.key(), b.key()))
	})
	for _, b := range p.all {
		if b.LoadBalancer.Ending == NotEnding {
			p.live = append(p.live, b)
		} else {
			p.ending = append(p.ending, b)
		}
	}
	p.addNodes()
	for place, holds := range in.Occupied {
		p.occupied[place] = holder{name: holds}
	}
	return p
}

// isEdited reports whether a load balancer serves ports that it did not when it got its place.
func isEdited(lb *LoadBalancer) bool {
	return lb.LastPortsKnown && slices.ContainsFunc(lb.Ports, func(port Port) bool {
		return !slices.Contains(lb.LastPorts, port)
	})
}

// isScope reports whether markers of a scope are the cluster's own.
func (p *planner) isScope(scope string) bool { return slices.Contains(p.scopes, scope) }

// publisherOf returns another load balancer, not an ending one, that publishes an address.
func (p *planner) publisherOf(ip *Address, but *balancer) *balancer {
	if p.publishers == nil {
		p.publishers = make(map[netip.Addr][]*balancer)
		for _, b := range p.live {
			for _, addr := range b.LoadBalancer.Published {
				if p.in.Addresses.ByAddr(addr) != nil {
					p.publishers[addr] = append(p.publishers[addr], b)
				}
			}
		}
	}
	for _, b := range p.publishers[ip.Addr] {
		if b != but {
			return b
		}
	}
	return nil
}

// result completes the plans of the load balancers.
func (p *planner) result(rebalanced bool) *Result {
	r := &Result{
		LoadBalancers: make([]*Planned, 0, len(p.all)),
		ByKey:         make(map[ownership.Key]*Planned, len(p.all)),
		Orphans:       p.orphans(), Rebalanced: rebalanced, Loads: make(map[string]int, len(p.nodes)),
	}
	for _, b := range p.all {
		p.complete(b)
		r.LoadBalancers = append(r.LoadBalancers, &b.Planned)
		r.ByKey[b.key()] = &b.Planned
	}
	for id, n := range p.nodes {
		if n.load > 0 {
			r.Loads[id] = n.load
		}
	}
	return r
}

func (p *planner) complete(b *balancer) {
	for _, c := range b.claims {
		p.completeClaim(b, c)
	}
	for _, w := range b.wants {
		if w.claim != nil {
			b.Claims = append(b.Claims, &w.claim.Claim)
		}
	}
	if b.Problem != nil && b.Problem.Reason == ReasonNotOwned {
		b.warn(NotOwned, b.Problem.Message)
	}
	if len(b.claims) > 0 && p.in.Explain[b.key().Name] {
		b.Verdicts = p.verdicts(b)
	}
}

func (p *planner) completeClaim(b *balancer, c *claim) {
	if c.Create != nil {
		c.Create.Why, c.Create.Replaces = p.whyCreate(b, c.Create.Desired.Family)
	}
	if c.MarkLast && (c.Current() == "" || c.Target == c.Current()) {
		c.MarkLast = false
	}
	p.completeReplacement(c)
	if u := c.Unscheduled; u != nil {
		p.excuse(b, c)
		b.warn(u.Condition, u.Message)
		if !u.OnlyTime {
			b.refuse(&Problem{Reason: u.Reason, Message: u.Message})
		}
	}
	if c.Target == "" || c.Foreign {
		if c.keepsFormer() {
			b.Releases, b.Kept = p.disputed(b)
		}
		return
	}
	if c.Target == c.Current() && !c.Frozen && !c.degraded {
		p.warnRefused(c)
	}
	if message := p.closedPorts(c); message != "" {
		closed := Condition{FirewallClosed, message}
		if !slices.Contains(b.Conditions, closed) { // once for two families
			b.Conditions = append(b.Conditions, closed)
		}
	}
}

// completeReplacement says that an address which was there before replaces others: one of a user's
// own when it is attached, one that was retained when its marker is renewed. For a new one its
// creation says so.
func (p *planner) completeReplacement(c *claim) {
	if c.Address == nil || c.inUse() || c.Managed && (c.Mark == nil || !c.Address.Marker.Retained) {
		return
	}
	replaced := c.b.replaced(c.Desired.Family)
	switch {
	case replaced == "":
	case c.Managed:
		c.Mark.Why = fmt.Sprintf("its address %s, which was retained, replaces %s", c.Address.Addr, replaced)
		c.Replaces = true
	case c.Target != "":
		c.Why, c.Replaces = "it replaces "+replaced, true
	}
}

// disputed returns how the addresses go on that a load balancer is to have no longer while nothing is in
// use instead: those that are where somebody else has its ports are detached, and the others kept.
func (p *planner) disputed(b *balancer) (detached []Release, kept []*Address) {
	for _, ip := range b.former {
		switch {
		case ip.InstanceID == "":
		case p.isHeld(b, b.portsOf(ip.Kind), ip.InstanceID, ip.Family()):
			detached = append(detached, Release{
				Address: ip, Why: "no longer desired, and another load balancer has its ports there",
			})
		default:
			kept = append(kept, ip)
		}
	}
	return detached, kept
}

// closedPorts says which ports the firewall closes at the place of an address; empty: none, or it
// is not known.
func (p *planner) closedPorts(c *claim) string {
	n := p.nodes[c.Target]
	if n == nil || !n.addr(c.Desired.Family).IsValid() {
		return ""
	}
	at := n.instance.Interface
	rules, ordered := p.rules[at.VPCID]
	if !ordered {
		rules = firewall.InOrder(p.in.Firewalls[at.VPCID])
		p.rules[at.VPCID] = rules
	}
	if rules == nil {
		return ""
	}
	lb := c.b.LoadBalancer
	switch {
	case lb.RulesKept && lb.ShutOut[c.Desired.Family]:
		return ""
	case lb.RulesKept:
		return firewall.ExplainKept(rules, at, n.addr(c.Desired.Family), lb.Ports)
	case lb.RulesByHand:
		return firewall.ExplainByHand(ownership.RuleName(lb.Key), rules, at, n.addr(c.Desired.Family),
			lb.Ports)
	}
	return firewall.Explain(ownership.RuleName(lb.Key), rules, at, n.addr(c.Desired.Family), lb.Ports)
}

// isPrivate reports whether packets arrive on an instance at an address.
func (p *planner) isPrivate(addr netip.Addr) bool {
	if p.private == nil {
		p.private = make(map[netip.Addr]bool, len(p.in.Instances))
		for instance := range maps.Values(p.in.Instances) {
			for _, at := range instance.Addrs {
				p.private[at] = true
			}
		}
	}
	return p.private[addr]
}
