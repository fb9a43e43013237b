// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package rules

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"maps"
	"time"

	"go.opentelemetry.io/otel/attribute"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/firewall/ruleset"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/ownership"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/oxide"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/tracing"
)

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
	due := k.due(w)
	switch {
	case w.reading.Err != nil:
		w.fail(began, w.reading.Err, k.timings)
	case k.stopping, due.IsZero(), due.After(began):
	default:
		w.writtenAt = began
		w.noteWritten()
		k.mu.Unlock()
		err := k.put(ctx, w, before, &merged, scopesOf(desired))
		k.mu.Lock()
		after := time.Now()
		k.noteEnd(w, after, differing)
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

// noteEnd notes that a write has ended, of the rules of these load balancers: one that is in force
// everywhere settles those before it, too. The lock is held.
func (k *Keeper) noteEnd(w *writer, now time.Time, written map[ownership.Key]bool) {
	w.noteUnsettled(written)
	if !w.unsettled {
		w.written = nil
		w.compare(now, k)
	}
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

// put writes the whole set, reads it back, and says what is not in force. The scopes are those whose
// rules it changes: other changes are somebody else's.
func (k *Keeper) put(
	ctx context.Context, w *writer, before []ruleset.Stored, merged *ruleset.Merged, scopes []string,
) (err error) {
	began := time.Now()
	// A trace of its own: one write is for all load balancers at once.
	ctx, span := tracing.Start(ctx, "write firewall rules")
	if span.IsRecording() {
		span.SetAttributes(attribute.String("oxide.vpc_id", w.vpc),
			attribute.Int("oxide.rules", len(merged.Body())))
	}
	defer func() { tracing.End(span, err) }()
	requestCtx, cancel := context.WithTimeout(ctx, k.timings.request)
	err = k.api.ReplaceFirewall(requestCtx, w.vpc, merged.Body())
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
	if changes := ruleset.Changes(before, stored, scopes...); changes > 0 {
		k.metrics.foreign.Add(float64(changes))
	}
	isStored := w.unsettled || ruleset.Changes(before, stored) > 0
	// It may be stored, or be so in a moment, and not be in force on every sled: then it has to be written
	// again, until Oxide says that it is.
	w.unsettled = err != nil
	k.take(w, stored, readAt)
	if err != nil && isStored {
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

// isRefusal reports whether a write failed for what was to be written.
func isRefusal(err error) bool {
	return oxide.IsKind(err, oxide.KindRefused) || oxide.IsKind(err, oxide.KindMalformed) ||
		oxide.IsKind(err, oxide.KindAlreadyExists)
}

// mayDesire reports whether a rule is, or may be, desired by now.
func (w *writer) mayDesire(rule *ruleset.Stored) bool {
	for _, d := range w.desired {
		if d.MayDesire(rule) {
			return true
		}
	}
	return false
}

// scopesOf returns the scopes whose rules are kept.
func scopesOf(desired []ruleset.Desired) []string {
	var scopes []string
	for _, d := range desired {
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
		if !remove(s) || w.mayDesire(s) {
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
	var scopes []string
	for i := range removed {
		scopes = append(scopes, removed[i].Marker.Key.Scope)
	}
	err = k.put(ctx, w, before, &merged, scopes)
	k.mu.Lock()
	defer k.mu.Unlock()
	k.noteEnd(w, time.Now(), nil)
	return removed, err
}
