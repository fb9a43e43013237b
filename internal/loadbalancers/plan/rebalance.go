// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package plan

import (
	"cmp"
	"slices"
)

const whyRebalance = "the addresses are spread evenly, as was asked for"

// rebalance moves addresses from the candidates that carry most to those that carry fewest, until
// no move makes the spread more even, and reports whether there was one. Each move interrupts a
// load balancer for a moment, so there are as few as possible: each is from a candidate to one that
// carries at least two addresses fewer.
func (p *planner) rebalance() (moved bool) {
	r := &rebalancing{planner: p, movable: make(map[*node][]*claim), exhausted: make(map[*node]bool)}
	for _, b := range p.live {
		for _, c := range b.claims {
			if r.mayMove(c) {
				from := p.node(c.Target)
				r.movable[from] = append(r.movable[from], c)
			}
		}
	}
	for from, list := range r.movable {
		r.sources = append(r.sources, from)
		// What is on its way already comes first: it stays so.
		slices.SortStableFunc(list, func(x, y *claim) int {
			return compareBools(!r.isAnnounced(x), !r.isAnnounced(y))
		})
	}
	for _, n := range p.candidates {
		if c := n.candidate; c.Health == Healthy && c.Rank == Preferred && !c.Backoff {
			r.targets = append(r.targets, n)
		}
	}
	for r.step() {
		moved = true
	}
	return moved
}

// rebalancing is a more even spread while it is made.
type rebalancing struct {
	*planner
	// movable are the addresses that may move, by where they are.
	movable          map[*node][]*claim
	sources, targets []*node
	// exhausted are sources of which nothing can move, as long as no target gets less loaded.
	exhausted map[*node]bool
}

// mayMove reports whether an address that has its place may be moved for an even spread.
func (r *rebalancing) mayMove(c *claim) bool {
	if c.Frozen || c.Target == "" || c.Target != c.Current() || c.heading != "" || c.standing != stays ||
		c.planNext || !c.b.LoadBalancer.MayMove {
		return false
	}
	_, inFlight := r.in.InFlight[c.Address.ID]
	return !inFlight
}

func (r *rebalancing) isAnnounced(c *claim) bool {
	to := c.announced()
	return to != "" && to != c.Current()
}

// step makes the move that evens out most, and reports whether there is one.
func (r *rebalancing) step() bool {
	slices.SortFunc(r.sources, func(a, b *node) int {
		return cmp.Or(-cmp.Compare(a.load, b.load), cmp.Compare(a.id, b.id))
	})
	slices.SortFunc(r.targets, func(a, b *node) int {
		return cmp.Or(cmp.Compare(a.load, b.load), cmp.Compare(a.id, b.id))
	})
	for _, from := range r.sources {
		if r.exhausted[from] {
			continue
		}
		if c, to := r.choose(from); c != nil {
			r.move(c, from, to)
			if slices.Contains(r.targets, from) {
				clear(r.exhausted)
			}
			return true
		}
		r.exhausted[from] = true
	}
	return false
}

// choose returns the address that can go from a candidate to the least loaded one, and where that
// is.
func (r *rebalancing) choose(from *node) (*claim, *node) {
	if len(r.targets) == 0 || from.load-r.targets[0].load <= 1 {
		return nil, nil
	}
	var chosen *claim
	var best *node
	for _, c := range r.movable[from] {
		if r.isAnnounced(c) {
			if to := r.node(c.announced()); slices.Contains(r.targets, to) && from.load-to.load > 1 &&
				r.fitnessOf(c, to, r.needsServing(c)) == fits {
				return c, to
			}
		}
		to := r.leastLoaded(c, from)
		if to != nil && (best == nil || to.load < best.load) {
			chosen, best = c, to
		}
		if best != nil && best.load == r.targets[0].load {
			break
		}
	}
	return chosen, best
}

// leastLoaded returns the least loaded candidate that an address can go to, and by which the spread
// gets more even; nil: there is none.
func (r *rebalancing) leastLoaded(c *claim, from *node) *node {
	serving := r.needsServing(c)
	var best *node
	for _, to := range r.targets {
		if from.load-to.load <= 1 || best != nil && to.load > best.load {
			break
		}
		if to == from || r.fitnessOf(c, to, serving) != fits {
			continue
		}
		if best == nil || c.hashWith(to.id) < c.hashWith(best.id) {
			best = to
		}
	}
	return best
}

func (r *rebalancing) move(c *claim, from, to *node) {
	r.movable[from] = slices.DeleteFunc(r.movable[from], func(other *claim) bool { return other == c })
	r.send(c, to, whyRebalance)
}
