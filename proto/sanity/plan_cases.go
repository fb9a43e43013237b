// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package sanity

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"google.golang.org/grpc/codes"

	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

func planCases() []Case {
	reads := needs{features: sessions}
	one := needs{changes: true, instances: 1, features: sessions}
	two := needs{changes: true, instances: 2, features: sessions}
	return []Case{
		{Name: "plan/set", run: planSet, needs: needs{instances: 1, features: sessions}, Contract: []string{
			"PlanLoadBalancers returns what would be done for the load balancers of the session of a scope, or " +
				"for a set that the request holds, also with candidates taken away. It writes nothing anywhere",
			"One result for each load balancer, ordered by name.",
		}},
		{Name: "plan/session", run: planSession, needs: two, Contract: []string{
			"The load balancers of the session of this scope, as they are now.",
			"Instances to plan without, by id, as if they were gone; at most 1,000.",
		}},
		{Name: "plan/invalid", run: planInvalid, needs: reads, Contract: []string{invalidContract}},
		{Name: "plan/rebalance", run: rebalances, needs: two, Contract: []string{
			"RebalanceLoadBalancers spreads the addresses of the session of a scope evenly over its healthy " +
				"candidates, with as few moves as possible.",
			"What the client is to send with its next snapshot.",
		}},
		{Name: "load-balancers/list", run: listBalancers, needs: one, Contract: []string{
			"ListLoadBalancers returns the actual state of all load balancers of a scope, or of the whole " +
				"project, a page at a time, ordered by key.",
		}},
		{Name: "load-balancers/invalid", run: balancersInvalid, Contract: []string{
			invalidContract, tokenContract,
			"LOAD_BALANCER_NOT_FOUND if no address is marked with the key.",
		}},
	}
}

// setOf is a set of load balancers with the first node as its candidate.
func (c *checker) setOf(balancers ...*backendv1.DesiredLoadBalancer) *backendv1.LoadBalancerSet {
	set := &backendv1.LoadBalancerSet{
		Open: &backendv1.OpenSession{Scope: c.options.Scope}, LoadBalancers: balancers,
	}
	if len(c.nodes) > 0 {
		set.Candidates = []*backendv1.Candidate{readyCandidate(c.nodes[0].GetId())}
	}
	return set
}

func (c *checker) plan(ctx context.Context, set *backendv1.LoadBalancerSet,
) (*backendv1.PlanLoadBalancersResponse, error) {
	return c.balancers.PlanLoadBalancers(ctx, &backendv1.PlanLoadBalancersRequest{
		Input: &backendv1.PlanLoadBalancersRequest_Set{Set: set},
	})
}

func planSet(ctx context.Context, c *checker) {
	second, first := c.balancer("b"), c.balancer("a")
	for range repetitions {
		got, err := c.plan(ctx, c.setOf(second, first))
		c.must("PlanLoadBalancers", err)
		if !equal(c, "the number of results", len(got.GetLoadBalancers()), 2) {
			return
		}
		c.plannedOnly("a plan", got.GetActions())
		for i, lb := range []*backendv1.DesiredLoadBalancer{first, second} {
			result := got.GetLoadBalancers()[i].GetLoadBalancer()
			equal(c, "the order of the results", result.GetKey().GetName(), lb.GetKey().GetName())
			if equal(c, "the number of addresses", len(result.GetAddresses()), 1) {
				address := result.GetAddresses()[0]
				c.holds(address.GetAttachment() == nil, "attachment in a plan", "none", address.GetAttachment())
				equal(c, "planned_attachment", address.GetPlannedAttachment().GetInstanceId(),
					c.nodes[0].GetId())
			}
		}
	}
	c.gone(ctx, first.GetKey())
	c.gone(ctx, second.GetKey())
}

func planSession(ctx context.Context, c *checker) {
	lb := c.balancer("planned")
	name := lb.GetKey().GetName()
	s := c.acting(ctx, c.nodes[:2], lb)
	s.ready(ctx, name)
	at := c.addressOf(ctx, lb.GetKey()).GetAttachment().GetInstanceId()
	request := &backendv1.PlanLoadBalancersRequest{
		Input:        &backendv1.PlanLoadBalancersRequest_Scope{Scope: c.options.Scope},
		ExplainNames: []string{name},
	}
	got, err := c.balancers.PlanLoadBalancers(ctx, request)
	c.must("PlanLoadBalancers of a session", err)
	equal(c, "the actions when all is as desired", len(got.GetActions()), 0)
	if equal(c, "the number of results", len(got.GetLoadBalancers()), 1) {
		verdicts := got.GetLoadBalancers()[0].GetVerdicts()
		equal(c, "the number of verdicts", len(verdicts), 2)
		for _, verdict := range verdicts {
			equal(c, "chosen", verdict.GetChosen(), verdict.GetInstanceId() == at)
		}
	}
	request.WithoutInstanceIds = []string{at}
	got, err = c.balancers.PlanLoadBalancers(ctx, request)
	if c.ok("PlanLoadBalancers without the instance", err) &&
		equal(c, "the number of results", len(got.GetLoadBalancers()), 1) {
		addresses := got.GetLoadBalancers()[0].GetLoadBalancer().GetAddresses()
		c.holds(len(addresses) == 1 && addresses[0].GetPlannedAttachment().GetInstanceId() != at &&
			addresses[0].GetPlannedAttachment() != nil,
			"planned_attachment without the instance", "the other one", addresses)
		c.plannedOnly("a plan without the instance", got.GetActions())
	}
	equal(c, "the instance after two plans", c.addressOf(ctx, lb.GetKey()).GetAttachment().GetInstanceId(),
		at)
	s.release(ctx)
}

func planInvalid(ctx context.Context, c *checker) {
	twice := c.balancer("twice")
	for what, request := range map[string]*backendv1.PlanLoadBalancersRequest{
		"no input": {},
		"no scope": {Input: &backendv1.PlanLoadBalancersRequest_Set{Set: &backendv1.LoadBalancerSet{}}},
		"a load balancer twice": {
			Input: &backendv1.PlanLoadBalancersRequest_Set{Set: c.setOf(twice, twice)},
		},
		"an instance that is no UUID": {
			Input:              &backendv1.PlanLoadBalancersRequest_Set{Set: c.setOf()},
			WithoutInstanceIds: []string{"nonsense"},
		},
	} {
		_, err := c.balancers.PlanLoadBalancers(ctx, request)
		c.invalid("a plan with "+what, err)
	}
	if slices.Contains(c.info.GetActingScopes(), c.options.Scope) {
		return
	}
	_, err := c.balancers.PlanLoadBalancers(ctx, &backendv1.PlanLoadBalancersRequest{
		Input: &backendv1.PlanLoadBalancersRequest_Scope{Scope: c.options.Scope},
	})
	c.refused("a plan of a session that is not here", err, codes.FailedPrecondition,
		backendv1.ErrorReason_ERROR_REASON_SESSION_REQUIRED)
}

func rebalances(ctx context.Context, c *checker) {
	first, second := c.balancer("first"), c.balancer("second")
	s := c.acting(ctx, c.nodes[:1], first, second)
	s.on(ctx, first.GetKey().GetName(), c.nodes[0].GetId())
	s.on(ctx, second.GetKey().GetName(), c.nodes[0].GetId())
	s.candidates(c.nodes[1])
	request := &backendv1.RebalanceLoadBalancersRequest{Scope: c.options.Scope, DryRun: true}
	var dry *backendv1.RebalanceLoadBalancersResponse
	c.await(ctx, "a dry run of a rebalance", "one move", c.options.Settle, func() (string, bool) {
		got, err := c.balancers.RebalanceLoadBalancers(ctx, request)
		dry = got
		return fmt.Sprint(got.GetActions(), err), err == nil && len(got.GetActions()) > 0
	})
	c.plannedOnly("a dry run of a rebalance", dry.GetActions())
	equal(c, "the results of a rebalance", len(dry.GetLoadBalancers()), 2)
	for _, lb := range []*backendv1.DesiredLoadBalancer{first, second} {
		equal(c, "the instance after a dry run", c.addressOf(ctx, lb.GetKey()).GetAttachment().GetInstanceId(),
			c.nodes[0].GetId())
	}
	request.DryRun = false
	for range repetitions {
		_, err := c.balancers.RebalanceLoadBalancers(ctx, request)
		c.ok("RebalanceLoadBalancers", err)
	}
	s.await(ctx, "one address on each instance", func(e *events) bool {
		at := make(map[string]int)
		for _, state := range e.states {
			if state.GetPhase() == backendv1.Phase_PHASE_READY && len(state.GetAddresses()) == 1 {
				at[state.GetAddresses()[0].GetAttachment().GetInstanceId()]++
			}
		}
		return at[c.nodes[0].GetId()] == 1 && at[c.nodes[1].GetId()] == 1
	})
	s.mu.Lock()
	c.holds(s.rebalance != nil, "what the client is to remember", "an event `rebalance`", "none")
	s.mu.Unlock()
	s.release(ctx)
}

func listBalancers(ctx context.Context, c *checker) {
	s := c.acting(ctx, c.nodes[:1])
	var want []string
	for _, what := range []string{"c", "a", "b"} {
		lb := c.balancer(what)
		s.want(lb)
		s.ready(ctx, lb.GetKey().GetName())
		want = append(want, lb.GetKey().GetName())
	}
	slices.Sort(want)
	nameOf := func(lb *backendv1.LoadBalancer) string { return lb.GetKey().GetName() }
	whole, err := c.balancers.ListLoadBalancers(ctx, &backendv1.ListLoadBalancersRequest{
		Scope: c.options.Scope,
	})
	c.must("ListLoadBalancers", err)
	got := ids(whole.GetLoadBalancers(), nameOf)
	c.holds(slices.Equal(got, want), "the load balancers of the scope", fmt.Sprint(want), got)
	one := func(token string) ([]*backendv1.LoadBalancer, string, error) {
		page, err := c.balancers.ListLoadBalancers(ctx, &backendv1.ListLoadBalancersRequest{
			Scope: c.options.Scope, PageSize: 1, PageToken: token,
		})
		return page.GetLoadBalancers(), page.GetNextPageToken(), err
	}
	pages(c, "ListLoadBalancers", want, nameOf, one)
	all, err := c.loadBalancers(ctx)
	c.must("ListLoadBalancers of the project", err)
	sorted := slices.IsSortedFunc(all, func(a, b *backendv1.LoadBalancer) int {
		return cmp.Or(cmp.Compare(a.GetKey().GetScope(), b.GetKey().GetScope()),
			cmp.Compare(a.GetKey().GetName(), b.GetKey().GetName()))
	})
	c.holds(sorted, "the load balancers of the project", "ordered by key", len(all))
	s.release(ctx)
}

func balancersInvalid(ctx context.Context, c *checker) {
	for what, request := range map[string]*backendv1.ListLoadBalancersRequest{
		"a negative page size":       {PageSize: -1},
		"a made-up page token":       {PageToken: "nonsense"},
		"a token of 600 bytes":       {PageToken: strings.Repeat("x", 600)},
		"a scope that cannot be one": {Scope: "a b"},
	} {
		_, err := c.balancers.ListLoadBalancers(ctx, request)
		c.invalid("ListLoadBalancers with "+what, err)
	}
	for what, key := range map[string]*backendv1.LoadBalancerKey{
		"no key": nil, "no name": {Scope: c.options.Scope}, "no scope": {Name: "sanity/none"},
		"a name that cannot be one": {Scope: c.options.Scope, Name: "a b"},
	} {
		_, err := c.balancers.GetLoadBalancer(ctx, &backendv1.GetLoadBalancerRequest{Key: key})
		c.invalid("GetLoadBalancer with "+what, err)
	}
	c.gone(ctx, c.balancer("none").GetKey())
}
