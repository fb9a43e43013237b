// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package preflight

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/firewall"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/firewall/ruleset"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/ownership"
)

const nameRules = "firewall rules"

func (p *preflight) ruleNames() []string {
	if p.opts.ManageFirewall {
		return []string{nameRules}
	}
	return nil
}

// rules checks whether the rules of load balancers could be kept in the firewalls, and says what would
// be written. Nothing is.
func (p *preflight) rules(ctx context.Context) bool {
	switch {
	case !p.opts.ManageFirewall:
		return true
	case len(p.instances) == 0:
		p.add(nameRules, Skipped, "not checked, since there is no instance to let anything in to", "")
		return true
	}
	network, err := p.network(ctx)
	if err != nil {
		p.checks = append(p.checks, failed(nameRules, err, ""))
		return true
	}
	var would []string
	for _, vpc := range slices.Sorted(maps.Keys(network.stored)) {
		name, stored := network.names[vpc], network.stored[vpc]
		kept := 0
		for i := range stored {
			if why := stored[i].Unwritable(); why != "" {
				p.add(nameRules, Failed, fmt.Sprintf("the rule %s of the VPC %s has %s, which this version does "+
					"not know and might lose: all rules of a VPC are written at once, so none would be",
					stored[i].Name, name, why), "update the cloud controller manager, or change that rule")
				return true
			}
		}
		for _, rule := range ruleset.Read(stored) {
			if rule.Marked {
				kept++
			}
		}
		if len(stored) >= firewall.MaxRules {
			p.add(nameRules, Failed, fmt.Sprintf("the firewall of the VPC %s has %d rules, the most that Oxide "+
				"takes: none can be added", name, len(stored)), "remove some of them")
			return true
		}
		would = append(would, fmt.Sprintf("in the VPC %s, which has %d rules, %d of them kept for load "+
			"balancers: %s", name, len(stored), kept, p.exampleRule(network.of(vpc))))
	}
	if len(would) == 0 {
		p.add(nameRules, Skipped, "not checked, since no instance has a network interface", "")
		return true
	}
	p.add(nameRules, OK, "for each Service and IP family one would be written "+
		strings.Join(would, "; and "), "")
	return true
}

// exampleRule describes the rule that a load balancer with the given ports would have.
func (p *preflight) exampleRule(interfaces []firewall.Interface) string {
	targets, widened := ruleset.Targets(interfaces, 1)
	at := fmt.Sprintf("%d instances", len(interfaces))
	if widened != "" {
		at = widened
	}
	text := fmt.Sprintf("inbound, allow, priority %d, its ports at %s, from its source ranges or any",
		p.opts.FirewallPriority, at)
	need := ruleset.Need{
		Key:      ownership.Key{Scope: "CLUSTER-ID", Name: "NAMESPACE/NAME"},
		OwnerUID: "UID", Families: []ownership.Family{ownership.IPv4}, Ports: p.opts.Ports,
	}
	rules := need.Rules(targets, p.opts.FirewallPriority)
	if len(rules) == 0 || len(targets) > maxNames {
		return text
	}
	rules[0].Name = "lb-NAMESPACE-NAME-HASH"
	return text + ", for example " + rules[0].JSON()
}

// opens reports whether the rules that would be kept open a port in every VPC.
func (p *preflight) opens(port firewall.Port, network *network) bool {
	for vpc, stored := range network.stored {
		targets, _ := ruleset.Targets(network.of(vpc), 1)
		need := ruleset.Need{
			Key: ownership.Key{Scope: "x", Name: "x"}, OwnerUID: "x",
			Families: []ownership.Family{ownership.IPv4}, Ports: []firewall.Port{port},
		}
		rules := append(rulesOf(stored), need.Rules(targets, p.opts.FirewallPriority)...)
		for _, at := range network.of(vpc) {
			for _, addr := range at.Addrs {
				if len(firewall.ClosedPorts(rules, at, addr, []firewall.Port{port})) > 0 {
					return false
				}
			}
		}
	}
	return true
}

func rulesOf(stored []firewall.Stored) []firewall.Rule {
	rules := make([]firewall.Rule, 0, len(stored))
	for i := range stored {
		rules = append(rules, stored[i].Rule)
	}
	return rules
}
