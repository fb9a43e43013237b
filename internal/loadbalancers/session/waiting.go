// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package session

import (
	"context"
	"time"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/plan"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/oxide"
)

// Calls wait for the end of other requests, where sessions plan again.

const (
	// maxYoungByCall bounds the requests of calls that are under way and not old, over all instances, and
	// maxParallelByCall those on one instance: whatever calls do, the requests of sessions find room.
	maxYoungByCall    = 8
	maxParallelByCall = 4
	// waitAtMost is how long a call waits before it looks again: a request grows old without a sign.
	waitAtMost = time.Second
)

// lock takes a subject for a call, once nobody else has it. It returns whether it had to wait.
func (t *operationTable) lock(ctx context.Context, op *operation) (waited bool, err error) {
	op.byCall, op.finished = true, true
	return t.await(ctx, func(time.Time) (bool, time.Time) {
		if t.bySubject[op.subject] != nil {
			return false, time.Time{}
		}
		t.bySubject[op.subject] = op
		return true, time.Time{}
	})
}

// enter makes a call's lock of a subject a request, once its instance has a slot for it. It returns the
// operation that takes the place of the lock, and whether it had to wait.
func (t *operationTable) enter(
	ctx context.Context, locked *operation, typ plan.ActionType, instance, next string,
) (op *operation, waited bool, err error) {
	request := *locked
	request.typ, request.instance, request.next, request.finished = typ, instance, next, false
	waited, err = t.await(ctx, func(now time.Time) (bool, time.Time) {
		if free, at := t.hasSlot(instance, now); !free {
			return false, at
		}
		if !t.hasSlotForCall(instance, now) {
			return false, time.Time{}
		}
		request.began = now
		t.occupy(&request)
		return true, time.Time{}
	})
	return &request, waited, err
}

// hasSlotForCall reports whether another request of a call on an instance may begin; the lock is held.
func (t *operationTable) hasSlotForCall(instance string, now time.Time) bool {
	young, here := 0, 0
	for _, other := range t.bySubject {
		if !other.byCall || other.finished {
			continue
		}
		if now.Sub(other.began) <= oldAfter {
			young++
		}
		if instance != "" && other.instance == instance {
			here++
		}
	}
	return young < maxYoungByCall && here < maxParallelByCall
}

// await tries until it succeeds, with the lock held, after each change that may matter, and at the time
// that the try returns.
func (t *operationTable) await(
	ctx context.Context, try func(now time.Time) (done bool, at time.Time),
) (waited bool, err error) {
	for {
		if ctx.Err() != nil {
			return waited, &oxide.Error{
				Operation: "wait for other changes", Kind: oxide.KindEnded, Err: ctx.Err(),
			}
		}
		now := time.Now()
		t.mu.Lock()
		done, at := try(now)
		if done {
			t.mu.Unlock()
			return waited, nil
		}
		if t.changed == nil {
			t.changed = make(chan struct{})
		}
		changed := t.changed
		t.mu.Unlock()
		waited = true
		pause := waitAtMost
		if !at.IsZero() {
			pause = min(pause, max(0, at.Sub(now)))
		}
		timer := time.NewTimer(pause)
		select {
		case <-changed:
		case <-timer.C:
		case <-ctx.Done():
		}
		timer.Stop()
	}
}

// announce lets those look again who wait; the lock is held.
func (t *operationTable) announce() {
	if t.changed != nil {
		close(t.changed)
		t.changed = nil
	}
}
