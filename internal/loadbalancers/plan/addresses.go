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

// Address is a floating IP or an external subnet, and what its marker says.
type Address struct {
	Kind                  ownership.Kind
	ID, Name, Description string
	// Addr is the address, of an external subnet the first one.
	Addr netip.Addr
	// Larger: it is an external subnet of more than one address, which no load balancer can have.
	Larger bool
	// Bits is the length of its prefix: of a single address all of that.
	Bits   int
	PoolID string
	// ProjectID is the project that it is in.
	ProjectID string
	// InstanceID is the instance that carries it; empty: none.
	InstanceID string
	// Created is when it was, in nanoseconds since 1970.
	Created int64
	// Marker is that of the description, if Marked. A marker that was copied to an address of the
	// other family cannot be believed.
	Marker ownership.Marker
	Marked bool
}

// ReadMarker sets Marker and Marked by the description.
func (a *Address) ReadMarker() {
	a.Marker, a.Marked = ownership.Marker{}, false
	if marker, ok := ownership.ParseMarker(a.Description); ok && marker.Family == a.Family() {
		a.Marker, a.Marked = marker, true
	}
}

// Family returns the family of the address.
func (a *Address) Family() ownership.Family { return ownership.FamilyOf(a.Addr) }

// Named is a resource by what a user calls it.
type Named struct {
	Kind     ownership.Kind
	NameOrID string
}

// Addresses is an index of the floating IPs and external subnets of a project, which its owner keeps up
// to date. It is not safe for concurrent use. What it returns is not to be changed; an Address stays as
// it was when it was returned, because a changed one takes its place.
type Addresses struct {
	byID   map[string]*Address
	byName map[Named]*Address
	byAddr map[netip.Addr]*Address
	owned  map[ownership.Key][]*Address
	// sorted are all of them, ordered by id.
	sorted []*Address
}

// NewAddresses returns an empty index.
func NewAddresses() *Addresses {
	return &Addresses{
		byID: make(map[string]*Address), byName: make(map[Named]*Address),
		byAddr: make(map[netip.Addr]*Address), owned: make(map[ownership.Key][]*Address),
	}
}

// Upsert adds an address or replaces the one with its id, and reports whether that changed
// anything. Marker and Marked are found here; what the argument has there does not count.
func (a *Addresses) Upsert(address Address) bool {
	old := a.byID[address.ID]
	if old != nil && old.Description == address.Description && old.Addr == address.Addr {
		address.Marker, address.Marked = old.Marker, old.Marked
	} else {
		address.ReadMarker()
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

// Delete removes an address, and reports whether it was there.
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

// Replace makes the index one of exactly these addresses. It returns those that have vanished,
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
	a.byID[now.ID], a.byName[now.named()] = now, now
	if !now.Larger {
		a.byAddr[now.Addr] = now
	}
	if now.Marked {
		key := now.Marker.Key
		a.owned[key] = sortedByID(append(slices.Clone(a.owned[key]), now))
	}
}

func (a *Addresses) unlink(old *Address) {
	delete(a.byID, old.ID)
	// Another one may have its name or address already.
	if a.byName[old.named()] == old {
		delete(a.byName, old.named())
	}
	if a.byAddr[old.Addr] == old {
		delete(a.byAddr, old.Addr)
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

func (a *Address) named() Named { return Named{a.Kind, a.Name} }

// ByID returns the one with an id; nil: there is none.
func (a *Addresses) ByID(id string) *Address { return a.byID[id] }

// ByName returns the one of a kind with a name; nil: there is none.
func (a *Addresses) ByName(kind ownership.Kind, name string) *Address {
	return a.byName[Named{kind, name}]
}

// ByAddr returns the one with an address; nil: there is none.
func (a *Addresses) ByAddr(addr netip.Addr) *Address { return a.byAddr[addr] }

// Find returns the one of a kind with an id or a name; nil: there is none.
func (a *Addresses) Find(kind ownership.Kind, nameOrID string) *Address {
	if ip := a.byID[nameOrID]; ip != nil && ip.Kind == kind {
		return ip
	}
	return a.ByName(kind, nameOrID)
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

// All returns all of them, ordered by id. The list is that of the index itself.
func (a *Addresses) All() []*Address { return a.sorted }

// Len returns how many there are.
func (a *Addresses) Len() int { return len(a.sorted) }
