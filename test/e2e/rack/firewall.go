// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package rack

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// AllOpen is a rule of the firewall that lets everything through.
const AllOpen = `{"name":"all","description":"","status":"enabled","direction":"inbound",` +
	`"action":"allow","priority":100,"targets":[{"type":"vpc","value":"default"}],"filters":{}}`

const firewallPath = "/v1/vpc-firewall-rules?project=" + Project + "&vpc=default"

// AddFirewallRule adds a rule, in the form in which Oxide's API takes it, to those of the VPC, as
// another client does.
func (r *Rack) AddFirewallRule(ctx context.Context, rule string) error {
	if !json.Valid([]byte(rule)) {
		return fmt.Errorf("the rule is no JSON: %s", rule)
	}
	return r.ChangeFirewall(ctx, func(rules []json.RawMessage) []json.RawMessage {
		return append(rules, json.RawMessage(rule))
	})
}

// ChangeFirewall changes the rules of the VPC as another client does: it reads all of them and writes
// all of them.
func (r *Rack) ChangeFirewall(
	ctx context.Context, change func([]json.RawMessage) []json.RawMessage,
) error {
	var rules struct {
		Rules []json.RawMessage `json:"rules"`
	}
	if err := r.call(ctx, http.MethodGet, firewallPath, nil, &rules); err != nil {
		return err
	}
	rules.Rules = change(rules.Rules)
	body, err := json.Marshal(rules)
	if err != nil {
		return err
	}
	return r.call(ctx, http.MethodPut, firewallPath, body, nil)
}

// Firewall is all rules of the VPC, ordered by name.
type Firewall []FirewallRule

// FirewallRule is one of them.
type FirewallRule struct {
	Name        string       `json:"name"`
	Description string       `json:"description"`
	Status      string       `json:"status"`
	Direction   string       `json:"direction"`
	Action      string       `json:"action"`
	Priority    int          `json:"priority"`
	Targets     []TypedValue `json:"targets"`
	Filters     struct {
		Hosts     []TypedValue `json:"hosts"`
		Ports     []string     `json:"ports"`
		Protocols []struct {
			Type string `json:"type"`
		} `json:"protocols"`
	} `json:"filters"`

	// Text is the whole rule, but for what Oxide sets anew whenever any rule is written.
	Text string `json:"-"`
}

// TypedValue is a target or a host of a rule.
type TypedValue struct {
	Type  string `json:"type"`
	Value string `json:"value"`
}

// Firewall returns the rules of the VPC.
func (r *Rack) Firewall(ctx context.Context) (Firewall, error) {
	var all struct {
		Rules []map[string]json.RawMessage `json:"rules"`
	}
	if err := r.call(ctx, http.MethodGet, firewallPath, nil, &all); err != nil {
		return nil, err
	}
	firewall := make(Firewall, len(all.Rules))
	for i, fields := range all.Rules {
		for _, name := range []string{"id", "vpc_id", "time_created", "time_modified"} {
			delete(fields, name)
		}
		text, err := json.Marshal(fields)
		if err != nil {
			return nil, err
		}
		if err := json.Unmarshal(text, &firewall[i]); err != nil {
			return nil, fmt.Errorf("a rule has another form: %w", err)
		}
		firewall[i].Text = string(text)
	}
	slices.SortFunc(firewall, func(a, b FirewallRule) int { return cmp.Compare(a.Name, b.Name) })
	return firewall, nil
}

// OtherScope is the cluster in the markers of rules that are none of the programs under test.
const OtherScope = "elsewhere"

// Marked returns the rules that have the marker of the cloud controller manager under test.
func (f Firewall) Marked() Firewall {
	return slices.DeleteFunc(slices.Clone(f), func(r FirewallRule) bool { return !r.isMarked() })
}

// Of returns the rules of one Service, by its key.
func (f Firewall) Of(key string) Firewall {
	return slices.DeleteFunc(f.Marked(), func(r FirewallRule) bool {
		return !strings.Contains(r.Description, " name="+key+" ")
	})
}

// Service returns the key of the Service in the marker of a rule.
func (r FirewallRule) Service() string {
	_, rest, _ := strings.Cut(r.Description, " name=")
	key, _, _ := strings.Cut(rest, " ")
	return key
}

// Foreign returns all other rules as text.
func (f Firewall) Foreign() (texts []string) {
	for _, rule := range f {
		if !rule.isMarked() {
			texts = append(texts, rule.Text)
		}
	}
	return texts
}

func (r FirewallRule) isMarked() bool {
	return strings.Contains(r.Description, "oxide-ccm/v1 ") &&
		!strings.Contains(r.Description, "oxide-ccm/v1 scope="+OtherScope+" ")
}

// LetsIn reports whether a packet from outside reaches a port of an instance.
func (f Firewall) LetsIn(from string, to Instance, protocol string, port int) bool {
	// Of one priority the rule that denies wins.
	inOrder := slices.SortedStableFunc(slices.Values(f), func(a, b FirewallRule) int {
		return cmp.Or(cmp.Compare(a.Priority, b.Priority), -cmp.Compare(a.Action, b.Action))
	})
	sender := netip.MustParseAddr(from)
	for _, rule := range inOrder {
		if rule.Status == "enabled" && rule.Direction == "inbound" && rule.isAbout(to) &&
			rule.isFrom(sender) && rule.isFor(protocol, port) {
			return rule.Action == "allow"
		}
	}
	return false
}

func (r FirewallRule) isAbout(to Instance) bool {
	return len(r.Targets) == 0 || slices.ContainsFunc(r.Targets, func(target TypedValue) bool {
		switch target.Type {
		case "vpc", "subnet":
			return target.Value == "default"
		case "instance":
			return target.Value == to.Name
		}
		return false
	})
}

// isFrom reports whether a rule is about what an address outside sends: no VPC, subnet or instance has
// it.
func (r FirewallRule) isFrom(sender netip.Addr) bool {
	return len(r.Filters.Hosts) == 0 || slices.ContainsFunc(r.Filters.Hosts, func(host TypedValue) bool {
		switch host.Type {
		case "ip":
			return host.Value == sender.String()
		case "ip_net":
			network, err := netip.ParsePrefix(host.Value)
			return err == nil && network.Contains(sender)
		}
		return false
	})
}

// isFor reports whether a rule is about a port. Without protocols it is about everything.
func (r FirewallRule) isFor(protocol string, port int) bool {
	if len(r.Filters.Protocols) == 0 {
		return true
	}
	has := false
	for _, each := range r.Filters.Protocols {
		has = has || each.Type == protocol
	}
	if !has {
		return false
	}
	return len(r.Filters.Ports) == 0 || slices.ContainsFunc(r.Filters.Ports, func(text string) bool {
		first, last, isRange := strings.Cut(text, "-")
		if !isRange {
			last = first
		}
		from, errFrom := strconv.Atoi(first)
		to, errTo := strconv.Atoi(last)
		return errFrom == nil && errTo == nil && from <= port && port <= to
	})
}
