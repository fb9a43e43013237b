// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package rules

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"time"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/firewall"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/firewall/ruleset"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/ownership"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/oxide"
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
	// unsettled: what is stored is not in force everywhere; of these load balancers.
	unsettled   bool
	unsettledOf map[ownership.Key]bool
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
	if w.merged.Blocked != "" {
		state.Failure = &BlockedError{w.merged.Blocked}
	}
	return state
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
	isBlocked := w.merged.Blocked != ""
	w.differs, w.merged = ruleset.Differs(stored, all...), ruleset.Merge(stored, all...)
	if n := len(w.merged.Refused); n > refusals {
		k.metrics.refusals.Add(float64(n - refusals))
	}
	if w.merged.Blocked != "" && !isBlocked {
		k.metrics.refusals.Inc()
	}
	switch {
	case !w.merged.Changed:
		w.differsAt = time.Time{}
	case w.differsAt.IsZero():
		w.differsAt = now
	}
}

// due returns when to write next; zero: there is nothing to write, or nothing can be written.
func (w *writer) due(t timings) time.Time {
	switch {
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
	if k.stopping || len(w.jobs) == 0 && !w.stale && w.due(k.timings).IsZero() {
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
	now, due := time.Now(), w.due(k.timings)
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
		if changes := ruleset.Changes(w.reading.Stored, stored); changes > 0 {
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

var errOverwritten = errors.New("somebody else keeps removing or changing the rules of load balancers: find " +
	"out who replaces all rules of the VPC, for example Terraform")

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

// BlockedError says why the rules of a VPC cannot be written back as they are.
type BlockedError struct{ Why string }

// Error implements error.
func (e *BlockedError) Error() string { return e.Why }

// write makes the rules as desired: it reads them once more, writes them at once, and reads back.
func (k *Keeper) write(ctx context.Context, w *writer) {
	k.read(ctx, w)
	began := time.Now()
	k.mu.Lock()
	// Nothing comes between here and the request: what others write now is lost.
	before, desired, merged, differing := w.reading.Stored, w.all(), w.merged, w.differs
	due := w.due(k.timings)
	switch {
	case w.reading.Err != nil:
		w.fail(began, w.reading.Err, k.timings)
	case k.stopping, due.IsZero(), due.After(began):
	default:
		w.writtenAt = began
		k.mu.Unlock()
		err := k.put(ctx, w, before, &merged)
		k.mu.Lock()
		after := time.Now()
		w.noteUnsettled(differing)
		switch {
		case err != nil:
			w.fail(after, err, k.timings)
			slog.WarnContext(ctx, "could not write the firewall", "vpc", w.vpc, "error", err)
		case ruleset.Merge(w.reading.Stored, desired...).Changed:
			w.lost(after, k.timings)
		}
	}
	k.mu.Unlock()
}

// noteUnsettled notes whose rules are perhaps not in force everywhere.
func (w *writer) noteUnsettled(written map[ownership.Key]bool) {
	if !w.unsettled {
		w.unsettledOf = nil
		return
	}
	all := maps.Clone(w.unsettledOf)
	if all == nil {
		all = make(map[ownership.Key]bool)
	}
	maps.Copy(all, written)
	w.unsettledOf = all
}

// put writes the whole set, reads it back, and says what is not in force.
func (k *Keeper) put(
	ctx context.Context, w *writer, before []ruleset.Stored, merged *ruleset.Merged,
) error {
	began := time.Now()
	requestCtx, cancel := context.WithTimeout(ctx, k.timings.request)
	err := k.api.ReplaceFirewall(requestCtx, w.vpc, merged.Body())
	cancel()
	if err == nil {
		k.metrics.writes.Inc()
		slog.InfoContext(ctx, "wrote the firewall", "vpc", w.vpc, "rules", len(merged.Body()),
			"kept", merged.Own, "duration", time.Since(began))
	} else if k.metrics.failures.Inc(); !mayBeStored(err) {
		return err
	}
	readCtx, cancel := context.WithTimeout(ctx, k.timings.request)
	defer cancel()
	readAt := time.Now()
	all, readErr := k.api.Firewall(readCtx, w.vpc)
	stored := ruleset.Read(all)
	k.mu.Lock()
	defer k.mu.Unlock()
	if readErr != nil {
		w.stale, w.unsettled = true, err != nil
		return cmp.Or(err, readErr)
	}
	if changes := ruleset.Changes(before, stored, w.scopes()...); changes > 0 {
		k.metrics.foreign.Add(float64(changes))
	}
	// It may be stored and not be in force on every sled: then it has to be written again.
	w.unsettled = err != nil && (w.unsettled || ruleset.Changes(before, stored) > 0)
	k.take(w, stored, readAt)
	if w.unsettled {
		return fmt.Errorf("the rules are stored, and not yet in force everywhere: %w", err)
	}
	return err
}

// mayBeStored reports whether a write that failed may have taken effect.
func mayBeStored(err error) bool {
	for _, kind := range []oxide.Kind{
		oxide.KindInternal, oxide.KindUnavailable, oxide.KindBadResponse, oxide.KindEnded,
	} {
		if oxide.IsKind(err, kind) {
			return true
		}
	}
	return false
}

// scopes returns all whose rules are kept.
func (w *writer) scopes() []string {
	var scopes []string
	for _, d := range w.all() {
		scopes = append(scopes, d.Scopes...)
	}
	return scopes
}

// removeNow removes rules by hand.
func (k *Keeper) removeNow(
	ctx context.Context, w *writer, remove func(*ruleset.Stored) bool,
) ([]ruleset.Stored, error) {
	k.read(ctx, w)
	k.mu.Lock()
	before, err := w.reading.Stored, w.reading.Err
	var removed []ruleset.Stored
	merged := ruleset.Without(before, func(s *ruleset.Stored) bool {
		if !remove(s) {
			return false
		}
		removed = append(removed, *s)
		return true
	})
	if merged.Changed {
		w.writtenAt = time.Now()
	}
	k.mu.Unlock()
	switch {
	case err != nil:
		return nil, err
	case !merged.Changed:
		return nil, nil
	case merged.Blocked != "":
		k.metrics.refusals.Inc()
		return nil, &BlockedError{merged.Blocked}
	}
	return removed, k.put(ctx, w, before, &merged)
}
