// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package loadbalancers

import (
	"context"
	"errors"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/oxide"
)

// concurrentChanges bounds the changes that one call on a full set has in flight.
const concurrentChanges = 16

// SetOptions say how far an operation on a full set goes.
type SetOptions struct {
	// DryRun changes nothing in Oxide, and tells what would be.
	DryRun bool
	// Only, if not nil, are the names of the load balancers that may be changed; the others are
	// planned all the same.
	Only map[string]bool
	// Terminating are load balancers that are yet to be deleted. Nothing is done to them.
	Terminating []Desired
}

func (o SetOptions) changes(key Key) bool { return !o.DryRun && (o.Only == nil || o.Only[key.Name]) }

// Reconcile makes all load balancers of a scope as desired, by one plan, or in a dry run tells what
// it would do. What fails for one load balancer is told in its result and stops no other. The set is
// remembered, in a dry run as well.
func (m *Manager) Reconcile(
	ctx context.Context, cluster Cluster, set []Desired, options SetOptions,
) (SetResult, error) {
	return m.together(ctx, cluster, set, options, false)
}

// together makes all load balancers of a scope as desired; level: and spreads them evenly.
func (m *Manager) together(
	ctx context.Context, cluster Cluster, set []Desired, options SetOptions, level bool,
) (SetResult, error) {
	began := time.Now()
	unlocks := make(map[Key]func())
	var keys []Key
	for _, want := range set {
		if !options.changes(want.Key) {
			continue
		}
		if unlock, ok := m.balancers.lock(ctx, want.Key, 0); ok {
			unlocks[want.Key] = sync.OnceFunc(unlock)
			keys = append(keys, want.Key)
		}
	}
	defer func() {
		for _, unlock := range unlocks {
			unlock()
		}
	}()
	d, err := m.draw(ctx, drawing{
		cluster: cluster, dryRun: options.DryRun, keys: keys, level: level, soon: true,
		set: func(s *scope) []Desired {
			s.replace(set, began)
			if !level {
				s.terminating = options.Terminating
			}
			return s.all()
		},
	})
	if err != nil {
		return SetResult{}, err
	}
	defer m.memory.land(d.allFlights()...)
	result := SetResult{
		Results: make([]Result, len(set)), Orphans: d.facts.describeAll(d.planner.orphans()),
	}
	changes := newQueue()
	var group errgroup.Group
	for i, want := range set {
		b, planned := d.plans[want.Key]
		unlock, locked := unlocks[want.Key]
		switch {
		case planned && options.DryRun:
			result.Results[i] = m.settled(ctx, d.facts, b, changes, true)
		case planned && locked:
			group.Go(func() error {
				result.Results[i] = m.settled(ctx, d.facts, b, changes, false)
				m.memory.land(d.flights[want.Key])
				unlock()
				return nil
			})
		default:
			result.Results[i].LoadBalancer = d.facts.found(cluster, want, b)
			if options.DryRun || options.changes(want.Key) {
				result.Results[i].Err = busyError(want.Key)
			}
		}
	}
	return result, group.Wait()
}

// settled carries out the plan for one load balancer. That an address has no place is a problem, too,
// where more than time is wanting.
func (m *Manager) settled(
	ctx context.Context, f facts, b *balancer, changes *queue, dryRun bool,
) Result {
	r := m.carryOut(ctx, f, b, changes, dryRun)
	if r.Err == nil {
		r.Err = b.refusal()
	}
	return r
}

// found describes a load balancer as it was found: by its plan, if there is one, which knows the user's
// own addresses, too.
func (f facts) found(cluster Cluster, want Desired, b *balancer) LoadBalancer {
	if b != nil {
		lb := LoadBalancer{Key: want.Key, OwnerUID: want.OwnerUID}
		for _, c := range b.claims {
			if c.ip != nil {
				at := f.attachment(c.ip.InstanceID, c.wanted.Family)
				lb.Addresses = append(lb.Addresses, f.address(c.ip, at, at, c.managed))
			}
		}
		sortAddresses(lb.Addresses)
		return lb
	}
	owned := f.of(cluster.scopes(), want.Key.Name)
	if len(owned) == 0 {
		return LoadBalancer{Key: want.Key, OwnerUID: want.OwnerUID}
	}
	return f.describe(want.Key, owned)
}

// queue orders the changes of one call: those of one instance come one after the other, and once one
// of them has found that the instance does not answer, the others are put off. So a dead sled holds
// up one change, not all of those that wait for it.
type queue struct {
	slots chan struct{}

	mu    sync.Mutex
	lanes map[string]*lane
}

type lane struct {
	turn chan struct{}
	// stuck is why the instance takes no further change in this call; guarded by turn.
	stuck error
}

func newQueue() *queue {
	return &queue{slots: make(chan struct{}, concurrentChanges), lanes: make(map[string]*lane)}
}

// run runs a change when it is its turn; instanceID is empty if no instance is concerned.
func (q *queue) run(ctx context.Context, instanceID string, change func() error) error {
	if q == nil {
		return change()
	}
	if instanceID != "" {
		l := q.lane(instanceID)
		select {
		case l.turn <- struct{}{}:
			defer func() { <-l.turn }()
		case <-ctx.Done():
			return endedError(ctx)
		}
		if l.stuck != nil {
			return l.stuck
		}
		inner := change
		change = func() error {
			err := inner()
			if err != nil && isStuck(err) {
				l.stuck = stuckError(instanceID, err)
			}
			return err
		}
	}
	select {
	case q.slots <- struct{}{}:
		defer func() { <-q.slots }()
	case <-ctx.Done():
		return endedError(ctx)
	}
	return change()
}

// stuckError returns why an instance takes no further change, for those that wait: the error of the
// change that found it names another address.
func stuckError(instanceID string, err error) error {
	var found *oxide.Error
	if !errors.As(err, &found) || found.Kind != oxide.KindUnavailable {
		return err
	}
	stuck := *found
	stuck.Operation = "attach or detach addresses of instance " + instanceID
	return &stuck
}

func endedError(ctx context.Context) error {
	return &oxide.Error{
		Operation: "wait for other changes", Kind: oxide.KindEnded, Err: ctx.Err(),
	}
}

func (q *queue) lane(instanceID string) *lane {
	q.mu.Lock()
	defer q.mu.Unlock()
	l, ok := q.lanes[instanceID]
	if !ok {
		l = &lane{turn: make(chan struct{}, 1)}
		q.lanes[instanceID] = l
	}
	return l
}
