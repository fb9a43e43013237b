// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package plan

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// verdicts says of each candidate why an address of a load balancer goes there, or why none does, in
// the order of preference.
func (p *planner) verdicts(b *balancer) []Verdict {
	c := b.explained()
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
		if v.Chosen {
			v.Reason = clip(p.whyChosen(b, r.n))
		} else {
			v.Reason = clip(cmp.Or(p.whyUnfit(c, r.n, serving), p.whyNotBetter(c, r.n)))
		}
		list = append(list, v)
	}
	return list
}

// explained returns the address that explains the candidates to which none goes: the first one that has
// no place, since that is what people ask about, else the first.
func (b *balancer) explained() *claim {
	if i := slices.IndexFunc(b.claims, func(c *claim) bool { return c.Target == "" }); i >= 0 {
		return b.claims[i]
	}
	return b.claims[0]
}

// isChosen reports whether an address of the load balancer goes to an instance.
func (b *balancer) isChosen(n *node) bool {
	return slices.ContainsFunc(b.claims, func(c *claim) bool { return c.Target == n.id })
}

// whyChosen says which addresses of a load balancer go to an instance, and why.
func (p *planner) whyChosen(b *balancer, n *node) string {
	var parts []string
	for _, c := range b.claims {
		if c.Target != n.id {
			continue
		}
		address := "a new IP" + string(c.Desired.Family) + " address"
		if c.Address != nil {
			address = c.Address.Addr.String()
		}
		switch leaves := p.whyLeaves(c); {
		case c.Current() == n.id && leaves != "":
			parts = append(parts, address+" stays, though it "+leaves+": no other can carry it")
		case c.Current() == n.id:
			parts = append(parts, address+" is there, and stays")
		case c.Current() == "":
			parts = append(parts, address+" comes here: first in the order of preference")
		default:
			parts = append(parts, address+" moves here: "+c.Why)
		}
	}
	return strings.Join(parts, "; ")
}

// whyUnfit says why a candidate cannot take an address; empty: it can.
func (p *planner) whyUnfit(c *claim, n *node, serving bool) string {
	has, eligible := c.b.serving(n.id)
	switch {
	case !eligible:
		return c.b.whyIneligible()
	case !n.takesAddresses():
		return cmp.Or(n.candidate.Why, NotHealthy)
	case !n.addr(c.Desired.Family).IsValid():
		return fmt.Sprintf("has no private IP%s address", c.Desired.Family)
	case serving && has != IsServing:
		return onlyLeaving
	}
	if c.isDoubledAt(n.id) {
		return "carries another address of the load balancer"
	}
	if blockers := p.blockersAt(c, n); len(blockers) > 0 {
		return joinBlockers(blockers)
	}
	if n.isFull(c.Kind()) && n.id != c.heading {
		return fmt.Sprintf("carries as many addresses as Oxide allows (%d, with ephemeral ones)",
			Limit(c.Kind()))
	}
	return ""
}

// whyNotBetter says why a candidate that could take an address was not chosen.
func (p *planner) whyNotBetter(c *claim, n *node) string {
	chosen, name := p.nodes[c.Target], p.displayName(c.Target)
	switch {
	case c.Target == "":
		return "could carry it, but nothing is attached anywhere now"
	case c.Target == c.Current() && c.standing == leavesInstance && n.isLastChoice():
		return "is cordoned as well"
	case c.Target == c.Current():
		return "could carry it, but the address is on " + name + ", and moves only if it has to"
	case n.candidate.Backoff:
		return "changes of addresses fail there now, and are tried again later"
	case chosen.candidate == nil || n.candidate.Rank < chosen.candidate.Rank:
		return "could carry it, but the address is on its way to " + name
	case n.isLastChoice() && !chosen.isLastChoice():
		return "is cordoned, so it is the last choice"
	case n.candidate.Rank > chosen.candidate.Rank:
		return "others are preferred: its own outbound traffic would leave from the address"
	case n.load >= chosen.load:
		return fmt.Sprintf("carries %d, and %s no more with this one", n.load, name)
	case n.load == chosen.load-1:
		return "carries as many as " + name + " without this one: of equals the choice is fixed"
	}
	return "could carry it, but the address is on its way to " + name
}
