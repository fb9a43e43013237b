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

const (
	// maxExternalSubnets is how many external subnets an instance can carry.
	maxExternalSubnets = 32
	// maxExternalIPs is how many external IPs an instance can carry. Oxide counts ephemeral
	// addresses, and that of outbound NAT, which an instance with an IPv4 stack has.
	maxExternalIPs = 33
	natIPs         = 1
)

// Limit returns how many addresses of a kind one instance can carry; ephemeral ones count among those.
func Limit(kind ownership.Kind) int {
	if kind == ownership.ExternalSubnet {
		return maxExternalSubnets
	}
	return maxExternalIPs - natIPs
}

// node is an instance while the plan is made.
type node struct {
	id       string
	instance Instance
	// candidate is nil if it is none.
	candidate *Candidate
	v4, v6    netip.Addr
	// used are the uses of each port of the candidate.
	used map[Port][]*UsedPort
	// reserved are the ranges that are reserved on its private addresses, and not everywhere.
	reserved []ReservedPorts
	// load is how many addresses it carries in the end, next how many will have to come soon.
	load, next int
	// present is how many of each kind there may be until then: what leaves and what comes; room how many
	// it can carry.
	present, room [2]int
}

// isFull reports whether an instance can carry no more addresses of a kind.
func (n *node) isFull(kind ownership.Kind) bool { return n.present[kind] >= n.room[kind] }

func (n *node) addr(family ownership.Family) netip.Addr {
	if family == ownership.IPv6 {
		return n.v6
	}
	return n.v4
}

// addNodes adds the candidates and every instance that carries an address, with what they carry.
func (p *planner) addNodes() {
	byAddr := p.splitReserved()
	sorted := slices.Clone(p.in.Candidates)
	slices.SortFunc(sorted, func(a, b Candidate) int { return cmp.Compare(a.InstanceID, b.InstanceID) })
	for i := range sorted {
		n := p.node(sorted[i].InstanceID)
		n.candidate = &sorted[i]
		if len(sorted[i].Used) > 0 {
			n.used = make(map[Port][]*UsedPort, len(sorted[i].Used))
		}
		for j := range sorted[i].Used {
			used := &sorted[i].Used[j]
			n.used[used.Port] = append(n.used[used.Port], used)
		}
		n.reserved = slices.Concat(byAddr[n.v4], byAddr[n.v6],
			byAddr[netip.IPv4Unspecified()], byAddr[netip.IPv6Unspecified()])
		p.candidates = append(p.candidates, n)
	}
	for _, ip := range p.in.Addresses.All() {
		if ip.InstanceID != "" {
			n := p.node(ip.InstanceID)
			n.load++
			n.present[ip.Kind]++
		}
	}
	for id, operation := range p.in.InFlight {
		ip := p.in.Addresses.ByID(id)
		if ip == nil || operation.Instance == "" || operation.Instance == ip.InstanceID {
			continue
		}
		n := p.node(operation.Instance)
		n.load++
		n.present[ip.Kind]++
		if ip.InstanceID != "" {
			p.node(ip.InstanceID).load--
		}
	}
}

// splitReserved keeps the ranges that are reserved everywhere, and returns the others by address.
func (p *planner) splitReserved() map[netip.Addr][]ReservedPorts {
	byAddr := make(map[netip.Addr][]ReservedPorts)
	for _, r := range p.in.Reserved {
		if r.On.IsValid() {
			byAddr[r.On] = append(byAddr[r.On], r)
		} else {
			p.reservedEverywhere = append(p.reservedEverywhere, r)
		}
	}
	return byAddr
}

// node returns an instance.
func (p *planner) node(id string) *node {
	if n := p.nodes[id]; n != nil {
		return n
	}
	instance := p.in.Instances[id]
	n := &node{
		id: id, instance: instance,
		v4: instance.Addr(ownership.IPv4), v6: instance.Addr(ownership.IPv6),
		room: [2]int{
			ownership.FloatingIP:     room(instance),
			ownership.ExternalSubnet: Room(ownership.ExternalSubnet, instance),
		},
	}
	p.nodes[id] = n
	return n
}

// Room is how many addresses of a kind an instance can carry at most.
func Room(kind ownership.Kind, instance Instance) int {
	if kind == ownership.ExternalSubnet {
		return maxExternalSubnets
	}
	return room(instance)
}

// room is how many floating IPs an instance can carry. Where its ephemeral addresses are not known,
// it is assumed to have all that it can.
func room(instance Instance) int {
	room := maxExternalIPs
	if instance.Addr(ownership.IPv4).IsValid() {
		room -= natIPs
	}
	if instance.EphemeralKnown {
		return room - instance.Ephemeral
	}
	return room - max(len(instance.Addrs), 1)
}

// displayName returns the name by which people know an instance.
func (p *planner) displayName(instance string) string {
	n := p.node(instance)
	if n.candidate != nil && n.candidate.Name != "" {
		return n.candidate.Name
	}
	return cmp.Or(n.instance.Name, p.in.Names[instance], instance)
}

// serving returns what a load balancer has on an instance, and whether it may use that at all.
func (b *balancer) serving(instance string) (Serving, bool) {
	eligible := b.LoadBalancer.Eligible
	if eligible == nil {
		return IsServing, true
	}
	serving, ok := eligible.Instances[instance]
	if !eligible.FollowsServing {
		serving = IsServing
	}
	return serving, ok
}

// fitness is whether a candidate can take an address.
type fitness int

const (
	// unusable: it is not healthy, not eligible, or has no address of the family.
	unusable fitness = iota
	// doubled: it has another address of the load balancer.
	doubled
	// taken: another load balancer has a port of this one there, or the port is refused.
	taken
	// waits: another address is about to leave the place, and an address that is not in use can
	// wait.
	waits
	full
	// vacated: the place can be taken once another address has left it.
	vacated
	fits
)

// fitnessOf says whether a candidate can take an address. Serving says whether only those count
// where the load balancer's traffic is served for longer than a moment.
func (p *planner) fitnessOf(c *claim, n *node, serving bool) fitness {
	if !p.isUsable(c, n, serving) {
		return unusable
	}
	if c.isDoubledAt(n.id) {
		return doubled
	}
	isVacated := false
	for _, port := range c.ports() {
		at := Place{n.id, c.Desired.Family, port}
		if holds, is := p.occupied[at]; is && holds.b != c.b {
			return taken
		}
		if isVacated {
			continue
		}
		holds, is := p.vacated[at]
		isVacated = is && holds.b != c.b
	}
	switch {
	case p.isRefused(c, n):
		return taken
	case isVacated && !c.inUse():
		return waits
	case n.isFull(c.Kind()) && n.id != c.heading && n.id != c.Current():
		return full
	case isVacated:
		return vacated
	}
	return fits
}

// NotHealthy is why no address comes to a candidate of which that is not known better.
const NotHealthy = "is not healthy"

// TakesAddresses reports whether addresses may come to a candidate at all.
func (c *Candidate) TakesAddresses() bool { return c.Health == Healthy || c.Health == Draining }

// IsLastChoice reports whether an address comes to a candidate only where no other can take it.
func (c *Candidate) IsLastChoice() bool { return c.Rank == Cordoned || c.Health == Draining }

func (n *node) takesAddresses() bool { return n.candidate != nil && n.candidate.TakesAddresses() }

func (n *node) isLastChoice() bool { return n.candidate.IsLastChoice() }

func (p *planner) isUsable(c *claim, n *node, serving bool) bool {
	if !n.takesAddresses() || !n.addr(c.Desired.Family).IsValid() {
		return false
	}
	has, eligible := c.b.serving(n.id)
	return eligible && (has == IsServing || !serving)
}

// needsServing reports whether an address may only come to an instance that serves its load
// balancer for longer than a moment: if there is any, or it would leave one where that is not so
// for another.
func (p *planner) needsServing(c *claim) bool {
	if c.standing == leavesServing && !c.lost {
		return true
	}
	eligible := c.b.LoadBalancer.Eligible
	if eligible == nil || !eligible.FollowsServing {
		return false
	}
	return slices.ContainsFunc(p.candidates, func(n *node) bool { return p.isUsable(c, n, true) })
}

// fitFor returns the candidates that can take an address: those whose place is free, else those
// whose place will be.
func (p *planner) fitFor(c *claim) []*node {
	serving := p.needsServing(c)
	// From one that is drained an address goes only where it may stay.
	forBetter := c.standing == leavesInstance && !c.lost &&
		p.node(c.Current()).candidate.Health == Draining
	var free, left []*node
	for _, n := range p.candidates {
		if forBetter && n.isLastChoice() {
			continue
		}
		switch p.fitnessOf(c, n, serving) {
		case fits:
			free = append(free, n)
		case vacated:
			left = append(left, n)
		case unusable, doubled, taken, waits, full:
		}
	}
	if len(free) == 0 {
		return left
	}
	return free
}

// pick chooses among candidates: those where changes do not fail now; those that are not drained;
// where the owner's traffic is sent already; those that are preferred; the least loaded; then by a
// hash, so that the choice is stable and spreads.
func (p *planner) pick(c *claim, among []*node) *node {
	published := c.Address != nil && c.b.LoadBalancer.Publishes(c.Address.Addr)
	var best *node
	for _, n := range among {
		if best == nil || p.compare(c, published, n, best) < 0 {
			best = n
		}
	}
	return best
}

func (p *planner) compare(c *claim, published bool, a, b *node) int {
	if order := compareBools(a.candidate.Backoff, b.candidate.Backoff); order != 0 {
		return order
	}
	if order := compareBools(a.candidate.Health == Draining, b.candidate.Health == Draining); order != 0 {
		return order
	}
	if published || c.announced() != "" {
		order := cmp.Compare(p.preference(c, published, a), p.preference(c, published, b))
		if order != 0 {
			return order
		}
	}
	if order := cmp.Compare(a.candidate.Rank, b.candidate.Rank); order != 0 {
		return order
	}
	if order := cmp.Compare(a.load+a.next, b.load+b.next); order != 0 {
		return order
	}
	if order := cmp.Compare(c.hashWith(a.id), c.hashWith(b.id)); order != 0 {
		return order
	}
	return cmp.Compare(a.id, b.id)
}

// preference orders the announced place before those that the owner publishes, and these before
// others.
func (p *planner) preference(c *claim, published bool, n *node) int {
	switch {
	case c.announced() == n.id:
		return 0
	case published && c.Kind() == ownership.FloatingIP &&
		c.b.LoadBalancer.Publishes(n.addr(c.Desired.Family)):
		return 1
	}
	return 2
}

// The constants of the 64-bit FNV-1a hash.
const (
	fnvOffset = 14695981039346656037
	fnvPrime  = 1099511628211
)

func fnv(hash uint64, text string) uint64 {
	for i := range len(text) {
		hash = (hash ^ uint64(text[i])) * fnvPrime
	}
	return hash
}

// hashWith returns a stable hash of the claim and an instance.
func (c *claim) hashWith(instance string) uint64 {
	if !c.hashed {
		key := c.b.key()
		hash := uint64(fnvOffset)
		for _, field := range []string{key.Scope, key.Name, string(c.Desired.Family)} {
			hash = fnv(fnv(hash, field), "\x00")
		}
		c.hash, c.hashed = hash, true
	}
	return fnv(c.hash, instance)
}

// compareBools orders false before true.
func compareBools(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	}
	return 1
}
