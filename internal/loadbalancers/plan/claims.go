// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package plan

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/ownership"
)

// assign decides which address each load balancer has. Where several could have one, the oldest has
// it.
func (p *planner) assign() {
	for _, b := range p.live {
		b.wants = p.choose(b)
		for _, w := range b.wants {
			if w.Source.Existing != "" && !b.LoadBalancer.Preserve {
				p.claimExisting(b, w)
			}
		}
	}
	// Before owned addresses: a marker that was edited to the name of another load balancer would
	// else give the address to that.
	for _, b := range p.live {
		p.restore(b)
	}
	for _, b := range p.live {
		for _, w := range b.wants {
			switch {
			case w.claim != nil:
			case b.LoadBalancer.Preserve || w.Source.Existing != "":
				p.keep(b, w)
			default:
				p.claimManaged(b, w)
			}
		}
		if b.LoadBalancer.Preserve || b.Problem != nil {
			p.keepOthers(b)
		}
	}
}

func (p *planner) add(b *balancer, w *want, claimed Claim) *claim {
	claimed.Desired = w.Desired
	c := &claim{Claim: claimed, b: b}
	w.claim = c
	b.claims = append(b.claims, c)
	if c.Address != nil {
		p.claimed[c.Address.ID] = c
	}
	return c
}

// claimExisting claims an address that the user names as their own.
func (p *planner) claimExisting(b *balancer, w *want) {
	ip := p.in.Addresses.Find(w.Source.Kind, w.Source.Existing)
	if problem := p.refuseExisting(b, w.Desired, ip); problem != nil {
		b.refuse(problem)
		return
	}
	claimed := Claim{Address: ip}
	if ip.Marked { // as this very load balancer's: it is the user's from now on
		description, err := ownership.WithReleased(ip.Description, b.key())
		if err != nil {
			claimed.Frozen = true
			b.refuse(problemf(ReasonInvalid, "%s %s: %s", ip.Kind, ip.Name, err))
		} else {
			claimed.Mark = &Mark{
				description, "the user names the address as their own: its marker is removed",
			}
			// Off the cluster's nodes the marker alone proves that it may be detached.
			claimed.MarkLast = !p.onClusterNode(b, ip)
		}
	}
	p.add(b, w, claimed)
}

// refuseExisting returns why a load balancer may not have an address that is named as a user's own;
// nil: it may.
func (p *planner) refuseExisting(b *balancer, d Desired, ip *Address) *Problem {
	kind, name := d.Source.Kind, d.Source.Existing
	switch {
	case ip == nil:
		return problemf(ReasonResourceNotFound, "there is no %s %.100s in the project", kind, name)
	case ip.Larger:
		return problemf(ReasonInvalid, "the external subnet %s has more than one address: a load balancer "+
			"needs one of a single address, /%d", name, ip.Family().Bits())
	case ip.Family() != d.Family:
		return problemf(ReasonInvalid, "the %s %s is the address %s, which is not of IP%s",
			kind, name, ip.Addr, d.Family)
	case p.claimed[ip.ID] != nil && p.claimed[ip.ID].b == b:
		return problemf(ReasonInvalid, "the %s %s is named twice", kind, name)
	case p.claimed[ip.ID] != nil:
		return problemf(ReasonNotOwned, "the %s %s is used by the load balancer %s, which is "+
			"older", kind, name, p.claimed[ip.ID].b.key())
	case p.isOwn(ip, b.key()):
		return nil
	case ip.Marked:
		return problemf(ReasonNotOwned, "the %s %s is %s, and not the user's own",
			kind, name, ownerOf(ip))
	case ownership.BearsMarker(ip.Description):
		return problemf(ReasonNotOwned, "the %s %s bears a marker that was edited: if it is the "+
			"user's own, remove the line %q… from its description", kind, name, ownership.MarkerPrefix)
	}
	if p.isElsewhere(b, ip) && p.hasAnother(b, d, ip) {
		return problemf(ReasonInvalid, "the %s %s is attached to the instance %s, which never was a node of "+
			"this cluster: detach it there first", kind, name, p.displayName(ip.InstanceID))
	}
	if owner := p.provenOwner(ip, b); owner != nil {
		return problemf(ReasonNotOwned, "the %s %s is of the load balancer %s, and not the "+
			"user's own", kind, name, owner.key())
	}
	if holds := p.endingHolder(ip, b); holds != nil {
		return problemf(ReasonNotOwned, "the %s %s is attached for the load balancer %s until "+
			"that is deleted", kind, name, holds.key())
	}
	return nil
}

// isElsewhere reports whether a user's own address is on an instance that never was of the cluster,
// and was not attached there for the load balancer.
func (p *planner) isElsewhere(b *balancer, ip *Address) bool {
	return ip.InstanceID != "" && !b.LoadBalancer.Publishes(ip.Addr) && !p.mayDetach(b, ip)
}

// hasAnother reports whether a load balancer has another address of a family, which serves on.
func (p *planner) hasAnother(b *balancer, d Desired, than *Address) bool {
	isLeftover := func(ip *Address) bool { return ip != than && p.isLeftover(ip, b) }
	return p.best(b, d.Family, notRetained) != nil || p.firstPublished(b, d.Family, isLeftover) != nil
}

// endingHolder returns an ending load balancer that a user's own address is attached for: its owner
// publishes it until the end.
func (p *planner) endingHolder(ip *Address, but *balancer) *balancer {
	if p.isLeftover(ip, but) {
		return nil
	}
	for _, b := range p.ending {
		if p.isLeftover(ip, b) {
			return b
		}
	}
	return nil
}

// keep claims the address that a load balancer has, whatever is desired: one that is marked, one of
// the predecessor's, or one of the user's that was attached for it. It reports whether there is one.
func (p *planner) keep(b *balancer, w *want) bool {
	if best := p.best(b, w.Family, notRetained); best != nil {
		p.claimMarked(b, w, best)
		return true
	}
	if p.claimLegacy(b, w, anyAddress) {
		return true
	}
	isLeftover := func(ip *Address) bool { return p.isLeftover(ip, b) }
	if ip := p.firstPublished(b, w.Family, isLeftover); ip != nil {
		p.add(b, w, Claim{Address: ip})
		return true
	}
	return false
}

// keepOthers claims what else a load balancer has of which it is not known what is desired, or
// which cannot have all that is.
func (p *planner) keepOthers(b *balancer) {
	for _, family := range []ownership.Family{ownership.IPv4, ownership.IPv6} {
		for {
			w := &want{Desired: Desired{Family: family}}
			if !p.keep(b, w) {
				break
			}
			b.wants = append(b.wants, w)
		}
	}
}

func anyAddress(*Address) bool { return true }

func notRetained(ip *Address) bool { return !ip.Marker.Retained }

// firstPublished returns, of the addresses that a load balancer publishes and nobody has
// claimed, the first by id that fits.
func (p *planner) firstPublished(
	b *balancer, family ownership.Family, fits func(*Address) bool,
) *Address {
	var first *Address
	for _, addr := range b.LoadBalancer.Published {
		ip := p.in.Addresses.ByAddr(addr)
		if ip != nil && (first == nil || ip.ID < first.ID) && ip.Family() == family &&
			p.claimed[ip.ID] == nil && fits(ip) {
			first = ip
		}
	}
	return first
}

// isOwn reports whether an address is marked as the load balancer's.
func (p *planner) isOwn(ip *Address, key ownership.Key) bool {
	return ip.Marked && ip.Marker.Key.Name == key.Name && p.isScope(ip.Marker.Key.Scope)
}

// claimManaged claims the address that is desired: one that is marked, one of the predecessor's, or
// a new one.
func (p *planner) claimManaged(b *balancer, w *want) {
	fits := p.fitting(w.Source)
	if best := p.best(b, w.Family, fits); best != nil {
		p.claimMarked(b, w, best)
		return
	}
	if p.claimLegacy(b, w, fits) {
		return
	}
	create, problem := p.creation(b, w.Desired)
	if problem != nil {
		b.refuse(problem)
		p.keep(b, w)
		return
	}
	p.add(b, w, Claim{Managed: true, Create: create})
}

// best returns the address that is marked as the load balancer's, fits, and is to be kept before
// others.
func (p *planner) best(b *balancer, family ownership.Family, fits func(*Address) bool) *Address {
	var best *Address
	for _, ip := range p.in.Addresses.Owned(p.scopes, b.key().Name) {
		if ip.Family() != family || ip.Larger || p.claimed[ip.ID] != nil || !fits(ip) ||
			p.hasSuspectMarker(b, ip) {
			continue
		}
		if best == nil || p.isBetter(b, ip, best) {
			best = ip
		}
	}
	return best
}

// isBetter says which of two addresses that both fit is kept: one in use rather than one that is
// not, and that rather than one which another cluster uses; of those in use one whose instance is
// healthy; else the older one.
func (p *planner) isBetter(b *balancer, x, y *Address) bool {
	rank := func(ip *Address) int {
		r := 0
		switch {
		case !p.mayDetach(b, ip):
			r -= 4
		case ip.InstanceID == "":
		case p.onClusterNode(b, ip) || p.isAdopted(ip):
			if r += 4; !p.mayStayOn(ip.InstanceID) {
				r--
			}
		default: // that it may be detached ends once it is published
			r--
		}
		if b.LoadBalancer.Publishes(ip.Addr) {
			r += 2
		}
		if !ip.Marker.Retained {
			r++
		}
		return r
	}
	return cmp.Or(-cmp.Compare(rank(x), rank(y)), cmp.Compare(x.Created, y.Created),
		cmp.Compare(x.ID, y.ID)) < 0
}

// mayStayOn reports whether an instance is a candidate that addresses do not have to leave.
func (p *planner) mayStayOn(instance string) bool {
	candidate := p.node(instance).candidate
	return candidate != nil && candidate.Health != Unhealthy
}

// claimMarked claims an address that is marked as the load balancer's. Its marker is renewed if it
// names another owner: the load balancer was created again under its name, comes back for an
// address that was retained, or belongs to a cluster that was rebuilt. The source stays what it was
// when the address was allocated.
func (p *planner) claimMarked(b *balancer, w *want, ip *Address) {
	c := p.add(b, w, Claim{Address: ip, Managed: true})
	marker := p.marker(b, w.Desired)
	marker.Source = ip.Marker.Source
	if ip.Marker == marker {
		return
	}
	why := "the load balancer has a new owner of the same name"
	if ip.Marker.OwnerUID == marker.OwnerUID {
		why = "its address was retained, and is desired again"
	}
	if p.isAdopted(ip) {
		why = "the cluster takes over from the scope " + ip.Marker.Key.Scope
		c.MarkLast = true
	}
	c.mark(marker, why)
}

func (p *planner) marker(b *balancer, d Desired) ownership.Marker {
	return ownership.Marker{
		Key: b.key(), OwnerUID: b.LoadBalancer.OwnerUID, Family: d.Family, Source: d.Source.String(),
	}
}

// mark has the address marked. If its description has no room for that, the address is left as it
// is.
func (c *claim) mark(marker ownership.Marker, why string) {
	description, err := ownership.WithMarker(c.Address.Description, marker)
	if err != nil {
		c.Frozen, c.MarkLast = true, false
		c.b.refuse(problemf(ReasonInvalid, "%s %s: %s", c.Address.Kind, c.Address.Name, err))
		return
	}
	c.Mark = &Mark{description, why}
}

// fitting returns fits for one source.
func (p *planner) fitting(source ownership.Source) func(*Address) bool {
	return func(ip *Address) bool { return p.fits(ip, source) }
}

// fits reports whether an address is one from a source. An address that was once desired in
// particular still fits if any is desired, so withdrawing that changes nothing.
func (p *planner) fits(ip *Address, source ownership.Source) bool {
	switch {
	case ip.Kind != source.Kind:
		return false
	case source.Addr.IsValid():
		return ip.Addr == source.Addr
	case source.Pool != "":
		pool, known := p.in.Pools[PoolKey(source, ip.Family())]
		if !known || pool.Unreadable != "" {
			return true // nothing speaks against it
		}
		return !pool.Missing && ip.PoolID == pool.ID || ip.Marked && ip.Marker.Source == source.String()
	}
	return true
}

// ownerOf says whose an address is, for people.
func ownerOf(ip *Address) string {
	if ip.Marked {
		return fmt.Sprintf("of the load balancer %s in the scope %s",
			ip.Marker.Key.Name, ip.Marker.Key.Scope)
	}
	return "which is not managed here"
}

// isReleasedBy reports whether an address says that a load balancer has handed it over.
func (p *planner) isReleasedBy(ip *Address, key ownership.Key) bool {
	from, released := ownership.ReleasedFrom(ip.Description)
	return released && from.Name == key.Name && slices.Contains(p.scopes, from.Scope)
}
