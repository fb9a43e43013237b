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
		b.desired = p.choose(b)
		for _, d := range b.desired {
			if d.Source.Existing != "" && !b.LoadBalancer.Preserve {
				p.claimExisting(b, d)
			}
		}
	}
	// Before owned addresses: a marker that was edited to the name of another load balancer would
	// else give the address to that.
	for _, b := range p.live {
		p.restore(b)
	}
	for _, b := range p.live {
		for _, d := range b.desired {
			switch {
			case b.claimOf(d.Family) != nil:
			case b.LoadBalancer.Preserve || d.Source.Existing != "":
				p.keep(b, d)
			default:
				p.claimManaged(b, d)
			}
		}
	}
}

func (p *planner) add(b *balancer, claimed Claim) *claim {
	c := &claim{Claim: claimed, b: b}
	b.claims = append(b.claims, c)
	if c.Address != nil {
		p.claimed[c.Address.ID] = c
	}
	return c
}

// claimExisting claims an address that the user names as their own.
func (p *planner) claimExisting(b *balancer, d Desired) {
	ip := p.in.Addresses.Find(d.Source.Existing)
	if problem := p.refuseExisting(b, d, ip); problem != nil {
		b.refuse(problem)
		return
	}
	claimed := Claim{Desired: d, Address: ip}
	if ip.Marked { // as this very load balancer's: it is the user's from now on
		description, err := ownership.WithReleased(ip.Description, b.key())
		if err != nil {
			claimed.Frozen = true
			b.refuse(problemf(ReasonInvalid, "floating IP %s: %s", ip.Name, err))
		} else {
			claimed.Mark = &Mark{
				description, "the user names the address as their own: its marker is removed",
			}
			// Off the cluster's nodes the marker alone proves that it may be detached.
			claimed.MarkLast = !p.onClusterNode(b, ip)
		}
	}
	p.add(b, claimed)
}

// refuseExisting returns why a load balancer may not have an address that is named as a user's own;
// nil: it may.
func (p *planner) refuseExisting(b *balancer, d Desired, ip *Address) *Problem {
	name := d.Source.Existing
	switch {
	case ip == nil:
		return problemf(ReasonResourceNotFound, "there is no floating IP %.100s in the project", name)
	case ip.Family() != d.Family:
		return problemf(ReasonInvalid, "the floating IP %s is the address %s, which is not of IP%s",
			name, ip.Addr, d.Family)
	case p.claimed[ip.ID] != nil:
		return problemf(ReasonNotOwned, "the floating IP %s is used by the load balancer %s, which is "+
			"older", name, p.claimed[ip.ID].b.key())
	case p.isOwn(ip, b.key()):
		return nil
	case ip.Marked:
		return problemf(ReasonNotOwned, "the floating IP %s is %s, and not the user's own",
			name, ownerOf(ip))
	case ownership.BearsMarker(ip.Description):
		return problemf(ReasonNotOwned, "the floating IP %s bears a marker that was edited: if it is the "+
			"user's own, remove the line %q… from its description", name, ownership.MarkerPrefix)
	}
	if owner := p.provenOwner(ip, b); owner != nil {
		return problemf(ReasonNotOwned, "the floating IP %s is of the load balancer %s, and not the "+
			"user's own", name, owner.key())
	}
	if holds := p.endingHolder(ip, b); holds != nil {
		return problemf(ReasonNotOwned, "the floating IP %s is attached for the load balancer %s until "+
			"that is deleted", name, holds.key())
	}
	return nil
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
// the predecessor's, or one of the user's that was attached for it.
func (p *planner) keep(b *balancer, d Desired) {
	if best := p.best(b, d, ownership.Source{}, false); best != nil {
		p.claimMarked(b, d, best)
		return
	}
	if p.claimLegacy(b, d, ownership.Source{}) {
		return
	}
	isLeftover := func(ip *Address) bool { return p.isLeftover(ip, b) }
	if ip := p.firstPublished(b, d.Family, isLeftover); ip != nil {
		p.add(b, Claim{Desired: d, Address: ip})
	}
}

// firstPublished returns, of the floating IPs that a load balancer publishes and nobody has
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
func (p *planner) claimManaged(b *balancer, d Desired) {
	if best := p.best(b, d, d.Source, true); best != nil {
		p.claimMarked(b, d, best)
		return
	}
	if p.claimLegacy(b, d, d.Source) {
		return
	}
	create, problem := p.creation(b, d)
	if problem != nil {
		b.refuse(problem)
		p.keep(b, d)
		return
	}
	p.add(b, Claim{Desired: d, Managed: true, Create: create})
}

// best returns the address that is marked as the load balancer's, fits, and is to be kept before
// others, retained ones only if they are desired.
func (p *planner) best(b *balancer, d Desired, source ownership.Source, retained bool) *Address {
	var best *Address
	for _, ip := range p.in.Addresses.Owned(p.scopes, b.key().Name) {
		if ip.Family() != d.Family || p.claimed[ip.ID] != nil || !p.fits(ip, source) ||
			ip.Marker.Retained && !retained || p.hasSuspectMarker(b, ip) {
			continue
		}
		if best == nil || p.isBetter(b, ip, best) {
			best = ip
		}
	}
	return best
}

// isBetter says which of two addresses that both fit is kept: one in use rather than one that is
// not, and that rather than one which another cluster uses.
func (p *planner) isBetter(b *balancer, x, y *Address) bool {
	rank := func(ip *Address) int {
		r := 0
		switch {
		case !p.mayDetach(b, ip):
			r -= 4
		case ip.InstanceID == "":
		case p.onClusterNode(b, ip) || p.isAdopted(ip):
			r += 4
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

// claimMarked claims an address that is marked as the load balancer's. Its marker is renewed if it
// names another owner: the load balancer was created again under its name, comes back for an
// address that was retained, or belongs to a cluster that was rebuilt. The source stays what it was
// when the address was allocated.
func (p *planner) claimMarked(b *balancer, d Desired, ip *Address) {
	c := p.add(b, Claim{Desired: d, Address: ip, Managed: true})
	marker := p.marker(b, d)
	marker.Source = ip.Marker.Source
	if ip.Marker == marker {
		return
	}
	why := "the load balancer has a new owner of the same name"
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
		c.b.refuse(problemf(ReasonInvalid, "floating IP %s: %s", c.Address.Name, err))
		return
	}
	c.Mark = &Mark{description, why}
}

// fits reports whether an address is one from a source. An address that was once desired in
// particular still fits if any is desired, so withdrawing that changes nothing.
func (p *planner) fits(ip *Address, source ownership.Source) bool {
	switch {
	case source.Addr.IsValid():
		return ip.Addr == source.Addr
	case source.Pool != "":
		pool, known := p.in.Pools[source.Pool]
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
