// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package client

import (
	"context"
	"time"

	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

// SetCandidate sets a candidate's item, but for its durations: they are sent as the time that has
// passed since the client itself began to observe this readiness and this reachability without a
// break. A zero time means that it is not observed.
func (s *Session) SetCandidate(item *backendv1.Candidate, readiness, reachability time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.items.setCandidate(item, readiness, reachability)
}

// RemoveCandidate removes a candidate that there is no longer.
func (s *Session) RemoveCandidate(instanceID string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.items.removeCandidate(instanceID)
}

// SetReservedPorts sets all reserved ports.
func (s *Session) SetReservedPorts(ports []*backendv1.ReservedPorts) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.items.setReservedPorts(ports)
}

// SetLoadBalancer sets a load balancer's item, and returns its generation: a greater one than
// before if anything else in the item differs from what was set before. A generation in the
// argument is ignored.
func (s *Session) SetLoadBalancer(item *backendv1.DesiredLoadBalancer) int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.items.setLoadBalancer(item)
}

// RemoveLoadBalancer forgets a load balancer, here and in the backend; nothing is released. It does
// nothing if the load balancer is set for another owner.
func (s *Session) RemoveLoadBalancer(key *backendv1.LoadBalancerKey, ownerUID string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.items.removeLoadBalancer(keyOf(key), ownerUID)
}

// MarkSynced says that everything there is has been set: Run may open a stream.
func (s *Session) MarkSynced() {
	s.syncedOnce.Do(func() { close(s.synced) })
}

// State returns the latest state of a load balancer on the present stream; false: there is none.
func (s *Session) State(key *backendv1.LoadBalancerKey) (*backendv1.LoadBalancerState, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	state := s.items.state(keyOf(key))
	return state, state != nil
}

func (i *items) state(key lbKey) *backendv1.LoadBalancerState {
	if lb := i.loadBalancers[key]; lb != nil {
		return lb.stream.state
	}
	return nil
}

// AwaitState waits for a state of a load balancer that `accept` accepts, across reconnects. It ends
// with the context, and with the session.
func (s *Session) AwaitState(ctx context.Context, key *backendv1.LoadBalancerKey,
	accept func(*backendv1.LoadBalancerState) bool,
) (*backendv1.LoadBalancerState, error) {
	return s.await(ctx, keyOf(key), nil, accept)
}

// await waits for a state that is accepted; nil if `done` is closed before.
func (s *Session) await(ctx context.Context, key lbKey, done <-chan struct{},
	accept func(*backendv1.LoadBalancerState) bool,
) (*backendv1.LoadBalancerState, error) {
	var last *backendv1.LoadBalancerState
	for {
		select {
		case <-done: // which counts over a state that came with it
			return nil, nil
		default:
		}
		s.mu.Lock()
		state := s.items.state(key)
		if s.changed == nil {
			s.changed = make(chan struct{})
		}
		changed := s.changed
		s.mu.Unlock()
		if state != nil && state != last && accept(state) {
			return state, nil
		}
		last = state
		select {
		case <-done:
			return nil, nil
		case <-changed:
		case <-s.ended:
			return nil, s.endErr
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// releaseWaiter waits for the release of one load balancer.
type releaseWaiter struct {
	key   lbKey
	owner string
	done  chan struct{}
}

// AwaitReleased waits until a load balancer whose owner is ending has nothing any more, across
// reconnects. A release that was reported earlier counts for as long as the load balancer is set.
// It ends with the context, and with the session.
func (s *Session) AwaitReleased(
	ctx context.Context, key *backendv1.LoadBalancerKey, ownerUID string,
) error {
	_, err := s.AwaitReleasedOr(ctx, key, ownerUID,
		func(*backendv1.LoadBalancerState) bool { return false })
	return err
}

// AwaitReleasedOr is AwaitReleased for as long as no state of the load balancer is accepted, which it
// returns; it returns nil for a release.
func (s *Session) AwaitReleasedOr(ctx context.Context, key *backendv1.LoadBalancerKey,
	ownerUID string, accept func(*backendv1.LoadBalancerState) bool,
) (*backendv1.LoadBalancerState, error) {
	waiter := &releaseWaiter{key: keyOf(key), owner: ownerUID, done: make(chan struct{})}
	s.mu.Lock()
	lb := s.items.loadBalancers[waiter.key]
	released := lb != nil && lb.released && lb.item.GetOwnerUid() == ownerUID
	if !released {
		s.releases[waiter] = true
	}
	s.mu.Unlock()
	if released {
		return nil, nil
	}
	defer func() {
		s.mu.Lock()
		delete(s.releases, waiter)
		s.mu.Unlock()
	}()
	return s.await(ctx, waiter.key, waiter.done, accept)
}

// Lag is for how long the server has not taken into account a generation that it was sent; 0: it
// has taken into account all of them, or there is no stream. See StuckAfter.
func (s *Session) Lag() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	var oldest time.Time
	for _, lb := range s.items.loadBalancers {
		at := lb.stream.pendingAt
		if lb.stream.pending != 0 && (oldest.IsZero() || at.Before(oldest)) {
			oldest = at
		}
	}
	if oldest.IsZero() {
		return 0
	}
	return time.Since(oldest)
}

// Connected reports whether there is a stream.
func (s *Session) Connected() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.items.open
}

// handle keeps what an event says and calls the handler. Events that are not known are skipped.
func (s *Session) handle(event *backendv1.SyncLoadBalancersResponse) {
	switch e := event.GetEvent().(type) {
	case *backendv1.SyncLoadBalancersResponse_State:
		if s.keepState(e.State) {
			call(s.handler.State, e.State)
		}
	case *backendv1.SyncLoadBalancersResponse_Action:
		call(s.handler.Action, e.Action)
	case *backendv1.SyncLoadBalancersResponse_Released:
		s.keepReleased(e.Released)
		if s.handler.Released != nil {
			s.handler.Released(e.Released.GetKey(), e.Released.GetOwnerUid())
		}
	case *backendv1.SyncLoadBalancersResponse_Orphans:
		call(s.handler.Orphans, e.Orphans.GetOrphans())
	case *backendv1.SyncLoadBalancersResponse_FirewallOrphans:
		call(s.handler.FirewallOrphans, e.FirewallOrphans.GetRules())
	case *backendv1.SyncLoadBalancersResponse_InSync:
		if s.handler.InSync != nil {
			s.handler.InSync()
		}
	case *backendv1.SyncLoadBalancersResponse_Rebalance:
		s.mu.Lock()
		s.items.remember(e.Rebalance)
		s.mu.Unlock()
	case *backendv1.SyncLoadBalancersResponse_ActionsDropped:
		call(s.handler.ActionsDropped, e.ActionsDropped.GetCount())
	}
}

// call calls a function of a handler if it is there.
func call[T any](f func(T), argument T) {
	if f != nil {
		f(argument)
	}
}

// keepState keeps a state if it is one of a load balancer as it is set.
func (s *Session) keepState(state *backendv1.LoadBalancerState) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	lb := s.items.loadBalancers[keyOf(state.GetKey())]
	if lb == nil || !lb.accept(state) {
		return false
	}
	if s.changed != nil {
		close(s.changed)
		s.changed = nil
	}
	return true
}

// keepReleased remembers a release, for as long as its load balancer is set and ending.
func (s *Session) keepReleased(released *backendv1.LoadBalancerReleased) {
	s.mu.Lock()
	defer s.mu.Unlock()
	key, owner := keyOf(released.GetKey()), released.GetOwnerUid()
	if lb := s.items.loadBalancers[key]; lb != nil && lb.item.GetOwnerUid() == owner &&
		lb.item.GetEnding() != backendv1.Ending_ENDING_UNSPECIFIED {
		lb.released = true
	}
	for waiter := range s.releases {
		if waiter.key == key && waiter.owner == owner {
			close(waiter.done)
			delete(s.releases, waiter)
		}
	}
}
