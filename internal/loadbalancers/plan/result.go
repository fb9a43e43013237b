// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package plan

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/ownership"
)

// Result is a plan for all load balancers of a scope.
type Result struct {
	// LoadBalancers are the plans, the oldest load balancer first.
	LoadBalancers []*Planned
	// ByKey has the same.
	ByKey map[ownership.Key]*Planned
	// Orphans are marked with the scope or an adopted one, and no load balancer has them, by the key in
	// the marker, each list ordered by id.
	Orphans map[ownership.Key][]*Address
	// Rebalanced is whether Input.Rebalance moves any address.
	Rebalanced bool
	// Loads are how many addresses each instance carries in the end.
	Loads map[string]int
}

// Planned is the plan for one load balancer.
type Planned struct {
	LoadBalancer *LoadBalancer
	// Claims are the addresses that it is to have, in the order in which they are desired.
	Claims []*Claim
	// Releases are addresses that it has and that are not desired. They end once every claim has its
	// place; for an ending load balancer at once.
	Releases []Release
	// Kept are addresses that are not desired and stay in use because a claim has no place; Releases is
	// empty then.
	Kept []*Address
	// Conditions hold now.
	Conditions []Condition
	// Problem is what is wrong with what is desired, or why an address has no place although more than
	// time is needed; nil: nothing. What it has stays, and is placed as ever.
	Problem *Problem
	// Ended: an ending load balancer has nothing any more.
	Ended bool
	// Verdicts are in the order of preference, for one that Input.Explain names.
	Verdicts []Verdict
}

// Claim is one address of one load balancer: which it is, and where it goes.
type Claim struct {
	Desired Desired
	// Address is nil if it is yet to be created.
	Address *Address
	// Managed addresses are marked; the others belong to a user.
	Managed bool
	// Create makes it; nil: it exists.
	Create *Creation
	// Mark writes its description before it is attached anywhere; nil: that is right. MarkLast: only once
	// it has left its present place, because the present marker proves that it may.
	Mark     *Mark
	MarkLast bool
	// Frozen: it stays as it is, wherever that is. Foreign: because that is an instance which never
	// was of this cluster. What its owner publishes says which instances are ours, so its place is
	// never published, and the address as before.
	Frozen, Foreign bool
	// Target is the instance that is to carry it; empty: none. Equal to the present one: it stays.
	Target string
	// Next is the place that it will have to move to soon, if Target is the present one; empty: none.
	Next string
	// Blocked: its place at Target is still held by another address that is about to leave it, or is on its
	// way there and will make way. It names the holder.
	Blocked string
	// Why is the reason for going to Target, in one line.
	Why string
	// Replaces: it was there before, and is attached instead of others that are in use.
	Replaces bool
	// Unscheduled is why it has no Target; nil: it has one.
	Unscheduled *Unscheduled
}

// IsForeign reports whether an address is on an instance that never was of this cluster.
func (p *Planned) IsForeign() bool {
	return slices.ContainsFunc(p.Claims, func(c *Claim) bool { return c.Foreign })
}

// Current returns the instance that carries the address now; empty: none.
func (c *Claim) Current() string {
	if c.Address == nil {
		return ""
	}
	return c.Address.InstanceID
}

// Kind returns that of the address, or of the one that is to be created.
func (c *Claim) Kind() ownership.Kind {
	if c.Address == nil {
		return c.Desired.Source.Kind
	}
	return c.Address.Kind
}

// Creation is an address to be created.
type Creation struct {
	Name, Description string
	Desired           Desired
	Why               string
	// Replaces: an address that its owner publishes is gone.
	Replaces bool
}

// Mark is a description to be written.
type Mark struct {
	Description string
	Why         string
}

// Release is how an address ends.
type Release struct {
	Address *Address
	Why     string
	// End is what follows the detachment.
	End End
	// Description is written for EndsRetained.
	Description string
}

// End is what becomes of an address that was detached.
type End int

// The ends of an address.
const (
	// EndsDetached: it belongs to a user, or is marked as retained already.
	EndsDetached End = iota
	EndsDeleted
	EndsRetained
)

// Unscheduled is why an address, which is reserved all the same, is attached nowhere.
type Unscheduled struct {
	Condition ConditionType
	Reason    Reason
	// OnlyTime: nobody has to change anything, so it is no problem of the load balancer.
	OnlyTime bool
	Message  string
	// onlySiblings: every candidate that could carry it carries another address of the load balancer.
	onlySiblings bool
}

// ConditionType is a kind of condition.
type ConditionType int

// The kinds of condition that a plan has.
const (
	NoCandidate ConditionType = iota
	PortConflict
	PortRefused
	FirewallClosed
	Degraded
	NotOwned
	ForeignAttachment
	LeftAttached
	// FamilyMissing: an optional address of an IP family cannot be had.
	FamilyMissing
)

// Condition is something that a user should know about a load balancer while it holds.
type Condition struct {
	Type ConditionType
	// Message is one line for people.
	Message string
}

// Reason is the kind of a problem.
type Reason int

// The kinds of problem that a plan has.
const (
	ReasonNotOwned Reason = iota
	ReasonPoolNotFound
	ReasonPoolExhausted
	ReasonInvalid
	ReasonResourceNotFound
	ReasonPortConflict
	ReasonLimit
	ReasonPoolUnreadable
)

// Problem is what is wrong with a load balancer.
type Problem struct {
	Reason Reason
	// Message is one line for people.
	Message string
}

func problemf(reason Reason, format string, args ...any) *Problem {
	return &Problem{Reason: reason, Message: fmt.Sprintf(format, args...)}
}

// Verdict is why a candidate was chosen, or was not.
type Verdict struct {
	InstanceID, Name string
	Chosen           bool
	// Load is how many addresses it carries in the end.
	Load int
	// Reason is why it was not chosen; empty if it was.
	Reason string
}

// ActionType is a kind of action.
type ActionType int

// The kinds of action.
const (
	ActionCreate ActionType = iota
	ActionMark
	ActionAttach
	ActionDetach
	ActionDelete
)

// String returns the action in one word, for logs.
func (t ActionType) String() string {
	return [...]string{"create", "mark", "attach", "detach", "delete"}[t]
}

// Action is one change of one address that a plan takes.
type Action struct {
	Type ActionType
	Key  ownership.Key
	Kind ownership.Kind
	// ID, Name and Addr are those of the address; ID and Addr are empty if it is yet to be created.
	ID, Name string
	Addr     netip.Addr
	// Instance is where it is attached to or detached from. From is, for an attach that follows a detach,
	// where it was.
	Instance, From string
	// Why is one line for people.
	Why string
	// Replaces: see Creation and Claim.
	Replaces bool
}
