// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package ruleset

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/firewall"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/ownership"
)

// Need is what a load balancer needs to have let in.
type Need struct {
	Key      ownership.Key
	OwnerUID string
	// Families are those of its addresses.
	Families []ownership.Family
	Ports    []firewall.Port
	Sources  Sources
}

// maxBody is how many bytes Oxide takes in a request, and so in all rules of a VPC.
const maxBody = 1 << 20

// Targets returns what so many rules name so that they are about the instances with these interfaces,
// which are all in one VPC: the instances, or if those are more than a rule holds, or would take over
// half of what Oxide takes in all rules, their subnets, or the VPC. Widened is what they are about then,
// for people; empty: these instances alone.
func Targets(
	interfaces []firewall.Interface, rules int,
) (targets []firewall.Match, widened string) {
	named := func(kind string, name func(firewall.Interface) string) []firewall.Match {
		var names []string
		for _, at := range interfaces {
			names = append(names, name(at))
		}
		slices.Sort(names)
		matches := make([]firewall.Match, 0, len(names))
		for _, value := range slices.Compact(names) {
			matches = append(matches, firewall.Match{Type: kind, Value: value})
		}
		return matches
	}
	instances := named("instance", func(at firewall.Interface) string { return at.InstanceName })
	subnets := named("subnet", func(at firewall.Interface) string { return at.SubnetName })
	size := 0
	for _, instance := range instances {
		size += len(`{"type":"instance","value":""},`) + len(instance.Value)
	}
	switch {
	case len(instances) <= firewall.MaxRuleEntries && rules*size <= maxBody/2:
		return instances, ""
	case len(subnets) <= firewall.MaxRuleEntries:
		var names []string
		for _, subnet := range subnets {
			names = append(names, subnet.Value)
		}
		return subnets, "all instances in " + plural(len(names), "the subnet ", "the subnets ") +
			firewall.ShortList(names)
	}
	vpc := named("vpc", func(at firewall.Interface) string { return at.VPCName })
	return vpc, "all instances of the VPC"
}

func plural(n int, one, many string) string {
	if n == 1 {
		return one
	}
	return many
}

// Count returns how many rules there would be.
func (n *Need) Count() int {
	count := 0
	for _, family := range n.Families {
		count += len(n.Sources.hosts(family)) * len(portSets(n.Ports))
	}
	return count
}

// Rules returns the rules that let in what is needed, in their order. There is one for each IP family,
// and more if the ports of its protocols differ, or if there are more ports or sources than one holds.
// Of a family that no source is of there is none.
func (n *Need) Rules(targets []firewall.Match, priority int) []firewall.Rule {
	var rules []firewall.Rule
	if len(targets) == 0 {
		return nil
	}
	for _, family := range n.Families {
		counter := 0
		for _, hosts := range n.Sources.hosts(family) {
			for _, opened := range portSets(n.Ports) {
				rules = append(rules, firewall.Rule{
					Name: ownership.KeptRuleName(n.Key, family, counter),
					Description: ownership.Marker{
						Key: n.Key, OwnerUID: n.OwnerUID, Family: family, Source: ownership.RuleSource,
					}.String(),
					Enabled: true, Inbound: true, Allow: true, Priority: priority,
					Targets: targets, Hosts: hosts, Protocols: opened.protocols, Ports: opened.ranges,
				})
				counter++
			}
		}
	}
	return rules
}

// hosts returns what rules for a family have as hosts, one after the other: one list that is empty where
// anybody is let in, none where nobody is.
func (s Sources) hosts(family ownership.Family) [][]firewall.Match {
	if !s.Restricted {
		return [][]firewall.Match{nil}
	}
	var all []firewall.Match
	for _, network := range s.Ranges {
		if ownership.FamilyOf(network.Addr()) == family {
			all = append(all, firewall.Match{Type: "ip_net", Value: network.String()})
		}
	}
	return slices.Collect(slices.Chunk(all, firewall.MaxRuleEntries))
}

// Problem says in one line which of the sources are of no use for addresses of these families; empty:
// all are.
func (s Sources) Problem(families []ownership.Family) string {
	var problems []string
	if len(s.Wrong) > 0 {
		problems = append(problems, fmt.Sprintf("the source range %.64q is no network, and lets nobody in",
			s.Wrong[0]))
	}
	for _, family := range []ownership.Family{ownership.IPv4, ownership.IPv6} {
		first := slices.IndexFunc(s.Ranges, func(network netip.Prefix) bool {
			return ownership.FamilyOf(network.Addr()) == family
		})
		switch has := slices.Contains(families, family); {
		case first >= 0 && !has:
			problems = append(problems, fmt.Sprintf("the source range %s is of no use, since there is no "+
				"address of IP%s", s.Ranges[first], family))
		case s.Restricted && first < 0 && has:
			problems = append(problems, fmt.Sprintf("no source range is of IP%s, so nothing is let in to the "+
				"address of that family", family))
		}
	}
	return strings.Join(problems, "; ")
}

// LetsIn reports whether anybody is let in to addresses of a family.
func (s Sources) LetsIn(family ownership.Family) bool { return len(s.hosts(family)) > 0 }

// portSet is what one rule opens: each of the ports, of each of the protocols.
type portSet struct {
	protocols []string
	ranges    []firewall.PortRange
}

// portSets returns what to open in as few rules as it takes: protocols with the same ports share one.
func portSets(ports []firewall.Port) []portSet {
	var sets []portSet
	for _, protocol := range []firewall.Protocol{firewall.TCP, firewall.UDP} {
		var ranges []firewall.PortRange
		for _, port := range ports {
			if port.Protocol == protocol {
				ranges = append(ranges, firewall.PortRange{First: port.Number, Last: port.Number})
			}
		}
		ranges = firewall.MergePorts(ranges)
		name := strings.ToLower(string(protocol))
		switch {
		case len(ranges) == 0:
		case len(sets) == 1 && slices.Equal(sets[0].ranges, ranges):
			sets[0].protocols = append(sets[0].protocols, name)
		default:
			sets = append(sets, portSet{[]string{name}, ranges})
		}
	}
	var split []portSet
	for _, set := range sets {
		for ranges := range slices.Chunk(set.ranges, firewall.MaxRuleEntries) {
			split = append(split, portSet{set.protocols, ranges})
		}
	}
	return split
}
