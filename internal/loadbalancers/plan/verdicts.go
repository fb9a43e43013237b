// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package plan

import (
	"cmp"
	"fmt"
	"slices"
)

// verdicts says of each candidate whether an address of a load balancer goes there, and why not, in
// the order of preference. Of two addresses the one that has a place elsewhere explains a
// candidate.
func (p *planner) verdicts(b *balancer) []Verdict {
	c := b.claims[0]
	serving := p.needsServing(c)
	published := c.Address != nil && b.LoadBalancer.Publishes(c.Address.Addr)
	group := func(n *node) int {
		switch {
		case b.isChosen(n):
			return 0
		case p.isUsable(c, n, serving):
			if reason := p.whyUnfit(c, n, serving); reason == "" {
				return 1
			}
			return 2
		}
		return 3
	}
	type ranked struct {
		n     *node
		group int
	}
	all := make([]ranked, 0, len(p.candidates))
	for _, n := range p.candidates {
		all = append(all, ranked{n, group(n)})
	}
	slices.SortStableFunc(all, func(x, y ranked) int {
		return cmp.Or(cmp.Compare(x.group, y.group), p.compare(c, published, x.n, y.n))
	})
	list := make([]Verdict, 0, len(all))
	for _, r := range all {
		v := Verdict{
			InstanceID: r.n.id, Name: p.displayName(r.n.id), Chosen: r.group == 0, Load: r.n.load,
		}
		if !v.Chosen {
			v.Reason = clip(cmp.Or(p.whyUnfit(c, r.n, serving), p.whyNotBetter(c, r.n)))
		}
		list = append(list, v)
	}
	return list
}

// isChosen reports whether an address of the load balancer goes to an instance.
func (b *balancer) isChosen(n *node) bool {
	return slices.ContainsFunc(b.claims, func(c *claim) bool { return c.Target == n.id })
}

// whyUnfit says why a candidate cannot take an address; empty: it can.
func (p *planner) whyUnfit(c *claim, n *node, serving bool) string {
	has, eligible := c.b.serving(n.id)
	switch {
	case !eligible:
		return c.b.whyIneligible()
	case !n.takesAddresses():
		return cmp.Or(n.candidate.Why, "is not healthy")
	case !n.addr(c.Desired.Family).IsValid():
		return fmt.Sprintf("has no private IP%s address", c.Desired.Family)
	case serving && has != IsServing:
		return "what the address would reach there is leaving"
	}
	if c.isDoubledAt(n.id) {
		return "carries another address of the load balancer"
	}
	if blockers := p.blockersAt(c, n); len(blockers) > 0 {
		return joinBlockers(blockers)
	}
	if n.isFull(c.Kind()) && n.id != c.heading {
		return "carries as many addresses as Oxide allows"
	}
	return ""
}

// whyNotBetter says why a candidate that could take an address was not chosen.
func (p *planner) whyNotBetter(c *claim, n *node) string {
	chosen := p.nodes[c.Target]
	switch {
	case c.Target == "":
		return "the address is not attached anywhere"
	case c.Target == c.Current():
		return "the address stays where it is"
	case n.candidate.Backoff:
		return "changes of addresses fail there now"
	case chosen.candidate == nil || n.candidate.Rank < chosen.candidate.Rank:
		return "the other one is where the address is going already"
	case n.isLastChoice() && !chosen.isLastChoice():
		return "is cordoned"
	case n.candidate.Rank > chosen.candidate.Rank:
		return "others are preferred"
	case n.load >= chosen.load:
		return "is no less loaded than the chosen one"
	}
	return "the other one is where the address is going already"
}
