// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package sanity

import (
	"context"

	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

// endingCases are about what is left when a session or an owner ends, or is silent.
func endingCases() []Case {
	one := needs{changes: true, instances: 1, features: sessions}
	return []Case{
		{Name: "session/closed-side", run: closedSide, needs: one, Contract: []string{
			"Closing the sending side after `in_sync` means that nothing further will change, and counts as " +
				"`no_publication` for all: the backend finishes what can be finished and ends the stream with OK.",
		}},
		{Name: "session/retained", run: retained, needs: one, Contract: []string{
			"Its addresses are detached and marked as retained; those that a user owns are detached.",
			"Whether it is kept for a load balancer that is gone, and that gets it back when it returns.",
		}},
		{Name: "session/preserved", run: preserved, needs: one, Contract: []string{
			"Everything that the load balancer has is kept, none of it is released or exchanged, nothing is " +
				"allocated, and an address that is neither attached nor published gets no place. The state " +
				"repeats " +
				"the reason as its problem (INVALID_REQUEST).",
		}},
	}
}

func closedSide(ctx context.Context, c *checker) {
	lb := c.balancer("closed")
	s := c.acting(ctx, c.nodes[:1], lb)
	s.close(ctx)
	address := c.addressOf(ctx, lb.GetKey())
	equal(c, "the instance when the stream has ended", address.GetAttachment().GetInstanceId(),
		c.nodes[0].GetId())
	s.mu.Lock()
	equal(c, "the phase in the last state", s.states[lb.GetKey().GetName()].GetPhase(),
		backendv1.Phase_PHASE_READY)
	s.mu.Unlock()
	ending := clone(lb)
	ending.Ending = backendv1.Ending_ENDING_RELEASE
	s = c.acting(ctx, c.nodes[:1], ending)
	s.close(ctx)
	c.gone(ctx, lb.GetKey())
}

func retained(ctx context.Context, c *checker) {
	lb := c.balancer("retained")
	name := lb.GetKey().GetName()
	s := c.acting(ctx, c.nodes[:1], lb)
	first := s.ready(ctx, name)
	s.ending(lb, backendv1.Ending_ENDING_RETAIN)
	s.await(ctx, "released", func(e *events) bool { return e.released[name] == lb.GetOwnerUid() })
	s.send(removedItem(lb))
	kept := c.addressOf(ctx, lb.GetKey())
	equal(c, "retained", kept.GetRetained(), true)
	c.holds(kept.GetAttachment() == nil, "the attachment of a retained address", "none",
		kept.GetAttachment())
	back := clone(lb)
	back.OwnerUid += "-second"
	s.want(back)
	var state *backendv1.LoadBalancerState
	s.await(ctx, name+" is ready again", func(e *events) bool {
		state = e.states[name]
		return state.GetOwnerUid() == back.GetOwnerUid() && state.GetPhase() == backendv1.Phase_PHASE_READY
	})
	equal(c, "the address when it has returned", c.addressOf(ctx, lb.GetKey()).GetResourceId(),
		first.GetAddresses()[0].GetResourceId())
	equal(c, "retained when it has returned", c.addressOf(ctx, lb.GetKey()).GetRetained(), false)
	s.release(ctx)
}

func preserved(ctx context.Context, c *checker) {
	const reason = "the suite does not know"
	unknown := c.balancer("unknown")
	unknown.Addresses, unknown.PreserveReason = nil, reason
	known := c.balancer("known")
	s := c.acting(ctx, c.nodes[:1], unknown, known)
	first := s.ready(ctx, known.GetKey().GetName())
	held := clone(known)
	held.Addresses, held.PreserveReason = nil, reason
	held.PublishedAddresses = first.GetPublish()
	s.want(held)
	for _, lb := range []*backendv1.DesiredLoadBalancer{unknown, held} {
		name := lb.GetKey().GetName()
		s.await(ctx, "the problem of "+name, func(e *events) bool {
			return e.states[name].GetProblem().GetReason() ==
				backendv1.ErrorReason_ERROR_REASON_INVALID_REQUEST
		})
	}
	c.gone(ctx, unknown.GetKey())
	equal(c, "the address that is preserved", c.addressOf(ctx, known.GetKey()).GetResourceId(),
		first.GetAddresses()[0].GetResourceId())
	s.want(known)
	s.want(func() *backendv1.DesiredLoadBalancer {
		lb := clone(unknown)
		lb.PreserveReason, lb.Addresses = "", []*backendv1.DesiredAddress{floatingIP()}
		return lb
	}())
	s.release(ctx)
}
