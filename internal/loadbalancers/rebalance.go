// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package loadbalancers

import (
	"context"
	"slices"
	"time"
)

// levelWithin is how long a wish for an even spread is remembered. It ends before, with the first plan
// that has nothing to move.
const levelWithin = 10 * time.Minute

// Rebalance spreads the addresses of a scope evenly over its healthy candidates with as few moves as
// possible, besides what Reconcile does.
func (m *Manager) Rebalance(
	ctx context.Context, cluster Cluster, set []Desired, dryRun bool,
) (SetResult, error) {
	m.memory.mu.Lock()
	complete := m.memory.scope(cluster.Scope).complete
	m.memory.mu.Unlock()
	if !complete {
		return SetResult{}, errFullSetRequired
	}
	return m.together(ctx, cluster, set, SetOptions{DryRun: dryRun}, true)
}

// RebalanceSoon tells what it takes to spread the addresses of a scope evenly, going by the full set
// that was told last, and, unless it is a dry run, lets the Reconcile calls to come do it: who makes
// these can publish first where an address will be.
func (m *Manager) RebalanceSoon(
	ctx context.Context, scopeName string, dryRun bool,
) (SetResult, error) {
	m.memory.mu.Lock()
	known := m.memory.scope(scopeName)
	complete, cluster, set := known.complete, known.cluster, known.all()
	m.memory.mu.Unlock()
	if !complete {
		return SetResult{}, errFullSetRequired
	}
	d, err := m.draw(ctx, drawing{cluster: cluster, dryRun: true, set: (*scope).all, level: true})
	if err != nil {
		return SetResult{}, err
	}
	if !dryRun {
		m.memory.mu.Lock()
		m.memory.scope(scopeName).levelUntil = time.Now().Add(levelWithin)
		m.memory.mu.Unlock()
	}
	slices.SortFunc(set, func(a, b Desired) int { return compareKeys(a.Key, b.Key) })
	var result SetResult
	for _, want := range set {
		if b, planned := d.plans[want.Key]; planned {
			result.Results = append(result.Results, m.settled(ctx, d.facts, b, nil, true))
		}
	}
	return result, nil
}

// level moves addresses from the candidates that carry most to those that carry fewest, until no move
// makes the spread more even, and reports whether there was one. Each move interrupts a load balancer
// for a moment.
func (p *planner) level() (moved bool) {
	var movable []*claim
	for _, b := range p.balancers {
		for _, c := range b.claims {
			if !c.frozen && c.target != "" {
				movable = append(movable, c)
			}
		}
	}
	for p.levelOnce(movable) {
		moved = true
	}
	return moved
}

// levelOnce moves the address whose move evens out most.
func (p *planner) levelOnce(movable []*claim) bool {
	var best *claim
	target, gain := "", 1
	for _, c := range movable {
		fit, _ := p.fitFor(c)
		fit = slices.DeleteFunc(fit, func(candidate *Candidate) bool {
			return candidate.InstanceID == c.target || candidate.Avoid
		})
		if len(fit) == 0 {
			continue
		}
		to := pick(fit, p.loads, c.want.Key, c.wanted)
		if difference := p.loads[c.target] - p.loads[to]; difference > gain {
			best, target, gain = c, to, difference
		}
	}
	if best == nil {
		return false
	}
	if best.target != best.current() {
		for _, at := range places(best.target, best.wanted.Family, best.want.Ports) {
			delete(p.occupied, at)
		}
		p.present[best.target]--
	}
	p.loads[best.target]--
	p.loads[target]++
	p.present[target]++
	best.target, best.why = target, "the addresses are spread evenly, as was asked for"
	best.conditions = nil // they are about the old place
	p.occupy(best, target)
	return true
}
