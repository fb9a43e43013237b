// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package session

import (
	"net/netip"
	"time"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/firewall/ruleset"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/health"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/ownership"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/plan"
)

// Opening is what a session begins with.
type Opening struct {
	Scope      string
	Adopted    []string
	LegacyName string
	// ObserveOnly changes nothing, and sends actions as planned.
	ObserveOnly bool
}

// Item is what a client sends: exactly one field is set.
type Item struct {
	Candidate        *health.Observation
	CandidateRemoved string
	Reserved         *[]plan.ReservedPorts
	LoadBalancer     *Desired
	Removed          *Removal
	InSync           bool
	Rebalance        *Rebalance
	// TraceParent is the span that it belongs to, besides: W3C's traceparent; empty: none.
	TraceParent string
}

// Desired is the full desired state of one load balancer.
type Desired struct {
	Key        ownership.Key
	OwnerUID   string
	Generation int64
	Ending     plan.Ending
	Created    time.Time
	Addresses  []plan.Desired
	Ports      []plan.Port
	Eligible   *plan.Eligible
	Retain     bool
	Published  []netip.Addr
	// NoPublication: its owner publishes nowhere, every place counts as published.
	NoPublication bool
	// PreserveReason is why it is not known what is desired; empty: it is.
	PreserveReason string
	// OpenFirewall: the firewall is to let its traffic in, from Sources.
	OpenFirewall bool
	Sources      ruleset.Sources
}

// Removal is a load balancer that the client no longer knows.
type Removal struct {
	Key      ownership.Key
	OwnerUID string
}

// Rebalance is a request to spread the addresses evenly; the zero value: there is none.
type Rebalance struct{ Expires time.Time }

// Event is what a client is sent: exactly one field is set.
type Event struct {
	State    *State
	Action   *Action
	Released *Removal
	Orphans  *[]LoadBalancer
	// FirewallOrphans are the firewall rules that no load balancer desires.
	FirewallOrphans *[]KeptRule
	InSync          bool
	Rebalance       *Rebalance
	// ActionsDropped is how many actions a slow reader has missed.
	ActionsDropped int64
}

// Phase is how far a load balancer is.
type Phase int

// The phases of a load balancer.
const (
	PhasePending Phase = iota + 1
	PhaseProgressing
	PhaseReady
)

// State is what there is to say about one load balancer of a session.
type State struct {
	Key        ownership.Key
	OwnerUID   string
	Generation int64
	Publish    []netip.Addr
	Addresses  []Address
	Phase      Phase
	Conditions []Condition
	// Problem is what is wrong; nil: nothing.
	Problem     error
	Explanation string
	// TraceParent is the span of what is being done, or was until now: W3C's traceparent; empty: none.
	TraceParent string
}

// LoadBalancer is the actual state of one load balancer, as its session or the markers in Oxide
// show it.
type LoadBalancer struct {
	Key      ownership.Key
	OwnerUID string
	// Addresses are ordered IPv4 first.
	Addresses   []Address
	Conditions  []Condition
	Problem     error
	Explanation string
	// Phase is how far it is; zero: no session says.
	Phase Phase
}

// Address is an address that a load balancer has.
type Address struct {
	Kind   ownership.Kind
	Family ownership.Family
	// Addr is invalid in a plan if it is yet to be allocated; ID is empty then.
	Addr     netip.Addr
	ID, Name string
	// Managed addresses are marked; the others belong to a user.
	Managed bool
	// Retained addresses are kept for a load balancer that is gone.
	Retained bool
	// Attached is where it is now, Planned where it is going.
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

// The kinds of condition.
const (
	NoCandidate ConditionType = iota + 1
	PortConflict
	PortRefused
	FirewallClosed
	Pending
	Degraded
	NotOwned
	ForeignAttachment
	FailoverSuspended
	AddressRenamed
	AttachTimeout
	LeftAttached
	FamilyMissing
	FirewallWidened
	FirewallIncomplete
)

// Condition is something that a user should know about a load balancer while it holds.
type Condition struct {
	Type ConditionType
	// Message is one line for people.
	Message string
}

// Action is one change of one address that was made, or that a plan would make.
type Action struct {
	plan.Action
	// Planned: it is what would be done.
	Planned bool
	// EndTime is when Oxide had done it; zero if planned.
	EndTime time.Time
	// CauseTime is when its cause was first observed; zero: a change of what is desired.
	CauseTime time.Time
	// Summary is the whole action in one line for people.
	Summary string
}

// PlanRequest says what Manager.Plan plans.
type PlanRequest struct {
	// Scope is that of a running session, unless Set is given.
	Scope string
	Set   *Set
	// Without and Cordon are instances to plan without, or as if they were being cordoned.
	Without, Cordon []string
	// Explain are the names of load balancers to explain.
	Explain   []string
	Rebalance bool
}

// Set is a whole set of load balancers.
type Set struct {
	Opening       Opening
	Candidates    []health.Observation
	Reserved      []plan.ReservedPorts
	LoadBalancers []Desired
}

// PlanResponse is what would be done.
type PlanResponse struct {
	// LoadBalancers are ordered by name.
	LoadBalancers []PlannedLoadBalancer
	Actions       []Action
	Orphans       []LoadBalancer
	// Candidates are ordered by name.
	Candidates []PlannedCandidate
}

// PlannedLoadBalancer is the plan for one load balancer.
type PlannedLoadBalancer struct {
	LoadBalancer
	// Verdicts and State, which is what the session sent last, are there for one that is to be explained.
	Verdicts []plan.Verdict
	State    *State
}

// PlannedCandidate is what a plan makes of one candidate.
type PlannedCandidate struct {
	InstanceID string
	// Name is the name by which people know it, InstanceName that in Oxide.
	Name, InstanceName string
	// Addresses is how many it carries now, Planned how many in the end.
	Addresses, Planned int
	// Why no address comes to it; empty: they do.
	Why string
	// LastChoice: an address comes to it only where no other can take it.
	LastChoice bool
}
