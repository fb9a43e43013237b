// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package plan

import "slices"

// keepsFormer reports whether the addresses that a load balancer is to have no longer stay in use
// because of this one: they are released only for one that is in use instead, or for which there is
// no instance besides those that carry the others.
func (c *claim) keepsFormer() bool {
	return c.Foreign || c.Target == "" && (c.Unscheduled == nil || !c.Unscheduled.onlySiblings)
}

// locateFormer finds a place for each address that stays in use because what replaces it has none,
// where its instance is not fit to carry it any more: what a load balancer has fails over, whatever
// it asks for.
func (p *planner) locateFormer(b *balancer) {
	if len(b.former) == 0 || b.LoadBalancer.Preserve ||
		!slices.ContainsFunc(b.claims, (*claim).keepsFormer) {
		return
	}
	b.former = slices.DeleteFunc(b.former, func(ip *Address) bool {
		c := &claim{Claim: Claim{
			Desired: Desired{Family: ip.Family()}, Address: ip, Managed: ip.Marked,
		}, b: b, counted: ip.InstanceID}
		if to := p.in.InFlight[ip.ID].Instance; to != ip.InstanceID {
			c.heading = to
		}
		switch {
		case !c.inUse() && c.announced() == "":
			return false // it is attached nowhere, and stays reserved
		case c.heading == "" && c.Current() != "" && !p.leavesFormer(c):
			return false
		}
		b.claims, p.claimed[ip.ID] = append(b.claims, c), c
		b.wants = append(b.wants, &want{Desired: c.Desired, claim: c})
		if c.heading != "" && p.keepHeading(c) || p.keepAnnounced(c, c.announced()) {
			return true
		}
		p.settle(c)
		return true
	})
}

// leavesFormer reports whether a former address has to leave its instance, and another one can
// carry it.
func (p *planner) leavesFormer(c *claim) bool {
	if !p.mayDetach(c.b, c.Address) || c.isHeldAt(p, c.Current()) {
		return false // it is left there, or detached
	}
	c.standing = p.standingOf(c)
	return c.standing != stays && len(p.fitFor(c)) > 0
}
