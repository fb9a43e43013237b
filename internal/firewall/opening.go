// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package firewall

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

const (
	// defaultPriority is that of a rule which is recommended, if no other rule asks for less.
	defaultPriority = 1000
	// maxRuleEntries is how many ports Oxide takes in one rule.
	maxRuleEntries = 256
	// maxRuleText is about what an event has room for.
	maxRuleText = 480
	// maxListed is how many ranges of ports a message lists.
	maxListed = 8
)

// OpeningRules returns the rules that open ports to everybody, on all instances of a VPC, in the
// form in which Oxide's API takes them: one for each protocol.
func OpeningRules(name, vpcName string, closed []ClosedPort) []string {
	var rules []string
	for _, protocol := range []Protocol{TCP, UDP} {
		var numbers []int
		priority := defaultPriority
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

// Explain says in one line which of the ports the firewall closes on one private address of an
// interface, and which rule to add; name begins the rule's name. It returns an empty text if none
// is closed, or if the name of the VPC, by which rules go, is not known.
func Explain(name string, rules []Rule, at Interface, addr netip.Addr, ports []Port) string {
	if at.VPCName == "" {
		return ""
	}
	closed := ClosedPorts(rules, at, addr, ports)
	if len(closed) == 0 {
		return ""
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
	rule := strings.Join(OpeningRules(name, at.VPCName, closed), " and ")
	if len(rule) > maxRuleText {
		rule = "that allows inbound all of its TCP and UDP ports to the target vpc " + at.VPCName
	}
	return fmt.Sprintf("the firewall of the VPC %s lets nothing through to %s%s: %s %s",
		at.VPCName, strings.Join(what, " and "), denied, remedy, rule)
}

// shortList lists ranges of ports, the first ones if there are many.
func shortList(ranges []string) string {
	if more := len(ranges) - maxListed; more > 0 {
		return fmt.Sprintf("%s and %d more", strings.Join(ranges[:maxListed], ","), more)
	}
	return strings.Join(ranges, ",")
}
