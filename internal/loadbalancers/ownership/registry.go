// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package ownership

import (
	"net/netip"
	"sync"
	"time"
)

const (
	// recentlyReleasedFor is how long a user's address is remembered that no load balancer names
	// any more: longer than it takes to detach it, and until everybody has read that it is.
	recentlyReleasedFor = 5 * time.Minute
	// maxReleased bounds how many of them are remembered.
	maxReleased = 10_000
)

// Claims are what the load balancers of one scope call theirs without a marker.
type Claims struct {
	// UserOwned are the names and ids of floating IPs that are desired as existing ones.
	UserOwned map[string]bool
	// Published are the addresses that owners publish.
	Published map[netip.Addr]bool
	// Complete: all load balancers of the scope are known.
	Complete bool
}

// Registry knows which floating IPs belong to load balancers: such an address is no external
// address of the instance that carries it for now. Its zero value is ready; it may be used by
// several goroutines.
type Registry struct {
	mu     sync.Mutex
	scopes map[string]Claims
	// released are the user's addresses, as they were named, that a scope no longer names, and
	// since when.
	released map[string]time.Time
}

// Set replaces what is known of a living scope. The maps are not to be changed afterwards.
func (r *Registry) Set(scope string, claims Claims) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.scopes == nil {
		r.scopes = make(map[string]Claims)
	}
	before := r.scopes[scope]
	r.scopes[scope] = claims
	r.release(before, claims)
}

// Remove forgets a scope whose session has ended.
func (r *Registry) Remove(scope string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	before := r.scopes[scope]
	delete(r.scopes, scope)
	r.release(before, Claims{})
}

// release remembers what was named before and is no longer.
func (r *Registry) release(before, now Claims) {
	at := time.Now()
	for name := range before.UserOwned {
		if now.UserOwned[name] {
			continue
		}
		if len(r.released) >= maxReleased {
			r.forgetReleased(at)
		}
		if r.released == nil {
			r.released = make(map[string]time.Time)
		}
		r.released[name] = at
	}
}

// forgetReleased makes room: what is too old goes, else the oldest.
func (r *Registry) forgetReleased(now time.Time) {
	oldest := ""
	for name, at := range r.released {
		switch {
		case now.Sub(at) > recentlyReleasedFor:
			delete(r.released, name)
		case oldest == "" || at.Before(r.released[oldest]):
			oldest = name
		}
	}
	if len(r.released) >= maxReleased {
		delete(r.released, oldest)
	}
}

// IsLoadBalancerAddress reports whether a floating IP is, or was meant to be, the address of a load
// balancer, here or of the existing Oxide CCM. Such an address belongs to no instance, whichever
// one carries it for now, and a damaged marker does not change that.
func (r *Registry) IsLoadBalancerAddress(id, name, description string, addr netip.Addr) bool {
	if description == LegacyDescription || BearsMarker(description) {
		return true
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, claims := range r.scopes {
		if claims.UserOwned[id] || claims.UserOwned[name] || claims.Published[addr] {
			return true
		}
	}
	return r.isReleased(id) || r.isReleased(name)
}

func (r *Registry) isReleased(nameOrID string) bool {
	at, known := r.released[nameOrID]
	if known && time.Since(at) > recentlyReleasedFor {
		delete(r.released, nameOrID)
		return false
	}
	return known
}

// Complete reports whether all load balancers of some scope are known: before that, an address
// without a marker may turn out to be one that a load balancer names as the user's own.
func (r *Registry) Complete() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, claims := range r.scopes {
		if claims.Complete {
			return true
		}
	}
	return false
}
