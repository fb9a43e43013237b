// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package session

import (
	"fmt"
	"maps"
	"sync"
	"time"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/ownership"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/plan"
)

// placeTable has the places that the sessions of this process hold. The first to take one has it.
type placeTable struct {
	mu      sync.Mutex
	byScope map[string]map[plan.Place]ownership.Key
}

func newPlaceTable() *placeTable {
	return &placeTable{byScope: make(map[string]map[plan.Place]ownership.Key)}
}

// others returns the places that other scopes hold, with their holders for people.
func (t *placeTable) others(scope string) map[plan.Place]string {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.byScope) == 0 || len(t.byScope) == 1 && t.byScope[scope] != nil {
		return nil
	}
	all := make(map[plan.Place]string)
	for other, places := range t.byScope {
		if other == scope {
			continue
		}
		for place, key := range places {
			all[place] = fmt.Sprintf("%s of the scope %s", key.Name, other)
		}
	}
	return all
}

// set makes these the places of a scope. It returns whether all are its own, and whether anything
// changed: one that another scope has taken meanwhile stays there.
func (t *placeTable) set(
	scope string, places map[plan.Place]ownership.Key,
) (all, changed bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	all = true
	held := make(map[plan.Place]ownership.Key, len(places))
	for place, key := range places {
		if t.heldByOther(scope, place) {
			all = false
			continue
		}
		held[place] = key
	}
	changed = !maps.Equal(held, t.byScope[scope])
	if len(held) == 0 {
		delete(t.byScope, scope)
	} else {
		t.byScope[scope] = held
	}
	return all, changed
}

func (t *placeTable) heldByOther(scope string, place plan.Place) bool {
	if len(t.byScope) < 2 && t.byScope[scope] != nil {
		return false
	}
	for other, places := range t.byScope {
		if _, held := places[place]; held && other != scope {
			return true
		}
	}
	return false
}

// keepsOld reports whether a place that an address has left is still published: it is until the
// address has arrived at the next one, unless that takes long. A list may show that it has left before
// the request that detaches it was answered.
func (l *loop) keepsOld(id string, m *move, now time.Time) bool {
	if m.from == "" || m.from == m.to {
		return false
	}
	if op := l.m.operations.of(id); op != nil && op.typ == plan.ActionDetach {
		return true
	}
	return !m.detachedAt.IsZero() && now.Before(m.detachedAt.Add(l.m.timings.keepOld))
}

// occupyOld keeps others from coming to the places that are still published though an address has
// left them. Who is there already stays.
func (l *loop) occupyOld(in *plan.Input, now time.Time) {
	var present map[plan.Place]bool
	for key, b := range l.balancers {
		for id, m := range b.moves {
			ip := l.observed.addresses.ByID(id)
			if ip == nil || ip.Kind != ownership.FloatingIP || ip.InstanceID != "" || !l.keepsOld(id, m, now) {
				continue
			}
			if !m.detachedAt.IsZero() {
				l.at(m.detachedAt.Add(l.m.timings.keepOld))
			}
			if present == nil {
				present = l.present(in)
			}
			if in.Occupied == nil {
				in.Occupied = make(map[plan.Place]string)
			}
			for _, port := range b.lb.Ports {
				place := plan.Place{Instance: m.from, Family: ownership.FamilyOf(ip.Addr), Port: port}
				if !present[place] {
					in.Occupied[place] = key.Name
				}
			}
		}
	}
}

// present returns the places in which addresses are, or to which a request brings them.
func (l *loop) present(in *plan.Input) map[plan.Place]bool {
	present := make(map[plan.Place]bool)
	for _, b := range l.balancers {
		for id := range b.places {
			ip := l.observed.addresses.ByID(id)
			if ip == nil || ip.Kind != ownership.FloatingIP {
				continue
			}
			for _, instance := range []string{ip.InstanceID, in.InFlight[id].Instance} {
				for _, port := range b.lb.Ports {
					present[plan.Place{
						Instance: instance, Family: ownership.FamilyOf(ip.Addr), Port: port,
					}] = true
				}
			}
		}
	}
	return present
}

// candidateTable has the candidates of the acting sessions of this process.
type candidateTable struct {
	mu      sync.Mutex
	byScope map[string][]string
}

func newCandidateTable() *candidateTable {
	return &candidateTable{byScope: make(map[string][]string)}
}

// set makes these the candidates of a scope.
func (t *candidateTable) set(scope string, candidates []string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(candidates) == 0 {
		delete(t.byScope, scope)
		return
	}
	t.byScope[scope] = candidates
}

// others returns the candidates of all other scopes.
func (t *candidateTable) others(scope string) map[string]bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	var all map[string]bool
	for other, candidates := range t.byScope {
		if other == scope {
			continue
		}
		if all == nil {
			all = make(map[string]bool, len(candidates))
		}
		for _, id := range candidates {
			all[id] = true
		}
	}
	return all
}
