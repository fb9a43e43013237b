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

// Kind is a kind of Oxide resource that gives a load balancer its address.
type Kind int

const (
	// FloatingIP is an address that Oxide translates to the private one of the instance that carries it.
	FloatingIP Kind = iota
	// ExternalSubnet is a network that Oxide routes to the instance that carries it. One of a single
	// address gives a load balancer that address.
	ExternalSubnet
)

// String returns what the resource is called, for people.
func (k Kind) String() string {
	if k == ExternalSubnet {
		return "external subnet"
	}
	return "floating IP"
}

// Source says where a desired address comes from. At most one field besides Kind is set; none means
// any address of the silo's default pool of the kind and family.
type Source struct {
	Kind Kind
	// Addr is this very address.
	Addr netip.Addr
	// Pool is the name or id of a pool.
	Pool string
	// Existing is the name or id of a resource that a user owns.
	Existing string
}

// IsDefault reports whether any address of the silo's default pool is meant.
func (s Source) IsDefault() bool { return s == (Source{Kind: s.Kind}) }

// String returns the source as markers and names spell it.
func (s Source) String() string {
	switch {
	case s.Kind == ExternalSubnet && s.Pool != "":
		return "subnet-pool:" + s.Pool
	case s.Kind == ExternalSubnet && s.Addr.IsValid():
		return "subnet-address:" + s.Addr.String()
	case s.Kind == ExternalSubnet:
		return "subnet-default"
	case s.Addr.IsValid():
		return "address:" + s.Addr.String()
	case s.Pool != "":
		return "pool:" + s.Pool
	}
	return "default"
}

// Names reports whether the source is a resource that a user owns, and this one.
func (s Source) Names(kind Kind, id, name string) bool {
	return s.Kind == kind && s.Existing != "" && (s.Existing == id || s.Existing == name)
}
