// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package loadbalancers

import "slices"

// level moves addresses from the candidates that carry most to those that carry fewest, until no move
// makes the spread more even. Each move interrupts a load balancer for a moment.
func (p *planner) level() {
	var movable []*claim
	for _, b := range p.balancers {
		for _, c := range b.claims {
			if !c.frozen && c.target != "" {
				movable = append(movable, c)
			}
		}
	}
	for p.levelOnce(movable) {
	}
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
