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
	readAt, areRead := l.areRead(b, names)
	if areRead && publishes && !l.observed.listedAt.After(readAt) {
		// It may have another name: another list shows it.
		l.m.addresses.want(l.m.ctx, time.Now())
		l.busy = true
		return true
	}
	return !areRead
}

// unseenNames returns the names and ids of addresses that a load balancer may have and that no list has
// shown, and whether its owner publishes such an address.
func (l *loop) unseenNames(b *balancer) (names []string, publishes bool) {
	for _, d := range b.lb.Desired {
		switch existing := d.Source.Existing; {
		case existing != "":
			if l.observed.addresses.Find(existing) == nil {
				names = append(names, existing)
			}
		case l.publishesUnseen(b, d.Family):
			publishes = true
			names = append(names, l.namesOf(b, d)...)
		}
	}
	return names, publishes
}

// publishesUnseen reports whether the owner of a load balancer publishes an address of a family that
// is neither a floating IP nor the private address of an instance, as far as these are known, and no
// floating IP. Where a floating IP of its own was seen in use, whatever else is published was written by
// somebody else.
func (l *loop) publishesUnseen(b *balancer, family ownership.Family) bool {
	for id := range b.places {
		if ip := l.observed.addresses.ByID(id); ip != nil && ownership.FamilyOf(ip.Addr) == family {
			return false
		}
	}
	var others []netip.Addr
	for _, addr := range b.desired.Published {
		switch {
		case ownership.FamilyOf(addr) != family:
		case l.observed.addresses.ByAddr(addr) != nil:
			return false
		default:
			others = append(others, addr)
		}
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

// namesOf returns the names that the address of a load balancer may have.
func (l *loop) namesOf(b *balancer, d plan.Desired) []string {
	if d.Source.Existing != "" {
		return []string{d.Source.Existing}
	}
	var names []string
	key := b.lb.Key
	for _, key.Scope = range append([]string{l.opening.Scope}, l.m.adoptable(l.opening)...) {
		for _, source := range []ownership.Source{d.Source, {}} {
			name := ownership.Name(key, d.Family, source.String(), 0)
			if !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
	}
	if l.opening.LegacyName != "" {
		names = append(names, ownership.LegacyName(l.opening.LegacyName, key))
	}
	return names
}

// hasNothing reports whether an ending load balancer that seems to have nothing really has nothing.
// Where this session never saw an address of it, those that it may have are read directly.
func (l *loop) hasNothing(b *balancer) bool {
	if len(b.places) > 0 || l.opening.ObserveOnly {
		return true
	}
	var names []string
	for _, d := range b.lb.Desired {
		names = append(names, l.namesOf(b, d)...)
	}
	_, areRead := l.areRead(b, names)
	return areRead
}

// areRead reports whether all addresses of these names or ids were read directly, so that those which
// exist are observed, and has the others read. It returns when the last of them was read.
func (l *loop) areRead(b *balancer, names []string) (last time.Time, areRead bool) {
	now, areRead := time.Now(), true
	var due []string
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
func (m *Manager) lookUp(s *Session, b *balancer, names []string) {
	for _, name := range names {
		var err error
		if !m.readDirectly(s, func(ctx context.Context) { err = m.addresses.find(ctx, name) }) {
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

// find reads a floating IP by name or id, and takes it over if there is one.
func (l *addressList) find(ctx context.Context, nameOrID string) error {
	began := time.Now()
	var (
		ip  oxide.FloatingIP
		err error
	)
	switch {
	case oxide.ValidID(nameOrID):
		ip, err = l.api.FloatingIPByID(ctx, nameOrID)
	case oxide.ValidName(nameOrID):
		ip, err = l.api.FloatingIPByName(ctx, nameOrID)
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
