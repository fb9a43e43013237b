// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package ruleset

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/firewall"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/ownership"
)

// Stored is a rule of a VPC.
type Stored struct {
	firewall.Stored
	// Marker says for which load balancer it is kept, if Marked.
	Marker ownership.Marker
	Marked bool
}

// Read finds out which rules of a VPC are kept for load balancers.
func Read(all []firewall.Stored) []Stored {
	stored := make([]Stored, len(all))
	for i := range all {
		marker, marked := ownership.ParseMarker(all[i].Description)
		stored[i] = Stored{all[i], marker, marked && marker.Source == ownership.RuleSource}
	}
	return stored
}

// Desired is what one cluster desires of the firewall of a VPC.
type Desired struct {
	// Scopes are those whose rules are its own: its own one, and those that it takes over from.
	Scopes []string
	// Rules are those of each load balancer, by its name; none: it is to have none. The rules of load
	// balancers that are not here stay as they are.
	Rules map[string][]firewall.Rule
	// Stay are further load balancers whose rules stay as they are: it is not known what they are to have.
	Stay map[string]bool
}

// Merged is what has to be written for a firewall to be as desired.
type Merged struct {
	// Changed: something has to be written.
	Changed bool
	// Blocked is why nothing can be written, whether or not something has to be; empty: it can.
	Blocked string
	// Refused are the load balancers that keep the rules that they have, with the reason, by key.
	Refused map[ownership.Key]string
	// Own is how many rules there are that are kept for load balancers of the clusters.
	Own int

	entries []entry
}

// entry is a rule of the whole set.
type entry struct {
	name, raw string
}

// Body returns the whole set in the form in which Oxide's API takes it: every rule that is not to change
// exactly as it was read. It is never nil.
func (m *Merged) Body() []json.RawMessage {
	body := make([]json.RawMessage, 0, len(m.entries))
	for _, e := range m.entries {
		body = append(body, json.RawMessage(e.raw))
	}
	return body
}

// Merge returns the rules of a firewall as they are to be: other people's stay, those of load balancers
// become what is desired.
func Merge(stored []Stored, desired ...Desired) Merged {
	m := newMerger(stored)
	for i := range desired {
		m.add(&desired[i])
	}
	return m.finish()
}

// Differs returns the keys of the load balancers whose rules are not as desired.
func Differs(stored []Stored, desired ...Desired) map[ownership.Key]bool {
	differ := make(map[ownership.Key]bool)
	for i := range desired {
		d := &desired[i]
		own := d.owned(stored)
		for name, rules := range d.Rules {
			if !asDesired(own[name], rules) {
				differ[ownership.Key{Scope: d.scope(), Name: name}] = true
			}
		}
	}
	return differ
}

// Orphans returns the rules of the clusters that are of none of their load balancers.
func Orphans(stored []Stored, desired Desired) []Stored {
	var orphans []Stored
	for name, rules := range desired.owned(stored) {
		if _, known := desired.Rules[name]; known || desired.Stay[name] {
			continue
		}
		for _, rule := range rules {
			orphans = append(orphans, *rule)
		}
	}
	slices.SortFunc(orphans, func(a, b Stored) int { return strings.Compare(a.Name, b.Name) })
	return orphans
}

// Without returns the rules of a firewall without some of those that are kept for load balancers.
func Without(stored []Stored, remove func(*Stored) bool) Merged {
	m := newMerger(stored)
	for i := range stored {
		if stored[i].Marked && remove(&stored[i]) {
			m.out.Changed = true
			m.remove([]*Stored{&stored[i]})
		}
	}
	return m.finish()
}

// MayDesire reports whether a load balancer of the cluster desires the rule of that name, or may.
func (d *Desired) MayDesire(rule *Stored) bool {
	name := rule.Marker.Key.Name
	return rule.Marked && slices.Contains(d.Scopes, rule.Marker.Key.Scope) &&
		(len(d.Rules[name]) > 0 || d.Stay[name])
}

func (d *Desired) scope() string {
	if len(d.Scopes) == 0 {
		return ""
	}
	return d.Scopes[0]
}

// owned returns the rules that are the cluster's, by load balancer.
func (d *Desired) owned(stored []Stored) map[string][]*Stored {
	own := make(map[string][]*Stored)
	for i := range stored {
		rule := &stored[i]
		if rule.Marked && slices.Contains(d.Scopes, rule.Marker.Key.Scope) {
			own[rule.Marker.Key.Name] = append(own[rule.Marker.Key.Name], rule)
		}
	}
	return own
}

// merger makes a Merged.
type merger struct {
	out    Merged
	stored []Stored
	// rest are the rules that stay as they are, made those that are written, by name.
	rest map[string]*Stored
	made []entry
	// size is how many bytes all of them take in a request.
	size int
}

func newMerger(stored []Stored) *merger {
	m := &merger{stored: stored, rest: make(map[string]*Stored, len(stored)), size: len(`{"rules":[]}`)}
	m.out.Refused = make(map[ownership.Key]string)
	for i := range stored {
		name := stored[i].Name
		if m.rest[name] != nil {
			m.out.Blocked = fmt.Sprintf("Oxide shows two rules named %s, of which one would be lost: all rules "+
				"of a VPC are written at once, so none is", name)
		}
		m.rest[name] = &stored[i]
		m.size += sizeOf(stored[i].Raw())
	}
	return m
}

// add brings the rules of one cluster into the set, those of the load balancers that have some already
// first, since what is there must not make room for what comes.
func (m *merger) add(d *Desired) {
	own := d.owned(m.stored)
	names := slices.SortedFunc(maps.Keys(d.Rules), func(a, b string) int {
		switch aHas, bHas := len(own[a]) > 0, len(own[b]) > 0; {
		case aHas == bHas:
			return strings.Compare(a, b)
		case aHas:
			return -1
		}
		return 1
	})
	for _, name := range names {
		if len(d.Rules[name]) == 0 { // first, since that makes room
			m.remove(own[name])
			m.out.Changed = m.out.Changed || len(own[name]) > 0
		}
	}
	for _, name := range names {
		if rules := d.Rules[name]; len(rules) > 0 && !asDesired(own[name], rules) {
			m.replace(ownership.Key{Scope: d.scope(), Name: name}, own[name], rules)
		}
	}
}

// remove takes rules out of the set.
func (m *merger) remove(rules []*Stored) {
	for _, rule := range rules {
		delete(m.rest, rule.Name)
		m.size -= sizeOf(rule.Raw())
	}
}

// sizeOf returns how many bytes a rule takes in a list.
func sizeOf(text string) int { return len(text) + len(",") }

// replace puts rules in the place of those that a load balancer has, all or none.
func (m *merger) replace(key ownership.Key, old []*Stored, rules []firewall.Rule) {
	described := make(map[string]string, len(old))
	for _, rule := range old {
		described[rule.Name] = rule.Description
	}
	count := len(m.rest) - len(old) + len(m.made) + len(rules)
	if count > firewall.MaxRules {
		m.out.Refused[key] = fmt.Sprintf("the firewall has %d rules already, and Oxide takes %d: remove some",
			len(m.rest)+len(m.made), firewall.MaxRules)
		return
	}
	for _, rule := range rules {
		_, isOwn := described[rule.Name]
		_, taken := m.rest[rule.Name]
		if taken && !isOwn {
			m.out.Refused[key] = fmt.Sprintf("there is a rule named %s without the marker in its "+
				"description: remove or rename it", rule.Name)
			return
		}
	}
	size := m.size
	for _, rule := range old {
		size -= sizeOf(rule.Raw())
	}
	made := make([]entry, 0, len(rules))
	for _, rule := range rules {
		rule.Description = describe(described[rule.Name], rule.Description)
		made = append(made, entry{rule.Name, rule.JSON()})
		size += sizeOf(made[len(made)-1].raw)
	}
	if size > maxBody {
		m.out.Refused[key] = "all rules of the VPC are written at once, and would be over 1 MiB, which is " +
			"more than Oxide takes: use fewer ports, source ranges or Services, or remove other rules"
		return
	}
	m.remove(old)
	m.made, m.size = append(m.made, made...), size
	m.out.Changed = true
}

// describe returns a description with the marker of a rule, and with the text that somebody has added.
func describe(before, line string) string {
	marker, ok := ownership.ParseMarker(line)
	if !ok {
		return line
	}
	if with, err := ownership.WithMarker(before, marker); err == nil {
		return with
	}
	return line
}

// finish returns the whole set.
func (m *merger) finish() Merged {
	m.out.entries = m.made
	for _, name := range slices.Sorted(maps.Keys(m.rest)) {
		rule := m.rest[name]
		m.out.entries = append(m.out.entries, entry{name, rule.Raw()})
		if rule.Unwritable() != "" && m.out.Blocked == "" {
			m.out.Blocked = fmt.Sprintf("the rule %s has %s, which this version of oxide-backend does not know "+
				"and might lose: all rules of a VPC are written at once, so none is", name, rule.Unwritable())
		}
		if rule.Marked {
			m.out.Own++
		}
	}
	m.out.Own += len(m.made)
	slices.SortFunc(m.out.entries, func(a, b entry) int { return strings.Compare(a.name, b.name) })
	return m.out
}

// asDesired reports whether a load balancer has these rules, and no others.
func asDesired(have []*Stored, desired []firewall.Rule) bool {
	if len(have) != len(desired) {
		return false
	}
	for i := range desired {
		at := slices.IndexFunc(have, func(rule *Stored) bool { return rule.Name == desired[i].Name })
		if at < 0 || !is(have[at], &desired[i]) {
			return false
		}
	}
	return true
}

// is reports whether a rule does what a desired one does, and bears its marker.
func is(s *Stored, r *firewall.Rule) bool {
	desired, _ := ownership.ParseMarker(r.Description)
	return s.Unwritable() == "" && s.Marked && s.Marker == desired && firewall.Equivalent(&s.Rule, r)
}

// Changes compares two readings of a firewall, and counts the rules that were added, removed or changed
// between them. Those that are kept for load balancers of the scopes are left out.
func Changes(before, after []Stored, scopes ...string) int {
	isOwn := func(s *Stored) bool {
		return s.Marked && slices.Contains(scopes, s.Marker.Key.Scope)
	}
	texts := make(map[string]string, len(before))
	for i := range before {
		if !isOwn(&before[i]) {
			texts[before[i].Name] = before[i].Raw()
		}
	}
	changes := 0
	for i := range after {
		if isOwn(&after[i]) {
			continue
		}
		if text, was := texts[after[i].Name]; !was || text != after[i].Raw() {
			changes++
		}
		delete(texts, after[i].Name)
	}
	return changes + len(texts)
}
