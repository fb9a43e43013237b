// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package firewall

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"
)

// ClosedPort is a port to which the firewall lets nothing through from outside.
type ClosedPort struct {
	Port
	// DeniedBy is the rule that closes it, DenyPriority its priority; empty: no rule opens it.
	DeniedBy     string
	DenyPriority int
}

// InOrder returns the rules in the order in which they apply. It returns rules that are in order as
// they are.
func InOrder(rules []Rule) []Rule {
	compare := func(a, b Rule) int {
		switch {
		case a.Priority != b.Priority:
			return cmp.Compare(a.Priority, b.Priority)
		case a.Allow == b.Allow:
			return 0
		case b.Allow:
			return -1
		}
		return 1
	}
	if slices.IsSortedFunc(rules, compare) {
		return rules
	}
	inOrder := slices.Clone(rules)
	slices.SortStableFunc(inOrder, compare)
	return inOrder
}

// ClosedPorts returns those of the ports, on one private address of an interface, to which no
// packet from outside the VPC gets. A port that is open to some hosts is open. Ports of protocols
// that the firewall does not know are left out.
func ClosedPorts(rules []Rule, at Interface, addr netip.Addr, ports []Port) []ClosedPort {
	inOrder := InOrder(rules)
	var closed []ClosedPort
	for _, port := range ports {
		if port.Protocol != TCP && port.Protocol != UDP {
			continue
		}
		if verdict, isClosed := judgePort(inOrder, at, addr, port); isClosed {
			closed = append(closed, verdict)
		}
	}
	return closed
}

// judgePort follows the rules in their order to the first that decides.
func judgePort(rules []Rule, at Interface, addr netip.Addr, port Port) (ClosedPort, bool) {
	for i := range rules {
		rule := &rules[i]
		if !rule.Enabled || !rule.Inbound || !rule.coversTarget(at, addr) || !rule.coversPort(port) {
			continue
		}
		some, all := rule.coversOutside(addr)
		switch {
		case rule.Allow && some:
			return ClosedPort{}, false
		case !rule.Allow && all:
			return ClosedPort{Port: port, DeniedBy: rule.Name, DenyPriority: rule.Priority}, true
		}
	}
	return ClosedPort{Port: port}, true
}

func (r *Rule) coversTarget(at Interface, addr netip.Addr) bool {
	if len(r.Targets) == 0 {
		return true
	}
	return slices.ContainsFunc(r.Targets, func(t Match) bool {
		switch t.Type {
		case "vpc":
			return t.Value == at.VPCName
		case "subnet":
			return t.Value == at.SubnetName
		case "instance":
			return t.Value == at.InstanceName
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
func (r *Rule) coversPort(port Port) bool {
	if len(r.Protocols) == 0 {
		return true
	}
	isProtocol := func(name string) bool { return strings.EqualFold(name, string(port.Protocol)) }
	if !slices.ContainsFunc(r.Protocols, isProtocol) {
		return false
	}
	return len(r.Ports) == 0 || slices.ContainsFunc(r.Ports, func(r PortRange) bool {
		return r.First <= port.Number && port.Number <= r.Last
	})
}

// coversOutside reports whether a rule is about some hosts of the address's family outside the VPC,
// and about all of them.
func (r *Rule) coversOutside(addr netip.Addr) (some, all bool) {
	if len(r.Hosts) == 0 {
		return true, true
	}
	for _, host := range r.Hosts {
		switch host.Type {
		case "ip":
			other, err := netip.ParseAddr(host.Value)
			some = some || err == nil && other.Is4() == addr.Is4()
		case "ip_net":
			network, err := netip.ParsePrefix(host.Value)
			matches := err == nil && network.Addr().Is4() == addr.Is4()
			some = some || matches
			all = all || matches && network.Bits() == 0
		}
	}
	return some, all
}
