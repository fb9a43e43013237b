// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package session

import (
	"context"
	"net/netip"
	"slices"
	"time"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/ownership"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/plan"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/oxide"
)

// lookup is what is known of an address that a load balancer may have and no list shows: a list may
// miss some. Without a direct read the address would be made a second time, or left behind for good, or
// its publication withdrawn.
type lookup struct {
	reading bool
	// readAt is when a direct read was answered: it does not exist, or it is among what is observed
	// since. Zero: none was answered yet.
	readAt  time.Time
	backoff backoff
}

// isUnseen reports whether a load balancer may have an address that was not seen yet: until it is
// proved absent nothing that the load balancer has is changed.
func (l *loop) isUnseen(b *balancer) bool {
	if b.released || b.lb.Ending != plan.NotEnding {
		return false // hasNothing sees to it
	}
	names, publishes := l.unseenNames(b)
	for _, kind := range kinds {
		if l.needs(b, kind, publishes) && !l.isListed(kind) {
			return true
		}
	}
	readAt, areRead := l.areRead(b, names)
	if !areRead || !publishes {
		return !areRead
	}
	// It may have another name, or be of the other kind: other lists show it.
	for _, kind := range kinds {
		if !l.observed.lists[kind].listedAt.After(readAt) {
			l.m.addresses[kind].want(l.m.ctx, time.Now())
			l.busy = true
			return true
		}
	}
	return false
}

// needs reports whether a load balancer may have an address of a kind: it desires one, or its owner
// publishes one that is not known. Floating IPs are known before anything is planned.
func (l *loop) needs(b *balancer, kind ownership.Kind, publishes bool) bool {
	return publishes || slices.ContainsFunc(b.lb.Desired, func(d plan.Desired) bool {
		return d.Source.Kind == kind
	})
}

// isListed reports whether the addresses of a kind were ever listed, and has that done.
func (l *loop) isListed(kind ownership.Kind) bool {
	listed := &l.observed.lists[kind]
	if !listed.listedAt.IsZero() {
		return true
	}
	l.busy = l.busy || listed.err == nil
	l.m.addresses[kind].want(l.m.ctx, time.Now())
	return false
}

// unseenNames returns the names and ids of addresses that a load balancer may have and that no list has
// shown, and whether its owner publishes such an address.
func (l *loop) unseenNames(b *balancer) (names []plan.Named, publishes bool) {
	wanted := make(map[ownership.Family]int)
	for _, d := range b.lb.Desired {
		wanted[d.Family]++
	}
	for _, d := range b.lb.Desired {
		switch existing := d.Source.Existing; {
		case existing != "":
			if l.observed.addresses.Find(d.Source.Kind, existing) == nil {
				names = append(names, plan.Named{Kind: d.Source.Kind, NameOrID: existing})
			}
		case l.publishesUnseen(b, d.Family, wanted[d.Family]):
			publishes = true
			names = append(names, l.namesOf(b, d, wanted[d.Family])...)
		}
	}
	return names, publishes
}

// publishesUnseen reports whether the owner of a load balancer publishes an address of a family that
// is neither one of Oxide's nor the private address of an instance, as far as these are known, and fewer
// of Oxide's than are wanted. Where so many of its own were seen in use, whatever else is published was
// written by somebody else.
func (l *loop) publishesUnseen(b *balancer, family ownership.Family, wanted int) bool {
	inUse := 0
	for id := range b.places {
		if ip := l.observed.addresses.ByID(id); ip != nil && ip.Family() == family {
			inUse++
		}
	}
	published := 0
	var others []netip.Addr
	for _, addr := range b.desired.Published {
		switch {
		case ownership.FamilyOf(addr) != family:
		case l.observed.addresses.ByAddr(addr) != nil:
			published++
		default:
			others = append(others, addr)
		}
	}
	if inUse >= wanted || published >= wanted {
		return false
	}
	for _, instance := range l.observed.instances {
		if len(others) == 0 {
			break
		}
		others = slices.DeleteFunc(others, func(addr netip.Addr) bool {
			return addr == instance.Addr(family)
		})
	}
	return len(others) > 0
}

// namesOf returns the names that the addresses of a family of a load balancer may have, of which so many
// are wanted.
func (l *loop) namesOf(b *balancer, d plan.Desired, wanted int) []plan.Named {
	kind := d.Source.Kind
	if d.Source.Existing != "" {
		return []plan.Named{{Kind: kind, NameOrID: d.Source.Existing}}
	}
	var names []plan.Named
	add := func(name string) {
		if named := (plan.Named{Kind: kind, NameOrID: name}); !slices.Contains(names, named) {
			names = append(names, named)
		}
	}
	key := b.lb.Key
	for _, key.Scope = range append([]string{l.opening.Scope}, l.m.adoptable(l.opening)...) {
		for _, source := range []ownership.Source{d.Source, {Kind: kind}} {
			for counter := range max(wanted, 1) {
				add(ownership.Name(key, d.Family, source.String(), counter))
			}
		}
	}
	if l.opening.LegacyName != "" && kind == ownership.FloatingIP {
		add(ownership.LegacyName(l.opening.LegacyName, key))
	}
	return names
}

// hasNothing reports whether an ending load balancer that seems to have nothing really has nothing.
// Where this session never saw an address of it, those that it may have are read directly.
func (l *loop) hasNothing(b *balancer) bool {
	switch {
	case l.opening.ObserveOnly:
		return true
	case l.needs(b, ownership.ExternalSubnet, false) && !l.isListed(ownership.ExternalSubnet):
		return false
	case l.awaitsLeftovers(b):
		return false
	case len(b.places) > 0:
		return true
	}
	var names []plan.Named
	for _, d := range b.lb.Desired {
		names = append(names, l.namesOf(b, d, len(b.lb.Desired))...)
	}
	_, areRead := l.areRead(b, names)
	return areRead && l.isListed(ownership.ExternalSubnet)
}

// replacementAge is how much younger than its owner an address is that may have replaced another one.
const replacementAge = 30 * time.Second

// awaitsLeftovers reports whether it is yet to be seen that a load balancer has no external subnet
// left, and has that found out. A backend that ended in the middle of an exchange may have left
// one, of which nothing else is known once it is detached. Where each address is as old as its
// owner there was no exchange, and nothing is read for that. What cannot be read is not waited for
// either. A user's own address may be older than its owner and yet a replacement: then what it has
// replaced is found within a minute.
func (l *loop) awaitsLeftovers(b *balancer) bool {
	return b.mayReplace && l.observed.lists[ownership.ExternalSubnet].err == nil &&
		!l.isListed(ownership.ExternalSubnet)
}

// areRead reports whether all addresses of these names or ids were read directly, so that those which
// exist are observed, and has the others read. It returns when the last of them was read.
func (l *loop) areRead(b *balancer, names []plan.Named) (last time.Time, areRead bool) {
	now, areRead := time.Now(), true
	var due []plan.Named
	for _, name := range names {
		known := b.lookups[name]
		switch {
		case !known.readAt.IsZero():
			if known.readAt.After(last) {
				last = known.readAt
			}
			continue
		case known.reading:
			l.busy = true
		case now.Before(known.backoff.until):
			l.soon(known.backoff.until)
		case !slices.Contains(due, name):
			l.busy = true
			due = append(due, name)
			b.lookups[name] = lookup{reading: true, backoff: known.backoff}
		}
		areRead = false
	}
	if len(due) > 0 {
		go l.m.lookUp(l.session, b, due)
	}
	return last, areRead
}

// lookUp reads addresses by name or id, one after the other, and takes over those that there are.
func (m *Manager) lookUp(s *Session, b *balancer, names []plan.Named) {
	for _, name := range names {
		var err error
		if !m.readDirectly(s, func(ctx context.Context) {
			err = m.addresses[name.Kind].find(ctx, name.NameOrID)
		}) {
			return
		}
		s.observe(func(l *loop) {
			known := lookup{backoff: b.lookups[name].backoff}
			if err != nil {
				known.backoff.fail(time.Now(), err, l.m.timings.retry, l.m.timings.maxReadRetry)
			} else {
				known.readAt = time.Now()
			}
			b.lookups[name] = known
		})
	}
}

// find reads an address by name or id, and takes it over if there is one.
func (l *addressList) find(ctx context.Context, nameOrID string) error {
	began := time.Now()
	var (
		ip  plan.Address
		err error
	)
	switch {
	case oxide.ValidID(nameOrID):
		ip, err = l.byID(ctx, nameOrID)
	case oxide.ValidName(nameOrID):
		ip, err = l.byName(ctx, nameOrID)
	default:
		return nil // nothing can have that name
	}
	switch {
	case oxide.IsKind(err, oxide.KindNotFound):
		return nil
	case err != nil:
		return err
	}
	l.takeOne(ip, began)
	return nil
}
