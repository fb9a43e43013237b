// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package plan

import "slices"

// choose returns the addresses that a load balancer is to have: those that are required, and of the
// optional ones one. While it is not known what is desired nothing is chosen.
func (p *planner) choose(b *balancer) []Desired {
	desired := b.LoadBalancer.Desired
	isOptional := func(d Desired) bool { return d.Optional }
	if b.LoadBalancer.Preserve || !slices.ContainsFunc(desired, isOptional) {
		return desired
	}
	var chosen, optional []Desired
	for _, d := range desired {
		if d.Optional {
			optional = append(optional, d)
		} else {
			chosen = append(chosen, d)
		}
	}
	one, possible := p.chooseOne(b, optional)
	if !possible && len(chosen) > 0 {
		return chosen
	}
	return append(chosen, one)
}

// chooseOne returns the optional address that a load balancer is to have, and whether it can be had.
// What it has already stays, whatever else could be had since.
func (p *planner) chooseOne(b *balancer, optional []Desired) (one Desired, possible bool) {
	carried := p.carriedFamilies(b)
	for _, choice := range []func(d Desired) bool{
		func(d Desired) bool { return p.hasFitting(b, d) },
		func(d Desired) bool { return carried(d) && p.mayHave(b, d) },
		func(d Desired) bool { return p.mayHave(b, d) },
	} {
		if at := slices.IndexFunc(optional, choice); at >= 0 {
			return optional[at], true
		}
	}
	// What cannot be had leaves it what it has.
	if at := slices.IndexFunc(optional, func(d Desired) bool { return p.hasAny(b, d) }); at >= 0 {
		return optional[at], true
	}
	return optional[0], false
}

// hasFitting reports whether a load balancer has a desired address already.
func (p *planner) hasFitting(b *balancer, d Desired) bool {
	if d.Source.Existing != "" {
		ip := p.in.Addresses.Find(d.Source.Existing)
		return ip != nil && ip.Family() == d.Family
	}
	return p.best(b, d, d.Source, true) != nil || p.firstPublished(b, d.Family, func(ip *Address) bool {
		return p.fits(ip, d.Source) && (p.isLost(b, ip) || p.isLegacy(ip, b))
	}) != nil
}

// hasAny reports whether a load balancer has any address of a family.
func (p *planner) hasAny(b *balancer, d Desired) bool {
	owned := p.in.Addresses.Owned(p.scopes, b.key().Name)
	return slices.ContainsFunc(owned, func(ip *Address) bool {
		return ip.Family() == d.Family && !ip.Marker.Retained
	}) || p.firstPublished(b, d.Family, func(*Address) bool { return true }) != nil
}

// mayHave reports whether nothing is known to be in the way of a new address. What its pool has is
// waited for.
func (p *planner) mayHave(b *balancer, d Desired) bool {
	switch {
	case d.Source.Existing != "" || b.LoadBalancer.Refused[d.Family]:
		return false
	case d.Source.Addr.IsValid():
		return p.in.Addresses.ByAddr(d.Source.Addr) == nil
	}
	problem := p.checkPool(d)
	return problem == nil || problem.Reason == ReasonPoolUnreadable
}

// carriedFamilies returns for which addresses a candidate has a private one: one that the load
// balancer may use, if anything is known of such; healthy or not, since that passes. Where nothing
// is known of any, each counts.
func (p *planner) carriedFamilies(b *balancer) func(Desired) bool {
	var eligible, all []*node
	for _, n := range p.candidates {
		if !n.v4.IsValid() && !n.v6.IsValid() {
			continue
		}
		all = append(all, n)
		if _, is := b.serving(n.id); is {
			eligible = append(eligible, n)
		}
	}
	if len(eligible) > 0 {
		all = eligible
	}
	return func(d Desired) bool {
		return len(all) == 0 ||
			slices.ContainsFunc(all, func(n *node) bool { return n.addr(d.Family).IsValid() })
	}
}
