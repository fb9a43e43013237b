// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package plan

import (
	"strings"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/ownership"
)

// By what else than its marker an address is proven to be a load balancer's, and its place to be
// ours.

// maxCounter is up to which counter names are recognized.
const maxCounter = 7

// restore claims addresses whose markers were lost or edited: if their names are such as only this
// load balancer's address has, and its owner publishes them, they are marked again.
func (p *planner) restore(b *balancer) {
	for _, w := range b.wants {
		if w.claim != nil {
			continue
		}
		ip := p.firstPublished(b, w.Family, func(ip *Address) bool {
			return p.isLost(b, ip) && p.mayDetach(b, ip) && p.fits(ip, w.Source) &&
				(p.isNameOf(ip, b.key(), w.Desired) || p.wasLegacy(ip, b))
		})
		if ip != nil {
			p.claimUnmarked(b, w, ip, "its marker was lost")
		}
	}
}

// isLost reports whether an address may have been the load balancer's. A marker that was removed
// because the user named the address as their own is not lost.
func (p *planner) isLost(b *balancer, ip *Address) bool {
	return !p.isOwn(ip, b.key()) && (!ip.Marked || p.isScope(ip.Marker.Key.Scope)) &&
		!p.in.UserOwned[Named{ip.Kind, ip.ID}] && !p.in.UserOwned[ip.named()] &&
		!p.isReleasedBy(ip, b.key())
}

// hasSuspectMarker reports whether the marker of an address was probably edited: another load
// balancer publishes it, this one does not, and its name is none that was given for what the marker
// says.
func (p *planner) hasSuspectMarker(b *balancer, ip *Address) bool {
	return !b.LoadBalancer.Publishes(ip.Addr) && p.publisherOf(ip, b) != nil &&
		!isNamed(ip.Name, ip.Marker.Key, ip.Marker.Family, ip.Marker.Source)
}

// isNamed reports whether a name is one that is given to an address.
func isNamed(name string, key ownership.Key, family ownership.Family, source string) bool {
	if !strings.HasPrefix(name, ownership.ReadableName(key)) {
		return false
	}
	for counter := range maxCounter + 1 {
		if name == ownership.Name(key, family, source, counter) {
			return true
		}
	}
	return false
}

// isNameOf reports whether an address has a name that it would have been given for a load balancer,
// here or in a scope that this one takes over from.
func (p *planner) isNameOf(ip *Address, key ownership.Key, d Desired) bool {
	for _, key.Scope = range p.scopes {
		for _, source := range []ownership.Source{d.Source, {Kind: ip.Kind}, {Kind: ip.Kind, Addr: ip.Addr}} {
			if isNamed(ip.Name, key, d.Family, source.String()) {
				return true
			}
		}
	}
	return false
}

// claimUnmarked claims an address that is proven to be the load balancer's in another way.
func (p *planner) claimUnmarked(b *balancer, w *want, ip *Address, why string) {
	p.add(b, w, Claim{Address: ip, Managed: true}).mark(p.marker(b, w.Desired), why)
}

// claimLegacy takes an address of the existing Oxide CCM over. Its names are no proof, since
// several Services may share one; so the owner must publish it, and it must be on a node of the
// cluster or nowhere. Its name stays, by which the existing CCM would find it again.
func (p *planner) claimLegacy(b *balancer, w *want, fits func(*Address) bool) bool {
	ip := p.firstPublished(b, w.Family, func(ip *Address) bool {
		return p.isLegacy(ip, b) && fits(ip)
	})
	if ip != nil {
		p.claimUnmarked(b, w, ip, "it is taken over from the existing Oxide CCM")
	}
	return ip != nil
}

// isLegacy reports whether an address is provably what the existing Oxide CCM gave to a load
// balancer.
func (p *planner) isLegacy(ip *Address, b *balancer) bool {
	return ip.Kind == ownership.FloatingIP &&
		ip.Description == ownership.LegacyDescription && p.hasLegacyName(ip, b) &&
		b.LoadBalancer.Publishes(ip.Addr) && p.isOrWasCandidate(ip.InstanceID)
}

// wasLegacy reports whether an address with a marker that was damaged was taken over from the
// existing CCM: it still has its name, and the rest of its description.
func (p *planner) wasLegacy(ip *Address, b *balancer) bool {
	return !ip.Marked && ownership.BearsMarker(ip.Description) &&
		ownership.WithoutMarker(ip.Description) == ownership.LegacyDescription && p.hasLegacyName(ip, b)
}

func (p *planner) hasLegacyName(ip *Address, b *balancer) bool {
	cluster := p.in.LegacyName
	return cluster != "" && ip.Name == ownership.LegacyName(cluster, b.key())
}

// provenOwner returns another load balancer that an address without a marker is proven to be of.
func (p *planner) provenOwner(ip *Address, but *balancer) *balancer {
	p.publisherOf(ip, but)
	for _, b := range p.publishers[ip.Addr] {
		if b == but || p.isReleasedBy(ip, b.key()) {
			continue
		}
		for _, d := range b.LoadBalancer.Desired {
			if d.Family == ip.Family() && d.Source.Kind == ip.Kind && d.Source.Existing == "" &&
				(p.isNameOf(ip, b.key(), d) || p.isLegacy(ip, b)) {
				return b
			}
		}
	}
	return nil
}

// mayDetach reports whether an address is nowhere, or may be taken off its instance: that is or was
// of the cluster, or its marker proves more. The place of an address of an adopted scope may be
// given up: that cluster is gone. So may that of an address of this very owner which was never
// published: it was being attached for the first time when everybody who knew of it ended. That it is
// published since, with the place to which it goes, takes nothing from that. What is published of an
// external subnet never says where it is, so of one of this very owner only somebody else's candidate
// is not believed.
func (p *planner) mayDetach(b *balancer, ip *Address) bool {
	if p.onClusterNode(b, ip) || p.isAdopted(ip) {
		return true
	}
	lb := b.LoadBalancer
	if !ip.Marked || ip.Marker.Key != lb.Key || ip.Marker.OwnerUID != lb.OwnerUID {
		return false
	}
	if ip.Kind == ownership.ExternalSubnet {
		return !p.in.OthersCandidates[ip.InstanceID]
	}
	return !lb.Publishes(ip.Addr) || lb.Announced[ip.ID] != ""
}

// onClusterNode reports whether an address is nowhere, or on an instance that is or was of the
// cluster: it is a candidate, was one, or its private address is published.
func (p *planner) onClusterNode(b *balancer, ip *Address) bool {
	if p.isOrWasCandidate(ip.InstanceID) {
		return true
	}
	return p.publishesPlace(b, ip)
}

// publishesPlace reports whether the owner of a load balancer publishes where packets for an address
// arrive: the private address of the instance that carries a floating IP.
func (p *planner) publishesPlace(b *balancer, ip *Address) bool {
	private := p.node(ip.InstanceID).addr(ip.Family())
	return ip.Kind == ownership.FloatingIP && private.IsValid() && b.LoadBalancer.Publishes(private)
}

// isOrWasCandidate reports whether an instance is none, or a candidate or former one.
func (p *planner) isOrWasCandidate(instance string) bool {
	return instance == "" || p.node(instance).candidate != nil || p.in.FormerCandidates[instance]
}

// isAdopted reports whether an address is marked with another scope that this one takes over from.
func (p *planner) isAdopted(ip *Address) bool {
	return ip.Marked && ip.Marker.Key.Scope != p.in.Scope && p.isScope(ip.Marker.Key.Scope)
}

// isLeftover reports whether an address is a user's, and is attached only because it was desired
// for a load balancer: the owner still publishes it, together with the private address of the
// instance that it is on, or an external subnet is on an instance of the cluster.
func (p *planner) isLeftover(ip *Address, b *balancer) bool {
	if ip.InstanceID == "" || !b.LoadBalancer.Publishes(ip.Addr) || !isUsers(ip) {
		return false
	}
	return p.publishesPlace(b, ip) ||
		ip.Kind == ownership.ExternalSubnet && p.isOrWasCandidate(ip.InstanceID)
}

// isUsers reports whether nothing says that an address is, or was meant to be, a load balancer's.
func isUsers(ip *Address) bool {
	return ip.Description != ownership.LegacyDescription && !ownership.BearsMarker(ip.Description)
}
