// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package firewall

import (
	"net/netip"
	"strconv"
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

// Interface is the primary network interface of an instance, as rules see it.
type Interface struct {
	InstanceName, VPCID, VPCName, SubnetName string
	// Addrs are its private addresses, at most one per family.
	Addrs []netip.Addr
}
