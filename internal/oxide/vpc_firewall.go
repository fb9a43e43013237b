// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package oxide

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/firewall"
)

// FirewallRules reads the firewall of a VPC. What a rule matches by means that are not known yet
// matches nothing; of a rule that cannot be understood at all there is the name alone, which is taken,
// and it is not in force.
func (c *Client) FirewallRules(ctx context.Context, vpcID string) ([]firewall.Rule, error) {
	op := objectCall("vpc_firewall_rules_view", "read the firewall of VPC "+vpcID)
	return read(ctx, c, op, func(ctx context.Context) ([]firewall.Rule, error) {
		var body struct {
			Rules []json.RawMessage `json:"rules"`
		}
		err := c.rawGet(ctx, "/v1/vpc-firewall-rules", nil, map[string]string{"vpc": vpcID}, &body)
		if err != nil {
			return nil, err
		}
		if body.Rules == nil {
			return nil, errNoList
		}
		rules := make([]firewall.Rule, 0, len(body.Rules))
		for _, text := range body.Rules {
			rule, err := decodeFirewallRule(text)
			if err != nil {
				return nil, err
			}
			rules = append(rules, rule)
		}
		return rules, nil
	})
}

// decodeFirewallRule decodes one rule by itself, so that none spoils another.
func decodeFirewallRule(text json.RawMessage) (firewall.Rule, error) {
	var whole firewallRuleJSON
	if json.Unmarshal(text, &whole) == nil {
		if rule, err := whole.convert(); err == nil {
			return rule, nil
		}
	}
	var unknown struct {
		Name string `json:"name"`
	}
	if err := json.Unmarshal(text, &unknown); err != nil || unknown.Name == "" {
		return firewall.Rule{}, errNoID
	}
	return firewall.Rule{Name: unknown.Name}, nil
}

type firewallRuleJSON struct {
	Name      string              `json:"name"`
	Desc      string              `json:"description"`
	Status    string              `json:"status"`
	Direction string              `json:"direction"`
	Action    string              `json:"action"`
	Priority  int                 `json:"priority"`
	Targets   []firewallMatchJSON `json:"targets"`
	Filters   struct {
		Hosts     []firewallMatchJSON `json:"hosts"`
		Ports     []string            `json:"ports"`
		Protocols []struct {
			Type string `json:"type"`
		} `json:"protocols"`
	} `json:"filters"`
}

type firewallMatchJSON struct {
	Type  string `json:"type"`
	Value string `json:"value"`
}

func convertMatches(all []firewallMatchJSON) []firewall.Match {
	matches := make([]firewall.Match, 0, len(all))
	for _, match := range all {
		matches = append(matches, firewall.Match(match))
	}
	return matches
}

func (r firewallRuleJSON) convert() (firewall.Rule, error) {
	rule := firewall.Rule{
		Name: r.Name, Description: r.Desc, Enabled: r.Status == "enabled", Inbound: r.Direction == "inbound",
		Allow: r.Action == "allow", Priority: r.Priority,
		Targets: convertMatches(r.Targets), Hosts: convertMatches(r.Filters.Hosts),
	}
	if !rule.Allow && r.Action != "deny" {
		return firewall.Rule{}, fmt.Errorf("firewall rule %s: its action %q is not known", r.Name, r.Action)
	}
	for _, protocol := range r.Filters.Protocols {
		rule.Protocols = append(rule.Protocols, protocol.Type)
	}
	for _, text := range r.Filters.Ports {
		ports, err := parsePorts(text)
		if err != nil {
			return firewall.Rule{}, fmt.Errorf("firewall rule %s: %w", r.Name, err)
		}
		rule.Ports = append(rule.Ports, ports)
	}
	return rule, nil
}

// parsePorts reads a port, or a range of them: "80" or "80-90".
func parsePorts(text string) (firewall.PortRange, error) {
	first, last, isRange := strings.Cut(text, "-")
	if !isRange {
		last = first
	}
	from, err := strconv.ParseUint(first, 10, 16)
	if err != nil {
		return firewall.PortRange{}, fmt.Errorf("%q is not a port", text)
	}
	to, err := strconv.ParseUint(last, 10, 16)
	if err != nil {
		return firewall.PortRange{}, fmt.Errorf("%q is not a range of ports", text)
	}
	return firewall.PortRange{First: int(from), Last: int(to)}, nil
}
