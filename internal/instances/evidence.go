// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package instances

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/google/uuid"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/oxide"
)

// Evidence is what an instance is found by.
type Evidence int

// The kinds of evidence, the strongest first.
const (
	ByID Evidence = iota + 1
	BySystemUUID
	ByName
	ByHostname
)

// String returns the evidence in words that follow "its".
func (e Evidence) String() string {
	return map[Evidence]string{
		ByID: "id", BySystemUUID: "system UUID", ByName: "name", ByHostname: "hostname",
	}[e]
}

// Match is an instance, and what points to it.
type Match struct {
	oxide.Instance
	By Evidence
}

// IdentityProblem is why a machine is taken for no instance.
type IdentityProblem int

// The problems of identity.
const (
	// NotIdentified: nothing that it reports is an instance of the project.
	NotIdentified IdentityProblem = iota + 1
	// Conflict: what it reports contradicts itself, Oxide, or another machine.
	Conflict
	// Replaced: the instance that it was known to be is gone, and it reports to be another.
	Replaced
)

// IdentityError means that a machine is taken for no instance.
type IdentityError struct {
	Problem IdentityProblem
	// Text is one line for people.
	Text string
}

// Error implements error.
func (e *IdentityError) Error() string { return e.Text }

// canonicalUUIDLength is the length of a UUID in hyphenated form, the only one that firmware is read in.
const canonicalUUIDLength = 36

// idsOf returns the ids that a system UUID may be: itself, and itself with the bytes of the first three
// fields reversed, because tools disagree about their order. It is empty for what cannot be used.
func idsOf(systemUUID string) []string {
	if len(systemUUID) != canonicalUUIDLength {
		return nil
	}
	id, err := uuid.Parse(systemUUID)
	if err != nil || id == uuid.Nil || id == uuid.Max {
		return nil
	}
	swapped := id
	for _, field := range [][]byte{swapped[0:4], swapped[4:6], swapped[6:8]} {
		slices.Reverse(field)
	}
	return []string{id.String(), swapped.String()}
}

// identify returns the instance of a machine whose id is not known, by this list alone.
func (l *listing) identify(m Machine) (Identified, error) {
	reported := idsOf(m.SystemUUID)
	same, weaker := l.named(m.Name)
	var match Match
	var others []Match
	if instance, ok := l.bySystemUUID(reported); ok {
		match = Match{instance, BySystemUUID}
		if !contains(same, instance.ID) {
			others = same
		}
	} else {
		switch {
		case len(same) == 0:
			return Identified{}, l.notIdentified(m, reported)
		case len(reported) > 0:
			return Identified{}, &IdentityError{Conflict, fmt.Sprintf("this machine reports the system "+
				"UUID %s, which is no instance of the project %s, but its name is that of the instance "+
				"%s (%s); its own instance may be in another project", m.SystemUUID,
				l.identity.ProjectName, same[0].Name, same[0].ID)}
		case len(same) > 1:
			return Identified{}, ambiguous(m.Name, same, len(l.byHostname[strings.ToLower(m.Name)]) == 0)
		}
		match, others = same[0], weaker
	}
	for _, claim := range m.Claims {
		if slices.Contains(idsOf(claim.ID), match.ID) {
			return Identified{}, &IdentityError{Conflict, fmt.Sprintf("this machine is the instance %s "+
				"(%s) by its %s, but %s is known as that instance, or reports its system UUID, as well; "+
				"remove the one that is wrong", match.Name, match.ID, match.By, claim.Claimant)}
		}
	}
	found := Identified{Instance: bare(l.identity, match.Instance), By: match.By}
	found.Others = others[:min(len(others), maxNamed)]
	return found, nil
}

// bySystemUUID returns the instance that has one of these ids.
func (l *listing) bySystemUUID(ids []string) (oxide.Instance, bool) {
	for _, id := range ids {
		if instance, ok := l.byID[id]; ok {
			return instance, true
		}
	}
	return oxide.Instance{}, false
}

// named returns the instances that a name finds, without regard to case: the one of that name; else
// those with that hostname; else those whose name or hostname agrees when the longer of the two ends
// before its first dot. If an instance has the name, those that have it as their hostname are weaker
// matches.
func (l *listing) named(name string) (matches, weaker []Match) {
	name = strings.ToLower(name)
	if name == "" {
		return nil, nil
	}
	hosts := l.byHostname[name]
	if instance, ok := l.byName[name]; ok {
		return []Match{{instance, ByName}}, without(matchesOf(hosts), instance.ID)
	}
	if len(hosts) > 0 {
		return matchesOf(hosts), nil
	}
	if _, err := netip.ParseAddr(name); err == nil {
		return nil, nil
	}
	short, _, isLong := strings.Cut(name, ".")
	if !isLong {
		return matchesOf(l.byShortHostname[name]), nil
	}
	matches = matchesOf(l.byHostname[short])
	if instance, ok := l.byName[short]; ok {
		matches = append([]Match{{instance, ByName}}, without(matches, instance.ID)...)
	}
	return matches, nil
}

// notIdentified says what was looked for.
func (l *listing) notIdentified(m Machine, reported []string) error {
	var sought []string
	if len(reported) > 0 {
		sought = append(sought, "the id "+reported[0]+" (its system UUID)")
	}
	if m.Name != "" {
		sought = append(sought, fmt.Sprintf("%q as name or hostname", m.Name))
	}
	if len(sought) == 0 {
		return &IdentityError{NotIdentified, "this machine reports no name and no system UUID that " +
			"can be used"}
	}
	text := fmt.Sprintf("no instance of the project %s is this machine: none of its %d has %s",
		l.identity.ProjectName, len(l.byID), strings.Join(sought, ", or "))
	if len(reported) == 0 {
		text += "; the machine reports no system UUID that can be used"
	}
	return &IdentityError{NotIdentified, text}
}

// ambiguous returns the error for a name that several instances answer to.
func ambiguous(name string, matches []Match, short bool) error {
	err := &AmbiguousError{Hostname: name, Short: short}
	for _, match := range matches {
		err.Names = append(err.Names, match.Name)
	}
	slices.Sort(err.Names)
	return err
}

func matchesOf(hosts []oxide.Instance) []Match {
	matches := make([]Match, len(hosts))
	for i, instance := range hosts {
		matches[i] = Match{instance, ByHostname}
	}
	return matches
}

func contains(matches []Match, id string) bool {
	return slices.ContainsFunc(matches, func(m Match) bool { return m.ID == id })
}

func without(matches []Match, id string) []Match {
	return slices.DeleteFunc(matches, func(m Match) bool { return m.ID == id })
}
