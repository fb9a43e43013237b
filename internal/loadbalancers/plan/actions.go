// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package plan

// Actions returns everything that the plan takes, the oldest load balancer first: each address is
// created or marked, and brought to its place; then what is desired no more ends. Oxide cannot move
// an address in a single step: it is detached first.
func (r *Result) Actions() []Action {
	var all []Action
	for _, planned := range r.LoadBalancers {
		for _, c := range planned.Claims {
			all = c.appendActions(all, planned.LoadBalancer)
		}
		for i := range planned.Releases {
			all = planned.Releases[i].appendActions(all, planned.LoadBalancer)
		}
	}
	return all
}

func (c *Claim) appendActions(all []Action, lb *LoadBalancer) []Action {
	base := Action{Key: lb.Key, Kind: c.Desired.Source.Kind, Why: c.Why}
	if c.Address != nil {
		base.Kind = c.Address.Kind
		base.ID, base.Name, base.Addr = c.Address.ID, c.Address.Name, c.Address.Addr
	}
	if c.Create != nil {
		base.Name, base.Addr = c.Create.Name, c.Create.Desired.Source.Addr
		create := base
		create.Type, create.Why, create.Replaces = ActionCreate, c.Create.Why, c.Create.Replaces
		all = append(all, create)
	}
	mark := func() {
		if c.Mark != nil {
			marked := base
			marked.Type, marked.Why, marked.Replaces = ActionMark, c.Mark.Why, c.Replaces && c.Managed
			all = append(all, marked)
		}
	}
	if !c.MarkLast {
		mark()
	}
	current := c.Current()
	if current != c.Target && current != "" {
		off := base
		off.Type, off.Instance = ActionDetach, current
		all = append(all, off)
	}
	if c.MarkLast {
		mark()
	}
	if current != c.Target && c.Target != "" {
		on := base
		on.Type, on.Instance, on.From = ActionAttach, c.Target, current
		on.Replaces = c.Replaces && !c.Managed
		all = append(all, on)
	}
	return all
}

func (r *Release) appendActions(all []Action, lb *LoadBalancer) []Action {
	base := Action{
		Key: lb.Key, Kind: r.Address.Kind, ID: r.Address.ID, Name: r.Address.Name,
		Addr: r.Address.Addr, Why: r.Why,
	}
	if r.Address.InstanceID != "" {
		off := base
		off.Type, off.Instance = ActionDetach, r.Address.InstanceID
		all = append(all, off)
	}
	switch r.End {
	case EndsDeleted:
		base.Type = ActionDelete
		all = append(all, base)
	case EndsRetained:
		base.Type = ActionMark
		all = append(all, base)
	case EndsDetached:
	}
	return all
}
