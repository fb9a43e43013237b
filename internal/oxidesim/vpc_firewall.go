// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package oxidesim

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/google/uuid"
)

const (
	maxRules       = 1024
	maxRuleEntries = 256
)

// firewallRuleJSON is a rule as it is stored and answered. A filter that is nil matches
// anything.
type firewallRuleJSON struct {
	identity
	VPCID     string              `json:"vpc_id"`
	Status    string              `json:"status"`
	Direction string              `json:"direction"`
	Targets   []typedValue        `json:"targets"`
	Filters   firewallFiltersJSON `json:"filters"`
	Action    string              `json:"action"`
	Priority  uint16              `json:"priority"`
}

type firewallFiltersJSON struct {
	Hosts     *[]typedValue   `json:"hosts"`
	Ports     *[]string       `json:"ports"`
	Protocols *[]protocolJSON `json:"protocols"`
}

// protocolJSON is {"type":"tcp"} or {"type":"icmp","value":null|{…}}: the value of the latter
// is there even if it is null.
type protocolJSON struct {
	kind string
	icmp *icmpFilterJSON
}

type icmpFilterJSON struct {
	Type uint8   `json:"icmp_type"`
	Code *string `json:"code"`
}

// MarshalJSON writes the union.
func (p protocolJSON) MarshalJSON() ([]byte, error) {
	if p.kind == "tcp" || p.kind == "udp" {
		return mustJSON(typedValue{Type: p.kind}), nil
	}
	return mustJSON(struct {
		Type  string          `json:"type"`
		Value *icmpFilterJSON `json:"value"`
	}{p.kind, p.icmp}), nil
}

type firewallRulesJSON struct {
	Rules []firewallRuleJSON `json:"rules"`
}

func (s *Simulator) newRule(v *vpc, name, description string) firewallRuleJSON {
	m := s.newMeta(v.project, v.id, name, description)
	return firewallRuleJSON{identity: m.identity(), VPCID: v.id.String()}
}

// defaultRules are those of a new VPC: everything within, ssh and ICMP from anywhere.
func (s *Simulator) defaultRules(v *vpc) []firewallRuleJSON {
	rule := func(name, description string, f firewallFiltersJSON) firewallRuleJSON {
		r := s.newRule(v, name, description)
		r.Status, r.Direction, r.Action, r.Priority = "enabled", "inbound", "allow", 65534
		r.Targets, r.Filters = []typedValue{typed("vpc", v.name)}, f
		return r
	}
	return []firewallRuleJSON{
		rule("allow-icmp", "allow inbound ICMP traffic from anywhere",
			firewallFiltersJSON{Protocols: &[]protocolJSON{{kind: "icmp"}}}),
		rule("allow-internal-inbound",
			"allow inbound traffic to all instances within the VPC if originated within the VPC",
			firewallFiltersJSON{Hosts: &[]typedValue{typed("vpc", v.name)}}),
		rule("allow-ssh", "allow inbound TCP connections on port 22 from anywhere",
			firewallFiltersJSON{
				Ports: &[]string{"22"}, Protocols: &[]protocolJSON{{kind: "tcp"}},
			}),
	}
}

func (s *Simulator) firewallView(c *call) (any, error) {
	v, err := c.listVPC(roleViewer)
	if err != nil {
		return nil, err
	}
	return firewallRulesJSON{slices.Clone(v.rules)}, nil
}

// firewallUpdate replaces the whole set: every rule gets a new id and new times, and no rules
// at all close the VPC. The rules are stored, then sent to the sleds; if that fails the
// answer is a 500 although they are stored.
func (s *Simulator) firewallUpdate(c *call) (any, error) {
	f := c.fields()
	var wanted []firewallRuleJSON
	for _, o := range f.objects("rules") {
		wanted = append(wanted, readRule(o))
	}
	if err := f.done(); err != nil {
		return nil, err
	}
	s.mu.Lock()
	v, err := c.listVPC(roleCollaborator)
	if err == nil {
		err = checkRules(v, wanted)
	}
	if err != nil {
		s.mu.Unlock()
		return nil, err
	}
	for i := range wanted {
		made := s.newRule(v, wanted[i].Name, wanted[i].Description)
		wanted[i].identity, wanted[i].VPCID = made.identity, made.VPCID
	}
	slices.SortFunc(wanted, func(a, b firewallRuleJSON) int { return cmp.Compare(a.Name, b.Name) })
	v.rules = append([]firewallRuleJSON{}, wanted...)
	out := firewallRulesJSON{slices.Clone(v.rules)}
	sleds := s.sledsOf(v.id)
	restart := s.nexus.current()
	s.mu.Unlock()
	for sl := range sleds {
		if err := s.reach(sl, internal(), restart); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// sledsOf are the sleds that instances of a VPC run on.
func (s *Simulator) sledsOf(vpc uuid.UUID) map[*sled]bool {
	out := map[*sled]bool{}
	for _, n := range s.db.nics.rows {
		i := s.db.instances.rows[n.parent]
		if n.subnet.parent == vpc && i != nil && i.vmm != nil {
			out[i.vmm.sled] = true
		}
	}
	return out
}

func readRule(f *fields) firewallRuleJSON {
	r := firewallRuleJSON{
		identity:  identity{Name: f.name("name"), Description: f.str("description")},
		Status:    f.enum("status", "enabled", "disabled"),
		Direction: f.enum("direction", "inbound", "outbound"),
		Action:    f.enum("action", "allow", "deny"),
		Priority:  f.uint16("priority"),
		Targets:   []typedValue{},
	}
	f.must("targets", false)
	for _, o := range f.objects("targets") {
		r.Targets = append(r.Targets, readEnd(o))
	}
	filters := f.object("filters")
	if filters.has("hosts") {
		hosts := []typedValue{}
		for _, o := range filters.objects("hosts") {
			hosts = append(hosts, readEnd(o))
		}
		r.Filters.Hosts = &hosts
	}
	if ports, ok := decode[[]string](filters, "ports", "a list of strings"); ok {
		for n, p := range ports {
			if ports[n], ok = canonicalRange(p, 1, math.MaxUint16); !ok {
				filters.wrong("ports", `ports such as "80" or "8000-8080"`)
			}
		}
		r.Filters.Ports = &ports
	}
	if filters.has("protocols") {
		protocols := []protocolJSON{}
		for _, o := range filters.objects("protocols") {
			protocols = append(protocols, readProtocol(o))
		}
		r.Filters.Protocols = &protocols
	}
	return r
}

// readEnd reads a target or a host: a {type, value} at the top of an object.
func readEnd(f *fields) typedValue {
	switch kind := f.enum("type", "vpc", "subnet", "instance", "ip", "ip_net"); kind {
	case "ip":
		return typed(kind, f.addr("value").String())
	case "ip_net":
		return typed(kind, f.prefix("value").String())
	default:
		return typed(kind, f.name("value"))
	}
}

func readProtocol(f *fields) protocolJSON {
	p := protocolJSON{kind: f.enum("type", "tcp", "udp", "icmp", "icmp6")}
	if p.kind == "tcp" || p.kind == "udp" {
		return p
	}
	if v := f.optObject("value"); v != nil {
		p.icmp = &icmpFilterJSON{Type: need[uint8](v, "icmp_type", "a u8"), Code: v.optStr("code")}
		if code := p.icmp.Code; code != nil {
			var ok bool
			if *code, ok = canonicalRange(*code, 0, math.MaxUint8); !ok {
				v.wrong("code", `codes such as "3" or "0-5"`)
			}
		}
	}
	return p
}

// canonicalRange reads "80" and "80-90" and writes them as the rack does, which is without
// leading zeros, and as one number if both ends are the same.
func canonicalRange(s string, least, most uint64) (string, bool) {
	left, right, ranged := strings.Cut(s, "-")
	if !ranged {
		right = left
	}
	first, errFirst := strconv.ParseUint(left, 10, 16)
	last, errLast := strconv.ParseUint(right, 10, 16)
	if errFirst != nil || errLast != nil || first > last || first < least || last > most {
		return s, false
	}
	if first == last {
		return strconv.FormatUint(first, 10), true
	}
	return fmt.Sprintf("%d-%d", first, last), true
}

func checkRules(v *vpc, rules []firewallRuleJSON) error {
	if len(rules) > maxRules {
		return invalidValue("rules", "at most %d rules are allowed", maxRules)
	}
	names := map[string]bool{}
	for _, r := range rules {
		if names[r.Name] {
			return invalidValue("rules", "rule names must be unique: %q", r.Name)
		}
		names[r.Name] = true
		if len([]rune(r.Description)) > maxDescription {
			return internal()
		}
		if err := checkRule(v, r); err != nil {
			return err
		}
	}
	return nil
}

func checkRule(v *vpc, r firewallRuleJSON) error {
	var hosts []typedValue
	if r.Filters.Hosts != nil {
		hosts = *r.Filters.Hosts
	}
	sizes := map[string]int{"targets": len(r.Targets), "filters.hosts": len(hosts)}
	if r.Filters.Ports != nil {
		sizes["filters.ports"] = len(*r.Filters.Ports)
	}
	if r.Filters.Protocols != nil {
		sizes["filters.protocols"] = len(*r.Filters.Protocols)
	}
	for field, n := range sizes {
		if n > maxRuleEntries {
			return invalidValue(field, "%s", fmt.Sprintf("at most %d are allowed", maxRuleEntries))
		}
	}
	for _, e := range slices.Concat(r.Targets, hosts) {
		if e.Type == "vpc" && *e.Value != v.name {
			return invalidRequest("a rule cannot refer to another VPC: %q", *e.Value)
		}
	}
	return nil
}
