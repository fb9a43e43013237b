// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package loadbalancers

import (
	"cmp"
	"fmt"
	"hash/fnv"
	"slices"
)

// maxFloatingIPs is how many floating IPs an instance can carry for certain: Oxide allows 32
// external IPs besides those of outbound NAT on an instance with one IP family, 31 on one with two.
// Ephemeral addresses count, too, and are not seen here; Oxide's own check has the last word.
const maxFloatingIPs = 31

// plan is what there is to do for one load balancer.
type plan struct {
	// addresses say what each wanted address will be.
	addresses []plannedAddress
	// releases are addresses that are no longer wanted. They are let go after the wanted ones are
	// secured and attached.
	releases   []Action
	conditions []Condition
}

// plannedAddress is one wanted address: the fact it starts from, the actions, and where it ends.
type plannedAddress struct {
	wanted Wanted
	// found is the existing address; nil if one has to be created.
	found   *fact
	actions []Action
	// target is the instance that carries it in the end; empty: none.
	target string
}

// destinations are the instances that the plan attaches addresses to.
func (p plan) destinations() []string {
	var instances []string
	for _, address := range p.addresses {
		for _, a := range address.actions {
			if a.Type == Attach {
				instances = append(instances, a.InstanceID)
			}
		}
	}
	return instances
}

// planEnsure plans one load balancer. It is a pure function: the same facts give the same plan. The
// addresses on their way to an instance, of other load balancers, count as if they were there.
func planEnsure(
	f facts, arriving map[string]int, cluster Cluster, want Desired,
) (plan, error) {
	var p plan
	owned := f.of(want.Key)
	keep := make(map[string]bool)
	loads := f.loads()
	for instance, n := range arriving {
		loads[instance] += n
	}
	for _, w := range want.Wanted {
		address, conditions, err := planAddress(f, owned, loads, cluster, want, w)
		if err != nil {
			return plan{}, err
		}
		if address.found != nil {
			keep[address.found.ID] = true
		}
		p.addresses = append(p.addresses, address)
		p.conditions = append(p.conditions, conditions...)
	}
	for _, ip := range owned {
		if !keep[ip.ID] {
			p.releases = append(p.releases, release(ip, "no longer wanted")...)
		}
	}
	return p, nil
}

func planAddress(
	f, owned facts, loads map[string]int, cluster Cluster, want Desired, w Wanted,
) (plannedAddress, []Condition, error) {
	address := plannedAddress{wanted: w, found: choose(owned, w)}
	name := nameOf(want.Key, w)
	marker := Marker{
		Key: want.Key, OwnerUID: want.OwnerUID, Family: w.Family, Source: w.Source.String(),
	}
	if address.found == nil {
		create, err := planCreate(f, want.Key, w, name, marker)
		if err != nil {
			return plannedAddress{}, nil, err
		}
		address.actions = append(address.actions, create)
	} else if mark, needed, err := planMark(*address.found, marker); err != nil {
		return plannedAddress{}, nil, err
	} else if needed {
		address.actions = append(address.actions, mark)
	}
	placed := place(loads, cluster, want, w, address.found)
	address.target = placed.target
	address.actions = append(address.actions, placed.moves(want.Key, address.found, name)...)
	return address, placed.conditions, nil
}

// choose picks the address to keep among those that are marked as the load balancer's own: one that
// fits what is wanted, attached ones first, then the oldest.
func choose(owned facts, w Wanted) *fact {
	var best *fact
	for i := range owned {
		ip := &owned[i]
		if ip.Marker.Family == w.Family && fits(*ip, w.Source) && (best == nil || better(ip, best)) {
			best = ip
		}
	}
	return best
}

// fits reports whether an address fulfils a wish. An address that was once wished for in particular
// still fulfils the wish for any address, so withdrawing the wish changes nothing.
func fits(ip fact, wish Source) bool {
	switch {
	case wish.Addr.IsValid():
		return ip.Addr == wish.Addr
	case wish.Pool != "":
		return ip.PoolID == wish.Pool || ip.Marker.Source == wish.String()
	}
	return true
}

func better(a, b *fact) bool {
	if (a.InstanceID != "") != (b.InstanceID != "") {
		return a.InstanceID != ""
	}
	return cmp.Or(a.TimeCreated.Compare(b.TimeCreated), cmp.Compare(a.ID, b.ID)) < 0
}

func planCreate(f facts, key Key, w Wanted, name string, marker Marker) (Action, error) {
	for _, ip := range f {
		if w.Source.Addr.IsValid() && ip.Addr == w.Source.Addr {
			return Action{}, fail(ReasonNotOwned, nil,
				"the wanted address %s is taken: it is the floating IP %s, %s",
				ip.Addr, ip.Name, ownerOf(ip))
		}
	}
	description, err := WithMarker("", marker)
	if err != nil {
		return Action{}, err
	}
	return Action{
		Type: Create, Key: key, Name: name, Addr: w.Source.Addr, Wanted: w,
		Description: description, Why: "the load balancer has no address of its own yet",
	}, nil
}

// planMark renews a marker whose owner is another one than now: the load balancer was made anew
// under its name, or comes back for an address that was retained for it. The source is kept as it
// was when the address was allocated.
func planMark(ip fact, marker Marker) (Action, bool, error) {
	marker.Source = ip.Marker.Source
	if ip.Marker == marker {
		return Action{}, false, nil
	}
	description, err := WithMarker(ip.Description, marker)
	return Action{
		Type: Mark, Key: marker.Key, ID: ip.ID, Name: ip.Name, Addr: ip.Addr,
		Description: description, Why: "the load balancer has a new owner of the same name",
	}, true, err
}

func ownerOf(ip fact) string {
	if ip.Marked {
		return fmt.Sprintf("of the load balancer %s in the scope %s",
			ip.Marker.Key.Name, ip.Marker.Key.Scope)
	}
	return "which is not managed here"
}

// placement is the decision where an address goes.
type placement struct {
	target     string
	why        string
	conditions []Condition
}

// place decides where an address goes: it stays with a candidate that is healthy, or at least not
// known to be unhealthy; else it goes to the least-loaded healthy one; with none it stays where it
// is.
func place(
	loads map[string]int, cluster Cluster, want Desired, w Wanted, found *fact,
) placement {
	current := ""
	if found != nil {
		current = found.InstanceID
	}
	var healthy []Candidate
	for _, c := range cluster.Candidates {
		if want.Eligible != nil && !want.Eligible[c.InstanceID] {
			continue
		}
		if c.InstanceID == current && c.Health != Unhealthy {
			return placement{target: current}
		}
		if c.Health == Healthy && loads[c.InstanceID] < maxFloatingIPs {
			healthy = append(healthy, c)
		}
	}
	switch {
	case len(healthy) > 0:
		why := "it is attached nowhere"
		if current != "" {
			why = "instance " + current + " is no healthy candidate"
		}
		return placement{target: pick(healthy, loads, want.Key, w), why: why}
	case current != "":
		return placement{target: current, conditions: []Condition{{
			Type: Degraded,
			Message: fmt.Sprintf("the IP%s address stays on instance %s, which is not healthy: "+
				"no other candidate can carry it", w.Family, current),
		}}}
	}
	return placement{conditions: []Condition{{
		Type: NoCandidate,
		Message: fmt.Sprintf("the IP%s address is reserved but attached nowhere: none of %d "+
			"candidates is healthy and has room for it", w.Family, len(cluster.Candidates)),
	}}}
}

// pick chooses among healthy candidates: those not to be avoided, then the least loaded, then by a
// hash, so that the choice is stable and spreads.
func pick(healthy []Candidate, loads map[string]int, key Key, w Wanted) string {
	rank := func(c Candidate) uint64 {
		hash := fnv.New64a()
		fmt.Fprintf(hash, "%s\x00%s\x00%s\x00%s", key.Scope, key.Name, w.Family, c.InstanceID)
		return hash.Sum64()
	}
	best := slices.MinFunc(healthy, func(a, b Candidate) int {
		if a.Avoid != b.Avoid {
			if b.Avoid {
				return -1
			}
			return 1
		}
		return cmp.Or(
			cmp.Compare(loads[a.InstanceID], loads[b.InstanceID]),
			cmp.Compare(rank(a), rank(b)),
			cmp.Compare(a.InstanceID, b.InstanceID),
		)
	})
	loads[best.InstanceID]++
	return best.InstanceID
}

// moves returns the actions that bring an address to its place. Oxide cannot move one in a single
// step: it is detached first.
func (p placement) moves(key Key, found *fact, name string) []Action {
	base := Action{Key: key, Name: name, Why: p.why}
	current := ""
	if found != nil {
		base.ID, base.Name, base.Addr, current = found.ID, found.Name, found.Addr, found.InstanceID
	}
	if current == p.target {
		return nil
	}
	var actions []Action
	if current != "" {
		detach := base
		detach.Type, detach.InstanceID = Detach, current
		actions = append(actions, detach)
	}
	attach := base
	attach.Type, attach.InstanceID = Attach, p.target
	return append(actions, attach)
}

// release returns the actions that give an address back.
func release(ip fact, why string) []Action {
	base := Action{Key: ip.Marker.Key, ID: ip.ID, Name: ip.Name, Addr: ip.Addr, Why: why}
	var actions []Action
	if ip.InstanceID != "" {
		detach := base
		detach.Type, detach.InstanceID = Detach, ip.InstanceID
		actions = append(actions, detach)
	}
	remove := base
	remove.Type = Delete
	return append(actions, remove)
}

// retain returns the actions that keep an address for the next load balancer of the same key.
func retain(ip fact, why string) ([]Action, error) {
	marker := ip.Marker
	marker.Retained = true
	description, err := WithMarker(ip.Description, marker)
	if err != nil {
		return nil, err
	}
	var actions []Action
	for _, a := range release(ip, why) {
		if a.Type == Delete {
			a.Type, a.Description = Mark, description
			if ip.Marker.Retained {
				continue
			}
		}
		actions = append(actions, a)
	}
	return actions, nil
}

// planDelete plans the end of a load balancer. Addresses that a newer owner of the same key has are
// not touched, and neither are those that were retained, unless they are to go now.
func planDelete(f facts, key Key, ownerUID string, retainAddresses bool) ([]Action, error) {
	var actions []Action
	for _, ip := range f.of(key) {
		if ownerUID != "" && ip.Marker.OwnerUID != ownerUID {
			continue
		}
		if retainAddresses {
			kept, err := retain(ip, "the load balancer is gone, its address is retained")
			if err != nil {
				return nil, err
			}
			actions = append(actions, kept...)
			continue
		}
		if !ip.Marker.Retained {
			actions = append(actions, release(ip, "the load balancer is gone")...)
		}
	}
	return actions, nil
}
