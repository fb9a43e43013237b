// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package session

import (
	"time"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/health"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/plan"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/oxide"
)

// suspensionCauses are the causes for which failover is suspended, in words that follow what is found.
var suspensionCauses = map[health.Suspension]string{
	health.MassFailure: "more than half of the candidates have become unhealthy within a minute, while " +
		"Oxide shows their instances running",
	health.ProbesInDoubt: "fewer than half of the other candidates that are probed answer, or there is " +
		"no other, so the network of the client that probes them may be what fails",
}

// situation is what it is like where an address is that has to leave.
type situation struct {
	health.Health
	// known: the instance is a candidate.
	known bool
}

// situationAt returns what it is like where an address is now.
func (s *balancerStep) situationAt(c *plan.Claim) situation {
	current := c.Current()
	h, known := s.healths[current]
	if state := s.observed.states[current]; !known {
		h.Off = state.Gone || state.RunState == oxide.RunStateStopped
		h.ServesNothing = h.Off
	}
	if e := s.lb.Eligible; e != nil && e.FollowsServing {
		if _, eligible := e.Instances[current]; !eligible {
			h.ServesNothing, h.MayRecover = true, false
		}
	}
	return situation{h, known}
}

// leave moves an address to another instance.
func (s *balancerStep) leave(c *plan.Claim) {
	s.unsettled = true
	id, at := c.Address.ID, s.situationAt(c)
	m := s.moves[id]
	if m == nil || m.to == "" && m.blockedSince.IsZero() {
		if !s.mayBegin(c, at) {
			delete(s.moves, id)
			return
		}
		m = &move{}
		s.moves[id] = m
	}
	m.from, m.to, m.cause, m.why = c.Current(), c.Target, at.Since, c.Why
	q := request{
		Action: plan.Action{Type: plan.ActionDetach, Instance: c.Current(), Why: m.why},
		next:   c.Target, cause: m.cause,
	}
	decidedAt := s.decide(id, "leave "+c.Current(), s.now)
	if c.Blocked != "" {
		s.leaveBlocked(c, m, q, at)
		return
	}
	m.blockedSince = time.Time{}
	s.announce(c.Address, c.Target)
	published, is := s.placePublishedAt(s.balancer, c.Address, c.Target)
	ready := published.Add(s.m.timings.announce)
	s.progressing = true
	switch {
	case at.Off:
	case !is:
		return
	case !at.ServesNothing && !published.IsZero() && s.now.Before(ready):
		s.soon(ready)
		return
	}
	s.begin(dueRequest{request: s.about(c.Address, q), decidedAt: decidedAt})
}

// leaveBlocked waits for the next place, which another address still has. Where two wait for each
// other one of them has to be detached first.
func (s *balancerStep) leaveBlocked(c *plan.Claim, m *move, q request, at situation) {
	m.to = ""
	if m.blockedSince.IsZero() {
		m.blockedSince = s.now
	}
	s.progressing = true
	if until := m.blockedSince.Add(s.m.timings.unblock); !at.ServesNothing && s.now.Before(until) {
		s.soon(until)
		return
	}
	q.next = ""
	s.change(c.Address, "leave "+c.Current(), q)
}

// mayBegin reports whether a move may begin now: one move at a time leaves an instance that is
// taken out of service, and a load balancer rests after a move, unless nothing is served where it
// is, nor will be in a moment.
func (s *balancerStep) mayBegin(c *plan.Claim, at situation) bool {
	rests := at.known && !at.Planned && (!at.ServesNothing || at.MayRecover)
	if again := s.movedAt.Add(s.m.timings.moveInterval); rests && !s.movedAt.IsZero() &&
		s.now.Before(again) {
		s.soon(again)
		return false
	}
	if at.Planned {
		if s.pacing[c.Current()] > 0 {
			s.busy = true
			return false
		}
		s.pacing[c.Current()]++
	}
	return true
}
