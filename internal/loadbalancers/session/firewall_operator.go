// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package session

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/firewall/ruleset"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/rules"
)

// VPCFirewall is the firewall of a VPC.
type VPCFirewall struct {
	VPCID, VPCName string
	// Rules is how many it has, other people's among them.
	Rules int
	// Problem is why the rules that are kept there are not as desired; nil: they are, or none are kept.
	Problem error
}

// KeptRules are the rules that are kept for the load balancers of a scope.
type KeptRules struct {
	// Rules are ordered by the name of the VPC and their own.
	Rules []KeptRule
	// Firewalls are those that were read, ordered by the name of the VPC.
	Firewalls []VPCFirewall
}

// RuleSelection says which rules of a scope are removed: those with some names, the orphaned ones, or
// all.
type RuleSelection struct {
	Names         []string
	Orphaned, All bool
}

func (s *RuleSelection) covers(rule *KeptRule) bool {
	return s.All || s.Orphaned && rule.Orphaned || slices.Contains(s.Names, rule.Name)
}

// FirewallRules returns the rules that are marked with a scope, or with one that it adopts, as they are
// now. Errors: ReasonSessionRequired.
func (m *Manager) FirewallRules(ctx context.Context, scope string) (KeptRules, error) {
	known, err := m.askFirewalls(ctx, scope)
	if err != nil {
		return KeptRules{}, err
	}
	var found KeptRules
	for _, vpc := range known.ordered() {
		reading, err := m.firewalls.Read(ctx, vpc)
		if err != nil {
			return KeptRules{}, stoppingOr(err)
		}
		state := m.firewalls.Get(vpc, time.Now())
		kept := VPCFirewall{VPCID: vpc, VPCName: known.vpcs[vpc], Rules: len(reading.Stored)}
		if m.config.ManageFirewall {
			kept.Problem = state.Problem()
		}
		found.Firewalls = append(found.Firewalls, kept)
		for i := range reading.Stored {
			if known.isOwn(vpc, &reading.Stored[i]) {
				found.Rules = append(found.Rules, known.rule(vpc, &reading.Stored[i]))
			}
		}
	}
	sortKept(found.Rules)
	return found, nil
}

// RemoveFirewallRules removes rules that are marked with a scope, and returns them. Errors:
// ReasonSessionRequired; ReasonRuleInUse if a load balancer desires one of them, ReasonUnrepresentable.
func (m *Manager) RemoveFirewallRules(
	ctx context.Context, scope string, selection RuleSelection, dryRun bool,
) ([]KeptRule, error) {
	known, err := m.askFirewalls(ctx, scope)
	if err != nil {
		return nil, err
	}
	found, err := m.FirewallRules(ctx, scope)
	if err != nil {
		return nil, err
	}
	var selected []KeptRule
	for i := range found.Rules {
		rule := &found.Rules[i]
		switch {
		case !selection.covers(rule):
			continue
		case !rule.Orphaned:
			return nil, failf(ReasonRuleInUse, nil, "the load balancer %s desires the firewall rule %s: start "+
				"oxide-backend without --manage-firewall first, or leave the load balancer's firewall alone",
				rule.Key, rule.Name)
		}
		selected = append(selected, *rule)
	}
	switch {
	case dryRun, len(selected) == 0:
		return selected, nil
	case m.config.ReadOnly:
		return nil, failf(ReasonReadOnly, nil, "this backend was started with --read-only, and changes "+
			"nothing")
	}
	var removed []KeptRule
	for _, vpc := range known.ordered() {
		gone, err := m.firewalls.Remove(ctx, vpc, func(stored *ruleset.Stored) bool {
			return slices.ContainsFunc(selected, func(rule KeptRule) bool {
				return rule.VPCID == vpc && rule.Name == stored.Name && known.isOwn(vpc, stored)
			})
		})
		if err != nil {
			return removed, unrepresentableOr(stoppingOr(err))
		}
		for i := range gone {
			removed = append(removed, known.rule(vpc, &gone[i]))
		}
	}
	sortKept(removed)
	m.wake()
	return removed, nil
}

// askFirewalls asks the acting session of a scope what it desires of firewalls. The VPCs of its
// candidates are read where it has had no reason to.
func (m *Manager) askFirewalls(ctx context.Context, scope string) (*firewalls, error) {
	known := firewalls{vpcs: make(map[string]string), desired: make(map[string]ruleset.Desired)}
	var scopes, ids []string
	unplanned := make(map[string]bool)
	err := m.askActing(ctx, scope, func(l *loop) {
		scopes = append([]string{scope}, m.adoptable(l.opening)...)
		ids = slices.Collect(maps.Keys(l.candidates))
		maps.Copy(known.vpcs, l.firewalls.vpcs)
		maps.Copy(known.desired, l.firewalls.desired)
		for key := range l.balancers {
			unplanned[key.Name] = l.keepsRules()
		}
	})
	if err != nil {
		return nil, err
	}
	endpoints, err := m.inventory.Endpoints(ctx, ids)
	if err != nil {
		return nil, err
	}
	for _, e := range endpoints {
		if _, is := known.vpcs[e.VPCID]; !is {
			known.vpcs[e.VPCID], known.desired[e.VPCID] = e.VPCName, ruleset.Desired{Scopes: scopes}
		}
	}
	for vpc, d := range known.desired {
		d.Stay = maps.Clone(d.Stay)
		if d.Stay == nil {
			d.Stay = make(map[string]bool)
		}
		for name, may := range unplanned {
			if _, planned := d.Rules[name]; !planned && may {
				d.Stay[name] = true // it came a moment ago
			}
		}
		known.desired[vpc] = d
	}
	return &known, nil
}

// ordered returns the VPCs by name.
func (f *firewalls) ordered() []string {
	return slices.SortedFunc(maps.Keys(f.vpcs), func(a, b string) int {
		return strings.Compare(f.vpcs[a]+"\x00"+a, f.vpcs[b]+"\x00"+b)
	})
}

// isOwn reports whether a rule is kept for a load balancer of the scope.
func (f *firewalls) isOwn(vpc string, stored *ruleset.Stored) bool {
	return stored.Marked && slices.Contains(f.desired[vpc].Scopes, stored.Marker.Key.Scope)
}

func (f *firewalls) rule(vpc string, stored *ruleset.Stored) KeptRule {
	desired, marker := f.desired[vpc], stored.Marker
	return KeptRule{
		VPCID: vpc, VPCName: f.vpcs[vpc], Key: marker.Key, OwnerUID: marker.OwnerUID,
		Family: marker.Family, Rule: stored.Rule,
		Orphaned: !desired.MayDesire(stored),
	}
}

func stoppingOr(err error) error {
	if errors.Is(err, rules.ErrStopped) {
		return errStopping
	}
	return err
}

func unrepresentableOr(err error) error {
	var blocked *rules.BlockedError
	if errors.As(err, &blocked) {
		return failf(ReasonUnrepresentable, err, "%s", blocked.Why)
	}
	return err
}
