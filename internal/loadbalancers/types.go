// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package loadbalancers

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/oxide"
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

// Family is a version of the Internet Protocol.
type Family string

// The IP families, as markers spell them.
const (
	IPv4 Family = "v4"
	IPv6 Family = "v6"
)

// Bits returns the length of an address of the family.
func (f Family) Bits() int {
	if f == IPv6 {
		return 128
	}
	return 32
}

func familyOf(addr netip.Addr) Family {
	if addr.Is4() {
		return IPv4
	}
	return IPv6
}

// Protocol is a transport protocol.
type Protocol string

// The transport protocols.
const (
	TCP  Protocol = "TCP"
	UDP  Protocol = "UDP"
	SCTP Protocol = "SCTP"
)

// Port is a port of a transport protocol.
type Port struct {
	Protocol Protocol
	Number   int
}

// String returns the port as people write it, for example "TCP 80".
func (p Port) String() string { return fmt.Sprintf("%s %d", p.Protocol, p.Number) }

// Health says what a candidate may be used for.
type Health int

// The healths of a candidate.
const (
	// Healthy: addresses may be attached and stay.
	Healthy Health = iota
	// Suspect: attached addresses stay, no further one comes.
	Suspect
	// Unhealthy: attached addresses move away if another candidate is healthy.
	Unhealthy
)

// Candidate is an instance that may carry addresses.
type Candidate struct {
	InstanceID string
	Health     Health
	// Avoid: others are preferred.
	Avoid bool
	// Used are ports that something else than a load balancer uses there.
	Used []UsedPort
}

// UsedPort is a port of an instance that something else than a load balancer uses.
type UsedPort struct {
	Port
	// Holder is who uses it, for people.
	Holder string
	// Serves are the names of load balancers that the holder itself serves: for them it is free.
	Serves []string
}

// ReservedPorts are ports that load balancers may not use on any instance.
type ReservedPorts struct {
	// Protocol is empty for every one.
	Protocol    Protocol
	First, Last int
	// Purpose is what they are for, for people.
	Purpose string
	// Serves are the names of load balancers for which they are free.
	Serves []string
}

// Cluster is what the load balancers of a scope have in common.
type Cluster struct {
	Scope string
	// Adopted are scopes that this one takes over from.
	Adopted []string
	// LegacyName is what a predecessor called the cluster in the names of its addresses; empty: none
	// are looked for.
	LegacyName string
	// Candidates are all instances of the cluster.
	Candidates []Candidate
	Reserved   []ReservedPorts
}

// scopes are those whose markers are the cluster's own.
func (c Cluster) scopes() map[string]bool {
	scopes := map[string]bool{c.Scope: true}
	for _, scope := range c.Adopted {
		scopes[scope] = true
	}
	return scopes
}

// Source says where a wanted floating IP comes from. At most one field is set; none means any
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

// names reports whether the source is a floating IP that a user owns, and this one.
func (s Source) names(ip oxide.FloatingIP) bool {
	return s.Existing != "" && (s.Existing == ip.ID || s.Existing == ip.Name)
}

// Wanted is an address that a load balancer wants.
type Wanted struct {
	Family Family
	Source Source
}

// Desired is the full desired state of one load balancer.
type Desired struct {
	Key      Key
	OwnerUID string
	// Created is when the owner was: the older of two has the place that both want.
	Created time.Time
	// Wanted has at most one address per family.
	Wanted []Wanted
	Ports  []Port
	// Eligible, if not nil, are the only candidates that may be used.
	Eligible map[string]bool
	// Retain keeps addresses that are no longer wanted, marked as retained.
	Retain bool
	// Published are the addresses that the owner publishes.
	Published []netip.Addr
	// Hold: what the owner wants cannot be told now. The addresses that it has are placed as ever,
	// none is allocated, exchanged or released.
	Hold bool
}

// publishes reports whether the owner publishes an address.
func (d Desired) publishes(addr netip.Addr) bool {
	for _, published := range d.Published {
		if published == addr {
			return true
		}
	}
	return false
}

// LoadBalancer is the actual state of one load balancer.
type LoadBalancer struct {
	Key      Key
	OwnerUID string
	// Addresses are ordered IPv4 first.
	Addresses  []Address
	Conditions []Condition
}

// Address is an address that a load balancer has.
type Address struct {
	Family Family
	// Addr is invalid in the result of a dry run if it is yet to be allocated.
	Addr     netip.Addr
	ID, Name string
	// Managed addresses are marked; the others belong to a user.
	Managed bool
	// Retained addresses are kept for a load balancer that is gone.
	Retained bool
	// Attached is where it is now, Planned where it would be after the call.
	Attached, Planned Attachment
}

// Attachment is the place of an address; the zero value is nowhere.
type Attachment struct {
	InstanceID string
	// PrivateAddr is where packets arrive on the instance.
	PrivateAddr netip.Addr
}

// ConditionType is a kind of condition.
type ConditionType int

// The kinds of condition that this package tells of.
const (
	// NoCandidate: an address is reserved but attached nowhere; no candidate is healthy.
	NoCandidate ConditionType = iota
	// PortConflict: an address is reserved but attached nowhere; its port is taken or reserved.
	PortConflict
	// PortRefused: an address stays where its port would be refused if it came anew.
	PortRefused
	// FirewallClosed: the VPC firewall lets nothing through to a port.
	FirewallClosed
	// Degraded: the instance that carries an address is not healthy, and no other one is.
	Degraded
	// NotOwned: an address belongs to somebody else, or its marker was edited.
	NotOwned
	// ForeignAttachment: an address is on an instance that never was of this cluster.
	ForeignAttachment
)

// Condition is something that a user should know about a load balancer while it holds.
type Condition struct {
	Type ConditionType
	// Message is one line for people.
	Message string
}

// ActionType is a kind of action.
type ActionType int

// The kinds of action.
const (
	Create ActionType = iota
	Mark
	Attach
	Detach
	Delete
)

// String returns the action in one word, for logs.
func (t ActionType) String() string {
	return [...]string{"create", "mark", "attach", "detach", "delete"}[t]
}

// Action is one change of one floating IP.
type Action struct {
	Type ActionType
	Key  Key
	// ID and Addr are those of the floating IP; empty if it is yet to be created.
	ID, Name string
	Addr     netip.Addr
	// InstanceID is where it is attached to or detached from.
	InstanceID string
	// Description is what Create and Mark write.
	Description string
	// Wanted is what Create allocates.
	Wanted Wanted
	// Why is one line for people.
	Why string
	// EndTime is when it was done; zero: it is planned.
	EndTime time.Time
}

// Result is what there is to say about one load balancer after an operation.
type Result struct {
	LoadBalancer LoadBalancer
	// Actions are what was done, or in a dry run would be.
	Actions []Action
	// Err is what went wrong with this one; nil: nothing.
	Err error
}

// SetResult is what an operation on a full set found and did.
type SetResult struct {
	// Results are in the order of the set.
	Results []Result
	// Orphans are marked with the scope, and no load balancer of the set claims them.
	Orphans []LoadBalancer
}
