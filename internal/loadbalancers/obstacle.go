// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package loadbalancers

import (
	"net/netip"
	"slices"
)

// obstacle is why an address, which is reserved all the same, is attached nowhere.
type obstacle struct {
	kind ConditionType
	// reason is that of the error, unless waits: only time helps.
	reason Reason
	waits  bool
	why    string
	// address is which one it is, for people.
	address string
}

func (o *obstacle) condition() Condition {
	return Condition{o.kind, "the " + o.address + " is reserved but attached nowhere: " + o.why}
}

func (o *obstacle) err() error {
	if o.waits {
		return nil
	}
	return fail(o.reason, nil, "%s", o.condition().Message)
}

// learn puts an address that was just created into what is told of its having no place.
func (b *balancer) learn(c *claim, addr netip.Addr) {
	if c.unplaced == nil {
		return
	}
	i := slices.Index(b.conditions, c.unplaced.condition())
	c.unplaced.address = "address " + addr.String()
	if i >= 0 {
		b.conditions[i] = c.unplaced.condition()
	}
}

func (p *planner) conflict(c *claim, taken string) *obstacle {
	remedy := "; use another port, or add a node"
	if p.reservation(c) != "" {
		remedy = "; use another port"
	}
	return c.obstacle(PortConflict, ReasonPortConflict, taken+remedy)
}

func (c *claim) obstacle(kind ConditionType, reason Reason, why string) *obstacle {
	address := "IP" + string(c.wanted.Family) + " address"
	if c.ip != nil {
		address = "address " + c.ip.Addr.String()
	}
	return &obstacle{kind: kind, reason: reason, why: why, address: address}
}
