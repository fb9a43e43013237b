// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package sanity

import (
	"context"
	"fmt"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/timestamppb"

	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

func placementCases() []Case {
	one := needs{changes: true, instances: 1, features: sessions}
	two := needs{changes: true, instances: 2, features: sessions}
	return []Case{
		{Name: "placement/port-conflict", run: portConflict, needs: one, Contract: []string{
			"FAILED_PRECONDITION: on every candidate the port is taken by another load balancer, reserved, " +
				"or in use by something else. The address is reserved, and attached nowhere.",
			"Where two load balancers want the same place, the older one has it.",
		}},
		{Name: "placement/no-candidate", run: noCandidate, needs: one, Contract: []string{
			"An address is reserved but attached nowhere, because no candidate is healthy, or each carries " +
				"another address of the load balancer.",
		}},
		{Name: "placement/moves-off", run: movesOff, needs: two, Contract: []string{
			"Why it must carry no address at all, in words that follow its name",
			"The instance's id, a UUID. REQUIRED.",
		}},
		{Name: "placement/several-addresses", run: severalAddresses, needs: two, Contract: []string{
			"Of several of one family each is attached to another instance; one that finds none stays reserved " +
				"(NO_CANDIDATE).",
		}},
		{Name: "placement/pool-not-found", run: poolProblem, needs: one, Contract: []string{
			"The reason, as it would be in the ErrorInfo of a call about this one alone.",
			"The gRPC status code that a call about this one alone would end with.",
		}},
		{Name: "placement/eligible-instances", run: eligibleInstances, needs: two, Contract: []string{
			"The only candidates that may carry its addresses.",
		}},
	}
}

func portConflict(ctx context.Context, c *checker) {
	older, younger := c.balancer("older"), c.balancer("younger")
	older.CreateTime = timestamppb.New(timestamppb.Now().AsTime().Add(-1e9))
	younger.CreateTime = timestamppb.Now()
	younger.Ports = older.GetPorts()
	s := c.acting(ctx, c.nodes[:1], younger, older)
	s.ready(ctx, older.GetKey().GetName())
	name := younger.GetKey().GetName()
	var problem *backendv1.Problem
	s.await(ctx, "the problem of the younger one", func(e *events) bool {
		problem = e.states[name].GetProblem()
		return problem.GetReason() == backendv1.ErrorReason_ERROR_REASON_PORT_CONFLICT
	})
	equal(c, "its code", codes.Code(problem.GetCode()), codes.FailedPrecondition)
	c.holds(problem.GetMessage() != "", "its message", "one line for people", "nothing")
	reserved := c.addressOf(ctx, younger.GetKey())
	c.holds(reserved.GetAttachment() == nil, "its attachment", "none", reserved.GetAttachment())
	s.release(ctx)
}

func noCandidate(ctx context.Context, c *checker) {
	lb := c.balancer("homeless")
	name := lb.GetKey().GetName()
	s := c.acting(ctx, nil, lb)
	s.await(ctx, "NO_CANDIDATE", func(e *events) bool {
		return hasCondition(e.states[name], backendv1.ConditionType_CONDITION_TYPE_NO_CANDIDATE)
	})
	first := c.addressOf(ctx, lb.GetKey())
	c.holds(first.GetAttachment() == nil, "the attachment without a candidate", "none",
		first.GetAttachment())
	s.candidates(c.nodes[0])
	state := s.on(ctx, name, c.nodes[0].GetId())
	equal(c, "the address with a candidate", state.GetAddresses()[0].GetResourceId(), first.GetResourceId())
	c.holds(!hasCondition(state, backendv1.ConditionType_CONDITION_TYPE_NO_CANDIDATE), "the conditions",
		"no NO_CANDIDATE any more", state.GetConditions())
	s.release(ctx)
}

func hasCondition(state *backendv1.LoadBalancerState, kind backendv1.ConditionType) bool {
	for _, condition := range state.GetConditions() {
		if condition.GetType() == kind {
			return true
		}
	}
	return false
}

// on waits until the only address of a load balancer is attached to an instance.
func (s *session) on(ctx context.Context, name, instanceID string) *backendv1.LoadBalancerState {
	var state *backendv1.LoadBalancerState
	s.await(ctx, name+" is on the instance "+instanceID, func(e *events) bool {
		state = e.states[name]
		addresses := state.GetAddresses()
		return state.GetPhase() == backendv1.Phase_PHASE_READY && len(addresses) == 1 &&
			addresses[0].GetAttachment().GetInstanceId() == instanceID
	})
	return state
}

func movesOff(ctx context.Context, c *checker) {
	lb := c.balancer("moves")
	name := lb.GetKey().GetName()
	s := c.acting(ctx, c.nodes[:1], lb)
	first := s.on(ctx, name, c.nodes[0].GetId())
	s.candidates(c.nodes[1])
	excluded := readyCandidate(c.nodes[0].GetId())
	excluded.ExclusionReason = "is excluded by the suite"
	s.send(candidateItem(excluded))
	second := s.on(ctx, name, c.nodes[1].GetId())
	equal(c, "the address after the move", second.GetAddresses()[0].GetResourceId(),
		first.GetAddresses()[0].GetResourceId())
	equal(c, "its instance in GetLoadBalancer", c.addressOf(ctx, lb.GetKey()).GetAttachment().
		GetInstanceId(), c.nodes[1].GetId())
	s.release(ctx)
}

func severalAddresses(ctx context.Context, c *checker) {
	lb := c.balancer("several")
	name := lb.GetKey().GetName()
	lb.Addresses = append(lb.Addresses, floatingIP(), floatingIP())
	s := c.acting(ctx, c.nodes[:2], lb)
	s.await(ctx, "two of three addresses are attached", func(e *events) bool {
		return attachments(e.states[name]) == 2 && len(e.states[name].GetAddresses()) == 3 &&
			hasCondition(e.states[name], backendv1.ConditionType_CONDITION_TYPE_NO_CANDIDATE)
	})
	got, err := c.balancers.GetLoadBalancer(ctx, &backendv1.GetLoadBalancerRequest{Key: lb.GetKey()})
	c.must("GetLoadBalancer", err)
	at := make(map[string]int)
	for _, address := range got.GetLoadBalancer().GetAddresses() {
		at[address.GetAttachment().GetInstanceId()]++
	}
	c.holds(at[c.nodes[0].GetId()] == 1 && at[c.nodes[1].GetId()] == 1, "addresses by instance",
		"one on each", fmt.Sprint(at))
	s.release(ctx)
}

func attachments(state *backendv1.LoadBalancerState) int {
	n := 0
	for _, address := range state.GetAddresses() {
		if address.GetAttachment() != nil {
			n++
		}
	}
	return n
}

func poolProblem(ctx context.Context, c *checker) {
	lb := c.balancer("no-pool")
	lb.Addresses[0].GetFloatingIp().Selector = &backendv1.FloatingIpSource_Pool{Pool: c.name("pool")}
	other := c.balancer("beside")
	name := lb.GetKey().GetName()
	s := c.acting(ctx, c.nodes[:1], lb, other)
	var problem *backendv1.Problem
	s.await(ctx, "the problem", func(e *events) bool {
		problem = e.states[name].GetProblem()
		return problem.GetReason() == backendv1.ErrorReason_ERROR_REASON_POOL_NOT_FOUND
	})
	equal(c, "its code", codes.Code(problem.GetCode()), codes.FailedPrecondition)
	s.ready(ctx, other.GetKey().GetName())
	c.gone(ctx, lb.GetKey())
	s.release(ctx)
}

func eligibleInstances(ctx context.Context, c *checker) {
	lb := c.balancer("eligible")
	name := lb.GetKey().GetName()
	only := func(i int) *backendv1.EligibleInstances {
		return &backendv1.EligibleInstances{Instances: []*backendv1.EligibleInstance{{
			InstanceId: c.nodes[i].GetId(),
		}}}
	}
	lb.EligibleInstances = only(1)
	s := c.acting(ctx, c.nodes[:2], lb)
	s.on(ctx, name, c.nodes[1].GetId())
	s.sending.Lock()
	lb = clone(s.desired[name])
	lb.EligibleInstances = only(0)
	s.wantLocked(lb)
	s.sending.Unlock()
	s.on(ctx, name, c.nodes[0].GetId())
	s.release(ctx)
}
