// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package session

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/firewall"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/ownership"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/plan"
)

// balancerStep finds out what is due for one load balancer: what its owner is to publish, and which
// requests may begin. An address is attached at an instance only while its owner publishes that
// place.
type balancerStep struct {
	*loop
	now time.Time
	*balancer
	planned *plan.Planned
	// pacing is how many addresses are on their way off each instance that is taken out of service.
	pacing map[string]int

	// publish are the addresses that the owner is to publish, publishPlaces where they are or will be.
	publish, publishPlaces []netip.Addr
	conditions             []Condition
	due                    []dueRequest
	// progressing: a change is under way, is due, or waits for a publication.
	progressing bool
	// unsettled: an address is not where it is to be.
	unsettled bool
	// placeUnknown: an address is on an instance whose private address is not known.
	placeUnknown bool
}

// dueRequest is a request that may begin once its address was read after the decision.
type dueRequest struct {
	request
	// decidedAt is when the change was decided; zero: it may begin without a reading.
	decidedAt time.Time
}

// subject is the address's id, or the name of one to be created.
func (d dueRequest) subject() string {
	if d.Type == plan.ActionCreate {
		return d.Name
	}
	return d.ID
}

// place is the instance where it happens; empty: nothing happens there.
func (d dueRequest) place() string {
	if d.Type == plan.ActionMark || d.Type == plan.ActionDelete {
		return ""
	}
	return d.Instance
}

// derive goes through the addresses of the load balancer.
func (s *balancerStep) derive() {
	s.unsettled = s.unseen
	if p := s.planned.Problem; p != nil && p.Reason == plan.ReasonPoolUnreadable && s.awaitsPool {
		s.busy, s.progressing, s.unsettled = true, true, true
	}
	// In which order they are planned depends on how they fare, and that of what is published must not.
	claims := byFamilyAndAge(s.planned.Claims,
		func(c *plan.Claim) ownership.Family { return c.Desired.Family },
		func(c *plan.Claim) *plan.Address { return c.Address })
	for _, c := range claims {
		if c.Address == nil {
			s.create(c)
			continue
		}
		s.track(c.Address)
		s.claim(c)
	}
	s.release()
	for id := range s.moves {
		if !slices.ContainsFunc(s.planned.Claims, func(c *plan.Claim) bool {
			return c.Address != nil && c.Address.ID == id
		}) {
			delete(s.moves, id)
		}
	}
	if !s.unsettled && s.planned.Problem == nil && len(s.planned.Claims) > 0 {
		s.lb.LastPorts, s.lb.LastPortsKnown = s.lb.Ports, true
	}
}

// track follows what others do to an address: it is renamed, or detached.
func (s *balancerStep) track(ip *plan.Address) {
	s.mayReplace = s.mayReplace || ip.Created-s.lb.Created > int64(replacementAge)
	if first, known := s.names[ip.ID]; !known {
		s.names[ip.ID] = ip.Name
	} else if ip.Marked && first != ip.Name {
		s.condition(AddressRenamed, "The %s of the address %s was renamed from %s to %s: it is "+
			"kept, but if its marker is lost as well it cannot be recognized; rename it back",
			ip.Kind, ip.Addr, first, ip.Name)
	}
	last := s.places[ip.ID]
	switch {
	case ip.InstanceID != "":
		s.places[ip.ID] = ip.InstanceID
	case last != "" && s.moves[ip.ID] == nil && s.m.operations.of(ip.ID) == nil:
		s.moves[ip.ID] = &move{from: last, detached: true}
		delete(s.places, ip.ID)
	}
}

// claim finds out what is due for one address.
func (s *balancerStep) claim(c *plan.Claim) {
	id, current := c.Address.ID, c.Current()
	switch {
	case current == "":
	case !c.Foreign:
		s.announce(c.Address, current)
	case s.lb.Publishes(c.Address.Addr):
		s.publish = append(s.publish, c.Address.Addr)
	}
	if op := s.m.operations.of(id); op != nil {
		s.progressing, s.unsettled = true, true
		s.keepIntent(id)
		s.announceOld(c.Address)
		s.announce(c.Address, op.target())
		return
	}
	switch {
	case c.Frozen:
		delete(s.moves, id)
	case c.Mark != nil && (!c.MarkLast || current == ""):
		s.mark(c)
	case c.Target == "":
		s.leaveWithoutPlace(c)
	case current == c.Target:
		s.stay(c)
	case current == "":
		s.arrive(c)
	default:
		s.leave(c)
	}
}

// announce publishes an address, and for a floating IP where it is or will be.
func (s *balancerStep) announce(ip *plan.Address, instance string) {
	if instance == "" {
		return
	}
	if s.holdsBack(ip.Addr) {
		s.progressing = true
		return
	}
	if ip.Kind == ownership.FloatingIP {
		private := s.observed.privateAddr(instance, ip.Family())
		if !private.IsValid() {
			s.placeUnknown = true
			return
		}
		if !slices.Contains(s.publishPlaces, private) {
			s.publishPlaces = append(s.publishPlaces, private)
		}
	}
	if !slices.Contains(s.publish, ip.Addr) {
		s.publish = append(s.publish, ip.Addr)
	}
}

// announceOld publishes the place that an address has left a moment ago.
func (s *balancerStep) announceOld(ip *plan.Address) {
	if m := s.moves[ip.ID]; m != nil && s.keepsOld(ip.ID, m, s.now) {
		s.announce(ip, m.from)
	}
}

// create makes an address.
func (s *balancerStep) create(c *plan.Claim) {
	s.unsettled = true
	if c.Create == nil {
		return
	}
	if b := s.creations[c.Create.Name]; b != nil && s.now.Before(b.until) {
		s.at(b.until)
		return
	}
	s.begin(dueRequest{request: request{
		Action: plan.Action{
			Type: plan.ActionCreate, Key: s.lb.Key, Kind: c.Kind(), Name: c.Create.Name,
			Why: c.Create.Why, Replaces: c.Create.Replaces,
		},
		description: c.Create.Description, desired: c.Create.Desired,
	}})
}

// mark writes the description of an address before anything else is done to it.
func (s *balancerStep) mark(c *plan.Claim) {
	s.unsettled = true
	if m := s.moves[c.Address.ID]; m != nil {
		s.announce(c.Address, m.to)
	}
	s.change(c.Address, "mark", request{
		Action: plan.Action{
			Type: plan.ActionMark, Why: c.Mark.Why, Replaces: c.Replaces && c.Managed,
		},
		description: c.Mark.Description,
	})
}

// stay leaves an address where it is. Its next place is published already if its instance is
// stopping. An attachment whose answer was lost here is repeated; one that another backend has
// begun shows in nothing, since Oxide names the instance from its beginning, and repeating each at
// every start would change what is there.
func (s *balancerStep) stay(c *plan.Claim) {
	id := c.Address.ID
	delete(s.withdrawn, id)
	if s.uncertain[id] == c.Target {
		s.unsettled = true
		s.attach(c, "the answer to the last attempt was lost")
		return
	}
	delete(s.waits, id)
	if b := s.creations[c.Address.Name]; b != nil && s.now.After(b.until.Add(s.m.timings.maxRetry)) {
		delete(s.creations, c.Address.Name)
	}
	h := s.healths[c.Target]
	if cause := suspensionCauses[h.Suspended]; cause != "" {
		s.condition(FailoverSuspended, "The address %s stays on %s for now, which %s: %s",
			c.Address.Addr, s.nameOf(c.Target), h.Why, cause)
	}
	if c.Next == "" {
		delete(s.moves, id)
		return
	}
	s.moves[id] = &move{
		from: c.Target, to: c.Next, cause: h.Since, why: s.nameOf(c.Target) + " " + h.Why,
	}
	s.announce(c.Address, c.Next)
}

// leaveWithoutPlace detaches an address that must not stay where it is, and has no other place.
func (s *balancerStep) leaveWithoutPlace(c *plan.Claim) {
	delete(s.moves, c.Address.ID)
	if c.Current() == "" {
		return
	}
	s.unsettled = true
	s.change(c.Address, "leave "+c.Current(), request{
		Action: plan.Action{Type: plan.ActionDetach, Instance: c.Current(), Why: c.Why},
	})
}

// arrive attaches an address that is attached nowhere, once its place is published.
func (s *balancerStep) arrive(c *plan.Claim) {
	s.unsettled = true
	id := c.Address.ID
	if w := s.withdrawn[id]; w != nil && w.instance == c.Target && s.now.Before(w.until) {
		s.timedOut(c)
		s.at(w.until)
		return
	}
	m := s.moves[id]
	if m == nil {
		m = &move{}
		s.moves[id] = m
	}
	m.to = ""
	if c.Blocked != "" {
		return
	}
	if m.to = c.Target; m.arrivingSince.IsZero() {
		m.arrivingSince = s.now
	}
	s.took()
	s.announceOld(c.Address)
	s.announce(c.Address, c.Target)
	published, is := s.placePublishedAt(s.balancer, c.Address, c.Target)
	if !is {
		s.progressing = true
		return
	}
	if m.from != "" && s.hasDatagrams() && !published.IsZero() {
		if ready := published.Add(s.m.timings.announce); s.now.Before(ready) {
			s.progressing = true
			s.soon(ready)
			return
		}
	}
	if !published.IsZero() {
		// A place may have been published long before: while an instance stopped.
		began := published
		if m.arrivingSince.After(began) {
			began = m.arrivingSince
		}
		switch deadline := began.Add(s.m.timings.attachTimeout); {
		case s.now.Before(deadline):
			s.at(deadline)
		case c.Kind() == ownership.FloatingIP || m.from == "":
			s.withdraw(c, m)
			return
		default:
			// The status of an external subnet that moves is no place. Clients within the cluster are served
			// by it wherever the address is, and the others keep the name that they know it by.
		}
	}
	s.attach(c, c.Why)
}

// took remembers with which ports the load balancer took its first place.
func (s *balancerStep) took() {
	if !s.lb.LastPortsKnown {
		s.lb.LastPorts, s.lb.LastPortsKnown = s.lb.Ports, true
	}
}

func (s *balancerStep) hasDatagrams() bool {
	return slices.ContainsFunc(s.lb.Ports, func(p plan.Port) bool { return p.Protocol != firewall.TCP })
}

// withdraw stops publishing a place that was not reached in time, until the attachment may be tried
// again.
func (s *balancerStep) withdraw(c *plan.Claim, m *move) {
	m.to = ""
	id := c.Address.ID
	w := s.withdrawn[id]
	if w == nil || w.instance != c.Target {
		w = &backoff{instance: c.Target}
		s.withdrawn[id] = w
	}
	w.fail(s.now, nil, s.m.timings.attachTimeout, s.m.timings.maxRetry)
	if b := s.retries[id]; b != nil && b.retryAt(c.Target).After(w.until) {
		w.until = b.retryAt(c.Target)
	}
	without := func(addrs []netip.Addr, addr netip.Addr) []netip.Addr {
		return slices.DeleteFunc(addrs, func(other netip.Addr) bool { return other == addr })
	}
	s.publish = without(s.publish, c.Address.Addr)
	if c.Kind() == ownership.FloatingIP {
		s.publishPlaces = without(s.publishPlaces, s.observed.privateAddr(c.Target, c.Desired.Family))
	}
	s.timedOut(c)
	s.at(w.until)
}

func (s *balancerStep) timedOut(c *plan.Claim) {
	why := s.waits[c.Address.ID]
	if why == "" {
		why = "Oxide has not answered"
	}
	s.condition(AttachTimeout, "The address %s could not be attached to %s in time, and is not published "+
		"there any more: %s", c.Address.Addr, s.nameOf(c.Target), why)
}

func (s *balancerStep) attach(c *plan.Claim, why string) {
	q := request{Action: plan.Action{
		Type: plan.ActionAttach, Instance: c.Target, Why: why, Replaces: c.Replaces && !c.Managed,
	}}
	if m := s.moves[c.Address.ID]; m != nil {
		q.From, q.cause = m.from, m.cause
		if m.why != "" {
			q.Why = m.why
		}
	}
	s.begin(dueRequest{request: s.about(c.Address, q)})
}

// release ends addresses that are no longer desired, once all that are desired are in their places.
// Where one has no place, what it replaces stays in use.
func (s *balancerStep) release() {
	for _, ip := range s.planned.Kept {
		s.announce(ip, ip.InstanceID)
	}
	waits := s.unsettled && s.lb.Ending == plan.NotEnding
	for _, r := range s.planned.Releases {
		current := r.Address.InstanceID
		if current != "" {
			s.announce(r.Address, current)
		}
		if s.m.operations.of(r.Address.ID) != nil {
			s.progressing, s.unsettled = true, true
			s.keepIntent(r.Address.ID)
			continue
		}
		if waits {
			continue
		}
		s.unsettled = true
		q := request{Action: plan.Action{Type: plan.ActionDelete, Why: r.Why}}
		switch {
		case current != "":
			q.Type, q.Instance = plan.ActionDetach, current
		case r.End == plan.EndsRetained:
			q.Type, q.description = plan.ActionMark, r.Description
		case r.End == plan.EndsDetached:
			continue
		}
		s.change(r.Address, "release", q)
	}
}

// change makes a request due that must not be sent before the address was read after the decision.
func (s *balancerStep) change(ip *plan.Address, what string, q request) {
	decidedAt := s.decide(ip.ID, what, s.now)
	s.begin(dueRequest{request: s.about(ip, q), decidedAt: decidedAt})
}

// about completes a request about an address.
func (s *balancerStep) about(ip *plan.Address, q request) request {
	q.Key, q.Kind, q.ID, q.Name, q.Addr = s.lb.Key, ip.Kind, ip.ID, ip.Name, ip.Addr
	return q
}

// begin makes a request due, unless it failed a moment ago.
func (s *balancerStep) begin(d dueRequest) {
	if b := s.retries[d.subject()]; b != nil && s.now.Before(b.retryAt(d.place())) {
		s.at(b.retryAt(d.place()))
		return
	}
	s.progressing = true
	s.due = append(s.due, d)
}

func (s *balancerStep) condition(kind ConditionType, format string, args ...any) {
	s.conditions = append(s.conditions, Condition{kind, fmt.Sprintf(format, args...)})
}
