// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package firewall

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// What Oxide takes in the firewall of a VPC: how many rules, and in each how many targets, hosts, ports
// and protocols.
const (
	MaxRules       = 1024
	MaxRuleEntries = 256
)

const (
	// defaultPriority is that of a rule that is advised, if no other rule asks for less.
	defaultPriority = 1000
	// maxName is how long the name of a rule may be.
	maxName = 63
)

// Place is where packets from outside arrive: a private address of an interface.
type Place struct {
	At   Interface
	Addr netip.Addr
}

// Change is what to do to the firewall of a VPC, for what is closed to be open. Names of rules are
// unique there, and all rules are written at once: a rule that is added must have a new name, and one
// that replaces another must have all that the other one opens.
type Change struct {
	// Rule is the rule as it should be.
	Rule Rule
	// Replaces: it goes in the place of the rule that has its name.
	Replaces bool
}

// Open returns the changes that open ports of TCP and UDP to everybody, on all instances of a VPC: one,
// unless there are more ports than a rule holds. The rule has all of the ports, with those of all of
// their protocols, and not only those that are closed: a rule of the name is replaced, as long as it is
// one that opens ports, and keeps what it has besides. An empty result means that nothing can be
// changed, because the firewall has as many rules as it can have.
func Open(name, vpcName string, rules []Rule, places []Place, ports []Port) []Change {
	var ranges []PortRange
	var protocols []string
	for _, port := range ports {
		if port.Protocol != TCP && port.Protocol != UDP {
			continue
		}
		ranges = append(ranges, PortRange{port.Number, port.Number})
		protocols = union(protocols, []string{strings.ToLower(string(port.Protocol))})
	}
	rules = InOrder(rules)
	var changes []Change
	left := MergePorts(ranges)
	for counter := 1; len(left) > 0; counter++ {
		chunk := left[:min(len(left), MaxRuleEntries)]
		wanted := Rule{
			Name: numbered(name, counter), Enabled: true, Inbound: true, Allow: true,
			Priority: priority(rules, places, ports), Targets: []Match{{Type: "vpc", Value: vpcName}},
			Protocols: protocols, Ports: chunk,
		}
		existing := slices.IndexFunc(rules, func(r Rule) bool { return r.Name == wanted.Name })
		switch {
		case existing < 0 && len(rules) >= MaxRules:
			return nil
		case existing < 0:
			changes = append(changes, Change{Rule: wanted})
		case !rules[existing].canTake(chunk):
			continue
		default:
			wanted = extend(rules, existing, wanted, places, ports)
			changes = append(changes, Change{Rule: wanted, Replaces: true})
		}
		left = left[len(chunk):]
		rules = InOrder(Apply(rules, changes[len(changes)-1:]))
	}
	return changes
}

// Apply returns the rules of a firewall after changes.
func Apply(rules []Rule, changes []Change) []Rule {
	after := slices.Clone(rules)
	for _, change := range changes {
		if at := slices.IndexFunc(after, func(r Rule) bool { return r.Name == change.Rule.Name }); at >= 0 {
			after[at] = change.Rule
		} else {
			after = append(after, change.Rule)
		}
	}
	return after
}

// numbered returns the n-th of the names that begin like one.
func numbered(name string, n int) string {
	if n == 1 {
		return name
	}
	suffix := fmt.Sprintf("-%d", n)
	return strings.TrimRight(name[:min(len(name), maxName-len(suffix))], "-") + suffix
}

// canTake reports whether more ports can be added to a rule: one that lets some ports of TCP or UDP in,
// and has room for them.
func (r *Rule) canTake(more []PortRange) bool {
	foreign := slices.ContainsFunc(r.Protocols, func(name string) bool {
		return !strings.EqualFold(name, string(TCP)) && !strings.EqualFold(name, string(UDP))
	})
	return r.Inbound && r.Allow && len(r.Ports) > 0 && len(r.Protocols) > 0 && !foreign &&
		len(MergePorts(slices.Concat(r.Ports, more))) <= MaxRuleEntries
}

// extend adds what an existing rule has to one that replaces it. Hosts and targets of the existing rule
// stay if the ports are open then: somebody has chosen them.
func extend(rules []Rule, at int, wanted Rule, places []Place, ports []Port) Rule {
	existing := &rules[at]
	wanted.Description = existing.Description
	wanted.Ports = MergePorts(slices.Concat(existing.Ports, wanted.Ports))
	wanted.Protocols = union(existing.Protocols, wanted.Protocols)
	wanted.Priority = min(existing.Priority, wanted.Priority)
	for _, keep := range []struct{ hosts, targets bool }{{true, true}, {true, false}, {false, true}} {
		try := wanted
		if keep.hosts {
			try.Hosts = existing.Hosts
		}
		if keep.targets {
			try.Targets = existing.Targets
		}
		after := slices.Clone(rules)
		after[at] = try
		if areOpen(InOrder(after), places, inRanges(ports, wanted.Ports)) {
			return try
		}
	}
	return wanted
}

func inRanges(ports []Port, ranges []PortRange) []Port {
	return slices.DeleteFunc(slices.Clone(ports), func(p Port) bool {
		return !slices.ContainsFunc(ranges, func(r PortRange) bool {
			return r.First <= p.Number && p.Number <= r.Last
		})
	})
}

func areOpen(rules []Rule, places []Place, ports []Port) bool {
	return !slices.ContainsFunc(places, func(place Place) bool {
		return len(ClosedPorts(rules, place.At, place.Addr, ports)) > 0
	})
}

// priority returns the priority of a rule that comes before all that deny one of the ports; of two of
// one priority the denying one wins.
func priority(rules []Rule, places []Place, ports []Port) int {
	first := defaultPriority
	for _, place := range places {
		for _, closed := range ClosedPorts(rules, place.At, place.Addr, ports) {
			if closed.DeniedBy != "" {
				first = min(first, closed.DenyPriority-1)
			}
		}
	}
	return max(first, 0)
}

// MergePorts returns ranges in order, with those that overlap or adjoin in one.
func MergePorts(ranges []PortRange) []PortRange {
	sorted := slices.SortedFunc(slices.Values(ranges), func(a, b PortRange) int {
		return cmp.Or(cmp.Compare(a.First, b.First), cmp.Compare(a.Last, b.Last))
	})
	var merged []PortRange
	for _, r := range sorted {
		if last := len(merged) - 1; last >= 0 && r.First <= merged[last].Last+1 {
			merged[last].Last = max(merged[last].Last, r.Last)
		} else {
			merged = append(merged, r)
		}
	}
	return merged
}

// union returns the protocols of two rules, in lower case and in order.
func union(a, b []string) []string {
	var all []string
	for _, name := range slices.Concat(a, b) {
		all = append(all, strings.ToLower(name))
	}
	slices.Sort(all)
	return slices.Compact(all)
}
