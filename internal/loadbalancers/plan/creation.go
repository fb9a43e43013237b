// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package plan

import (
	"fmt"
	"slices"
	"strings"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/ownership"
)

// creation plans a new address, unless it is known that Oxide would refuse it.
func (p *planner) creation(b *balancer, d Desired) (*Creation, *Problem) {
	addr := d.Source.Addr
	if addr.IsValid() {
		if taken := p.in.Addresses.ByAddr(addr); taken != nil {
			return nil, problemf(ReasonNotOwned,
				"the desired address %s is taken: it is the floating IP %s, %s",
				addr, taken.Name, ownerOf(taken))
		}
		if first, taken := p.allocated[addr]; taken {
			return nil, problemf(ReasonNotOwned, "the address %s is desired by the load balancer %s, "+
				"too, which is older", addr, first)
		}
	} else if problem := p.checkPool(d); problem != nil {
		return nil, problem
	}
	name, problem := p.freeName(b, d)
	if problem != nil {
		return nil, problem
	}
	description, err := ownership.WithMarker("", p.marker(b, d))
	if err != nil {
		return nil, &Problem{ReasonInvalid, err.Error()}
	}
	if addr.IsValid() {
		p.allocated[addr] = b.key()
	}
	create := &Creation{Name: name, Description: description, Desired: d}
	create.Why, create.Replaces = p.whyCreate(b, d.Family)
	return create, nil
}

// freeName returns the name of a new address. Names of addresses that the load balancer has
// released are passed over; anybody else who has its name is in the way.
func (p *planner) freeName(b *balancer, d Desired) (string, *Problem) {
	for counter := 0; ; counter++ {
		name := ownership.Name(b.key(), d.Family, d.Source.String(), counter)
		taken := p.in.Addresses.ByName(name)
		switch {
		case taken == nil:
			return name, nil
		case ownership.BearsMarker(taken.Description) || !p.isReleasedBy(taken, b.key()):
			return "", problemf(ReasonNotOwned, "%s", NameTaken(name))
		}
	}
}

// whyCreate says why a new address is needed, and whether it replaces one that is gone: none of
// those that the owner publishes may be there any more. It also publishes private addresses of
// instances, which are distinguished as far as they are known.
func (p *planner) whyCreate(b *balancer, family ownership.Family) (why string, replaces bool) {
	const first = "the load balancer has no such address yet"
	why = first
	for _, addr := range slices.Backward(b.LoadBalancer.Published) {
		switch {
		case ownership.FamilyOf(addr) != family || p.isPrivate(addr):
		case p.in.Addresses.ByAddr(addr) != nil:
			return first, false
		default:
			why, replaces = fmt.Sprintf("its address %s is gone from the project", addr), true
		}
	}
	return why, replaces
}

// checkPool returns why no address can come from a pool; nil: nothing is known to be in the way.
func (p *planner) checkPool(d Desired) *Problem {
	name := d.Source.Pool
	if name == "" {
		return p.checkDefaultPool(d)
	}
	pool, known := p.in.Pools[name]
	switch {
	case !known:
		return problemf(ReasonPoolUnreadable, "the pool %.100s has not been read yet", name)
	case pool.Missing:
		return problemf(ReasonPoolNotFound, "the pool %.100s does not exist, or is not "+
			"linked to the silo", name)
	case pool.Unreadable != "":
		return problemf(ReasonPoolUnreadable, "%s", pool.Unreadable)
	case pool.Family != d.Family:
		return problemf(ReasonInvalid, "the pool %.100s has no IP%s addresses", name, d.Family)
	case !pool.Unicast:
		return problemf(ReasonInvalid, "the pool %.100s is a multicast pool, which has no floating IPs", name)
	case pool.Exhausted:
		return problemf(ReasonPoolExhausted, "the pool %.100s has no free address", name)
	}
	return nil
}

// checkDefaultPool knows little of what is required: whether it can be had shows when it is tried.
func (p *planner) checkDefaultPool(d Desired) *Problem {
	pool, known := p.in.Pools[DefaultPool(d.Family)]
	switch {
	case !known && d.Optional:
		return problemf(ReasonPoolUnreadable, "the silo's default pool for IP%s addresses has not been "+
			"read yet", d.Family)
	case pool.Missing:
		return problemf(ReasonPoolNotFound, "%s", NoDefaultPool(d.Family, pool.Others))
	case pool.Exhausted:
		return problemf(ReasonPoolExhausted, "the silo's default pool for IP%s addresses has no free "+
			"address", d.Family)
	}
	return nil
}

// NameTaken says that the name of an address is that of one which is not the load balancer's.
func NameTaken(name string) string {
	return fmt.Sprintf("the name %s is taken by a floating IP that is not marked as this load "+
		"balancer's; rename it, or detach and delete it", name)
}

// NoDefaultPool says that the silo has no default pool of a family, and which others it has.
func NoDefaultPool(family ownership.Family, others []string) string {
	text := fmt.Sprintf("the silo has no default pool for IP%s addresses; ", family)
	if len(others) == 0 {
		return text + "ask its administrator for one"
	}
	return text + clipTo(fmt.Sprintf("ask for one of its IP%s pools: %s", family,
		strings.Join(others, ", ")), maxMessage/2)
}
