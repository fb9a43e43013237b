// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package plan

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/ownership"
)

// Address is a floating IP and what its marker says.
type Address struct {
	ID, Name, Description string
	Addr                  netip.Addr
	PoolID                string
	// InstanceID is the instance that carries it; empty: none.
	InstanceID string
	// Created is when it was, in nanoseconds since 1970.
	Created int64
	// Marker is that of the description, if Marked. A marker that was copied to an address of the
	// other family cannot be believed.
	Marker ownership.Marker
	Marked bool
}

// Family returns the family of the address.
func (a *Address) Family() ownership.Family { return ownership.FamilyOf(a.Addr) }

// Addresses is an index of the floating IPs of a project, which its owner keeps up to date. It is
// not safe for concurrent use. What it returns is not to be changed; an Address stays as it was
// when it was returned, because a changed one takes its place.
type Addresses struct {
	byID   map[string]*Address
	byName map[string]*Address
	byAddr map[netip.Addr]*Address
	owned  map[ownership.Key][]*Address
	on     map[string]int
	// sorted are all of them, ordered by id.
	sorted []*Address
}

// NewAddresses returns an empty index.
func NewAddresses() *Addresses {
	return &Addresses{
		byID: make(map[string]*Address), byName: make(map[string]*Address),
		byAddr: make(map[netip.Addr]*Address), owned: make(map[ownership.Key][]*Address),
		on: make(map[string]int),
	}
}

// Upsert adds a floating IP or replaces the one with its id, and reports whether that changed
// anything. Marker and Marked are found here; what the argument has there does not count.
func (a *Addresses) Upsert(address Address) bool {
	old := a.byID[address.ID]
	if old != nil && old.Description == address.Description && old.Addr == address.Addr {
		address.Marker, address.Marked = old.Marker, old.Marked
	} else {
		marker, ok := ownership.ParseMarker(address.Description)
		address.Marker, address.Marked = ownership.Marker{}, false
		if ok && marker.Family == ownership.FamilyOf(address.Addr) {
			address.Marker, address.Marked = marker, true
		}
	}
	if old != nil && *old == address {
		return false
	}
	now := &address
	at, found := slices.BinarySearchFunc(a.sorted, address.ID, compareID)
	if found {
		a.unlink(old)
		a.sorted[at] = now
	} else {
		a.sorted = slices.Insert(a.sorted, at, now)
	}
	a.link(now)
	return true
}

func compareID(a *Address, id string) int { return cmp.Compare(a.ID, id) }

// Delete removes a floating IP, and reports whether it was there.
func (a *Addresses) Delete(id string) bool {
	old := a.byID[id]
	if old == nil {
		return false
	}
	a.unlink(old)
	if at, found := slices.BinarySearchFunc(a.sorted, id, compareID); found {
		a.sorted = slices.Delete(a.sorted, at, at+1)
	}
	return true
}

// Replace makes the index one of exactly these floating IPs. It returns those that have vanished,
// as they were, ordered by id, and reports whether anything changed.
func (a *Addresses) Replace(all []Address) (vanished []*Address, changed bool) {
	seen := make(map[string]bool, len(all))
	for i := range all {
		seen[all[i].ID] = true
		changed = a.Upsert(all[i]) || changed
	}
	if len(seen) == len(a.sorted) {
		return nil, changed
	}
	for _, old := range a.sorted {
		if !seen[old.ID] {
			vanished = append(vanished, old)
			a.unlink(old)
		}
	}
	a.sorted = slices.DeleteFunc(a.sorted, func(old *Address) bool { return !seen[old.ID] })
	return vanished, true
}

func (a *Addresses) link(now *Address) {
	a.byID[now.ID], a.byName[now.Name], a.byAddr[now.Addr] = now, now, now
	if now.InstanceID != "" {
		a.on[now.InstanceID]++
	}
	if now.Marked {
		key := now.Marker.Key
		a.owned[key] = sortedByID(append(slices.Clone(a.owned[key]), now))
	}
}

func (a *Addresses) unlink(old *Address) {
	delete(a.byID, old.ID)
	// Another one may have its name or address already.
	if a.byName[old.Name] == old {
		delete(a.byName, old.Name)
	}
	if a.byAddr[old.Addr] == old {
		delete(a.byAddr, old.Addr)
	}
	if old.InstanceID != "" {
		if a.on[old.InstanceID]--; a.on[old.InstanceID] == 0 {
			delete(a.on, old.InstanceID)
		}
	}
	if old.Marked {
		key := old.Marker.Key
		left := slices.Clone(a.owned[key])
		left = slices.DeleteFunc(left, func(ip *Address) bool { return ip == old })
		if a.owned[key] = left; len(left) == 0 {
			delete(a.owned, key)
		}
	}
}

func sortedByID(list []*Address) []*Address {
	slices.SortFunc(list, func(x, y *Address) int { return cmp.Compare(x.ID, y.ID) })
	return list
}

// ByID returns the floating IP with an id; nil: there is none.
func (a *Addresses) ByID(id string) *Address { return a.byID[id] }

// ByName returns the floating IP with a name; nil: there is none.
func (a *Addresses) ByName(name string) *Address { return a.byName[name] }

// ByAddr returns the floating IP with an address; nil: there is none.
func (a *Addresses) ByAddr(addr netip.Addr) *Address { return a.byAddr[addr] }

// Find returns the floating IP with an id or a name; nil: there is none.
func (a *Addresses) Find(nameOrID string) *Address {
	if ip := a.byID[nameOrID]; ip != nil {
		return ip
	}
	return a.byName[nameOrID]
}

// Owned returns the addresses that are marked as those of a load balancer, in one of the scopes,
// ordered by id.
func (a *Addresses) Owned(scopes []string, name string) []*Address {
	var owned []*Address
	for _, scope := range scopes {
		more := a.owned[ownership.Key{Scope: scope, Name: name}]
		switch {
		case len(more) == 0:
		case len(owned) == 0:
			owned = slices.Clip(more)
		default:
			owned = sortedByID(append(owned, more...))
		}
	}
	return owned
}

// On returns how many floating IPs an instance carries.
func (a *Addresses) On(instance string) int { return a.on[instance] }

// All returns all floating IPs, ordered by id. The list is that of the index itself.
func (a *Addresses) All() []*Address { return a.sorted }

// Len returns how many there are.
func (a *Addresses) Len() int { return len(a.sorted) }
