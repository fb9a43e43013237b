// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package plan

import (
	"fmt"
	"net/netip"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/firewall"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/ownership"
)

// Input is everything that a plan is made of. Make changes nothing in it.
type Input struct {
	// Scope is the cluster's id; Adopted are scopes that it takes over from; LegacyName is what a
	// predecessor called the cluster in the names of its addresses, empty: none are looked for.
	Scope      string
	Adopted    []string
	LegacyName string

	// Candidates are all instances that may carry addresses, in any order.
	Candidates []Candidate
	// Reserved are ports that load balancers may not use on any instance.
	Reserved []ReservedPorts
	// LoadBalancers are all load balancers of the scope, in any order; ending ones among them.
	LoadBalancers []*LoadBalancer

	// Addresses are the floating IPs of the project.
	Addresses *Addresses
	// Instances are the candidates and the instances that carry an address, as far as they are known.
	Instances map[string]Instance
	// FormerCandidates are all instances that were candidates since the session began.
	FormerCandidates map[string]bool
	// UserOwned are the names and ids by which floating IPs were named as a user's own since the session
	// began.
	UserOwned map[string]bool
	// Pools are the IP pools, by the name or id in a source; those that are not there are not known.
	Pools map[string]Pool
	// Firewalls are the rules of each VPC, by its id; a VPC that is missing is not known.
	Firewalls map[string][]firewall.Rule
	// Occupied are the places that other scopes have, with their holders for people.
	Occupied map[Place]string
	// InFlight are the addresses of which a request is under way, or an attachment owed, by id.
	InFlight map[string]InFlight

	// Rebalance spreads the addresses evenly.
	Rebalance bool
	// Explain are the names of load balancers whose verdicts are wanted.
	Explain map[string]bool
}

// InFlight is a request that is under way for an address.
type InFlight struct {
	// Instance is where the address will be if it is being attached, or is to be attached once it is
	// detached; empty: nowhere.
	Instance string
}

// Health says what a candidate may be used for.
type Health int

// The healths of a candidate.
const (
	// Healthy: addresses may come and stay.
	Healthy Health = iota
	// Suspect: addresses stay, none comes.
	Suspect
	// Leaving: it is taken out of service while it lives. Addresses leave if a healthy candidate can take
	// them; else they stay, and that is no degradation. None comes.
	Leaving
	// Unhealthy: addresses leave if a healthy candidate can take them; else they stay, degraded.
	Unhealthy
)

// Candidate is an instance that may carry addresses, as it was evaluated.
type Candidate struct {
	InstanceID string
	// Name is the name by which people know it.
	Name   string
	Health Health
	// Why is why it is not healthy, in words that follow its name, for example "is not Ready".
	Why string
	// PlanNext: an address on it will have to leave soon, so its next place is chosen (Claim.Next) though
	// it stays for now. Set for a Suspect candidate whose instance is stopping.
	PlanNext bool
	// Rank orders candidates before their load: 0, then LeastPreferred, then Cordoned.
	Rank Rank
	// Backoff: changes of addresses fail there now. It gets no new place while another can take it.
	Backoff bool
	// Used are ports that something other than a load balancer uses there.
	Used []UsedPort
}

// Rank is how willingly a candidate is chosen.
type Rank int

// The ranks of a candidate.
const (
	Preferred Rank = iota
	LeastPreferred
	Cordoned
)

// Protocol is a transport protocol.
type Protocol = firewall.Protocol

// Port is a port of a transport protocol.
type Port = firewall.Port

// UsedPort is a port of an instance that something other than a load balancer uses.
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

// Place is a port of an instance. Packets for a floating IP arrive at the instance's private address,
// ports unchanged, so two load balancers in one place would be indistinguishable.
type Place struct {
	Instance string
	Family   ownership.Family
	Port     Port
}

// Instance is what is known of an instance that may carry addresses or does.
type Instance struct {
	// Name is the instance's in Oxide, or its id.
	Name string
	// Addrs are its private addresses, at most one per family.
	Addrs []netip.Addr
	// Interface is what firewall rules go by.
	Interface firewall.Interface
	// Ephemeral is how many ephemeral addresses it has, if EphemeralKnown.
	Ephemeral      int
	EphemeralKnown bool
}

// Addr returns its private address of a family; an invalid one if there is none.
func (i Instance) Addr(family ownership.Family) netip.Addr {
	for _, addr := range i.Addrs {
		if ownership.FamilyOf(addr) == family {
			return addr
		}
	}
	return netip.Addr{}
}

// Pool is an IP pool, or why it is not there.
type Pool struct {
	ID     string
	Family ownership.Family
	// Unicast pools give floating IPs; multicast ones do not.
	Unicast bool
	// Missing: Oxide says that there is no such pool. Unreadable: why it could not be read. Exhausted: it
	// had no free address a moment ago.
	Missing    bool
	Unreadable string
	Exhausted  bool
}

// DefaultPool returns the key in Input.Pools of the silo's default pool of a family.
func DefaultPool(family ownership.Family) string { return "default:" + string(family) }

// Desired is an address that a load balancer is to have.
type Desired struct {
	Family ownership.Family
	Source ownership.Source
}

// Ending is whether and how the owner of a load balancer goes away.
type Ending int

// How an owner goes away.
const (
	NotEnding Ending = iota
	// EndRelease deletes its addresses.
	EndRelease
	// EndRetain keeps them, marked as retained.
	EndRetain
)

// Eligible are the only candidates that a load balancer may use.
type Eligible struct {
	// Instances says of each eligible instance whether what is there is only leaving.
	Instances map[string]Serving
	// Description is what makes one eligible, for people, in words that follow "none".
	Description string
	// FollowsServing: on an instance that is not eligible or only leaving, an address serves nothing.
	FollowsServing bool
}

// Serving is what a load balancer has on an instance.
type Serving int

// What a load balancer may have on an instance.
const (
	IsServing Serving = iota
	IsLeaving
)

// LoadBalancer is what is desired of one load balancer, and what is remembered of it.
type LoadBalancer struct {
	Key      ownership.Key
	OwnerUID string
	// Created is when its owner was, in nanoseconds since 1970: of two that desire one place the older
	// has it.
	Created int64
	Ending  Ending
	// Desired has at most one address per family.
	Desired []Desired
	Ports   []Port
	// Eligible is nil if all candidates are.
	Eligible *Eligible
	// Retain keeps addresses that are exchanged for others, marked as retained.
	Retain bool
	// Published are the addresses that its owner publishes.
	Published []netip.Addr
	// NoPublication: its owner publishes nowhere.
	NoPublication bool
	// Preserve: it is not known what is desired. What it has and publishes is placed as ever; an address
	// that is in use nowhere gets no place, and nothing is allocated, exchanged or released.
	Preserve bool

	// LastPorts are the ports with which it had its place the last time, if LastPortsKnown: one that
	// serves others now has to make way.
	LastPorts      []Port
	LastPortsKnown bool
	// Announced are the places to which its addresses are on their way, by the address's id: a place was
	// taken and perhaps published.
	Announced map[string]string
	// MayMove is false while no address of it may begin to move off an instance that still serves.
	MayMove bool
}

// Publishes reports whether its owner publishes an address.
func (l *LoadBalancer) Publishes(addr netip.Addr) bool {
	for _, published := range l.Published {
		if published == addr {
			return true
		}
	}
	return false
}

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
	// Claims are the addresses that it is to have, in the order of families.
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
	// Foreign: an address is on an instance that never was of this cluster. What its owner publishes says
	// which instances are ours, so the publication stays as it is.
	Foreign bool
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
	// Frozen: it stays as it is, wherever that is.
	Frozen bool
	// Target is the instance that is to carry it; empty: none. Equal to the present one: it stays.
	Target string
	// Next is the place that it will have to move to soon, if Target is the present one; empty: none.
	Next string
	// Blocked: its place at Target is still held by another address that is about to leave it, or is on its
	// way there and will make way. It names the holder.
	Blocked string
	// Why is the reason for going to Target, in one line.
	Why string
	// Unscheduled is why it has no Target; nil: it has one.
	Unscheduled *Unscheduled
}

// Current returns the instance that carries the address now; empty: none.
func (c *Claim) Current() string {
	if c.Address == nil {
		return ""
	}
	return c.Address.InstanceID
}

// Creation is a floating IP to be created.
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

// Action is one change of one floating IP that a plan takes.
type Action struct {
	Type ActionType
	Key  ownership.Key
	// ID, Name and Addr are those of the floating IP; ID and Addr are empty if it is yet to be created.
	ID, Name string
	Addr     netip.Addr
	// Instance is where it is attached to or detached from. From is, for an attach that follows a detach,
	// where it was.
	Instance, From string
	// Why is one line for people.
	Why string
	// Replaces: see Creation.
	Replaces bool
}
