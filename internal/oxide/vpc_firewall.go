// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package oxide

import (
	"context"
	"fmt"
	"strconv"
	"strings"
)

// FirewallRule is a rule of a VPC's firewall. Rules apply by priority, the lowest number first, and
// of two with the same one the denying rule.
type FirewallRule struct {
	Name string
	// Enabled rules are in force.
	Enabled bool
	// Inbound rules are about what reaches an instance, the others about what leaves it.
	Inbound bool
	// Allow rules let traffic pass, the others drop it.
	Allow    bool
	Priority int
	// Targets are the interfaces that the rule is about; none: every interface in the VPC.
	Targets []FirewallMatch
	// Hosts are the other ends; none: any.
	Hosts []FirewallMatch
	// Protocols are "tcp", "udp", "icmp" and "icmp6"; none: any.
	Protocols []string
	// Ports are those of the instance; none: any. Oxide ignores them unless Protocols has tcp or udp.
	Ports []PortRange
}

// FirewallMatch is what a rule goes by: the name of a VPC, a subnet or an instance, an address, or a
// network.
type FirewallMatch struct {
	// Type is "vpc", "subnet", "instance", "ip" or "ip_net".
	Type  string `json:"type"`
	Value string `json:"value"`
}

// PortRange is a range of ports, both ends included.
type PortRange struct{ First, Last int }

// FirewallRules reads the firewall of a VPC. Rules of a kind that is not known yet are read as far
// as they are understood: what they match by unknown means matches nothing.
func (c *Client) FirewallRules(ctx context.Context, vpcID string) ([]FirewallRule, error) {
	op := objectCall("vpc_firewall_rules_view", "read the firewall of VPC "+vpcID)
	return read(ctx, c, op, func(ctx context.Context) ([]FirewallRule, error) {
		var body struct {
			Rules []firewallRuleJSON `json:"rules"`
		}
		err := c.rawGet(ctx, "/v1/vpc-firewall-rules", nil, map[string]string{"vpc": vpcID}, &body)
		if err != nil {
			return nil, err
		}
		if body.Rules == nil {
			return nil, errNoList
		}
		rules := make([]FirewallRule, 0, len(body.Rules))
		for _, rule := range body.Rules {
			converted, err := rule.convert()
			if err != nil {
				return nil, err
			}
			rules = append(rules, converted)
		}
		return rules, nil
	})
}

type firewallRuleJSON struct {
	Name      string          `json:"name"`
	Status    string          `json:"status"`
	Direction string          `json:"direction"`
	Action    string          `json:"action"`
	Priority  int             `json:"priority"`
	Targets   []FirewallMatch `json:"targets"`
	Filters   struct {
		Hosts     []FirewallMatch `json:"hosts"`
		Ports     []string        `json:"ports"`
		Protocols []struct {
			Type string `json:"type"`
		} `json:"protocols"`
	} `json:"filters"`
}

func (r firewallRuleJSON) convert() (FirewallRule, error) {
	rule := FirewallRule{
		Name: r.Name, Enabled: r.Status == "enabled", Inbound: r.Direction == "inbound",
		Allow: r.Action == "allow", Priority: r.Priority, Targets: r.Targets, Hosts: r.Filters.Hosts,
	}
	for _, protocol := range r.Filters.Protocols {
		rule.Protocols = append(rule.Protocols, protocol.Type)
	}
	for _, text := range r.Filters.Ports {
		ports, err := parsePorts(text)
		if err != nil {
			return FirewallRule{}, fmt.Errorf("firewall rule %s: %w", r.Name, err)
		}
		rule.Ports = append(rule.Ports, ports)
	}
	return rule, nil
}

// parsePorts reads a port, or a range of them: "80" or "80-90".
func parsePorts(text string) (PortRange, error) {
	first, last, isRange := strings.Cut(text, "-")
	if !isRange {
		last = first
	}
	from, err := strconv.ParseUint(first, 10, 16)
	if err != nil {
		return PortRange{}, fmt.Errorf("%q is not a port", text)
	}
	to, err := strconv.ParseUint(last, 10, 16)
	if err != nil {
		return PortRange{}, fmt.Errorf("%q is not a range of ports", text)
	}
	return PortRange{First: int(from), Last: int(to)}, nil
}
