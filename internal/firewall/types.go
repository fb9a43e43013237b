// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package firewall

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// Protocol is a transport protocol.
type Protocol string

// The transport protocols.
const (
	TCP  Protocol = "TCP"
	UDP  Protocol = "UDP"
	SCTP Protocol = "SCTP"
)

// Port is a port of a transport protocol.
type Port struct {
	Protocol Protocol
	Number   int
}

// String returns the port as people write it, for example "TCP 80".
func (p Port) String() string { return string(p.Protocol) + " " + strconv.Itoa(p.Number) }

// Rule is a rule of a VPC's firewall. Rules apply by priority, the lowest number first, and of two
// with the same one the denying rule.
type Rule struct {
	Name, Description string
	// Enabled rules are in force.
	Enabled bool
	// Inbound rules are about what reaches an instance, the others about what leaves it.
	Inbound bool
	// Allow rules let traffic pass, the others drop it.
	Allow    bool
	Priority int
	// Targets are the interfaces that the rule is about; none: every interface in the VPC.
	Targets []Match
	// Hosts are the other ends; none: any.
	Hosts []Match
	// Protocols are "tcp", "udp", "icmp" and "icmp6"; none: any.
	Protocols []string
	// Ports are those of the instance; none: any. Oxide ignores them unless Protocols has tcp or
	// udp.
	Ports []PortRange
}

// Match is what a rule goes by: the name of a VPC, a subnet or an instance, an address, or a
// network.
type Match struct {
	// Type is "vpc", "subnet", "instance", "ip" or "ip_net".
	Type  string
	Value string
}

// PortRange is a range of ports, both ends included.
type PortRange struct{ First, Last int }

// ParseNetwork reads a network in CIDR notation, or a single address.
func ParseNetwork(text string) (netip.Prefix, bool) {
	network, err := netip.ParsePrefix(text)
	if err != nil {
		addr, err := netip.ParseAddr(text)
		if err != nil || addr.Zone() != "" {
			return netip.Prefix{}, false
		}
		network = netip.PrefixFrom(addr, addr.BitLen())
	}
	const mapped = 96
	if network.Addr().Is4In6() {
		if network.Bits() < mapped {
			return netip.Prefix{}, false
		}
		network = netip.PrefixFrom(network.Addr().Unmap(), network.Bits()-mapped)
	}
	return network.Masked(), true
}

// Equivalent reports whether two rules do the same under the same name, whatever their descriptions, and
// however networks are written.
func Equivalent(a, b *Rule) bool {
	return a.Name == b.Name && a.Enabled == b.Enabled && a.Inbound == b.Inbound && a.Allow == b.Allow &&
		a.Priority == b.Priority &&
		slices.Equal(canonical(a.Targets), canonical(b.Targets)) &&
		slices.Equal(canonical(a.Hosts), canonical(b.Hosts)) &&
		slices.Equal(union(a.Protocols, nil), union(b.Protocols, nil)) &&
		slices.Equal(MergePorts(a.Ports), MergePorts(b.Ports))
}

// canonical writes matches in order, each in one way.
func canonical(matches []Match) []string {
	var texts []string
	for _, match := range matches {
		if network, ok := ParseNetwork(match.Value); ok && strings.HasPrefix(match.Type, "ip") {
			texts = append(texts, "ip "+network.String())
		} else {
			texts = append(texts, match.Type+" "+match.Value)
		}
	}
	slices.Sort(texts)
	return slices.Compact(texts)
}

// Interface is the primary network interface of an instance, as rules see it.
type Interface struct {
	InstanceName, VPCID, VPCName, SubnetName string
	// Addrs are its private addresses, at most one per family.
	Addrs []netip.Addr
}
