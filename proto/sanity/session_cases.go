// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package sanity

import (
	"context"
	"fmt"
	"sync"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/durationpb"

	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

var sessions = []feature{backendv1.Feature_FEATURE_SESSIONS}

func sessionCases() []Case {
	none := needs{changes: true, features: sessions}
	one := needs{changes: true, instances: 1, features: sessions}
	return []Case{
		{Name: "session/life", run: sessionLife, needs: one, Contract: []string{
			"Nothing is changed before `in_sync` was received and Oxide was read completely; until then every " +
				"load balancer is answered with PENDING, and `publish` is what its owner publishes.",
			"Every item of the snapshot has had its first state.",
			"An ending load balancer has nothing any more.",
			"LOAD_BALANCER_NOT_FOUND if no address is marked with the key.",
		}},
		{Name: "session/publish-before-attach", run: publishFirst, needs: one, Contract: []string{
			"An address is attached only at an instance whose place the owner publishes.",
		}},
		{Name: "session/same-item-ten-times", run: sameItem, needs: one, Contract: []string{
			"Each item is the whole state of one object: a later one replaces it.",
		}},
		{Name: "session/again-ten-times", run: sessionAgain, needs: one, Contract: []string{
			"The backend keeps nothing on disk: what must survive it is in Oxide, or comes with the next " +
				"session.",
			"The client sends `open`, then every item that there is, then `in_sync`",
		}},
		{Name: "session/superseded", run: superseded, needs: none, Contract: []string{
			"There is one acting session per scope: a newer one ends the older with SESSION_SUPERSEDED, whose " +
				"client must not come back.",
		}},
		{Name: "session/concurrent-sessions", run: concurrentSessions, needs: one, Contract: []string{
			"There is one acting session per scope: a newer one ends the older with SESSION_SUPERSEDED, whose " +
				"client must not come back.",
		}},
		{Name: "session/observes", run: observes, needs: one, Contract: []string{
			"Only observe: nothing is changed, every place counts as published, and actions are sent as " +
				"planned. It supersedes no other session.",
		}},
		{Name: "session/too-many", run: tooMany, needs: none, Contract: []string{
			"RESOURCE_EXHAUSTED with RetryInfo: the backend has as many sessions as it takes.",
			"a backend has acting sessions of at most 32 scopes, and at most 16 that observe.",
		}},
	}
}

// gone expects that no address is marked with a key.
func (c *checker) gone(ctx context.Context, key *backendv1.LoadBalancerKey) {
	_, err := c.balancers.GetLoadBalancer(ctx, &backendv1.GetLoadBalancerRequest{Key: key})
	c.refused("GetLoadBalancer of one that is gone", err, codes.NotFound,
		backendv1.ErrorReason_ERROR_REASON_LOAD_BALANCER_NOT_FOUND)
}

// addressOf returns the only address of a load balancer, as GetLoadBalancer has it.
func (c *checker) addressOf(
	ctx context.Context, key *backendv1.LoadBalancerKey,
) *backendv1.LoadBalancerAddress {
	got, err := c.balancers.GetLoadBalancer(ctx, &backendv1.GetLoadBalancerRequest{Key: key})
	c.must("GetLoadBalancer", err)
	addresses := got.GetLoadBalancer().GetAddresses()
	if len(addresses) != 1 {
		c.fatal("the addresses of "+key.GetName(), "one", fmt.Sprint(addresses))
	}
	return addresses[0]
}

func sessionLife(ctx context.Context, c *checker) {
	lb := c.balancer("life")
	name := lb.GetKey().GetName()
	s := c.open(ctx, c.conn, &backendv1.OpenSession{Scope: c.options.Scope})
	s.candidates(c.nodes[0])
	s.want(lb)
	s.await(ctx, "a state before in_sync", func(e *events) bool { return e.states[name] != nil })
	s.mu.Lock()
	equal(c, "the phase before in_sync", s.states[name].GetPhase(), backendv1.Phase_PHASE_PENDING)
	equal(c, "publish before in_sync", len(s.states[name].GetPublish()), 0)
	s.mu.Unlock()
	c.gone(ctx, lb.GetKey())
	s.send(inSyncItem())
	s.await(ctx, "in_sync of the server", func(e *events) bool { return e.synced })
	state := s.ready(ctx, name)
	equal(c, "owner_uid", state.GetOwnerUid(), lb.GetOwnerUid())
	if !equal(c, "the number of addresses", len(state.GetAddresses()), 1) {
		return
	}
	address := state.GetAddresses()[0]
	equal(c, "managed", address.GetManaged(), true)
	equal(c, "its instance", address.GetAttachment().GetInstanceId(), c.nodes[0].GetId())
	c.holds(address.GetAttachment().GetPrivateAddress() != "", "its private address", "one", "nothing")
	c.holds(len(state.GetPublish()) > 0 && state.GetPublish()[0] == address.GetAddress(), "publish",
		"the address first", state.GetPublish())
	stored := c.addressOf(ctx, lb.GetKey())
	equal(c, "the address in GetLoadBalancer", stored.GetResourceId(), address.GetResourceId())
	equal(c, "the instance in GetLoadBalancer", stored.GetAttachment().GetInstanceId(), c.nodes[0].GetId())
	if c.offers(backendv1.Feature_FEATURE_RESERVED_ADDRESSES) {
		c.markedFor(ctx, lb, address)
	}
	for range repetitions {
		s.ending(lb, backendv1.Ending_ENDING_RELEASE)
	}
	s.await(ctx, "released", func(e *events) bool { return e.released[name] == lb.GetOwnerUid() })
	c.gone(ctx, lb.GetKey())
	if c.offers(backendv1.Feature_FEATURE_RESERVED_ADDRESSES) {
		c.countNamed(ctx, address.GetResourceName(), 0)
	}
	s.close(ctx)
}

// markedFor expects one address that is marked for a load balancer, and attached where its state says.
func (c *checker) markedFor(ctx context.Context, lb *backendv1.DesiredLoadBalancer,
	address *backendv1.LoadBalancerAddress,
) {
	found, err := c.listAddresses(ctx, &backendv1.ListAddressesRequest{
		Scope: lb.GetKey().GetScope(), MaxAge: durationpb.New(0),
	})
	c.must("ListAddresses", err)
	if equal(c, "the number of addresses that are marked with the scope", len(found), 1) {
		equal(c, "its id", found[0].GetResourceId(), address.GetResourceId())
		equal(c, "its marker's owner", found[0].GetMarker().GetOwnerUid(), lb.GetOwnerUid())
		equal(c, "its instance in Oxide", found[0].GetInstanceId(), address.GetAttachment().GetInstanceId())
	}
}

func publishFirst(ctx context.Context, c *checker) {
	lb := c.balancer("published")
	name := lb.GetKey().GetName()
	s := c.open(ctx, c.conn, &backendv1.OpenSession{Scope: c.options.Scope})
	s.mu.Lock()
	s.withheld = true
	s.mu.Unlock()
	s.candidates(c.nodes[0])
	s.want(lb)
	s.send(inSyncItem())
	s.await(ctx, "a place to publish", func(e *events) bool { return len(e.states[name].GetPublish()) > 1 })
	address := c.addressOf(ctx, lb.GetKey())
	c.holds(address.GetAttachment() == nil, "the attachment before its place is published", "none",
		address.GetAttachment())
	s.mu.Lock()
	s.withheld = false
	state := s.states[name]
	s.mu.Unlock()
	s.publish(state)
	s.ready(ctx, name)
	equal(c, "the instance once its place is published", c.addressOf(ctx, lb.GetKey()).GetAttachment().
		GetInstanceId(), c.nodes[0].GetId())
	s.release(ctx)
}

func sameItem(ctx context.Context, c *checker) {
	lb := c.balancer("repeated")
	name := lb.GetKey().GetName()
	s := c.acting(ctx, c.nodes[:1])
	for range repetitions {
		s.want(lb)
	}
	first := s.ready(ctx, name)
	for range repetitions {
		again := clone(lb)
		again.PublishedAddresses = first.GetPublish()
		s.want(again)
	}
	s.await(ctx, "the last generation is ready", func(e *events) bool {
		return e.states[name].GetGeneration() == s.latest() &&
			e.states[name].GetPhase() == backendv1.Phase_PHASE_READY
	})
	equal(c, "the address", c.addressOf(ctx, lb.GetKey()).GetResourceId(),
		first.GetAddresses()[0].GetResourceId())
	equal(c, "how often one was created", s.made(backendv1.ActionType_ACTION_TYPE_CREATE), 1)
	equal(c, "how often it was attached", s.made(backendv1.ActionType_ACTION_TYPE_ATTACH), 1)
	s.release(ctx)
}

// latest is the generation that was sent last.
func (s *session) latest() int64 {
	s.sending.Lock()
	defer s.sending.Unlock()
	return s.generation
}

// made counts the actions of a kind that were made.
func (s *session) made(kind backendv1.ActionType) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for _, action := range s.actions {
		if action.GetType() == kind && !action.GetPlanned() {
			n++
		}
	}
	return n
}

func sessionAgain(ctx context.Context, c *checker) {
	lb := c.balancer("again")
	name := lb.GetKey().GetName()
	var first *backendv1.LoadBalancerState
	for i := range repetitions {
		s := c.acting(ctx, c.nodes[:1], lb)
		state := s.ready(ctx, name)
		if first == nil {
			first = state
		}
		equal(c, "the number of addresses", len(state.GetAddresses()), 1)
		equal(c, "the address of a further session", c.addressOf(ctx, lb.GetKey()).GetResourceId(),
			first.GetAddresses()[0].GetResourceId())
		lb.PublishedAddresses = state.GetPublish()
		if i > 0 {
			equal(c, "how often a further session creates one",
				s.made(backendv1.ActionType_ACTION_TYPE_CREATE), 0)
		}
		switch {
		case i == repetitions-1:
			s.release(ctx)
		case i%2 == 0:
			s.abandon(ctx)
		default:
			s.close(ctx)
		}
	}
	c.gone(ctx, lb.GetKey())
}

func superseded(ctx context.Context, c *checker) {
	older := c.acting(ctx, nil)
	older.await(ctx, "the older session is in sync", func(e *events) bool { return e.synced })
	for range repetitions {
		newer := c.acting(ctx, nil)
		newer.await(ctx, "the newer session is in sync", func(e *events) bool { return e.synced })
		c.refused("the end of the older session", older.awaitEnd(ctx, "the older session ends"),
			codes.Aborted, backendv1.ErrorReason_ERROR_REASON_SESSION_SUPERSEDED)
		older = newer
	}
	other := c.open(ctx, c.another(), &backendv1.OpenSession{Scope: c.secondScope()})
	other.send(inSyncItem())
	other.await(ctx, "a session of another scope is in sync", func(e *events) bool { return e.synced })
	older.mu.Lock()
	equal(c, "whether a session of another scope ends this one", older.ended, false)
	older.mu.Unlock()
	other.close(ctx)
	older.close(ctx)
}

func concurrentSessions(ctx context.Context, c *checker) {
	const contenders = 5
	lb := c.balancer("contended")
	name := lb.GetKey().GetName()
	all := make([]*session, contenders)
	connections := make([]*conn, contenders)
	for i := range connections {
		connections[i] = c.another()
	}
	var wg sync.WaitGroup
	for i := range all {
		wg.Go(func() {
			c.do(ctx, func(ctx context.Context, c *checker) {
				s := c.open(ctx, connections[i], &backendv1.OpenSession{Scope: c.options.Scope})
				s.candidates(c.nodes[0])
				s.want(lb)
				s.send(inSyncItem())
				all[i] = s
			})
		})
	}
	wg.Wait()
	var survivor *session
	c.await(ctx, "five sessions of one scope", "one that is left", c.options.Settle, func() (string, bool) {
		left := 0
		for _, s := range all {
			if s == nil {
				continue
			}
			s.mu.Lock()
			if !s.ended {
				left++
				survivor = s
			}
			s.mu.Unlock()
		}
		return fmt.Sprintf("%d are left", left), left == 1
	})
	for _, s := range all {
		if s != nil && s != survivor {
			c.refused("the end of a superseded session", s.awaitEnd(ctx, "it ends"), codes.Aborted,
				backendv1.ErrorReason_ERROR_REASON_SESSION_SUPERSEDED)
		}
	}
	state := survivor.ready(ctx, name)
	if equal(c, "the number of addresses", len(state.GetAddresses()), 1) &&
		c.offers(backendv1.Feature_FEATURE_RESERVED_ADDRESSES) {
		c.markedFor(ctx, lb, state.GetAddresses()[0])
	}
	survivor.release(ctx)
}

func observes(ctx context.Context, c *checker) {
	acting := c.acting(ctx, nil)
	acting.await(ctx, "the acting session is in sync", func(e *events) bool { return e.synced })
	lb := c.balancer("observed")
	s := c.open(ctx, c.conn, &backendv1.OpenSession{Scope: c.options.Scope, ObserveOnly: true})
	s.candidates(c.nodes[0])
	s.want(lb)
	s.send(inSyncItem())
	s.await(ctx, "an action that is planned", func(e *events) bool { return len(e.actions) > 0 })
	s.mu.Lock()
	for _, action := range s.actions {
		equal(c, "planned of an action of a session that observes", action.GetPlanned(), true)
	}
	s.mu.Unlock()
	c.gone(ctx, lb.GetKey())
	acting.mu.Lock()
	equal(c, "whether one that observes ends the acting session", acting.ended, false)
	acting.mu.Unlock()
	s.abandon(ctx)
	acting.close(ctx)
}

func tooMany(ctx context.Context, c *checker) {
	const observers = 16
	for range observers + 1 {
		s := c.open(ctx, c.conn, &backendv1.OpenSession{Scope: c.options.Scope, ObserveOnly: true})
		s.send(inSyncItem())
		s.await(ctx, "in sync, or the end", func(e *events) bool { return e.synced || e.ended })
		s.mu.Lock()
		ended, err := s.ended, s.err
		s.mu.Unlock()
		if ended {
			c.refused("one session too many", err, codes.ResourceExhausted,
				backendv1.ErrorReason_ERROR_REASON_TOO_MANY_SESSIONS)
			return
		}
	}
	c.fail("17 sessions that observe", "ResourceExhausted TOO_MANY_SESSIONS", "all are in sync")
}
