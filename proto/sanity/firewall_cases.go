// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package sanity

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"google.golang.org/grpc/codes"

	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

func firewallCases() []Case {
	operations := []feature{
		backendv1.Feature_FEATURE_SESSIONS, backendv1.Feature_FEATURE_FIREWALL_OPERATIONS,
	}
	rules := append([]feature{backendv1.Feature_FEATURE_FIREWALL_RULES}, operations...)
	return []Case{
		{Name: "firewall/invalid", run: firewallInvalid, needs: needs{features: operations},
			Contract: []string{invalidContract, tokenContract}},
		{Name: "firewall/no-rules", run: noRules,
			needs: needs{changes: true, instances: 1, features: operations}, Contract: []string{
				"Rules that there are none of are no error.",
				"The firewalls of all VPCs that were read, ordered by name, on every page.",
			}},
		{Name: "firewall/rules", run: firewallRules,
			needs: needs{changes: true, instances: 1, features: rules}, Contract: []string{
				"ListFirewallRules returns the rules that are marked with a scope, a page at a time, ordered by " +
					"the name of the VPC and their own.",
				"FIREWALL_RULE_IN_USE if a load balancer of the session desires one of the rules, or, in a " +
					"backend " +
					"that keeps rules, may desire it; then nothing is removed.",
				"False: it has none, and those that it had are removed.",
			}},
	}
}

func firewallInvalid(ctx context.Context, c *checker) {
	for what, request := range map[string]*backendv1.ListFirewallRulesRequest{
		"no scope":             {},
		"a negative page size": {Scope: c.options.Scope, PageSize: -1},
		"a made-up page token": {Scope: c.options.Scope, PageToken: "nonsense"},
		"a token of 600 bytes": {Scope: c.options.Scope, PageToken: strings.Repeat("x", 600)},
	} {
		_, err := c.firewall.ListFirewallRules(ctx, request)
		c.invalid("ListFirewallRules with "+what, err)
	}
	for what, request := range map[string]*backendv1.RemoveFirewallRulesRequest{
		"no scope": {
			Selection: &backendv1.RemoveFirewallRulesRequest_All{All: &backendv1.AllFirewallRules{}},
		},
		"no selection": {Scope: c.options.Scope},
		"no names": {
			Scope: c.options.Scope,
			Selection: &backendv1.RemoveFirewallRulesRequest_Named{
				Named: &backendv1.FirewallRuleNames{},
			},
		},
	} {
		_, err := c.firewall.RemoveFirewallRules(ctx, request)
		c.invalid("RemoveFirewallRules with "+what, err)
	}
}

func (c *checker) removeRules(ctx context.Context, names ...string,
) (*backendv1.RemoveFirewallRulesResponse, error) {
	return c.firewall.RemoveFirewallRules(ctx, &backendv1.RemoveFirewallRulesRequest{
		Scope: c.options.Scope, Selection: &backendv1.RemoveFirewallRulesRequest_Named{
			Named: &backendv1.FirewallRuleNames{Names: names},
		},
	})
}

func noRules(ctx context.Context, c *checker) {
	s := c.acting(ctx, c.nodes[:1])
	s.await(ctx, "the session is in sync", func(e *events) bool { return e.synced })
	listed, err := c.firewall.ListFirewallRules(ctx,
		&backendv1.ListFirewallRulesRequest{Scope: c.options.Scope})
	if c.ok("ListFirewallRules", err) {
		equal(c, "the number of rules of a scope without any", len(listed.GetRules()), 0)
		c.holds(len(listed.GetFirewalls()) > 0, "the firewalls", "that of the candidate's VPC", "none")
	}
	for range repetitions {
		removed, err := c.removeRules(ctx, c.name("rule"))
		if c.ok("RemoveFirewallRules of what is not there", err) {
			equal(c, "the number of removed rules", len(removed.GetRules()), 0)
		}
	}
	s.close(ctx)
}

func firewallRules(ctx context.Context, c *checker) {
	first, second := c.balancer("first"), c.balancer("second")
	first.OpenFirewall, second.OpenFirewall = true, true
	first.SourceRanges = []string{"192.0.2.0/24"}
	s := c.acting(ctx, c.nodes[:1], first, second)
	s.ready(ctx, first.GetKey().GetName())
	s.ready(ctx, second.GetKey().GetName())
	list := func() []*backendv1.FirewallRule {
		got, err := c.firewall.ListFirewallRules(ctx,
			&backendv1.ListFirewallRulesRequest{Scope: c.options.Scope})
		c.must("ListFirewallRules", err)
		return got.GetRules()
	}
	nameOf := (*backendv1.FirewallRule).GetName
	rules := list()
	if !equal(c, "the number of rules", len(rules), 2) {
		return
	}
	for _, rule := range rules {
		if rule.GetKey().GetName() == first.GetKey().GetName() {
			c.holds(slices.Equal(rule.GetSourceRanges(), first.GetSourceRanges()), "the source ranges",
				fmt.Sprint(first.GetSourceRanges()), rule.GetSourceRanges())
		}
		equal(c, "orphaned", rule.GetOrphaned(), false)
	}
	pages(c, "ListFirewallRules", ids(rules, nameOf), nameOf,
		func(token string) ([]*backendv1.FirewallRule, string, error) {
			page, err := c.firewall.ListFirewallRules(ctx, &backendv1.ListFirewallRulesRequest{
				Scope: c.options.Scope, PageSize: 1, PageToken: token,
			})
			return page.GetRules(), page.GetNextPageToken(), err
		})
	for range repetitions {
		_, err := c.removeRules(ctx, rules[0].GetName())
		if !c.refused("RemoveFirewallRules of one that is desired", err, codes.FailedPrecondition,
			backendv1.ErrorReason_ERROR_REASON_FIREWALL_RULE_IN_USE) {
			break
		}
	}
	equal(c, "the number of rules after that", len(list()), 2)
	s.sending.Lock()
	closed := clone(s.desired[first.GetKey().GetName()])
	closed.OpenFirewall, closed.SourceRanges = false, nil
	s.wantLocked(closed)
	s.sending.Unlock()
	c.await(ctx, "the rule of one that opens nothing any more", "removed", c.options.Settle,
		func() (string, bool) {
			left := list()
			return fmt.Sprint(ids(left, nameOf)), len(left) == 1 &&
				left[0].GetKey().GetName() == second.GetKey().GetName()
		})
	s.release(ctx)
}
