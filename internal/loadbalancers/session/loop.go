// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package session

import (
	"context"
	"maps"
	"net/netip"
	"reflect"
	"slices"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/health"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/ownership"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/plan"
)

const (
	// maxBatch bounds the items that are taken before the next step.
	maxBatch = 4096
	// maxAnswering is after how long no further question is answered before the next step.
	maxAnswering = 100 * time.Millisecond
	// minPause is the least time to a step for which nothing has happened.
	minPause = 10 * time.Millisecond
	// planningShare is how much longer than a step the pause after it is: at most a quarter of the
	// time is spent planning.
	planningShare = 3
)

// loop is the state of a session. Its goroutine alone uses it.
type loop struct {
	session *Session
	m       *Manager
	opening Opening
	// began is when the session did.
	began time.Time

	candidates map[string]*health.Observation
	reserved   []plan.ReservedPorts
	balancers  map[ownership.Key]*balancer
	rebalance  Rebalance
	// inSync: the client's snapshot was complete; announcedSync: in_sync was sent back.
	inSync, announcedSync bool
	closing               bool
	// former are all instances that were candidates; userOwned all names of users' addresses.
	former    map[string]bool
	userOwned map[plan.Named]bool

	observed  observed
	evaluator health.Evaluator
	healths   map[string]health.Health

	// intents are the changes that were decided and not begun, by address: since when.
	intents, nextIntents map[string]intent
	// attempts are when each address was last tried, so that probes rotate.
	attempts map[string]time.Time
	// orphans are those that were sent last.
	orphans []LoadBalancer
	// wakeAt is when the next step is due although nothing happens; busy: something is under way or
	// about to begin.
	wakeAt time.Time
	busy   bool
	// unreadFirewalls are the VPCs whose firewall rules were still to be read when the last plan was made.
	unreadFirewalls map[string]bool
	// listWanted: the client has changed something, so the addresses of a kind are listed after the next
	// plan.
	listWanted [2]bool
	firewalls  firewalls
	// claimsChanged: what the registry is to know has changed.
	claimsChanged bool
	// causes are the spans of the latest items about each instance that is, or was, a candidate.
	causes map[string]cause
	// candidatesChanged: other sessions are to know of other candidates.
	candidatesChanged bool
}

// intent is a change that was decided.
type intent struct {
	what  string
	since time.Time
}

// balancer is what is known of one load balancer of the session.
type balancer struct {
	desired Desired
	lb      plan.LoadBalancer
	// publishedAt is since when its owner has published each address without a break.
	publishedAt map[netip.Addr]time.Time
	// moves are the addresses that are on their way, by id.
	moves map[string]*move
	// places are where its addresses were last seen, names what they were called at first, by id.
	places, names map[string]string
	// movedAt is when an address of it moved the last time.
	movedAt time.Time
	// retries are the backoff of what failed, by the address's id, or the name of one to be
	// created.
	retries map[string]*backoff
	// creations are the backoff of its creations, which hold even if they succeed, by name.
	creations map[string]*backoff
	// refused is when no address of a family was to be had the last time.
	refused map[ownership.Family]time.Time
	// waits are the changes that wait for Oxide, by address: why.
	waits map[string]string
	// withdrawn are places that were published and not reached in time, by address.
	withdrawn map[string]*backoff
	// uncertain are addresses whose attachment was tried and not confirmed, by id: where.
	uncertain map[string]string
	// awaitsPool: a pool that it names was not read yet.
	awaitsPool bool
	// would is what was last said that would be done, in an observing session.
	would    []string
	sent     *State
	released bool
	// mayReplace: it has an address that may have replaced one of the other kind.
	mayReplace bool
	// lookups are the addresses that it may have and no list has shown, by name or id; unseen: it is
	// not known yet whether there is one.
	lookups map[plan.Named]lookup
	unseen  bool
	// rules are the firewall rules that it needs, by VPC, for its addresses of openFamilies.
	rules        map[string]*keptRules
	openFamilies []ownership.Family
	// ruleCount is how many it needs in a VPC, for all addresses that it desires.
	ruleCount int
	// cause is the span of its latest item, until that is done; work that of what is being done.
	cause trace.SpanContext
	work  *work
	// opened are the families whose rules were there once, openingSince is since when some are not.
	opened       []ownership.Family
	openingSince time.Time
}

// move is an address that is on its way.
type move struct {
	from, to string
	// why and cause are those of the move; cause is zero if what is desired has changed.
	why   string
	cause time.Time
	// detached: it has left its old place. detachedAt is when, zero if somebody else took it off.
	detached   bool
	detachedAt time.Time
	// arrivingSince is since when it is attached nowhere and waits for its next place alone.
	arrivingSince time.Time
	// blockedSince is since when its next place is held by another address.
	blockedSince time.Time
}

func newLoop(s *Session) *loop {
	l := &loop{
		session: s, m: s.manager, opening: s.opening, began: time.Now(),
		candidates: make(map[string]*health.Observation),
		balancers:  make(map[ownership.Key]*balancer),
		former:     make(map[string]bool), userOwned: make(map[plan.Named]bool),
		intents: make(map[string]intent), attempts: make(map[string]time.Time),
		causes:    make(map[string]cause),
		evaluator: health.Evaluator{TimeScale: s.manager.config.TimeScale},
	}
	l.observed = newObserved()
	l.firewalls.ended = make(map[string]bool)
	return l
}

// run takes one step after the other until the session ends.
func (l *loop) run(ctx context.Context) {
	defer l.endWorks()
	go l.followInstances(ctx)
	l.m.addresses[ownership.FloatingIP].want(l.m.ctx, time.Now())
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-l.session.woken:
		case <-timer.C:
		case item := <-l.session.items:
			l.take(item, time.Now())
		}
		began := time.Now()
		l.drain(began)
		if ctx.Err() != nil {
			return
		}
		stepped := time.Now()
		if l.step(ctx, began) {
			l.session.finish()
			return
		}
		pause := planningShare * time.Since(stepped)
		if !rest(ctx, pause) {
			return
		}
		timer.Reset(max(time.Until(l.wakeAt), minPause))
	}
}

// rest waits, and reports whether the session goes on.
func rest(ctx context.Context, pause time.Duration) bool {
	if pause < time.Millisecond {
		return true
	}
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// drain takes everything that waits.
func (l *loop) drain(now time.Time) {
	for range maxBatch {
		select {
		case item := <-l.session.items:
			l.take(item, now)
			continue
		default:
		}
		break
	}
	s := l.session
	s.mu.Lock()
	outcomes, questions, reads := s.outcomes, s.questions, s.observed
	s.outcomes, s.questions, s.observed = nil, nil, nil
	closing := s.closing && len(s.items) == 0
	s.mu.Unlock()
	l.closing = l.closing || closing
	for _, apply := range reads {
		apply(l)
	}
	for _, o := range outcomes {
		l.conclude(o)
	}
	l.answer(questions, now)
}

// take takes an item of the client over.
func (l *loop) take(item Item, now time.Time) {
	switch {
	case item.Candidate != nil:
		c := *item.Candidate
		c.ReceivedAt = now
		if before := l.candidates[c.InstanceID]; before != nil && l.inSync &&
			len(l.balancers) > 0 && (before.Readiness != c.Readiness || before.Exclusion != c.Exclusion ||
			before.OutOfService != c.OutOfService) {
			l.m.watcher.Refresh() // addresses will move, and must not go to an instance that has stopped
		}
		l.candidatesChanged = l.candidatesChanged || l.candidates[c.InstanceID] == nil
		l.candidates[c.InstanceID], l.former[c.InstanceID] = &c, true
		l.wantLists(l.isInUse)
	case item.CandidateRemoved != "":
		l.candidatesChanged = true
		delete(l.candidates, item.CandidateRemoved)
		l.wantLists(l.isInUse)
	case item.Reserved != nil:
		if !reflect.DeepEqual(l.reserved, *item.Reserved) {
			l.wantLists(l.isInUse)
		}
		l.reserved = *item.Reserved
	case item.LoadBalancer != nil:
		l.takeLoadBalancer(item.LoadBalancer, now)
	case item.Removed != nil:
		if b := l.balancers[item.Removed.Key]; b != nil && b.desired.OwnerUID == item.Removed.OwnerUID {
			b.work.end()
			delete(l.balancers, item.Removed.Key)
			if b.released && l.keepsRules() {
				l.firewalls.ended[b.lb.Key.Name] = true // until it is seen that no rule is left
			}
			l.session.forget(*item.Removed)
			l.claimsChanged = true
			l.wantLists(l.isInUse)
		}
	case item.InSync:
		l.inSync, l.claimsChanged = true, true
		l.wantLists(l.isInUse)
	case item.Rebalance != nil:
		l.rebalance = *item.Rebalance
		l.wantLists(l.isInUse)
	}
	l.takeCause(item, now)
}

// wantLists has the addresses listed of each kind for which something that a client changed matters.
// Nodes that come and go cost nothing while there is no load balancer.
func (l *loop) wantLists(matters func(ownership.Kind) bool) {
	if len(l.balancers) == 0 {
		return
	}
	for _, kind := range kinds {
		l.listWanted[kind] = l.listWanted[kind] || matters(kind)
	}
}

// takeLoadBalancer takes a load balancer over.
func (l *loop) takeLoadBalancer(d *Desired, now time.Time) {
	b := l.balancers[d.Key]
	changed := b == nil || !sameDesired(&b.desired, d)
	asksOtherwise := b != nil && !sameRequest(&b.desired, d)
	var before [2]bool
	if b == nil || b.released {
		if b != nil {
			b.work.end()
		}
		b = newBalancer()
		l.balancers[d.Key] = b
	} else {
		for _, kind := range kinds {
			before[kind] = l.usedBy(b, kind)
		}
	}
	publishedAt := make(map[netip.Addr]time.Time, len(d.Published))
	for _, addr := range d.Published {
		publishedAt[addr] = now
		if since, already := b.publishedAt[addr]; already {
			publishedAt[addr] = since
		}
	}
	if asksOtherwise {
		b.retries, b.creations = make(map[string]*backoff), make(map[string]*backoff)
		b.withdrawn, b.lookups = make(map[string]*backoff), make(map[plan.Named]lookup)
		b.refused = make(map[ownership.Family]time.Time)
	}
	l.claimsChanged = true
	b.desired, b.publishedAt = *d, publishedAt
	b.lb.Key, b.lb.OwnerUID, b.lb.Created = d.Key, d.OwnerUID, d.Created.UnixNano()
	b.lb.Ending, b.lb.Desired, b.lb.Ports = d.Ending, d.Addresses, d.Ports
	b.lb.Eligible, b.lb.Retain, b.lb.Published = d.Eligible, d.Retain, d.Published
	b.lb.RulesKept, b.lb.ShutOut = l.opens(b), l.shutOut(b)
	b.lb.RulesByHand = !b.desired.OpenFirewall
	b.lb.Preserve, b.lb.NoPublication = d.PreserveReason != "", d.NoPublication
	for _, want := range d.Addresses {
		if want.Source.Existing != "" {
			l.userOwned[plan.Named{Kind: want.Source.Kind, NameOrID: want.Source.Existing}] = true
		}
	}
	delete(l.firewalls.ended, d.Key.Name)
	if changed || b.rules == nil {
		b.rules, b.ruleCount = nil, l.countRules(b)
	}
	if changed { // and more than what its owner publishes
		l.wantLists(func(kind ownership.Kind) bool { return before[kind] || l.usedBy(b, kind) })
	}
}

func newBalancer() *balancer {
	return &balancer{
		moves: make(map[string]*move), retries: make(map[string]*backoff), places: make(map[string]string),
		names: make(map[string]string), creations: make(map[string]*backoff),
		waits: make(map[string]string), withdrawn: make(map[string]*backoff),
		uncertain: make(map[string]string), refused: make(map[ownership.Family]time.Time),
		lookups: make(map[plan.Named]lookup),
	}
}

// sameDesired reports whether two items differ at most in generation and publication.
func sameDesired(a, b *Desired) bool {
	x, y := *a, *b
	x.Generation, y.Generation = 0, 0
	x.Published, y.Published = nil, nil
	return reflect.DeepEqual(x, y)
}

// sameRequest reports whether two items ask Oxide for the same. Which instances are eligible does not
// matter: that changes with every endpoint, and would make a refusal be tried again each time.
func sameRequest(a, b *Desired) bool {
	x, y := *a, *b
	x.Eligible, y.Eligible = nil, nil
	return sameDesired(&x, &y)
}

// publishesNowhere reports whether every place of a load balancer counts as published.
func (l *loop) publishesNowhere(b *balancer) bool {
	return l.closing || l.opening.ObserveOnly || b.desired.NoPublication
}

// placePublishedAt returns since when the owner of a load balancer publishes an address, and for a
// floating IP an instance as its place; false: it does not.
func (l *loop) placePublishedAt(b *balancer, ip *plan.Address, instance string) (time.Time, bool) {
	if l.publishesNowhere(b) {
		return time.Time{}, true
	}
	own, ownOK := b.publishedAt[ip.Addr]
	if ip.Kind == ownership.ExternalSubnet {
		return own, ownOK
	}
	private := l.observed.privateAddr(instance, ip.Family())
	there, thereOK := b.publishedAt[private]
	if !ownOK || !thereOK {
		return time.Time{}, false
	}
	if there.After(own) {
		own = there
	}
	return own, true
}

// register makes the registry know what addresses without a marker belong to load balancers of the
// scope.
func (l *loop) register() {
	if l.candidatesChanged && !l.opening.ObserveOnly {
		l.candidatesChanged = false
		l.m.candidates.set(l.opening.Scope, slices.Collect(maps.Keys(l.candidates)))
	}
	if !l.claimsChanged || l.opening.ObserveOnly {
		return
	}
	l.claimsChanged = false
	claims := ownership.Claims{
		UserOwned: make(map[string]bool), Published: make(map[netip.Addr]bool), Complete: l.inSync,
	}
	for _, b := range l.balancers {
		for _, want := range b.desired.Addresses {
			if want.Source.Existing != "" && want.Source.Kind == ownership.FloatingIP {
				claims.UserOwned[want.Source.Existing] = true
			}
		}
		for _, addr := range b.desired.Published {
			claims.Published[addr] = true
		}
	}
	l.m.registry.Set(l.opening.Scope, claims)
}

// at makes sure that a step is taken at a time.
func (l *loop) at(when time.Time) {
	if !when.IsZero() && (l.wakeAt.IsZero() || when.Before(l.wakeAt)) {
		l.wakeAt = when
	}
}

// soon is at for something that the session itself is about to do.
func (l *loop) soon(when time.Time) {
	l.busy = true
	l.at(when)
}

// keys returns the load balancers in order.
func (l *loop) keys() []ownership.Key {
	return slices.SortedFunc(maps.Keys(l.balancers), ownership.CompareKeys)
}
