// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package session

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/firewall"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/health"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/ownership"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/plan"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/oxide"
)

// step plans, begins what is due, and sends what differs from what was sent last. It returns true
// when there is nothing left to do in a session whose client has closed its side.
func (l *loop) step(ctx context.Context, now time.Time) (finished bool) {
	l.wakeAt, l.busy = time.Time{}, false
	l.refresh(now)
	l.register()
	if !l.inSync || !l.isComplete() {
		l.sendPending()
		return l.closing && (!l.inSync || l.observed.problem() != nil)
	}
	l.nextIntents = make(map[string]intent)
	for _, b := range l.balancers {
		b.unseen = l.isUnseen(b)
		b.lb.Preserve = b.desired.PreserveReason != "" || b.unseen
	}
	in := l.input(now)
	result := plan.Make(in)
	l.desireRules(result, now)
	steps := make([]*balancerStep, 0, len(result.LoadBalancers))
	pacing := l.pacing()
	for _, planned := range result.LoadBalancers {
		b := l.balancers[planned.LoadBalancer.Key]
		s := &balancerStep{loop: l, now: now, balancer: b, planned: planned, pacing: pacing}
		s.derive()
		s.traceWork()
		steps = append(steps, s)
	}
	l.intents = l.nextIntents
	for _, kind := range kinds {
		if l.listWanted[kind] {
			l.listWanted[kind] = false
			l.m.addresses[kind].want(l.m.ctx, now)
		}
	}
	if l.opening.ObserveOnly {
		l.sendWould(result)
	} else {
		l.holdPlaces(result)
		l.begin(ctx, now, steps)
	}
	for _, s := range steps {
		l.sendState(s)
		s.endWork()
	}
	l.sendOrphans(result)
	l.sendFirewallOrphans()
	l.endRebalance(now, result)
	if !l.announcedSync {
		l.announcedSync = true
		l.session.send(Event{InSync: true})
	}
	return l.closing && !l.busy && !l.hasUnderWay()
}

// pacing counts the addresses that are on their way off each instance that is taken out of service.
func (l *loop) pacing() map[string]int {
	leaving := make(map[string]int)
	for _, b := range l.balancers {
		for id, m := range b.moves {
			begun := m.to != "" || !m.blockedSince.IsZero()
			if begun && l.healths[m.from].Planned && b.places[id] == m.from {
				leaving[m.from]++
			}
		}
	}
	return leaving
}

// hasUnderWay reports whether a request of the scope is under way.
func (l *loop) hasUnderWay() bool {
	return slices.ContainsFunc(l.m.operations.underWay(), func(op *operation) bool {
		return op.scope == l.opening.Scope
	})
}

// input returns what the plan is made of.
func (l *loop) input(now time.Time) *plan.Input {
	o := &l.observed
	var next time.Time
	l.healths, next = l.evaluator.Evaluate(now, l.candidates, l.instanceState)
	l.at(next)
	l.unreadFirewalls = make(map[string]bool)
	in := &plan.Input{
		Scope: l.opening.Scope, Adopted: l.m.adoptable(l.opening), LegacyName: l.opening.LegacyName,
		Reserved: l.reserved, Addresses: o.addresses, Instances: o.instances, Names: o.names,
		FormerCandidates: l.former, OthersCandidates: l.m.candidates.others(l.opening.Scope),
		UserOwned: l.userOwned,
		Pools:     make(map[string]plan.Pool), Firewalls: make(map[string][]firewall.Rule),
		Occupied: l.m.places.others(l.opening.Scope), InFlight: make(map[string]plan.InFlight),
		Rebalance: now.Before(l.rebalance.Expires),
	}
	for id, c := range l.candidates {
		in.Candidates = append(in.Candidates, l.candidate(id, c))
		vpc := o.instances[id].Interface.VPCID
		if _, asked := in.Firewalls[vpc]; vpc != "" && !asked && len(l.balancers) > 0 {
			rules, read := l.firewallRules(now, vpc)
			in.Firewalls[vpc], l.unreadFirewalls[vpc] = rules, !read
		}
	}
	for _, key := range l.keys() {
		b := l.balancers[key]
		if b.released {
			continue
		}
		l.addLoadBalancer(in, b, now)
	}
	for _, op := range l.m.operations.underWay() {
		in.InFlight[op.subject] = plan.InFlight{Instance: op.target()}
	}
	l.occupyOld(in, now)
	return in
}

func (l *loop) instanceState(id string) health.Instance { return l.observed.states[id] }

// candidate translates a candidate for the plan.
func (l *loop) candidate(id string, c *health.Observation) plan.Candidate {
	h := l.healths[id]
	rank := plan.Preferred
	switch {
	case c.Cordoned:
		rank = plan.Cordoned
	case c.LeastPreferred:
		rank = plan.LeastPreferred
	}
	return plan.Candidate{
		InstanceID: id, Name: l.nameOf(id), Health: h.Health, Why: h.Why, PlanNext: h.PlanNext,
		Rank: rank, Backoff: l.m.operations.isStuck(id), Used: c.Used,
	}
}

// nameOf returns the name by which people know an instance.
func (l *loop) nameOf(id string) string {
	if c := l.candidates[id]; c != nil && c.Name != "" {
		return c.Name
	}
	return cmp.Or(l.observed.instances[id].Name, l.observed.names[id], id)
}

// addLoadBalancer adds a load balancer, and the pools that it names.
func (l *loop) addLoadBalancer(in *plan.Input, b *balancer, now time.Time) {
	b.lb.Announced = make(map[string]string, len(b.moves))
	for id, m := range b.moves {
		ip := l.observed.addresses.ByID(id)
		astray := ip != nil && ip.InstanceID != "" && ip.InstanceID != m.from && ip.InstanceID != m.to
		if m.to != "" && !astray {
			b.lb.Announced[id] = m.to
		}
	}
	b.lb.MayMove = !now.Before(b.movedAt.Add(l.m.timings.moveInterval)) || b.movedAt.IsZero()
	b.awaitsPool = false
	b.lb.Refused = make(map[ownership.Family]bool, len(b.refused))
	for family, at := range b.refused {
		b.lb.Refused[family] = now.Before(at.Add(l.m.timings.maxRetry))
	}
	in.LoadBalancers = append(in.LoadBalancers, &b.lb)
	for _, want := range b.lb.Desired {
		switch {
		case want.Source.IsDefault():
			l.addDefaultPool(in, b, want, now)
		case want.Source.Pool != "":
			l.addPool(in, b, want, now)
		}
	}
}

// addPool adds what is known of a pool that a load balancer names.
func (l *loop) addPool(in *plan.Input, b *balancer, want plan.Desired, now time.Time) {
	known, ok := l.pool(now, want)
	if !ok {
		b.awaitsPool = true
		return
	}
	pool := toPool(known.value, known.err)
	if !pool.Missing {
		b.forgive(ReasonPoolNotFound, known.at)
	} else {
		l.at(now.Add(missingMaxAge))
	}
	in.Pools[plan.PoolKey(want.Source, want.Family)] = pool
}

// addDefaultPool adds what is known of the silo's default pool, once an address was not to be had
// from it: until there is one nothing has to be tried. Where nothing is tried at all it is added at
// once, and so it is where there is a choice.
func (l *loop) addDefaultPool(in *plan.Input, b *balancer, want plan.Desired, now time.Time) {
	chooses := want.Optional || l.opening.ObserveOnly
	if !chooses && !b.failedFor(ReasonPoolNotFound) {
		return
	}
	key := plan.PoolKey(want.Source, want.Family)
	known, ok := l.pool(now, want)
	switch {
	case !ok:
		b.awaitsPool = b.awaitsPool || want.Optional
	case oxide.IsKind(known.err, oxide.KindNotFound):
		in.Pools[key] = toPool(known.value, known.err)
		l.at(now.Add(missingMaxAge))
	case known.err == nil && !l.opening.ObserveOnly:
		b.forgive(ReasonPoolNotFound, known.at)
	}
	if ok && chooses {
		in.Pools[key] = toPool(known.value, known.err)
	}
}

// holdPlaces takes the places that the plan uses, before any of them is published.
func (l *loop) holdPlaces(result *plan.Result) {
	places := make(map[plan.Place]ownership.Key)
	for _, planned := range result.LoadBalancers {
		b := l.balancers[planned.LoadBalancer.Key]
		hold := func(kind ownership.Kind, instance string, family ownership.Family) {
			if kind == ownership.ExternalSubnet {
				return
			}
			for _, port := range b.lb.Ports {
				place := plan.Place{Instance: instance, Family: family, Port: port}
				if _, taken := places[place]; instance != "" && !taken {
					places[place] = b.lb.Key
				}
			}
		}
		for _, claim := range planned.Claims {
			kind, family := claim.Kind(), claim.Desired.Family
			hold(kind, claim.Current(), family)
			if claim.Blocked == "" {
				hold(kind, claim.Target, family)
				hold(kind, claim.Next, family)
			}
		}
		for _, release := range planned.Releases {
			hold(release.Address.Kind, release.Address.InstanceID, release.Address.Family())
		}
		for _, kept := range planned.Kept {
			hold(kept.Kind, kept.InstanceID, kept.Family())
		}
	}
	all, changed := l.m.places.set(l.opening.Scope, places)
	if !all {
		l.at(time.Now()) // another scope was first: plan again
	}
	if changed {
		l.m.wakeOthers(l.session)
	}
}

// begin begins the requests that are due, those of addresses that were tried longest ago first.
func (l *loop) begin(ctx context.Context, now time.Time, steps []*balancerStep) {
	var due []dueRequest
	for _, s := range steps {
		due = append(due, s.due...)
	}
	slices.SortStableFunc(due, func(a, b dueRequest) int {
		return l.attempts[a.subject()].Compare(l.attempts[b.subject()])
	})
	unread := l.unread(due)
	for _, d := range due {
		if unread[d.subject()] {
			l.soon(time.Time{})
			continue
		}
		op := &operation{
			scope: l.opening.Scope, key: d.Key, typ: d.Type, subject: d.subject(),
			instance: d.place(), next: d.next, family: ownership.FamilyOf(d.Addr),
		}
		began, at := l.m.operations.start(op, now, func() bool { return ctx.Err() == nil })
		if !began {
			l.waitsForSlot(at)
			continue
		}
		l.busy = true
		l.attempts[op.subject] = now
		l.m.requests.Add(1)
		work := l.balancers[d.Key].work
		go func() {
			defer l.m.requests.Done()
			l.m.run(work.below(l.m.ctx), l.session, op, d.request)
		}()
	}
}

// waitsForSlot makes sure that a request which found no slot is tried again: when something has
// finished, or at a time at which an instance is probed again.
func (l *loop) waitsForSlot(at time.Time) {
	if at.IsZero() {
		l.busy = true
		return
	}
	l.at(at)
}

// unread returns the addresses that have to be read before they are changed, and has them read: one
// by itself, several by a list.
func (l *loop) unread(due []dueRequest) map[string]bool {
	unread := make(map[string]bool)
	for _, d := range due {
		if d.decidedAt.IsZero() || !l.observed.readAt[d.ID].Before(d.decidedAt) ||
			l.m.operations.of(d.ID) != nil {
			continue
		}
		unread[d.ID] = true
	}
	for _, kind := range kinds {
		of := slices.DeleteFunc(slices.Clone(due), func(d dueRequest) bool {
			return d.Kind != kind || !unread[d.ID]
		})
		switch list := l.m.addresses[kind]; {
		case len(of) == 0:
		case list.isComing(decided(of)):
		case len(of) == 1:
			list.viewSoon(l.balancers[of[0].Key].work.below(l.m.ctx), of[0].ID)
		default:
			list.want(l.m.ctx, time.Now())
		}
	}
	return unread
}

// decided returns when the last of some changes was decided.
func decided(due []dueRequest) time.Time {
	var last time.Time
	for _, d := range due {
		if d.decidedAt.After(last) {
			last = d.decidedAt
		}
	}
	return last
}

// decide notes that a change of an address was decided, and returns since when that stands.
func (l *loop) decide(id, what string, now time.Time) time.Time {
	since := now
	if before, ok := l.intents[id]; ok && before.what == what {
		since = before.since
	}
	l.nextIntents[id] = intent{what, since}
	return since
}

// keepIntent keeps what was decided for an address while a request is under way.
func (l *loop) keepIntent(id string) {
	if before, ok := l.intents[id]; ok {
		l.nextIntents[id] = before
	}
}

// endRebalance ends a rebalance that has nothing left to move.
func (l *loop) endRebalance(now time.Time, result *plan.Result) {
	if l.rebalance.Expires.IsZero() {
		return
	}
	if !now.Before(l.rebalance.Expires) || !result.Rebalanced && len(l.moving()) == 0 {
		l.rebalance = Rebalance{}
		l.session.send(Event{Rebalance: &Rebalance{}})
		return
	}
	l.at(l.rebalance.Expires)
}

// moving returns the load balancers that have an address on its way.
func (l *loop) moving() []ownership.Key {
	var keys []ownership.Key
	for key, b := range l.balancers {
		if len(b.moves) > 0 {
			keys = append(keys, key)
		}
	}
	return keys
}
