// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package loadbalancers

import "net/netip"

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
}

// Cluster is what the load balancers of a scope have in common.
type Cluster struct {
	Scope      string
	Candidates []Candidate
}

// Source says where a wanted floating IP comes from. At most one field is set; none means any
// address of the silo's default pool of the family.
type Source struct {
	// Addr is this very address.
	Addr netip.Addr
	// Pool is the name or id of a pool.
	Pool string
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

// Wanted is an address that a load balancer wants.
type Wanted struct {
	Family Family
	Source Source
}

// Desired is the full desired state of one load balancer.
type Desired struct {
	Key      Key
	OwnerUID string
	// Wanted has at most one address per family.
	Wanted []Wanted
	// Eligible, if not nil, are the only candidates that may be used.
	Eligible map[string]bool
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
	// Degraded: the instance that carries an address is not healthy, and no other one is.
	Degraded
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
}

// Result is what an operation found and did, or in a dry run would do.
type Result struct {
	LoadBalancer LoadBalancer
	Actions      []Action
}
