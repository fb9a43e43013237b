// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package plan

import (
	"fmt"
	"slices"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/ownership"
)

// choose returns the addresses that a load balancer is to have: those that are required, and of the
// optional ones those that can be had. While it is not known what is desired nothing is chosen.
func (p *planner) choose(b *balancer) []*want {
	desired := b.LoadBalancer.Desired
	if !b.LoadBalancer.Preserve {
		desired = p.possible(b, desired)
	}
	wants := make([]*want, 0, len(desired))
	for _, d := range desired {
		wants = append(wants, &want{Desired: d})
	}
	return wants
}

// possible returns what is required, and what of the optional addresses can be had. What a load balancer
// has already stays, whatever else could be had since. If none can be had, the first is what is missing;
// else a condition says why the others are.
func (p *planner) possible(b *balancer, desired []Desired) []Desired {
	isOptional := func(d Desired) bool { return d.Optional }
	if !slices.ContainsFunc(desired, isOptional) {
		return desired
	}
	carried := p.carriedFamilies(b)
	can := func(d Desired) bool {
		return p.hasFitting(b, d) || carried(d) && p.mayHave(b, d) && !p.isUnreadable(d)
	}
	for _, choice := range []func(d Desired) bool{
		can,
		func(d Desired) bool { return carried(d) && p.mayHave(b, d) },
		p.onlyFirst(desired, func(d Desired) bool { return p.mayHave(b, d) }),
		// What cannot be had leaves it what it has.
		func(d Desired) bool { return p.hasAny(b, d) },
	} {
		chosen := slices.DeleteFunc(slices.Clone(desired), func(d Desired) bool {
			return d.Optional && !choice(d)
		})
		if slices.ContainsFunc(chosen, isOptional) {
			p.warnMissing(b, carried, desired, chosen)
			return chosen
		}
	}
	required := slices.DeleteFunc(slices.Clone(desired), isOptional)
	if len(required) > 0 {
		p.warnMissing(b, carried, desired, required)
		return required
	}
	return desired[:1]
}

// onlyFirst returns a choice of the family of the first address alone that another choice admits.
func (p *planner) onlyFirst(desired []Desired, choice func(Desired) bool) func(Desired) bool {
	at := slices.IndexFunc(desired, func(d Desired) bool { return d.Optional && choice(d) })
	return func(d Desired) bool { return at >= 0 && d.Family == desired[at].Family && choice(d) }
}

// isUnreadable reports whether it cannot be found out if there is the pool that a desired address names.
// Whether there is a default pool shows when it is tried, also to who may not read that.
func (p *planner) isUnreadable(d Desired) bool {
	return d.Source.Pool != "" && p.in.Pools[PoolKey(d.Source, d.Family)].Unreadable != ""
}

// warnMissing says which families a load balancer does without, and why: also while one that was
// refused is tried again.
func (p *planner) warnMissing(
	b *balancer, carried func(Desired) bool, desired, chosen []Desired,
) {
	if p.awaitsNodes(b) {
		return
	}
	var said []ownership.Family
	for _, d := range desired {
		isOf := func(other Desired) bool { return other.Family == d.Family }
		_, wasRefused := b.LoadBalancer.Refused[d.Family]
		isTried := slices.ContainsFunc(chosen, isOf) && (!wasRefused || p.hasFitting(b, d))
		if slices.Contains(said, d.Family) || isTried {
			continue
		}
		said = append(said, d.Family)
		b.warn(FamilyMissing, clip(fmt.Sprintf("there is no IP%s address: %s", d.Family,
			p.whyMissing(carried, d))))
	}
}

// excuse makes an optional address that is reserved and can be attached nowhere one of a family that is
// missing, if that is because no node has a private address of it, and another family is served: it was
// allocated when other nodes could have carried it, and stays for when they come back.
func (p *planner) excuse(b *balancer, c *claim) {
	isServed := func(other *claim) bool {
		return other.Desired.Family != c.Desired.Family && other.Target != ""
	}
	if c.Unscheduled.Condition != NoCandidate || !c.Desired.Optional || c.Address == nil ||
		!slices.ContainsFunc(b.claims, isServed) || p.awaitsNodes(b) || p.carriedFamilies(b)(c.Desired) {
		return
	}
	c.Unscheduled.Condition = FamilyMissing
	c.Unscheduled.Message = fmt.Sprintf("the address %s is reserved but attached nowhere: no node that "+
		"could carry it has a private IP%s address", c.Address.Addr, c.Desired.Family)
}

func (p *planner) whyMissing(carried func(Desired) bool, d Desired) string {
	if !carried(d) {
		return fmt.Sprintf("no node has a private IP%s address", d.Family)
	}
	switch {
	case d.Source.Existing != "":
		return fmt.Sprintf("there is no %s %.100s of that family in the project", d.Source.Kind,
			d.Source.Existing)
	case d.Source.Addr.IsValid():
		return fmt.Sprintf("the address %s cannot be had", d.Source.Addr)
	}
	if problem := p.checkPool(d); problem != nil {
		return problem.Message
	}
	return PoolOf(d) + " gave none"
}

// hasFitting reports whether a load balancer has a desired address already.
func (p *planner) hasFitting(b *balancer, d Desired) bool {
	if d.Source.Existing != "" {
		ip := p.in.Addresses.Find(d.Source.Kind, d.Source.Existing)
		return ip != nil && ip.Family() == d.Family
	}
	mayBeIts := func(ip *Address) bool {
		return p.fits(ip, d.Source) && (p.isLost(b, ip) || p.isLegacy(ip, b))
	}
	return p.best(b, d.Family, p.fitting(d.Source)) != nil || p.firstPublished(b, d.Family, mayBeIts) != nil
}

// hasAny reports whether a load balancer has any address of a family.
func (p *planner) hasAny(b *balancer, d Desired) bool {
	owned := p.in.Addresses.Owned(p.scopes, b.key().Name)
	return slices.ContainsFunc(owned, func(ip *Address) bool {
		return ip.Family() == d.Family && !ip.Marker.Retained
	}) || p.firstPublished(b, d.Family, anyAddress) != nil
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
// balancer may use, healthy or not, since that passes. Where it may use none, each candidate counts, and
// where there is none, each family. Of those that it may use something has to be known.
func (p *planner) carriedFamilies(b *balancer) func(Desired) bool {
	if p.awaitsNodes(b) {
		return func(Desired) bool { return false }
	}
	var eligible, all []*node
	for _, n := range p.candidates {
		if !n.isKnown() {
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

// awaitsNodes reports whether nothing is known yet of the candidates that a load balancer may use.
func (p *planner) awaitsNodes(b *balancer) bool {
	awaits := false
	for _, n := range p.candidates {
		if _, is := b.serving(n.id); is {
			if n.isKnown() {
				return false
			}
			awaits = true
		}
	}
	return awaits
}

func (n *node) isKnown() bool { return n.v4.IsValid() || n.v6.IsValid() }
