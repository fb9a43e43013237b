// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package health

import "time"

// More than half of the candidates that turn not ready within suspensionWindow while their
// instances run suspend failover for at most suspensionTimeout: then the control plane, or the
// client's own network, may be what fails.
const (
	suspensionWindow  = time.Minute
	suspensionTimeout = 2 * time.Minute
)

// tally counts the candidates of one evaluation.
type tally struct {
	window time.Duration
	// candidates are all but the excluded ones.
	candidates int
	// turned are not ready while their instances are not off; lately is how many of them turned within
	// the window.
	turned []string
	lately int
}

func (t *tally) add(now time.Time, id string, c cause) {
	if c.turnedAt.IsZero() {
		return
	}
	t.turned = append(t.turned, id)
	if now.Sub(c.turnedAt) < t.window {
		t.lately++
	}
}

// massSuspension is the time for which failover is suspended for candidates that turned after from.
type massSuspension struct{ from, until time.Time }

// update begins or ends the suspension, and reports whether there is one.
func (s *massSuspension) update(now time.Time, count tally, timeout time.Duration) bool {
	if count.lately*2 > count.candidates && !now.Before(s.until) {
		s.from, s.until = now.Add(-count.window), now.Add(timeout)
	}
	if len(count.turned)*2 <= count.candidates {
		s.until = time.Time{}
	}
	return now.Before(s.until)
}
