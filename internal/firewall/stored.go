// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package firewall

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
)

// Stored is a rule as Oxide shows it.
type Stored struct {
	// Rule is what is understood of it. Of a rule that cannot be understood at all there is the name
	// alone, and it is not in force.
	Rule

	// raw is what writes it back: all that Oxide shows but what Oxide itself sets.
	raw string
	// unwritable is why raw would not write it back exactly as it is; empty: it would.
	unwritable string
}

// Raw returns what writes the rule back, in the form in which Oxide's API takes it.
func (s *Stored) Raw() string { return s.raw }

// Unwritable returns why that would not write it back exactly as it is, in words that follow "it has";
// empty: it would.
func (s *Stored) Unwritable() string { return s.unwritable }

// setByOxide are the fields of a rule that Oxide sets, and that nobody writes.
var setByOxide = []string{"id", "vpc_id", "time_created", "time_modified"}

var errNoName = errors.New("a firewall rule has no name")

// ParseStored reads a rule in the form in which Oxide's API shows it.
func ParseStored(text json.RawMessage) (Stored, error) {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(text, &fields); err != nil {
		return Stored{}, err
	}
	stored := Stored{unwritable: unwritable(fields)}
	if err := json.Unmarshal(fields["name"], &stored.Name); err != nil || stored.Name == "" {
		return Stored{}, errNoName
	}
	var whole ruleJSON
	if json.Unmarshal(text, &whole) == nil {
		if rule, err := whole.convert(); err == nil {
			stored.Rule = rule
		}
	}
	_ = json.Unmarshal(fields["description"], &stored.Description) // of what cannot be read there is none
	for _, name := range setByOxide {
		delete(fields, name)
	}
	raw, err := json.Marshal(fields)
	stored.raw = string(raw)
	return stored, err
}

// unwritable returns why a rule could not be written back exactly as it is: it has what this version
// does not know, which may mean anything; empty: it could.
func unwritable(fields map[string]json.RawMessage) string {
	c := &shapeCheck{}
	c.fields("", fields, "name", "description", "status", "direction", "targets", "filters", "action",
		"priority")
	c.text("description", fields["description"])
	c.oneOf("status", fields["status"], "enabled", "disabled")
	c.oneOf("direction", fields["direction"], "inbound", "outbound")
	c.oneOf("action", fields["action"], "allow", "deny")
	c.number("priority", fields["priority"], math.MaxUint16)
	c.typed("targets", fields["targets"], matchTypes, false)
	filters := c.object("filters", fields["filters"])
	c.fields("filters.", filters, "hosts", "ports", "protocols")
	c.typed("filters.hosts", filters["hosts"], matchTypes, true)
	c.ports("filters.ports", filters["ports"])
	c.typed("filters.protocols", filters["protocols"], protocolTypes, true)
	return c.problem
}

var (
	matchTypes = map[string]bool{
		"vpc": true, "subnet": true, "instance": true, "ip": true, "ip_net": true,
	}
	protocolTypes = map[string]bool{"tcp": false, "udp": false, "icmp": true, "icmp6": true}
)

// shapeCheck finds the first thing in a rule that is not known.
type shapeCheck struct{ problem string }

func (c *shapeCheck) fail(format string, args ...any) {
	if c.problem == "" {
		c.problem = strings.Join(strings.Fields(fmt.Sprintf(format, args...)), " ")
	}
}

// fields checks that exactly these are there, besides those that Oxide sets; filters may be left out.
func (c *shapeCheck) fields(at string, fields map[string]json.RawMessage, known ...string) {
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		if !slices.Contains(known, name) && (at != "" || !slices.Contains(setByOxide, name)) {
			c.fail("the field %s%.60s", at, name)
		}
	}
	for _, name := range known {
		if _, there := fields[name]; !there && at == "" {
			c.fail("no %s", name)
		}
	}
}

func (c *shapeCheck) oneOf(field string, text json.RawMessage, known ...string) {
	var value string
	if json.Unmarshal(text, &value) != nil || !slices.Contains(known, value) {
		c.fail("the %s %.60s", field, text)
	}
}

func (c *shapeCheck) text(field string, text json.RawMessage) {
	var value *string
	if json.Unmarshal(text, &value) != nil || value == nil {
		c.fail("the %s %.60s", field, text)
	}
}

func (c *shapeCheck) number(field string, text json.RawMessage, most int) {
	var value *int
	if json.Unmarshal(text, &value) != nil || value == nil || *value < 0 || *value > most {
		c.fail("the %s %.60s", field, text)
	}
}

// ports checks a list of ports and ranges of them; it may be left out.
func (c *shapeCheck) ports(field string, text json.RawMessage) {
	var list []*string
	known := len(text) == 0 || json.Unmarshal(text, &list) == nil
	for _, one := range list {
		if known = known && one != nil; known {
			_, err := parsePorts(*one)
			known = err == nil
		}
	}
	if !known {
		c.fail("the %s %.60s", field, text)
	}
}

func (c *shapeCheck) object(field string, text json.RawMessage) map[string]json.RawMessage {
	var object map[string]json.RawMessage
	if json.Unmarshal(text, &object) != nil || object == nil {
		c.fail("the %s %.60s", field, text)
	}
	return object
}

// typed checks a list of objects with a type and, where that says so, a value.
func (c *shapeCheck) typed(field string, text json.RawMessage, types map[string]bool, optional bool) {
	var list []map[string]json.RawMessage
	if len(text) == 0 && optional {
		return
	}
	if json.Unmarshal(text, &list) != nil || list == nil && !optional {
		c.fail("the %s %.60s", field, text)
		return
	}
	for _, entry := range list {
		var kind string
		takesValue, known := false, json.Unmarshal(entry["type"], &kind) == nil
		if known {
			takesValue, known = types[kind]
		}
		value, hasValue := entry["value"]
		switch {
		case !known:
			c.fail("the type %.60s in its %s", entry["type"], field)
		case hasValue && !takesValue && string(value) != "null":
			c.fail("a value of the type %s in its %s", kind, field)
		case matchTypes[kind]:
			c.text("value of the type "+kind+" in its "+field, value)
		}
		for _, name := range slices.Sorted(maps.Keys(entry)) {
			if name != "type" && name != "value" {
				c.fail("the field %.60s in its %s", name, field)
			}
		}
		if strings.HasPrefix(kind, "icmp") && hasValue && string(value) != "null" {
			c.icmp(field, value)
		}
	}
}

// icmp checks which messages of ICMP a rule is about.
func (c *shapeCheck) icmp(field string, text json.RawMessage) {
	filter := c.object(field, text)
	c.fields(field+".", filter, "icmp_type", "code")
	c.number("icmp_type in its "+field, filter["icmp_type"], math.MaxUint8)
	if code, has := filter["code"]; has && string(code) != "null" {
		c.text("code in its "+field, code)
	}
}

// ruleJSON is a rule as Oxide's API shows and takes it.
type ruleJSON struct {
	Name        string      `json:"name"`
	Description string      `json:"description"`
	Status      string      `json:"status"`
	Direction   string      `json:"direction"`
	Action      string      `json:"action"`
	Priority    int         `json:"priority"`
	Targets     []typedJSON `json:"targets"`
	Filters     filtersJSON `json:"filters"`
}

type filtersJSON struct {
	Hosts     []typedJSON    `json:"hosts,omitempty"`
	Ports     []string       `json:"ports,omitempty"`
	Protocols []protocolJSON `json:"protocols,omitempty"`
}

type typedJSON struct {
	Type  string `json:"type"`
	Value string `json:"value"`
}

// protocolJSON leaves out what some protocols have besides.
type protocolJSON struct {
	Type string `json:"type"`
}

func (r *ruleJSON) convert() (Rule, error) {
	rule := Rule{
		Name: r.Name, Description: r.Description, Enabled: r.Status == "enabled",
		Inbound: r.Direction == "inbound", Allow: r.Action == "allow", Priority: r.Priority,
		Targets: toMatches(r.Targets), Hosts: toMatches(r.Filters.Hosts),
	}
	if !rule.Allow && r.Action != "deny" {
		return Rule{}, fmt.Errorf("the action %q is not known", r.Action)
	}
	for _, protocol := range r.Filters.Protocols {
		rule.Protocols = append(rule.Protocols, protocol.Type)
	}
	for _, text := range r.Filters.Ports {
		ports, err := parsePorts(text)
		if err != nil {
			return Rule{}, err
		}
		rule.Ports = append(rule.Ports, ports)
	}
	return rule, nil
}

func toMatches(all []typedJSON) []Match {
	matches := make([]Match, 0, len(all))
	for _, match := range all {
		matches = append(matches, Match(match))
	}
	return matches
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

// toJSON returns the rule as Oxide's API takes it.
func (r *Rule) toJSON() ruleJSON {
	spell := func(yes bool, ifSo, ifNot string) string {
		if yes {
			return ifSo
		}
		return ifNot
	}
	whole := ruleJSON{
		Name: r.Name, Description: r.Description, Status: spell(r.Enabled, "enabled", "disabled"),
		Direction: spell(r.Inbound, "inbound", "outbound"), Action: spell(r.Allow, "allow", "deny"),
		Priority: r.Priority, Targets: make([]typedJSON, 0, len(r.Targets)),
	}
	for _, target := range r.Targets {
		whole.Targets = append(whole.Targets, typedJSON(target))
	}
	for _, host := range r.Hosts {
		whole.Filters.Hosts = append(whole.Filters.Hosts, typedJSON(host))
	}
	for _, name := range r.Protocols {
		whole.Filters.Protocols = append(whole.Filters.Protocols, protocolJSON{name})
	}
	whole.Filters.Ports = rangeTexts(r.Ports)
	return whole
}

// JSON returns the rule as Oxide's API takes it.
func (r *Rule) JSON() string {
	text, err := json.Marshal(r.toJSON())
	if err != nil {
		return fmt.Sprintf("(%v)", err) // only strings and numbers: this cannot be
	}
	return string(text)
}
