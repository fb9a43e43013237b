// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package plan

import (
	"cmp"
	"fmt"
	"slices"
)

// whyLeaves says why an address cannot stay on the instance where it is, in words that follow the
// instance's name; empty: it can, or it is attached nowhere.
func (p *planner) whyLeaves(c *claim) string {
	current := c.Current()
	if current == "" {
		return ""
	}
	candidate := p.node(current).candidate
	serving, eligible := c.b.serving(current)
	switch {
	case candidate == nil:
		return "is no candidate any more"
	case candidate.Health != Healthy && candidate.Health != Suspect:
		return cmp.Or(candidate.Why, NotHealthy)
	case !eligible:
		return c.b.whyIneligible()
	case serving == IsLeaving:
		return onlyLeaving
	}
	return ""
}

// onlyLeaving is why an address leaves an instance, or does not come to it, that serves for a moment
// more.
const onlyLeaving = "has only endpoints that are about to end"

// whyIneligible says why a load balancer may not use a candidate, in words that follow its name.
func (b *balancer) whyIneligible() string {
	return "is not one that " + b.LoadBalancer.Eligible.description()
}

// maxWhyLeaves bounds the first part of a message about an address that cannot leave, in bytes.
const maxWhyLeaves = 160

// whyDegraded says why an address has to leave the instance where it stays, and why none of the other
// candidates can carry it.
func (p *planner) whyDegraded(c *claim) string {
	stays := fmt.Sprintf("the address %s stays on %s", c.Address.Addr, p.displayName(c.Current()))
	if !slices.ContainsFunc(p.candidates, c.admits) {
		return clip(stays + ": no node " + cmp.Or(c.b.LoadBalancer.Eligible.description(), "is a candidate"))
	}
	stays += ", which " + clipTo(p.whyLeaves(c), maxWhyLeaves) + ": "
	others := p.whyNoOther(c)
	if len(others) == 0 {
		return stays + "there is no other node"
	}
	stays += "no other node can carry it: "
	return stays + joinNamed(others, maxMessage-len(stays))
}

// whyNoOther says of each candidate but the present one why it cannot carry an address, the eligible
// ones first.
func (p *planner) whyNoOther(c *claim) []string {
	serving := p.needsServing(c)
	var eligible, others []string
	for _, n := range p.candidates {
		switch why := p.displayName(n.id) + ": " + p.whyUnfit(c, n, serving); {
		case n.id == c.Current():
		case c.admits(n):
			eligible = append(eligible, why)
		default:
			others = append(others, why)
		}
	}
	slices.Sort(eligible)
	slices.Sort(others)
	return append(eligible, others...)
}

// admits reports whether the load balancer of an address may use a candidate.
func (c *claim) admits(n *node) bool {
	_, eligible := c.b.serving(n.id)
	return eligible
}

// description says what makes a candidate eligible, in words that follow "none".
func (e *Eligible) description() string {
	if e == nil {
		return ""
	}
	return cmp.Or(e.Description, "is eligible")
}
