// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package plan

import (
	"fmt"
	"net/netip"
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
				"the desired address %s is taken: it is the %s %s, %s",
				addr, taken.Kind, taken.Name, ownerOf(taken))
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
	p.named[Named{d.Source.Kind, name}] = true
	return &Creation{Name: name, Description: description, Desired: d}, nil
}

// freeName returns the name of a new address. Names of other addresses of the load balancer, and of
// those that it has released, are passed over; anybody else who has its name is in the way.
func (p *planner) freeName(b *balancer, d Desired) (string, *Problem) {
	kind := d.Source.Kind
	for counter := 0; ; counter++ {
		name := ownership.Name(b.key(), d.Family, d.Source.String(), counter)
		taken := p.in.Addresses.ByName(kind, name)
		switch {
		case taken == nil && !p.named[Named{kind, name}]:
			return name, nil
		case taken == nil:
		case p.claimed[taken.ID] != nil && p.claimed[taken.ID].b == b:
		case ownership.BearsMarker(taken.Description) || !p.isReleasedBy(taken, b.key()):
			return "", problemf(ReasonNotOwned, "%s", NameTaken(kind, name))
		}
	}
}

// whyCreate says why a new address is needed, and whether it replaces another one: one that is gone, if
// none of those that the owner publishes is there any more, or one that is no longer desired. The owner
// also publishes private addresses of instances, which are distinguished as far as they are known.
func (p *planner) whyCreate(b *balancer, family ownership.Family) (why string, replaces bool) {
	var gone netip.Addr
	for _, addr := range slices.Backward(b.LoadBalancer.Published) {
		if ownership.FamilyOf(addr) != family || p.isPrivate(addr) {
			continue
		}
		if gone = addr; p.in.Addresses.ByAddr(addr) != nil {
			gone = netip.Addr{}
			break
		}
	}
	if gone.IsValid() {
		return fmt.Sprintf("its address %s is gone from the project", gone), true
	}
	if replaced := b.replaced(family); replaced != "" {
		return "it replaces " + replaced, true
	}
	return "the load balancer has no such address yet", false
}

// replaced says which addresses of a family are in use and will not be any more once others are, so that
// clients have to use another address; empty: none.
func (b *balancer) replaced(family ownership.Family) string {
	var old []string
	for _, ip := range b.former {
		if ip.Family() == family && ip.InstanceID != "" {
			old = append(old, fmt.Sprintf("the %s %s", ip.Kind, ip.Addr))
		}
	}
	switch len(old) {
	case 0:
		return ""
	case 1:
		return old[0] + ", which is no longer desired: the address changes"
	}
	return joinNamed(old, maxMessage/2) + ", which are no longer desired: the addresses change"
}

// checkPool returns why no address can come from a pool; nil: nothing is known to be in the way.
func (p *planner) checkPool(d Desired) *Problem {
	name := d.Source.Pool
	if name == "" {
		return p.checkDefaultPool(d)
	}
	pool, known := p.in.Pools[PoolKey(d.Source, d.Family)]
	of := PoolOf(d)
	switch {
	case !known:
		return problemf(ReasonPoolUnreadable, "%s has not been read yet", of)
	case pool.Missing:
		return problemf(ReasonPoolNotFound, "%s does not exist, or is not linked to the silo", of)
	case pool.Unreadable != "":
		return problemf(ReasonPoolUnreadable, "%s", pool.Unreadable)
	case pool.Family != d.Family:
		return problemf(ReasonInvalid, "%s has no IP%s addresses", of, d.Family)
	case !pool.Unicast:
		return problemf(ReasonInvalid, "%s is a multicast pool, which has no floating IPs", of)
	case pool.Exhausted:
		return problemf(ReasonPoolExhausted, "%s has no free address", of)
	}
	return nil
}

// PoolOf says from which pool a desired address comes, for people. There may be one of the other kind
// with the same name.
func PoolOf(d Desired) string {
	named, byDefault := "IP pool", "pool"
	if d.Source.Kind == ownership.ExternalSubnet {
		named, byDefault = "subnet pool", "subnet pool"
	}
	if d.Source.Pool != "" {
		return fmt.Sprintf("the %s %.100s", named, d.Source.Pool)
	}
	return fmt.Sprintf("the silo's default %s for IP%s addresses", byDefault, d.Family)
}

// checkDefaultPool knows little of what is required: whether it can be had shows when it is tried.
func (p *planner) checkDefaultPool(d Desired) *Problem {
	pool, known := p.in.Pools[PoolKey(d.Source, d.Family)]
	switch {
	case !known && d.Optional:
		return problemf(ReasonPoolUnreadable, "%s has not been read yet", PoolOf(d))
	case pool.Missing:
		return problemf(ReasonPoolNotFound, "%s", NoDefaultPool(d, pool.Others))
	case pool.Exhausted:
		return problemf(ReasonPoolExhausted, "%s has no free address", PoolOf(d))
	}
	return nil
}

// NameTaken says that the name of an address is that of one which is not the load balancer's.
func NameTaken(kind ownership.Kind, name string) string {
	return fmt.Sprintf("the name %s is taken by another %s, which is not marked as this load "+
		"balancer's; rename it, or detach and delete it", name, kind)
}

// NoDefaultPool says that the silo has no default pool for a desired address, and which others it has.
func NoDefaultPool(d Desired, others []string) string {
	pool := "pool"
	if d.Source.Kind == ownership.ExternalSubnet {
		pool = "subnet pool"
	}
	text := fmt.Sprintf("the silo has no default %s for IP%s addresses; ", pool, d.Family)
	if len(others) == 0 {
		return text + "ask its administrator for one"
	}
	return text + clipTo(fmt.Sprintf("ask for one of its IP%s %ss: %s", d.Family, pool,
		strings.Join(others, ", ")), maxMessage/2)
}
