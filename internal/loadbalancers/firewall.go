// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package loadbalancers

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/instances"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/oxide"
)

const (
	// defaultRulePriority is that of a rule which is recommended, if no other rule asks for less.
	defaultRulePriority = 1000
	// maxRuleEntries is how many ports Oxide takes in one rule.
	maxRuleEntries = 256
)

// ClosedPort is a port to which the firewall lets nothing through from outside.
type ClosedPort struct {
	Port
	// DeniedBy is the rule that closes it, DenyPriority its priority; empty: no rule opens it.
	DeniedBy     string
	DenyPriority int
}

// ClosedPorts returns those of the ports, on the private address of a family of an endpoint, to which
// no packet from outside the VPC gets. A port that is open to some hosts is open. Ports of protocols
// that the firewall does not know are left out.
func ClosedPorts(
	rules []oxide.FirewallRule, at instances.Endpoint, family Family, ports []Port,
) []ClosedPort {
	inOrder := slices.Clone(rules)
	slices.SortStableFunc(inOrder, func(a, b oxide.FirewallRule) int {
		if a.Priority != b.Priority || a.Allow == b.Allow {
			return a.Priority - b.Priority
		}
		if b.Allow {
			return -1
		}
		return 1
	})
	var closed []ClosedPort
	for _, port := range ports {
		if port.Protocol != TCP && port.Protocol != UDP {
			continue
		}
		if verdict, isClosed := judgePort(inOrder, at, family, port); isClosed {
			closed = append(closed, verdict)
		}
	}
	return closed
}

// judgePort follows the rules in their order to the first that decides.
func judgePort(
	rules []oxide.FirewallRule, at instances.Endpoint, family Family, port Port,
) (ClosedPort, bool) {
	for _, rule := range rules {
		if !rule.Enabled || !rule.Inbound || !coversTarget(rule, at, family) ||
			!coversPort(rule, port) {
			continue
		}
		some, all := coversOutside(rule, family)
		switch {
		case rule.Allow && some:
			return ClosedPort{}, false
		case !rule.Allow && all:
			return ClosedPort{Port: port, DeniedBy: rule.Name, DenyPriority: rule.Priority}, true
		}
	}
	return ClosedPort{Port: port}, true
}

func coversTarget(rule oxide.FirewallRule, at instances.Endpoint, family Family) bool {
	if len(rule.Targets) == 0 {
		return true
	}
	addr := at.Addr(family.Bits())
	return slices.ContainsFunc(rule.Targets, func(t oxide.FirewallMatch) bool {
		switch t.Type {
		case "vpc":
			return t.Value == at.VPCName
		case "subnet":
			return t.Value == at.SubnetName
		case "instance":
			return t.Value == at.Name
		case "ip":
			target, err := netip.ParseAddr(t.Value)
			return err == nil && target == addr
		case "ip_net":
			network, err := netip.ParsePrefix(t.Value)
			return err == nil && network.Contains(addr)
		}
		return false
	})
}

// coversPort knows that Oxide ignores a rule's ports unless its protocols have ports.
func coversPort(rule oxide.FirewallRule, port Port) bool {
	if len(rule.Protocols) == 0 {
		return true
	}
	if !slices.Contains(rule.Protocols, strings.ToLower(string(port.Protocol))) {
		return false
	}
	return len(rule.Ports) == 0 || slices.ContainsFunc(rule.Ports, func(r oxide.PortRange) bool {
		return r.First <= port.Number && port.Number <= r.Last
	})
}

// coversOutside reports whether a rule is about some hosts outside the VPC, and about all of them.
func coversOutside(rule oxide.FirewallRule, family Family) (some, all bool) {
	if len(rule.Hosts) == 0 {
		return true, true
	}
	for _, host := range rule.Hosts {
		switch host.Type {
		case "ip":
			addr, err := netip.ParseAddr(host.Value)
			some = some || err == nil && familyOf(addr) == family
		case "ip_net":
			network, err := netip.ParsePrefix(host.Value)
			matches := err == nil && familyOf(network.Addr()) == family
			some = some || matches
			all = all || matches && network.Bits() == 0
		}
	}
	return some, all
}

// OpeningRules returns the rules that open ports to everybody, on all instances of a VPC, in the form
// in which Oxide's API takes them: one for each protocol.
func OpeningRules(name, vpcName string, closed []ClosedPort) []string {
	var rules []string
	for _, protocol := range []Protocol{TCP, UDP} {
		var numbers []int
		priority := defaultRulePriority
		for _, port := range closed {
			if port.Protocol != protocol {
				continue
			}
			numbers = append(numbers, port.Number)
			if port.DeniedBy != "" {
				priority = min(priority, port.DenyPriority-1)
			}
		}
		part := 0
		for chunk := range slices.Chunk(portRanges(numbers), maxRuleEntries) {
			partName := name + "-" + strings.ToLower(string(protocol))
			if part++; part > 1 {
				partName += fmt.Sprintf("-%d", part)
			}
			rules = append(rules, openingRule(partName, vpcName, protocol, max(priority, 0), chunk))
		}
	}
	return rules
}

func openingRule(name, vpcName string, protocol Protocol, priority int, ports []string) string {
	type typed struct {
		Type  string `json:"type"`
		Value string `json:"value,omitempty"`
	}
	type filters struct {
		Ports     []string `json:"ports"`
		Protocols []typed  `json:"protocols"`
	}
	lower := strings.ToLower(string(protocol))
	text, err := json.Marshal(struct {
		Name        string  `json:"name"`
		Description string  `json:"description"`
		Status      string  `json:"status"`
		Direction   string  `json:"direction"`
		Action      string  `json:"action"`
		Priority    int     `json:"priority"`
		Targets     []typed `json:"targets"`
		Filters     filters `json:"filters"`
	}{
		Name: name, Status: "enabled", Direction: "inbound", Action: "allow",
		Priority: priority, Targets: []typed{{"vpc", vpcName}},
		Filters: filters{Ports: ports, Protocols: []typed{{Type: lower}}},
	})
	if err != nil {
		return fmt.Sprintf("(%v)", err) // only strings and numbers: this cannot be
	}
	return string(text)
}

// portRanges writes ports as Oxide takes them, neighbours as one range.
func portRanges(numbers []int) []string {
	slices.Sort(numbers)
	numbers = slices.Compact(numbers)
	var ranges []string
	for i := 0; i < len(numbers); {
		last := i
		for last+1 < len(numbers) && numbers[last+1] == numbers[last]+1 {
			last++
		}
		if last == i {
			ranges = append(ranges, strconv.Itoa(numbers[i]))
		} else {
			ranges = append(ranges, fmt.Sprintf("%d-%d", numbers[i], numbers[last]))
		}
		i = last + 1
	}
	return ranges
}

// maxRuleText is about what an event has room for.
const maxRuleText = 480

// firewallCondition tells which ports the firewall closes, and the rule to add.
func firewallCondition(
	key Key, rules []oxide.FirewallRule, at instances.Endpoint, family Family, ports []Port,
) (Condition, bool) {
	if at.VPCName == "" {
		return Condition{}, false // rules go by its name, so nothing can be told
	}
	closed := ClosedPorts(rules, at, family, ports)
	if len(closed) == 0 {
		return Condition{}, false
	}
	numbers := make(map[Protocol][]int)
	denied, remedy := "", "add the rule"
	for _, port := range closed {
		numbers[port.Protocol] = append(numbers[port.Protocol], port.Number)
		if port.DeniedBy == "" {
			continue
		}
		denied = "; the rule " + port.DeniedBy + " denies it"
		if port.DenyPriority == 0 {
			// Of two rules of one priority the denying one wins.
			remedy = "give the rule " + port.DeniedBy + " a priority above 0, and add the rule"
		}
	}
	var what []string
	for _, protocol := range []Protocol{TCP, UDP} {
		if ranges := portRanges(numbers[protocol]); len(ranges) > 0 {
			what = append(what, string(protocol)+" "+shortList(ranges))
		}
	}
	rule := strings.Join(OpeningRules(readableName(key), at.VPCName, closed), " and ")
	if len(rule) > maxRuleText {
		rule = "that allows inbound all of its TCP and UDP ports to the target vpc " + at.VPCName
	}
	message := fmt.Sprintf("the firewall of the VPC %s lets nothing through to %s%s: %s %s",
		at.VPCName, strings.Join(what, " and "), denied, remedy, rule)
	return Condition{Type: FirewallClosed, Message: message}, true
}

// maxListed is how many ranges of ports a message lists.
const maxListed = 8

// shortList lists ranges of ports, the first ones if there are many.
func shortList(ranges []string) string {
	if more := len(ranges) - maxListed; more > 0 {
		return fmt.Sprintf("%s and %d more", strings.Join(ranges[:maxListed], ","), more)
	}
	return strings.Join(ranges, ",")
}
