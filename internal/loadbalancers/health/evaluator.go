// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package health

import (
	"time"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/plan"
)

// notReadyTimeout is for how long a candidate may say itself that it is not ready before its
// addresses move: a kubelet that restarts says so for a moment. One that is silent has been so for
// a while already.
const notReadyTimeout = 20 * time.Second

// Evaluator evaluates candidates with damping. It remembers since when each has what is wrong with
// it. The zero value is ready for use, by one goroutine. A copy goes on by itself: what is
// evaluated with it leaves the original as it is.
type Evaluator struct {
	// TimeScale multiplies every duration; 0 means 1.
	TimeScale float64

	// causes is what is wrong with each candidate, by id. Each evaluation makes another map.
	causes     map[string]cause
	suspension massSuspension
	// evaluated: there was an evaluation before.
	evaluated bool
}

// cause is what is wrong with a candidate, and since when.
type cause struct {
	why   string
	since time.Time
	// turnedAt is when it turned not ready while its instance was not off; zero: it did not.
	turnedAt time.Time
}

// Evaluate returns the health of each candidate, and when one may differ although nothing changes;
// zero: never.
func (e *Evaluator) Evaluate(
	now time.Time, observations map[string]*Observation, instance func(id string) Instance,
) (map[string]Health, time.Time) {
	healths := make(map[string]Health, len(observations))
	causes := make(map[string]cause, len(observations))
	count := tally{window: e.scaled(suspensionWindow)}
	next := timer{now: now}
	for id, o := range observations {
		f := find(o, instance(id))
		if o.Exclusion == "" {
			count.candidates++
		}
		if f.Why != "" {
			c := e.follow(now, id, f)
			causes[id], f.Since = c, c.since
			count.add(now, id, c)
		}
		if eligible := f.Since.Add(e.scaled(notReadyTimeout)); f.damped && now.Before(eligible) {
			f.Health.Health = plan.Suspect
			next.at(eligible)
		}
		healths[id] = f.Health
	}
	e.causes, e.evaluated = causes, true
	if e.suspension.update(now, count, e.scaled(suspensionTimeout)) {
		next.at(e.suspension.until)
		for _, id := range count.turned {
			if h := healths[id]; causes[id].turnedAt.After(e.suspension.from) {
				h.Health, h.Suspended = plan.Suspect, MassFailure
				healths[id] = h
			}
		}
	}
	return healths, next.next
}

// follow returns the cause of a finding, with what is remembered of the same cause.
func (e *Evaluator) follow(now time.Time, id string, f finding) cause {
	before := e.causes[id]
	c := cause{why: f.Why, since: now}
	if !f.since.IsZero() && f.since.Before(now) {
		c.since = f.since
	}
	if before.why == f.Why && before.since.Before(c.since) {
		// A client that does not know for how long says 0 with every item.
		c.since = before.since
	}
	switch {
	case !f.turned:
	case !before.turnedAt.IsZero():
		c.turnedAt = before.turnedAt
	case !e.evaluated:
		c.turnedAt = now
	default:
		c.turnedAt = c.since
	}
	return c
}

func (e *Evaluator) scaled(d time.Duration) time.Duration {
	if e.TimeScale == 0 {
		return d
	}
	return time.Duration(float64(d) * e.TimeScale)
}

// timer keeps the first of several times that are yet to come.
type timer struct{ now, next time.Time }

func (t *timer) at(when time.Time) {
	if when.After(t.now) && (t.next.IsZero() || when.Before(t.next)) {
		t.next = when
	}
}
