// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package session

import (
	"fmt"
	"maps"
	"sync"

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
