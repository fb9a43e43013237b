// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package loadbalancers

import (
	"fmt"
	"net/netip"
	"slices"
)

// letGo plans the end of addresses that a load balancer has and does not want: those that are marked
// as its own are deleted or retained, those of a user detached. One of a scope that this one takes
// over from, and that is not wanted here, may be what the taking over was for: it is left alone.
func (p *planner) letGo(b *balancer) {
	if b.want.Hold || b.problem != nil || p.leave[b.want.Key] {
		return
	}
	const why = "no longer wanted"
	for _, ip := range p.facts.sorted() {
		switch {
		case p.claimed[ip.ID] != nil:
		case p.isOwn(ip, b.want.Key):
			if other := p.publisherOf(ip.Addr, b); other != nil {
				b.conditions = append(b.conditions, Condition{NotOwned, fmt.Sprintf(
					"the floating IP %s is marked as this load balancer's, but %s publishes its "+
						"address %s: it is left alone", ip.Name, other.want.Key, ip.Addr)})
				continue
			}
			if !p.isOurPlace(b, ip) {
				b.conditions = append(b.conditions, p.abroad(ip))
				continue
			}
			if p.isAdopted(b, ip) {
				continue // it is told of as an orphan
			}
			actions, err := release(ip, b.want.Key, b.want.Retain, why)
			if err != nil {
				b.problem = err
				return
			}
			b.releases, b.former = append(b.releases, actions...), append(b.former, ip)
		case !p.detached[ip.ID] && p.facts.isLeftover(ip, b.want.Published):
			p.detached[ip.ID] = true
			b.releases = append(b.releases, detach(ip, b.want.Key, why))
			b.former = append(b.former, ip)
		}
	}
}

// publisherOf returns another load balancer that publishes an address.
func (p *planner) publisherOf(addr netip.Addr, but *balancer) *balancer {
	for _, b := range p.balancers {
		if b != but && b.want.publishes(addr) {
			return b
		}
	}
	for _, b := range p.underWay {
		if b.want.publishes(addr) {
			return b
		}
	}
	return nil
}

// release returns the actions that end an address which is marked as a load balancer's: it is
// detached, and deleted or marked as retained.
func release(ip *fact, key Key, retain bool, why string) ([]Action, error) {
	var actions []Action
	if ip.InstanceID != "" {
		actions = append(actions, detach(ip, key, why))
	}
	end := Action{Type: Delete, Key: key, ID: ip.ID, Name: ip.Name, Addr: ip.Addr, Why: why}
	switch {
	case ip.Marker.Retained:
		return actions, nil
	case retain:
		marker := ip.Marker
		marker.Retained = true
		description, err := WithMarker(ip.Description, marker)
		if err != nil {
			return nil, err
		}
		end.Type, end.Description, end.Why = Mark, description, why+"; its address is retained"
	}
	return append(actions, end), nil
}

func detach(ip *fact, key Key, why string) Action {
	return Action{
		Type: Detach, Key: key, ID: ip.ID, Name: ip.Name, Addr: ip.Addr, InstanceID: ip.InstanceID,
		Why: why,
	}
}

// isLeftover reports whether an address is a user's, and is attached only because a load balancer
// wanted it: the owner still publishes it, together with the private address of the instance that
// it is on.
func (f facts) isLeftover(ip *fact, published []netip.Addr) bool {
	private := f.privateAddr(ip.InstanceID, ip.family())
	return ip.InstanceID != "" && !bearsMarker(ip.Description) &&
		ip.Description != legacyDescription && slices.Contains(published, ip.Addr) &&
		private.IsValid() && slices.Contains(published, private)
}

// Deletion says which load balancer is gone.
type Deletion struct {
	Key Key
	// OwnerUID is the owner's; empty: whoever's.
	OwnerUID string
	// Retain keeps its addresses, marked as retained.
	Retain bool
	// Cluster tells which addresses without a marker may be its own; the zero value: none.
	Cluster Cluster
	// Published are the addresses that the owner published last, Wanted those that it wanted.
	Published []netip.Addr
	Wanted    []Wanted
}

// borrowed reports whether an address is the one that the load balancer named as the user's own.
func (d Deletion) borrowed(ip *fact) bool {
	return !bearsMarker(ip.Description) && ip.Description != legacyDescription &&
		slices.ContainsFunc(d.Wanted, func(w Wanted) bool {
			return w.Family == ip.family() && w.Source.names(ip.FloatingIP)
		})
}

// planDelete plans the end of a load balancer. Addresses that a newer owner of the same key has are
// not touched, and neither are those that were retained, or that are on an instance which never was
// of this cluster: another cluster of the same id has those. A user's address is only detached. An
// address of the existing Oxide CCM goes as it would have gone there, unless another load balancer
// publishes it.
func planDelete(f facts, gone Deletion, known *scope) ([]Action, error) {
	const why = "the load balancer is gone"
	cluster := gone.Cluster
	cluster.Scope = gone.Key.Scope
	b := &balancer{want: Desired{Key: gone.Key, OwnerUID: gone.OwnerUID, Published: gone.Published}}
	var others []Desired
	for key, want := range known.set {
		if key != gone.Key {
			others = append(others, want)
		}
	}
	p := newPlanner(f, cluster, others, known, nil)
	p.assign()
	var actions []Action
	for _, ip := range f.sorted() {
		other := p.publisherOf(ip.Addr, b) != nil
		switch {
		case p.isOwn(ip, gone.Key):
			// Without a cluster nothing tells which instances are its own.
			abroad := gone.Cluster.Scope != "" && !p.isOurPlace(b, ip)
			if gone.OwnerUID != "" && ip.Marker.OwnerUID != gone.OwnerUID || other || abroad {
				continue
			}
			released, err := release(ip, gone.Key, gone.Retain, why)
			if err != nil {
				return nil, err
			}
			actions = append(actions, released...)
		case p.claimed[ip.ID] != nil || other:
		case gone.OwnerUID != "" && p.isLegacy(ip, b):
			if !known.complete {
				return nil, errFullSetRequired
			}
			owned := *ip
			owned.Marker = p.marker(b, Wanted{Family: ip.family()})
			released, err := release(&owned, gone.Key, gone.Retain, why)
			if err != nil {
				return nil, err
			}
			actions = append(actions, released...)
		case f.isLeftover(ip, gone.Published):
			actions = append(actions, detach(ip, gone.Key, why))
		case ip.InstanceID != "" && gone.borrowed(ip) && p.isHome(b, ip):
			if !known.complete {
				return nil, errFullSetRequired
			}
			actions = append(actions, detach(ip, gone.Key, why))
		}
	}
	return actions, nil
}

// orphans returns the addresses that are marked with the scope of a planner and that none of its
// load balancers claims, by key. Of one that is in flight nothing can be told, and one that is yet to be
// deleted has its addresses until then.
func (p *planner) orphans() map[Key][]*fact {
	orphans := make(map[Key][]*fact)
	ending := make(map[string]bool)
	terminating := make(map[string]bool)
	for _, want := range p.terminating {
		terminating[want.Key.Name] = true
	}
	for _, b := range p.balancers {
		for _, a := range b.releases {
			ending[a.ID] = true
		}
		for _, ip := range b.former {
			ending[ip.ID] = true
		}
	}
	for _, ip := range p.facts.sorted() {
		key := Key{Scope: p.cluster.Scope, Name: ip.Marker.Key.Name}
		if ip.Marked && p.scopes[ip.Marker.Key.Scope] && p.claimed[ip.ID] == nil &&
			p.underWay[key] == nil && !ending[ip.ID] &&
			(ip.Marker.Retained || !terminating[ip.Marker.Key.Name]) {
			orphans[ip.Marker.Key] = append(orphans[ip.Marker.Key], ip)
		}
	}
	return orphans
}
