// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package rules

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"time"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/firewall"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/firewall/ruleset"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/ownership"
)

// writer is what is known of one firewall. All of its requests are made one after the other, by one
// goroutine that lives while there are some. The Keeper's lock guards everything.
type writer struct {
	vpc    string
	usedAt time.Time
	// woken has a token when there may be something to do.
	woken   chan struct{}
	running bool

	known   bool
	reading Reading
	// stale: it is to be read again.
	stale bool
	// jobs are what callers wait for.
	jobs []job

	// desired is what is to be there, by scope.
	desired map[string]ruleset.Desired
	// differs are the load balancers whose rules are not as desired, differsAt since when there are some.
	differs   map[ownership.Key]bool
	differsAt time.Time
	// writtenAt is when the last write began.
	writtenAt time.Time
	// unsettled: what is stored, or is about to be, may not be in force everywhere, since the last write
	// was not answered with success; of these load balancers.
	unsettled   bool
	unsettledOf map[ownership.Key]bool
	// written are the load balancers of which rules are in a write that is under way or not settled:
	// they may be stored at any moment.
	written map[ownership.Key]bool
	// merged is what would have to be written, as far as is known.
	merged ruleset.Merged
	// failure is why the last write did not succeed, failures how many did not in a row, retryAt until when
	// nothing is tried.
	failure  error
	failures int
	retryAt  time.Time
	// lostAt is when somebody else had overwritten what was written.
	lostAt time.Time
}

// job is something that a caller waits for.
type job struct {
	do func(context.Context)
	// writes: it is a write, and is not made too soon after another one.
	writes bool
}

func newWriter(vpc string) *writer {
	return &writer{
		vpc: vpc, woken: make(chan struct{}, 1), desired: make(map[string]ruleset.Desired),
	}
}

func (w *writer) wake() {
	select {
	case w.woken <- struct{}{}:
	default:
	}
}

func (w *writer) state() State {
	state := State{
		Reading: w.reading, Known: w.known, Failure: w.failure,
		Differs: w.differs, Refused: w.merged.Refused, Unsettled: w.unsettledOf,
	}
	if w.isBlocked() {
		state.Failure = &BlockedError{w.merged.Blocked}
	}
	return state
}

// isBlocked reports whether something has to be written, and nothing can be.
func (w *writer) isBlocked() bool {
	return w.merged.Blocked != "" && (w.merged.Changed || w.unsettled)
}

// all returns what all scopes desire, in their order.
func (w *writer) all() []ruleset.Desired {
	var all []ruleset.Desired
	for _, scope := range slices.Sorted(maps.Keys(w.desired)) {
		all = append(all, w.desired[scope])
	}
	return all
}

// compare finds out whose rules are not as desired, and what would have to be written.
func (w *writer) compare(now time.Time, k *Keeper) {
	all, stored := w.all(), w.reading.Stored
	refusals := len(w.merged.Refused)
	wasBlocked := w.isBlocked()
	w.differs, w.merged = ruleset.Differs(stored, all...), ruleset.Merge(stored, all...)
	for key := range w.written {
		if desired := w.desired[key.Scope]; len(desired.Rules[key.Name]) == 0 && !desired.Stay[key.Name] {
			w.differs[key] = true // it may be stored although it is not read
		}
	}
	if n := len(w.merged.Refused); n > refusals {
		k.metrics.refusals.Add(float64(n - refusals))
	}
	if w.isBlocked() && !wasBlocked {
		k.metrics.refusals.Inc()
	}
	switch {
	case !w.merged.Changed:
		w.differsAt = time.Time{}
	case w.differsAt.IsZero():
		w.differsAt = now
	}
}

// noteWritten notes that a write of what is desired begins.
func (w *writer) noteWritten() {
	if w.written == nil {
		w.written = make(map[ownership.Key]bool)
	}
	for scope, desired := range w.desired {
		for name, rules := range desired.Rules {
			if len(rules) > 0 {
				w.written[ownership.Key{Scope: scope, Name: name}] = true
			}
		}
	}
}

// due returns when to write next; zero: there is nothing to write, or nothing can be written. The lock
// is held.
func (k *Keeper) due(w *writer) time.Time {
	t := k.timings
	switch {
	case len(k.acting) == 0: // whoever leads now writes, and not this process
		return time.Time{}
	case !w.known || w.reading.Err != nil, w.merged.Blocked != "":
		return time.Time{}
	case !w.merged.Changed && !w.unsettled:
		return time.Time{}
	}
	at := w.differsAt.Add(t.gather)
	for _, least := range []time.Time{w.spaced(t), w.retryAt} {
		if least.After(at) {
			at = least
		}
	}
	return at
}

// spaced returns when the next write may begin at the earliest.
func (w *writer) spaced(t timings) time.Time {
	if w.writtenAt.IsZero() {
		return time.Time{}
	}
	return w.writtenAt.Add(t.spacing)
}

// start makes sure that somebody does what there is to do; the lock is held.
func (k *Keeper) start(w *writer) {
	if w.running {
		w.wake()
		return
	}
	if k.stopping || len(w.jobs) == 0 && !w.stale && k.due(w).IsZero() {
		return
	}
	w.running = true
	k.busy.Add(1)
	go func() {
		defer k.busy.Done()
		k.run(w)
	}()
}

// run does one thing after the other, until there is nothing left to do.
func (k *Keeper) run(w *writer) {
	for {
		next, at := k.next(w)
		if next == nil && at.IsZero() {
			return
		}
		if next != nil {
			ctx, cancel := context.WithTimeout(k.ctx, 3*k.timings.request)
			next(ctx)
			cancel()
			if k.changed != nil {
				k.changed()
			}
			continue
		}
		timer := time.NewTimer(time.Until(at))
		select {
		case <-timer.C:
		case <-w.woken:
		case <-k.ctx.Done():
		}
		timer.Stop()
	}
}

// next returns what to do now, or when there will be something; neither: the goroutine is to end.
func (k *Keeper) next(w *writer) (func(context.Context), time.Time) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.stopping || k.ctx.Err() != nil {
		w.running = false
		return nil, time.Time{}
	}
	now, due := time.Now(), k.due(w)
	if len(w.jobs) > 0 {
		first := w.jobs[0]
		if spaced := w.spaced(k.timings); first.writes && now.Before(spaced) {
			return nil, spaced
		}
		w.jobs = w.jobs[1:]
		return first.do, time.Time{}
	}
	switch {
	case !due.IsZero() && !now.Before(due):
		return func(ctx context.Context) { k.write(ctx, w) }, time.Time{}
	case w.stale:
		return func(ctx context.Context) { k.read(ctx, w) }, time.Time{}
	case due.IsZero():
		w.running = false
	}
	return nil, due
}

// read reads the firewall, and takes over what is there.
func (k *Keeper) read(ctx context.Context, w *writer) {
	ctx, cancel := context.WithTimeout(ctx, k.timings.request)
	defer cancel()
	began := time.Now()
	all, err := k.api.Firewall(ctx, w.vpc)
	stored := ruleset.Read(all)
	k.mu.Lock()
	defer k.mu.Unlock()
	w.stale = false
	if err != nil {
		w.reading.At, w.reading.Err, w.known = began, err, true
		return
	}
	if w.known && w.reading.Err == nil {
		var own []string
		if w.unsettled {
			own = scopesOf(w.all()) // what was written without an answer may have been stored since
		}
		if changes := ruleset.Changes(w.reading.Stored, stored, own...); changes > 0 {
			k.metrics.foreign.Add(float64(changes))
			slog.InfoContext(ctx, "somebody else has changed the firewall", "vpc", w.vpc, "rules", changes)
		}
	}
	k.take(w, stored, began)
}

// take takes a reading over; the lock is held.
func (k *Keeper) take(w *writer, stored []ruleset.Stored, began time.Time) {
	wasAsDesired := w.known && w.reading.Err == nil && !w.merged.Changed
	w.known = true
	w.reading = Reading{At: began, Stored: stored, Rules: make([]firewall.Rule, 0, len(stored))}
	for i := range stored {
		w.reading.Rules = append(w.reading.Rules, stored[i].Rule)
	}
	now := time.Now()
	w.compare(now, k)
	if wasAsDesired && w.merged.Changed {
		w.lost(now, k.timings)
	}
	if !w.merged.Changed && !w.unsettled {
		w.settled(now, k.timings)
	}
}

// lost notes that somebody else has overwritten what was written. Who does so again and again is not
// fought.
func (w *writer) lost(now time.Time, t timings) {
	if !w.lostAt.IsZero() && now.Sub(w.lostAt) < 2*t.maxRetry {
		w.fail(now, errOverwritten, t)
	}
	w.lostAt = now
}

var errOverwritten = errors.New("somebody else keeps removing or changing the rules of load " +
	"balancers: find out who replaces all rules of the VPC, for example Terraform")

// settled notes that everything is as desired.
func (w *writer) settled(now time.Time, t timings) {
	w.failure, w.retryAt = nil, time.Time{}
	if w.lostAt.IsZero() || now.Sub(w.lostAt) > 2*t.maxRetry {
		w.failures = 0
	}
}

// fail notes why a write did not succeed, and puts the next one off.
func (w *writer) fail(now time.Time, err error, t timings) {
	pause := t.spacing << min(w.failures, 16)
	if pause > t.maxRetry || pause <= 0 {
		pause = t.maxRetry
	}
	w.failures++
	w.failure, w.retryAt = err, now.Add(pause)
}
