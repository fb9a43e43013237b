// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package plan

import (
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

	// Addresses are the floating IPs and external subnets of the project.
	Addresses *Addresses
	// Instances are the candidates and the instances that carry an address, as far as they are known.
	Instances map[string]Instance
	// Names are the names of instances, of those as well whose networks are not known.
	Names map[string]string
	// FormerCandidates are all instances that were candidates since the session began.
	FormerCandidates map[string]bool
	// OthersCandidates are the candidates of the other sessions of the process.
	OthersCandidates map[string]bool
	// UserOwned are the resources that were named as a user's own since the session began.
	UserOwned map[Named]bool
	// Pools are the pools by PoolKey; those that are not there are not known.
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
	// Draining: it gets no further work while it lives. Addresses leave for a healthy candidate that is
	// not cordoned, either; else they stay, and that is no degradation. They come only where no other
	// candidate can take them.
	Draining
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
	// On is the only address on which it is used; an unspecified one (0.0.0.0, ::) stands for all of
	// its family, an invalid one for all addresses.
	On netip.Addr
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
	// On is the only address on which they are reserved, as in UsedPort.
	On netip.Addr
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

// Pool is an IP pool or a subnet pool, or why it is not there.
type Pool struct {
	ID     string
	Family ownership.Family
	// Unicast IP pools give floating IPs, multicast ones do not; subnet pools are unicast.
	Unicast bool
	// Missing: Oxide says that there is no such pool. Unreadable: why it could not be read. Exhausted: it
	// had no free address a moment ago.
	Missing    bool
	Unreadable string
	Exhausted  bool
	// Others are the names of the silo's other pools of the family, where a default pool is missing.
	Others []string
}

// PoolKey returns the key in Input.Pools of the pool that a source names, or of the silo's default
// pool of the family.
func PoolKey(source ownership.Source, family ownership.Family) string {
	key := "ip-pool"
	if source.Kind == ownership.ExternalSubnet {
		key = "subnet-pool"
	}
	if source.Pool != "" {
		return key + ":" + source.Pool
	}
	return "default-" + key + ":" + string(family)
}

// Desired is an address that a load balancer is to have.
type Desired struct {
	Family ownership.Family
	Source ownership.Source
	// Optional: of all optional ones that a load balancer desires it has those that can be had. If none
	// can, the first is what is missing.
	Optional bool
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
	// Desired are the addresses that are desired, in order of preference. All of one family are of one
	// kind, and all optional or none. Refused are the families of which none was to be had when it was last
	// tried: true while that is not tried again.
	Desired []Desired
	Refused map[ownership.Family]bool
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

	// RulesKept: rules are kept for it in firewalls, so none is advised. ShutOut are the IP families whose
	// addresses nobody is to get to.
	RulesKept bool
	ShutOut   map[ownership.Family]bool
	// RulesByHand: none are to be kept for it, so only those by hand are advised.
	RulesByHand bool

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
