// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package ownership

import (
	"cmp"
	"net/netip"
)

// Key identifies a load balancer among all that share a project.
type Key struct {
	// Scope is the cluster's id.
	Scope string
	// Name is the load balancer's name in its scope, for Kubernetes NAMESPACE/NAME.
	Name string
}

// String returns the name, which is what people know a load balancer by.
func (k Key) String() string { return k.Name }

// CompareKeys orders keys by scope, then by name.
func CompareKeys(a, b Key) int {
	return cmp.Or(cmp.Compare(a.Scope, b.Scope), cmp.Compare(a.Name, b.Name))
}

// Family is a version of the Internet Protocol.
type Family string

// The IP families, as markers spell them.
const (
	IPv4 Family = "v4"
	IPv6 Family = "v6"
)

// FamilyOf returns the family of an address.
func FamilyOf(addr netip.Addr) Family {
	if addr.Is4() {
		return IPv4
	}
	return IPv6
}

// Bits returns the length of an address of the family.
func (f Family) Bits() int {
	if f == IPv6 {
		return 128
	}
	return 32
}

// Source says where a desired floating IP comes from. At most one field is set; none means any
// address of the silo's default pool of the family.
type Source struct {
	// Addr is this very address.
	Addr netip.Addr
	// Pool is the name or id of a pool.
	Pool string
	// Existing is the name or id of a floating IP that a user owns.
	Existing string
}

// String returns the source as markers and names spell it.
func (s Source) String() string {
	switch {
	case s.Addr.IsValid():
		return "address:" + s.Addr.String()
	case s.Pool != "":
		return "pool:" + s.Pool
	}
	return "default"
}

// Names reports whether the source is a floating IP that a user owns, and this one.
func (s Source) Names(id, name string) bool {
	return s.Existing != "" && (s.Existing == id || s.Existing == name)
}
