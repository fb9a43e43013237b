// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package firewall

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

const (
	// maxExplanation is what an event has room for, and maxListed how many ranges of ports it lists.
	maxExplanation = 400
	maxListed      = 8
	// byFlag is what can be done instead of adding a rule by hand.
	byFlag = ", or start oxide-backend with --manage-firewall"
)

// Explain says in one line of at most 400 bytes which of the ports the firewall closes on one private
// address of an interface, and which rule to add, or to put in the place of which; name is the rule's
// name. It returns an empty text if none is closed, or if the name of the VPC, by which rules go, is not
// known.
func Explain(name string, rules []Rule, at Interface, addr netip.Addr, ports []Port) string {
	return explainRemedy(name, rules, at, addr, ports, byFlag)
}

// ExplainByHand is Explain for a load balancer for which no rules are to be kept.
func ExplainByHand(name string, rules []Rule, at Interface, addr netip.Addr, ports []Port) string {
	return explainRemedy(name, rules, at, addr, ports, "")
}

func explainRemedy(
	name string, rules []Rule, at Interface, addr netip.Addr, ports []Port, instead string,
) string {
	text, closed := explain(rules, at, addr, ports)
	if text == "" {
		return ""
	}
	text += ": "
	changes := Open(name, at.VPCName, rules, []Place{{at, addr}}, ports)
	text += Before(closed)
	for _, remedy := range []string{Describe(changes), shorter(changes)} {
		if len(text)+len(remedy)+len(instead) <= maxExplanation {
			return text + remedy + instead
		}
	}
	return fmt.Sprintf("the firewall of the VPC %s lets nothing through to %d of its ports: oxide-backend "+
		"check, with --port for each of them, shows the rule to add", at.VPCName, len(closed)) + instead
}

// ExplainKept is Explain for a load balancer whose rules are kept: none has to be added.
func ExplainKept(rules []Rule, at Interface, addr netip.Addr, ports []Port) string {
	text, closed := explain(rules, at, addr, ports)
	denied := slices.IndexFunc(closed, func(port ClosedPort) bool { return port.DeniedBy != "" })
	if denied < 0 {
		return text
	}
	text += ": give that a priority above that of the rules that oxide-backend keeps"
	if first := closed[denied].DenyPriority; first > 0 {
		text += fmt.Sprintf(", or start it with a --firewall-priority below %d", first)
	}
	return text
}

// explain says which of the ports the firewall closes; empty: none.
func explain(
	rules []Rule, at Interface, addr netip.Addr, ports []Port,
) (text string, closed []ClosedPort) {
	if at.VPCName == "" {
		return "", nil
	}
	closed = ClosedPorts(rules, at, addr, ports)
	if len(closed) == 0 {
		return "", nil
	}
	return fmt.Sprintf("the firewall of the VPC %s lets nothing through to %s%s", at.VPCName,
		describePorts(closed), denial(closed)), closed
}

// Before says what has to be done before a rule can open what is closed, ending in a comma; empty:
// nothing.
func Before(closed []ClosedPort) string {
	for _, port := range closed {
		if port.DeniedBy != "" && port.DenyPriority == 0 {
			// Of two rules of one priority the denying one wins.
			return "give the rule " + port.DeniedBy + " a priority above 0, and "
		}
	}
	return ""
}

// Describe says what to do to a firewall, with rules in the form in which Oxide's API takes them.
func Describe(changes []Change) string {
	if len(changes) == 0 {
		return fmt.Sprintf("it has %d rules, the most that Oxide takes: remove one, then a rule can be added",
			MaxRules)
	}
	var parts []string
	for _, change := range changes {
		verb := "add the rule "
		if change.Replaces {
			verb = "replace the rule " + change.Rule.Name + " by "
		}
		parts = append(parts, verb+change.Rule.JSON())
	}
	return strings.Join(parts, ", and ")
}

// shorter is Describe in few words.
func shorter(changes []Change) string {
	if len(changes) != 1 {
		return Describe(changes)
	}
	rule, verb := &changes[0].Rule, "add the rule "
	if changes[0].Replaces {
		verb = "change the rule "
	}
	return fmt.Sprintf("%s%s, which allows inbound %s to the ports %s, with the priority %d", verb,
		rule.Name, strings.Join(rule.Protocols, " and "), ShortList(rangeTexts(rule.Ports)), rule.Priority)
}

// describePorts lists the ports that are closed, the first ones if there are many.
func describePorts(closed []ClosedPort) string {
	var what []string
	for _, protocol := range []Protocol{TCP, UDP} {
		var ranges []PortRange
		for _, port := range closed {
			if port.Protocol == protocol {
				ranges = append(ranges, PortRange{port.Number, port.Number})
			}
		}
		if len(ranges) > 0 {
			what = append(what, string(protocol)+" "+ShortList(rangeTexts(MergePorts(ranges))))
		}
	}
	return strings.Join(what, " and ")
}

func denial(closed []ClosedPort) string {
	for _, port := range closed {
		if port.DeniedBy != "" {
			return "; the rule " + port.DeniedBy + " denies it"
		}
	}
	return ""
}

// rangeTexts writes ports as Oxide takes them.
func rangeTexts(ranges []PortRange) []string {
	texts := make([]string, len(ranges))
	for i, r := range ranges {
		texts[i] = strconv.Itoa(r.First)
		if r.Last > r.First {
			texts[i] = fmt.Sprintf("%d-%d", r.First, r.Last)
		}
	}
	return texts
}

// ShortList lists ranges of ports, the first ones if there are many.
func ShortList(ranges []string) string {
	if more := len(ranges) - maxListed; more > 0 {
		return fmt.Sprintf("%s and %d more", strings.Join(ranges[:maxListed], ","), more)
	}
	return strings.Join(ranges, ",")
}
