// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package session

import (
	"context"
	"time"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/ownership"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/plan"
)

// Adopt marks an address, by name or id, as one of a load balancer. Its name and the text of its
// description stay. Where no session here says what the load balancer desires it is marked as
// retained: what turns out not to be desired is not deleted then. Errors: ReasonResourceNotFound,
// ReasonNotOwned, ReasonInUse, ReasonInvalid.
func (m *Manager) Adopt(
	ctx context.Context, named plan.Named, key ownership.Key, ownerUID string, dryRun bool,
) (Outcome, error) {
	l, ip, err := m.find(ctx, named)
	if err != nil {
		return Outcome{}, err
	}
	a := m.adopter(ctx, key, ip)
	switch {
	case ip.Marked && ip.Marker.Key != key:
		return Outcome{}, failf(ReasonNotOwned, nil, "the %s %s is of the load balancer %s in the "+
			"scope %s: release it there first", ip.Kind, ip.Name, ip.Marker.Key, ip.Marker.Key.Scope)
	case ip.Larger:
		return Outcome{}, failf(ReasonInvalid, nil, "the external subnet %s has more than one address: a "+
			"load balancer needs one of a single address, /%d", ip.Name, ip.Family().Bits())
	case ip.Marked && ip.Marker.OwnerUID == ownerUID && (!ip.Marker.Retained || !a.known):
		return Outcome{Address: l.address(ip, true, ip.InstanceID)}, nil
	}
	if user := m.userOf(ctx, ip); user != key && user != (ownership.Key{}) {
		return Outcome{}, failf(ReasonInUse, nil, "the load balancer %s uses the %s %s as the "+
			"user's own: let it name another one first", user, ip.Kind, ip.Name)
	}
	if err := a.refuses(l, key, ip); err != nil {
		return Outcome{}, err
	}
	description, err := ownership.WithMarker(ip.Description, ownership.Marker{
		Key: key, OwnerUID: ownerUID, Family: ownership.FamilyOf(ip.Addr),
		Source: adoptedSource(ip).String(), Retained: !a.known,
	})
	if err != nil {
		return Outcome{}, failf(ReasonInvalid, err, "%s", err)
	}
	return m.describeByHand(ctx, l, ip, key, description, "it was adopted by hand", dryRun)
}

// adoptedSource is where an address comes from that was adopted.
func adoptedSource(ip *plan.Address) ownership.Source {
	if ip.Kind == ownership.ExternalSubnet {
		return ownership.Source{Kind: ip.Kind}
	}
	return ownership.Source{Addr: ip.Addr}
}

// adopter is what an acting session says of the load balancer that is to get an address.
type adopter struct {
	// known: it is known what the load balancer desires, and desired how many addresses such as this
	// one.
	known   bool
	desired int
	// onNode: the address is attached nowhere, or to an instance that is or was a candidate; at is
	// its name.
	onNode bool
	at     string
}

func (m *Manager) adopter(ctx context.Context, key ownership.Key, ip *plan.Address) adopter {
	a := adopter{onNode: ip.InstanceID == "", at: ip.InstanceID}
	s := m.session(key.Scope)
	if s == nil {
		return a
	}
	_ = s.ask(ctx, func(l *loop) {
		a.onNode, a.at = a.onNode || l.former[ip.InstanceID], l.nameOf(ip.InstanceID)
		b := l.balancers[key]
		if b == nil || b.lb.Preserve || b.lb.Ending != plan.NotEnding || len(b.lb.Desired) == 0 {
			return
		}
		a.known = true
		for _, d := range b.lb.Desired {
			if l.isFor(d, ip) {
				a.desired++
			}
		}
	})
	return a
}

// isFor reports whether an address is such as is desired. One from a pool that cannot be read is
// not: it would be given up once that can.
func (l *loop) isFor(d plan.Desired, ip *plan.Address) bool {
	source := d.Source
	switch {
	case d.Family != ip.Family() || source.Kind != ip.Kind || source.Existing != "":
		return false
	case source.Addr.IsValid():
		return source.Addr == ip.Addr
	case source.Pool != "":
		pool, read := l.pool(time.Now(), d)
		return read && pool.err == nil && pool.value.ID == ip.PoolID
	}
	return true
}

// refuses returns why a load balancer may not get an address; nil: it may.
func (a adopter) refuses(l *loop, key ownership.Key, ip *plan.Address) error {
	switch {
	case !a.onNode:
		return failf(ReasonInUse, nil, "the %s %s is attached to the instance %s, which is not known here to "+
			"be a candidate of the scope %s: detach it first", ip.Kind, ip.Name, a.at, key.Scope)
	case a.known && a.desired == 0:
		return failf(ReasonInvalid, nil, "the load balancer %s desires no such address as the %s %s of IP%s, "+
			"or from another pool: change what it desires first, or the address would be deleted", key, ip.Kind,
			ip.Name, ip.Family())
	}
	left := a.desired
	for _, other := range l.observed.addresses.Owned([]string{key.Scope}, key.Name) {
		if other.ID == ip.ID || other.Family() != ip.Family() || other.Marker.Retained {
			continue
		}
		if left--; left <= 0 {
			return failf(ReasonInUse, nil, "the load balancer %s has the address %s (%s) "+
				"already: release that first, or one of them would be deleted", key, other.Addr, other.Name)
		}
	}
	return nil
}
