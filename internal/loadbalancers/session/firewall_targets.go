// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package session

import (
	"cmp"
	"slices"
	"time"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/firewall"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/firewall/ruleset"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/plan"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/rules"
)

// interfaces are those of the instances that rules are about.
type interfaces struct {
	// vpcs are the names of their VPCs, and of those that have rules although no instance is there any
	// more, by id.
	vpcs  map[string]string
	byVPC map[string][]firewall.Interface
	// incomplete: of an instance it is not known where it is.
	incomplete bool
}

// targets are what rules name in a VPC.
type targets struct {
	matches []firewall.Match
	// widened is what they are about besides the cluster's instances.
	widened string
	// unknown: it is not known which there are.
	unknown bool
}

// interfaces returns those of the instances that rules are about: the candidates, and former ones while
// they carry an address.
func (l *loop) interfaces(result *plan.Result) interfaces {
	ids := make(map[string]bool, len(l.candidates))
	for id := range l.candidates {
		ids[id] = true
	}
	for _, planned := range result.LoadBalancers {
		for _, c := range planned.Claims {
			ids[c.Current()] = ids[c.Current()] || l.former[c.Current()]
		}
		for _, r := range planned.Releases {
			ids[r.Address.InstanceID] = ids[r.Address.InstanceID] || l.former[r.Address.InstanceID]
		}
	}
	found := interfaces{vpcs: make(map[string]string), byVPC: make(map[string][]firewall.Interface)}
	for id, is := range ids {
		at := l.observed.instances[id].Interface
		switch {
		case !is:
		case at.VPCName != "" && at.InstanceName != id:
			found.vpcs[at.VPCID] = at.VPCName
			found.byVPC[at.VPCID] = append(found.byVPC[at.VPCID], at)
		case !l.observed.states[id].Gone:
			found.incomplete = true
		}
	}
	for vpc, name := range l.firewalls.vpcs {
		if found.vpcs[vpc] == "" && l.keepsRules() && l.firewalls.hasRules(vpc) {
			found.vpcs[vpc] = name
		}
	}
	return found
}

// hasRules reports whether a VPC may have rules that are the session's.
func (f *firewalls) hasRules(vpc string) bool {
	state := f.states[vpc]
	return !state.Known || slices.ContainsFunc(state.Stored, f.isTheirs)
}

// isTheirs reports whether a rule is the session's.
func (f *firewalls) isTheirs(stored ruleset.Stored) bool {
	return stored.Marked && slices.Contains(f.scopes, stored.Marker.Key.Scope)
}

// target finds out what rules name. What is as before is kept, so that nothing is made of it again.
func (l *loop) target(found interfaces, now time.Time) {
	f := &l.firewalls
	before, count := f.targets, 0
	for _, b := range l.balancers {
		count += b.ruleCount
	}
	f.targets = make(map[string]targets, len(found.vpcs))
	for vpc := range found.vpcs {
		var t targets
		t.matches, t.widened = ruleset.Targets(found.byVPC[vpc], count)
		if found.incomplete {
			state := l.m.firewalls.Get(vpc, now)
			t.unknown = !state.Known
			t.matches = f.withStored(t.matches, &state)
		}
		if old := before[vpc]; slices.Equal(old.matches, t.matches) {
			t.matches = old.matches
		}
		f.targets[vpc] = t
	}
}

// withStored adds what the session's rules name that are there. While it is not known where an instance
// is no port on it is closed for that.
func (f *firewalls) withStored(matches []firewall.Match, state *rules.State) []firewall.Match {
	all := slices.Clone(matches)
	var added []firewall.Match
	for i := range state.Stored {
		// Most rules name the same.
		if named := state.Stored[i].Targets; f.isTheirs(state.Stored[i]) && !slices.Equal(named, added) {
			all, added = append(all, named...), named
		}
	}
	slices.SortFunc(all, func(a, b firewall.Match) int {
		return cmp.Or(cmp.Compare(a.Type, b.Type), cmp.Compare(a.Value, b.Value))
	})
	if all = slices.Compact(all); len(all) > firewall.MaxRuleEntries {
		return matches
	}
	return all
}
