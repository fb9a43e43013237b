// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package session

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"reflect"
	"slices"
	"strings"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/ownership"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/plan"
)

// planConditions says what the conditions of a plan become.
var planConditions = map[plan.ConditionType]ConditionType{
	plan.NoCandidate:       NoCandidate,
	plan.PortConflict:      PortConflict,
	plan.PortRefused:       PortRefused,
	plan.FirewallClosed:    FirewallClosed,
	plan.Degraded:          Degraded,
	plan.NotOwned:          NotOwned,
	plan.ForeignAttachment: ForeignAttachment,
	plan.LeftAttached:      LeftAttached,
	plan.FamilyMissing:     FamilyMissing,
}

// sendPending answers every load balancer while nothing can be changed.
func (l *loop) sendPending() {
	for _, key := range l.keys() {
		b := l.balancers[key]
		l.sendIfNew(b, &State{
			Key: key, OwnerUID: b.desired.OwnerUID, Generation: b.desired.Generation,
			Publish: b.desired.Published, Phase: PhasePending, Problem: l.observed.problem(),
		})
	}
}

func (l *loop) sendIfNew(b *balancer, state *State) {
	if b.sent != nil && sameState(b.sent, state) {
		return
	}
	b.sent = state
	l.session.send(Event{State: state})
}

// sameState compares states; problems are the same if they say the same, and spans do not matter.
func sameState(a, b *State) bool {
	x, y := *a, *b
	x.Problem, y.Problem = nil, nil
	x.TraceParent, y.TraceParent = "", ""
	return errorText(a.Problem) == errorText(b.Problem) && reflect.DeepEqual(x, y)
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// sendState sends the state of a load balancer, and its end.
func (l *loop) sendState(s *balancerStep) {
	b := s.balancer
	if b.released {
		return
	}
	state := s.state()
	state.TraceParent = b.work.traceParent()
	l.sendIfNew(b, state)
	if s.planned.Ended && !l.isUnderWay(b) && l.hasNothing(b) && !s.holdsRelease() {
		b.released = true
		l.session.send(Event{Released: &Removal{Key: b.lb.Key, OwnerUID: b.lb.OwnerUID}})
	}
}

// isUnderWay reports whether a request for a load balancer is under way.
func (l *loop) isUnderWay(b *balancer) bool {
	return slices.ContainsFunc(l.m.operations.underWay(), func(op *operation) bool {
		return op.scope == l.opening.Scope && op.key == b.lb.Key
	})
}

// state returns what there is to say about the load balancer.
func (s *balancerStep) state() *State {
	state := &State{
		Key: s.lb.Key, OwnerUID: s.lb.OwnerUID, Generation: s.desired.Generation,
		Publish: s.published(), Addresses: s.addresses(), Problem: s.problem(),
	}
	s.describeWaits()
	var closed []plan.Condition
	for _, c := range s.planned.Conditions {
		placement := c.Type == plan.NoCandidate || c.Type == plan.PortConflict
		switch {
		case c.Type == plan.FirewallClosed:
			closed = append(closed, c)
		case !placement || s.isPlaceable():
			state.Conditions = append(state.Conditions, Condition{planConditions[c.Type], c.Message})
		}
	}
	s.describeFirewall(closed)
	state.Conditions = append(state.Conditions, s.conditions...)
	waits := slices.ContainsFunc(s.conditions, func(c Condition) bool { return c.Type == Pending })
	switch {
	case state.Problem != nil, waits && !s.progressing, s.unsettled && !s.progressing:
		state.Phase = PhasePending
	case s.progressing, s.isPlaceUnread(), s.awaitsLeftovers(s.balancer):
		state.Phase = PhaseProgressing
	default:
		state.Phase = PhaseReady
	}
	state.Explanation = s.explanation(state)
	return state
}

// isPlaceUnread reports whether it is yet to be read what lets traffic through where an address is: then
// it is not known either whether all is well.
func (s *balancerStep) isPlaceUnread() bool {
	return slices.ContainsFunc(s.planned.Claims, func(c *plan.Claim) bool {
		if s.candidates[c.Target] == nil {
			return false // nothing is read of it
		}
		instance, known := s.observed.instances[c.Target]
		return !known || instance.Interface.VPCName == "" || s.unreadFirewalls[instance.Interface.VPCID]
	})
}

// published returns what the owner is to publish.
func (s *balancerStep) published() []netip.Addr {
	untouched := len(s.moves) == 0 && len(s.due) == 0 && !s.progressing
	switch {
	case len(s.planned.Claims) == 1 && s.planned.IsForeign():
		// What is published says which instances are of this cluster.
		return s.desired.Published
	case s.lb.Preserve && untouched:
		return s.desired.Published
	}
	publish := slices.Concat(s.inOrder(s.publish), s.inOrder(s.publishPlaces))
	keep := func(keeps func(netip.Addr) bool) {
		for _, addr := range s.desired.Published {
			if !slices.Contains(publish, addr) && keeps(addr) {
				publish = append(publish, addr)
			}
		}
	}
	if p := s.planned.Problem; p != nil && p.Reason != plan.ReasonPortConflict &&
		p.Reason != plan.ReasonLimit {
		// What it had before it asked for what it cannot have is kept, and serves on.
		keep(func(addr netip.Addr) bool { return !s.desires(ownership.FamilyOf(addr)) })
	}
	if s.placeUnknown {
		// The private address that is missing may be among them.
		keep(func(netip.Addr) bool { return true })
	}
	return publish
}

// inOrder returns addresses with those of each IP family together, by their ages; places, which
// have none, stay in the order in which they are. What that depends on every leader sees alike: of
// two at once each would else repair what the other has written.
func (s *balancerStep) inOrder(addrs []netip.Addr) []netip.Addr {
	return byFamilyAndAge(addrs, ownership.FamilyOf, s.observed.addresses.ByAddr)
}

// byFamilyAndAge returns what is of one IP family together, in the order in which the families come
// first, and that by the ages of addresses; what has none comes last.
func byFamilyAndAge[T any](
	all []T, family func(T) ownership.Family, address func(T) *plan.Address,
) []T {
	var families []ownership.Family
	for _, one := range all {
		if f := family(one); !slices.Contains(families, f) {
			families = append(families, f)
		}
	}
	sorted := slices.Clone(all)
	slices.SortStableFunc(sorted, func(a, b T) int {
		x, y := address(a), address(b)
		order := cmp.Compare(slices.Index(families, family(a)), slices.Index(families, family(b)))
		switch {
		case order != 0 || x == nil && y == nil:
			return order
		case x == nil:
			return 1
		case y == nil:
			return -1
		}
		return cmp.Or(cmp.Compare(x.Created, y.Created), cmp.Compare(x.ID, y.ID))
	})
	return sorted
}

func (s *balancerStep) desires(family ownership.Family) bool {
	return slices.ContainsFunc(s.lb.Desired, func(d plan.Desired) bool { return d.Family == family })
}

// addresses returns the addresses of the load balancer, where they are and where they are going.
func (s *balancerStep) addresses() []Address {
	var all []Address
	for _, c := range s.planned.Claims {
		if c.Address == nil {
			continue
		}
		target := c.Target
		if op := s.m.operations.of(c.Address.ID); op != nil && op.target() != "" {
			target = op.target()
		}
		all = append(all, s.address(c.Address, c.Managed, target))
	}
	for _, ip := range s.planned.Kept {
		all = append(all, s.address(ip, ip.Marked, ip.InstanceID))
	}
	sortAddresses(all)
	return all
}

func (l *loop) address(ip *plan.Address, managed bool, target string) Address {
	family := ownership.FamilyOf(ip.Addr)
	return Address{
		Kind: ip.Kind, Family: family, Addr: ip.Addr, ID: ip.ID, Name: ip.Name, Managed: managed,
		Retained: ip.Marked && ip.Marker.Retained,
		Attached: l.attachment(ip.InstanceID, family), Planned: l.attachment(target, family),
	}
}

func (l *loop) attachment(instance string, family ownership.Family) Attachment {
	if instance == "" {
		return Attachment{}
	}
	return Attachment{InstanceID: instance, PrivateAddr: l.observed.privateAddr(instance, family)}
}

func sortAddresses(addresses []Address) {
	slices.SortFunc(addresses, func(a, b Address) int {
		return cmp.Or(cmp.Compare(a.Family, b.Family), a.Addr.Compare(b.Addr))
	})
}

// problem returns what is wrong with the load balancer: what is desired, or what Oxide refuses for
// it. For one that ends, everything that holds up its end is.
func (s *balancerStep) problem() error {
	switch {
	case s.desired.PreserveReason != "":
		return failf(ReasonInvalid, nil, "%s", s.desired.PreserveReason)
	case s.unreadable() != nil:
		return s.unreadable()
	case s.planned.Problem != nil && s.isKnown(s.planned.Problem):
		return fromPlan(s.planned.Problem)
	}
	for _, c := range s.planned.Claims {
		subject := ""
		switch {
		case c.Create != nil:
			subject = c.Create.Name
		case c.Mark != nil:
			subject = c.Address.ID
		}
		if b := s.retries[subject]; b != nil && b.err != nil {
			return b.err
		}
	}
	if s.lb.Ending == plan.NotEnding {
		return nil
	}
	for _, r := range s.planned.Releases {
		if b := s.retries[r.Address.ID]; b != nil && b.err != nil {
			return b.err
		}
		if why := s.waits[r.Address.ID]; why != "" {
			return failf(ReasonUnreadable, nil, "the address %s cannot be released yet: %s",
				r.Address.Addr, why)
		}
	}
	return nil
}

// unreadable returns why it is not known whether the load balancer has an address that was not seen yet;
// nil: it is, or only time is needed.
func (s *balancerStep) unreadable() error {
	if waits := s.unseen || s.planned.Ended && len(s.places) == 0 && !s.released; !waits {
		return nil
	}
	names := slices.SortedFunc(maps.Keys(s.lookups), func(a, b plan.Named) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.NameOrID, b.NameOrID))
	})
	for _, name := range names {
		if known := s.lookups[name]; known.readAt.IsZero() && known.backoff.err != nil {
			return known.backoff.err
		}
	}
	if list := s.observed.lists[ownership.ExternalSubnet]; list.listedAt.IsZero() {
		return list.err
	}
	return nil
}

// isPlaceable reports whether it can be said why an address has no place: it exists, and what there
// is to know of the candidates was read.
func (s *balancerStep) isPlaceable() bool {
	if s.observed.readingNetwork {
		if _, _, missing := s.concerned(); missing {
			return false
		}
	}
	return !slices.ContainsFunc(s.planned.Claims, func(c *plan.Claim) bool { return c.Address == nil })
}

// isKnown reports whether a problem of the plan is one, and not only what was not read yet.
func (s *balancerStep) isKnown(p *plan.Problem) bool {
	switch p.Reason {
	case plan.ReasonPoolUnreadable:
		return !s.awaitsPool
	case plan.ReasonPortConflict, plan.ReasonLimit:
		return s.isPlaceable()
	default:
		return true
	}
}

// describeWaits says which changes wait for Oxide.
func (s *balancerStep) describeWaits() {
	for _, c := range s.planned.Claims {
		if c.Address == nil {
			continue
		}
		why := s.waits[c.Address.ID]
		switch current := c.Current(); {
		case why == "" || c.Mark != nil:
		case current == "" && c.Target != "":
			s.condition(Pending, "The address %s cannot be attached to %s yet: %s", c.Address.Addr,
				s.nameOf(c.Target), why)
		case current != c.Target:
			s.condition(Pending, "The address %s cannot leave %s yet: %s", c.Address.Addr,
				s.nameOf(current), why)
		case s.uncertain[c.Address.ID] != "":
			s.condition(Pending, "The address %s cannot be attached to %s for certain yet: %s",
				c.Address.Addr, s.nameOf(current), why)
		}
	}
	for _, r := range s.planned.Releases {
		if why := s.waits[r.Address.ID]; why != "" && r.Address.InstanceID != "" {
			s.condition(Pending, "The address %s, which is not desired any more, cannot leave %s yet: %s",
				r.Address.Addr, s.nameOf(r.Address.InstanceID), why)
		}
	}
}

// explanation says in one line where the addresses are and why.
func (s *balancerStep) explanation(state *State) string {
	var parts []string
	for _, a := range state.Addresses {
		at, to := a.Attached.InstanceID, a.Planned.InstanceID
		switch m := s.moves[a.ID]; {
		case at == "" && to == "":
			parts = append(parts, fmt.Sprintf("%s is reserved and attached nowhere", a.Addr))
		case at == "":
			parts = append(parts, fmt.Sprintf("%s is about to be attached to %s", a.Addr, s.nameOf(to)))
		case at == to || m == nil:
			parts = append(parts, fmt.Sprintf("%s is on %s", a.Addr, s.nameOf(at)))
		default:
			parts = append(parts, fmt.Sprintf("%s moves from %s to %s: %s", a.Addr, s.nameOf(at),
				s.nameOf(to), m.why))
		}
	}
	return strings.Join(parts, "; ")
}

// sendOrphans sends the addresses that no load balancer claims, if they are other ones than before.
func (l *loop) sendOrphans(result *plan.Result) {
	orphans := l.orphansOf(result)
	if l.announcedSync && reflect.DeepEqual(orphans, l.orphans) {
		return
	}
	l.orphans = orphans
	l.session.send(Event{Orphans: &orphans})
}

func (l *loop) orphansOf(result *plan.Result) []LoadBalancer {
	orphans := make([]LoadBalancer, 0, len(result.Orphans))
	for key, addresses := range result.Orphans {
		orphans = append(orphans, l.describe(key, addresses))
	}
	slices.SortFunc(orphans, func(a, b LoadBalancer) int { return ownership.CompareKeys(a.Key, b.Key) })
	return orphans
}

// describe describes a load balancer by the addresses that are marked as its own.
func (l *loop) describe(key ownership.Key, addresses []*plan.Address) LoadBalancer {
	lb := LoadBalancer{Key: key, OwnerUID: addresses[0].Marker.OwnerUID}
	for _, ip := range addresses {
		lb.Addresses = append(lb.Addresses, l.address(ip, true, ip.InstanceID))
	}
	sortAddresses(lb.Addresses)
	return lb
}

// sendWould sends what would be done for each load balancer, each time it is another thing.
func (l *loop) sendWould(result *plan.Result) {
	byKey := make(map[ownership.Key][]Action)
	for _, a := range result.Actions() {
		action := Action{Action: a, Planned: true}
		action.Summary = l.summary(&action)
		byKey[a.Key] = append(byKey[a.Key], action)
	}
	for key, b := range l.balancers {
		var summaries []string
		for _, a := range byKey[key] {
			summaries = append(summaries, a.Summary)
		}
		if slices.Equal(summaries, b.would) {
			continue
		}
		b.would = summaries
		for _, a := range byKey[key] {
			l.session.send(Event{Action: &a})
		}
	}
}
