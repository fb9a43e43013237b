// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package plan

import (
	"fmt"
	"strings"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/ownership"
)

// release plans the end of addresses that a load balancer has and that are not desired: those that
// are marked as its own are deleted or retained, those of a user detached. One of a scope that this
// one takes over from, and that is not desired here, may be what the taking over was for: it is
// left alone.
func (p *planner) release(b *balancer) {
	if b.LoadBalancer.Preserve || b.Problem != nil {
		return
	}
	const why = "no longer desired"
	for _, ip := range p.unclaimed(b) {
		switch {
		case p.isOwn(ip, b.key()):
			if other := p.publisherOf(ip, b); other != nil {
				b.warn(NotOwned, fmt.Sprintf("the %s %s is marked as this load balancer's, but "+
					"%s publishes its address %s: it is left alone", ip.Kind, ip.Name, other.key(), ip.Addr))
				continue
			}
			if !p.mayDetach(b, ip) {
				b.warn(ForeignAttachment, p.foreign(ip))
				continue
			}
			if p.isAdopted(ip) {
				continue // it is reported as an orphan
			}
			if !b.endMarked(ip, ip.Marker, b.LoadBalancer.Retain, why) {
				return
			}
		case p.isLeftover(ip, b):
			p.detach(b, ip, why)
		}
	}
}

// unclaimed returns the addresses that a load balancer has, may have, or publishes, and that nobody
// has claimed, ordered by id.
func (p *planner) unclaimed(b *balancer) []*Address {
	var found []*Address
	add := func(ip *Address) {
		if ip == nil || p.claimed[ip.ID] != nil {
			return
		}
		for _, other := range found {
			if other == ip {
				return
			}
		}
		found = append(found, ip)
	}
	for _, ip := range p.in.Addresses.Owned(p.scopes, b.key().Name) {
		add(ip)
	}
	for _, addr := range b.LoadBalancer.Published {
		add(p.in.Addresses.ByAddr(addr))
	}
	if b.LoadBalancer.Ending != NotEnding {
		for _, d := range b.LoadBalancer.Desired {
			if d.Source.Existing != "" {
				add(p.in.Addresses.Find(d.Source.Kind, d.Source.Existing))
			}
		}
	}
	return sortedByID(found)
}

// endMarked plans the end of an address that is marked as a load balancer's, or proven to be it: it
// is detached, and deleted or marked as retained. It reports whether that is possible.
func (b *balancer) endMarked(ip *Address, marker ownership.Marker, retain bool, why string) bool {
	r := Release{Address: ip, Why: why, End: EndsDeleted}
	switch {
	case ip.Marked && ip.Marker.Retained:
		if ip.InstanceID == "" {
			return true
		}
		r.End = EndsDetached
	case retain:
		marker.Retained = true
		description, err := ownership.WithMarker(ip.Description, marker)
		if err != nil {
			b.refuse(problemf(ReasonInvalid, "%s %s: %s", ip.Kind, ip.Name, err))
			return false
		}
		r.End, r.Description, r.Why = EndsRetained, description, why+"; its address is retained"
	}
	b.Releases, b.former = append(b.Releases, r), append(b.former, ip)
	return true
}

// detach plans that a user's address is released, once.
func (p *planner) detach(b *balancer, ip *Address, why string) {
	if p.detached[ip.ID] {
		return
	}
	p.detached[ip.ID] = true
	b.Releases = append(b.Releases, Release{Address: ip, Why: why})
	b.former = append(b.former, ip)
}

// end plans the end of a load balancer. Addresses that a newer owner of the same key has are not
// touched, and neither are those that were retained, or that are on an instance which never was of
// this cluster: another cluster of the same id has those. A user's address is only detached. An
// address of the existing Oxide CCM goes as it would have gone there, unless another load balancer
// publishes it.
func (p *planner) end(b *balancer) {
	const why = "the load balancer is gone"
	lb := b.LoadBalancer
	found := p.unclaimed(b)
	for _, ip := range found {
		switch {
		case p.isOwn(ip, lb.Key):
			isOthers := lb.OwnerUID != "" && ip.Marker.OwnerUID != lb.OwnerUID
			if !isOthers && p.publisherOf(ip, b) == nil && p.mayDetach(b, ip) {
				b.endMarked(ip, ip.Marker, lb.Ending == EndRetain, why)
			}
		case p.publisherOf(ip, b) != nil:
		case lb.OwnerUID != "" && p.isLegacy(ip, b):
			marker := p.marker(b, Desired{Family: ip.Family(), Source: ownership.Source{Kind: ip.Kind}})
			b.endMarked(ip, marker, lb.Ending == EndRetain, why)
		case p.isLeftover(ip, b) || p.isNamedAndOurs(ip, b):
			p.detach(b, ip, why)
		}
	}
	inFlight := false
	for _, ip := range found {
		_, under := p.in.InFlight[ip.ID]
		inFlight = inFlight || under
	}
	b.Ended = len(b.Releases) == 0 && !inFlight && b.Problem == nil
	p.warnLeftAttached(b, found)
}

// isNamedAndOurs reports whether a load balancer names an address as a user's own, which is
// attached to an instance of the cluster.
func (p *planner) isNamedAndOurs(ip *Address, b *balancer) bool {
	if ip.InstanceID == "" || !isUsers(ip) || !p.onClusterNode(b, ip) {
		return false
	}
	for _, d := range b.LoadBalancer.Desired {
		if d.Family == ip.Family() && d.Source.Names(ip.Kind, ip.ID, ip.Name) {
			return true
		}
	}
	return false
}

// maxLeft is how many addresses a message names that may have been a load balancer's.
const maxLeft = 3

// warnLeftAttached says which addresses may have been those of an ending load balancer that has
// nothing: it may have named one as a user's own while nobody was there to see it.
func (p *planner) warnLeftAttached(b *balancer, found []*Address) {
	lb := b.LoadBalancer
	if len(found) > 0 || len(lb.Published) > 0 {
		return
	}
	for _, d := range lb.Desired {
		if d.Source.Existing != "" {
			return
		}
	}
	if left := p.leftAttached(); len(left) > 0 {
		b.warn(LeftAttached, p.describeLeft(left))
	}
}

// leftAttached returns the first addresses that are attached to candidates and belong to nobody, nor
// were reserved for themselves.
func (p *planner) leftAttached() []*Address {
	if p.leftFound {
		return p.left
	}
	p.leftFound = true
	for _, ip := range p.in.Addresses.All() {
		if _, reserved := ownership.ParseReservation(ip.Description); reserved {
			continue
		}
		if ip.InstanceID != "" && p.node(ip.InstanceID).candidate != nil && isUsers(ip) &&
			p.claimed[ip.ID] == nil && !p.detached[ip.ID] && p.publisherOf(ip, nil) == nil {
			if p.left = append(p.left, ip); len(p.left) == maxLeft {
				break
			}
		}
	}
	return p.left
}

func (p *planner) describeLeft(left []*Address) string {
	texts := make([]string, 0, len(left))
	for _, ip := range left {
		texts = append(texts, fmt.Sprintf("%s (%s) is attached to %s",
			ip.Name, ip.Addr, p.displayName(ip.InstanceID)))
	}
	if len(texts) == 1 {
		return clip(fmt.Sprintf("the %s %s and belongs to no load balancer: if it was this one's, "+
			"detach it", left[0].Kind, texts[0]))
	}
	return clip(fmt.Sprintf("of the addresses, %s, and none belongs to a load balancer: if one was "+
		"this one's, detach it", strings.Join(texts, ", ")))
}

// orphans returns the addresses that are marked with the scope or an adopted one and that no load
// balancer claims or releases, by key. An ending one has its addresses until then.
func (p *planner) orphans() map[ownership.Key][]*Address {
	orphans := make(map[ownership.Key][]*Address)
	released := make(map[string]bool)
	ending := make(map[string]bool)
	for _, b := range p.all {
		if b.LoadBalancer.Ending != NotEnding {
			ending[b.key().Name] = true
		}
		for _, ip := range b.former {
			released[ip.ID] = true
		}
	}
	for _, ip := range p.in.Addresses.All() {
		if ip.Marked && p.isScope(ip.Marker.Key.Scope) && p.claimed[ip.ID] == nil && !released[ip.ID] &&
			(ip.Marker.Retained || !ending[ip.Marker.Key.Name]) {
			orphans[ip.Marker.Key] = append(orphans[ip.Marker.Key], ip)
		}
	}
	return orphans
}
