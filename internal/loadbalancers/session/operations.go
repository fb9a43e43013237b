// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package session

import (
	"sync"
	"time"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/ownership"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/plan"
)

const (
	// maxYoung bounds the requests that are under way and not old, over all instances.
	maxYoung = 32
	// maxParallel is how many requests run side by side on an instance that has answered lately.
	maxParallel = 8
	// oldAfter is when a request counts as old: Oxide waits for a sled that does not answer.
	oldAfter = 3 * time.Second
	// provenFor is how long a success proves that an instance takes requests side by side.
	provenFor = 10 * time.Second
	// stuckBackoff is how long an instance that was found stuck is left alone before the next
	// probe. It doubles with each probe up to maxStuckBackoff, and begins again when the state of the
	// instance changes.
	stuckBackoff    = 5 * time.Second
	maxStuckBackoff = time.Minute
)

// operation is one request that changes something in Oxide, while it is under way.
type operation struct {
	scope string
	key   ownership.Key
	typ   plan.ActionType
	// subject is the id of the floating IP, or the name of one that is being created.
	subject string
	// instance is where it is attached to or detached from; empty: no instance is concerned.
	instance string
	// next is where it is attached once it is detached; empty: nowhere.
	next  string
	began time.Time
	// family is that of the address.
	family ownership.Family
	// finished: it was answered, and its session has not taken that over yet; or a call has locked
	// its subject and makes no request now.
	finished bool
	// byCall: a call makes it, and no session.
	byCall bool
}

// target returns where the address will be.
func (o *operation) target() string {
	if o.typ == plan.ActionAttach {
		return o.instance
	}
	return o.next
}

// instanceSlot is what is known of the requests on one instance.
type instanceSlot struct {
	underWay map[*operation]bool
	// successAt is when the last request succeeded.
	successAt time.Time
	// stuck is that of an instance that was found stuck; nil: it was not.
	stuck *backoff
}

// operationTable has the requests that are under way in this process, and what became of those
// before, by instance.
type operationTable struct {
	timeScale float64

	mu        sync.Mutex
	bySubject map[string]*operation
	slots     map[string]*instanceSlot
	// changed is closed when a request may begin that could not before; nil: no caller waits for that.
	changed chan struct{}
}

func newOperationTable(timeScale float64) *operationTable {
	return &operationTable{
		timeScale: timeScale,
		bySubject: make(map[string]*operation), slots: make(map[string]*instanceSlot),
	}
}

// start notes a request, if it may begin: the subject has none, its instance has a slot, and
// permitted, which is asked with the lock held, says so. Otherwise it returns when to ask again;
// zero: once something has finished.
func (t *operationTable) start(
	op *operation, now time.Time, permitted func() bool,
) (bool, time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.bySubject[op.subject] != nil || !permitted() {
		return false, time.Time{}
	}
	if free, at := t.hasSlot(op.instance, now); !free {
		return false, at
	}
	op.began = now
	t.occupy(op)
	return true, time.Time{}
}

// occupy takes the subject of a request, and a slot of its instance; the lock is held.
func (t *operationTable) occupy(op *operation) {
	t.bySubject[op.subject] = op
	if op.instance == "" {
		return
	}
	slot := t.slots[op.instance]
	if slot == nil {
		slot = &instanceSlot{underWay: make(map[*operation]bool)}
		t.slots[op.instance] = slot
	}
	slot.underWay[op] = true
}

// hasSlot reports whether a request on an instance may begin; the lock is held.
func (t *operationTable) hasSlot(instance string, now time.Time) (bool, time.Time) {
	young := 0
	for _, other := range t.bySubject {
		if now.Sub(other.began) <= oldAfter && !other.finished {
			young++
		}
	}
	slot := t.slots[instance]
	if instance == "" || slot == nil {
		return young < maxYoung, time.Time{}
	}
	if slot.stuck != nil && now.Before(slot.stuck.until) {
		return false, slot.stuck.until
	}
	limit := 1
	if slot.stuck == nil && now.Sub(slot.successAt) <= provenFor && !slot.hasOld(now) {
		limit = maxParallel
	}
	return young < maxYoung && len(slot.underWay) < limit, time.Time{}
}

func (s *instanceSlot) hasOld(now time.Time) bool {
	for op := range s.underWay {
		if now.Sub(op.began) > oldAfter {
			return true
		}
	}
	return false
}

// moveOn makes the detachment of an address the attachment that is owed: the subject stays taken.
func (t *operationTable) moveOn(op *operation, now time.Time) *operation {
	t.mu.Lock()
	defer t.mu.Unlock()
	attach := *op
	attach.typ, attach.instance, attach.next, attach.began = plan.ActionAttach, op.next, "", now
	t.release(op)
	t.bySubject[op.subject] = &attach
	t.announce()
	return &attach
}

// release frees the slot of a request; the lock is held.
func (t *operationTable) release(op *operation) {
	if slot := t.slots[op.instance]; slot != nil {
		delete(slot.underWay, op)
	}
}

// finish notes the end of a request, whose subject stays taken until done is called: no session may
// plan with what was known before. Stuck: it says that the instance takes none for now.
func (t *operationTable) finish(op *operation, now time.Time, succeeded, stuck bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	op.finished = true
	t.release(op)
	defer t.announce()
	slot := t.slots[op.instance]
	if slot == nil {
		return
	}
	switch {
	case succeeded:
		slot.successAt, slot.stuck = now, nil
	case stuck:
		slot.successAt = time.Time{}
		slot.foundStuck(now, t.timeScale)
	}
	t.forget(now)
}

// foundStuck notes that the instance takes no request for now. Requests that fail side by side count
// as one probe.
func (s *instanceSlot) foundStuck(now time.Time, timeScale float64) {
	if s.stuck == nil {
		s.stuck = &backoff{}
	}
	if !now.Before(s.stuck.until) {
		s.stuck.fail(now, nil, scaled(stuckBackoff, timeScale), scaled(maxStuckBackoff, timeScale))
	}
}

// done frees the subject of a request that has finished.
func (t *operationTable) done(op *operation) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.bySubject[op.subject] == op {
		delete(t.bySubject, op.subject)
	}
	t.announce()
}

// forget drops what proves nothing any more; the lock is held.
func (t *operationTable) forget(now time.Time) {
	for id, slot := range t.slots {
		if len(slot.underWay) == 0 && now.Sub(slot.successAt) > provenFor &&
			(slot.stuck == nil || now.Sub(slot.stuck.until) > time.Minute) {
			delete(t.slots, id)
		}
	}
}

// unstick lets the next request on an instance begin at once, because its state has changed.
func (t *operationTable) unstick(instance string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if slot := t.slots[instance]; slot != nil && slot.stuck != nil {
		slot.stuck = &backoff{}
		t.announce()
	}
}

// isStuck reports whether an instance was found stuck and has not proven the contrary.
func (t *operationTable) isStuck(instance string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	slot := t.slots[instance]
	return slot != nil && slot.stuck != nil
}

// isResting reports whether an instance was found stuck, and is not probed again yet.
func (t *operationTable) isResting(instance string, now time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	slot := t.slots[instance]
	return slot != nil && slot.stuck != nil && now.Before(slot.stuck.until)
}

// of returns the request that is under way for a floating IP; nil: none.
func (t *operationTable) of(subject string) *operation {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.bySubject[subject]
}

// underWay returns all requests that are under way.
func (t *operationTable) underWay() []*operation {
	t.mu.Lock()
	defer t.mu.Unlock()
	all := make([]*operation, 0, len(t.bySubject))
	for _, op := range t.bySubject {
		all = append(all, op)
	}
	return all
}

// scaled returns a duration multiplied by a factor; the factor 0 means 1.
func scaled(d time.Duration, factor float64) time.Duration {
	if factor == 0 {
		return d
	}
	return time.Duration(float64(d) * factor)
}
