// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package loadbalancers

// By what else than its marker an address is proven to be a load balancer's.

// restore claims addresses whose markers were lost or edited: if their names are such as only this
// load balancer's address has, and its owner publishes them, they are marked anew.
func (p *planner) restore(b *balancer) {
	for _, w := range b.want.Wanted {
		if b.claimOf(w.Family) != nil {
			continue
		}
		for _, ip := range p.facts.sorted() {
			// A marker that was removed because the user named the address as his own is not lost.
			lost := !p.lent[ip.ID] && !p.lent[ip.Name] &&
				(!ip.Marked || p.scopes[ip.Marker.Key.Scope])
			if lost && !p.isOwn(ip, b.want.Key) && ip.family() == w.Family &&
				p.claimed[ip.ID] == nil && b.want.publishes(ip.Addr) && p.isOurPlace(b, ip) &&
				fits(p.facts, ip, w.Source) &&
				(p.isNameOf(ip, b.want.Key, w) || p.wasLegacy(ip, b)) {
				p.claimUnmarked(b, w, ip, "its marker was lost")
				break
			}
		}
	}
}

// isMisled reports whether the marker of an address was probably edited: another load balancer publishes
// it, this one does not, and its name is none that was given for what the marker says.
func (p *planner) isMisled(b *balancer, ip *fact) bool {
	m := ip.Marker
	return !b.want.publishes(ip.Addr) && p.publisherOf(ip.Addr, b) != nil &&
		ip.Name != nameFrom(m.Key, m.Family, m.Source)
}

// isNameOf reports whether an address has a name that it would have been given for a load balancer,
// here or in a scope that this one takes over from.
func (p *planner) isNameOf(ip *fact, key Key, w Wanted) bool {
	for key.Scope = range p.scopes {
		for _, source := range []Source{w.Source, {}, {Addr: ip.Addr}} {
			if ip.Name == nameOf(key, Wanted{Family: w.Family, Source: source}) {
				return true
			}
		}
	}
	return false
}

// claimUnmarked claims an address that is proven to be the load balancer's in another way.
func (p *planner) claimUnmarked(b *balancer, w Wanted, ip *fact, why string) *claim {
	c := &claim{want: &b.want, wanted: w, ip: ip, managed: true}
	p.mark(b, c, p.marker(b, w), why)
	p.add(b, c)
	return c
}

// claimLegacy takes an address of the existing Oxide CCM over. Its names are no proof, since several
// Services may share one; so the owner must publish it, and it must be on a node of the cluster or
// nowhere. Its name stays, by which the existing CCM would find it again.
func (p *planner) claimLegacy(b *balancer, w Wanted, source Source) bool {
	for _, ip := range p.facts.sorted() {
		if p.isLegacy(ip, b) && ip.family() == w.Family && p.claimed[ip.ID] == nil &&
			fits(p.facts, ip, source) {
			p.claimUnmarked(b, w, ip, "it is taken over from the existing Oxide CCM").legacy = true
			return true
		}
	}
	return false
}

// isLegacy reports whether an address is provably what the existing Oxide CCM gave to a load balancer.
func (p *planner) isLegacy(ip *fact, b *balancer) bool {
	at := ip.InstanceID
	return ip.Description == legacyDescription && p.hasLegacyName(ip, b) &&
		b.want.publishes(ip.Addr) && (at == "" || p.candidates[at] != nil || p.nodes[at])
}

// wasLegacy reports whether an address with a marker that was damaged was taken over from the existing
// CCM: it still has its name, and the rest of its description.
func (p *planner) wasLegacy(ip *fact, b *balancer) bool {
	return !ip.Marked && bearsMarker(ip.Description) &&
		WithoutMarker(ip.Description) == legacyDescription && p.hasLegacyName(ip, b)
}

func (p *planner) hasLegacyName(ip *fact, b *balancer) bool {
	cluster := p.cluster.LegacyName
	return cluster != "" && ip.Name == legacyName(cluster, b.want.Key)
}

// provenOwner returns another load balancer that an address without a marker is proven to be of.
func (p *planner) provenOwner(ip *fact, but *balancer) *balancer {
	for _, b := range p.balancers {
		if b == but || !b.want.publishes(ip.Addr) {
			continue
		}
		for _, w := range b.want.Wanted {
			if w.Family == ip.family() && w.Source.Existing == "" &&
				(p.isNameOf(ip, b.want.Key, w) || p.isLegacy(ip, b)) {
				return b
			}
		}
	}
	return nil
}
