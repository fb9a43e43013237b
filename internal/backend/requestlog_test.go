// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package backend

import (
	"testing"
	"time"
)

// While Oxide is away what is logged of calls does not grow with the nodes and clients that ask, and how
// many lines were left out is said; calls that fail otherwise are logged beside them.
func TestLinesOfCallsThatFailAlikeAreBounded(t *testing.T) {
	log, now := newCallLog(), time.Unix(0, 0)
	away := failure{"GetInstance", "Unavailable", "OXIDE_UNAVAILABLE"}
	lines, left := 0, 0
	for range 3 * 60 { // three minutes, a hundred calls a second
		for range 100 {
			if write, omitted := log.admit(away, now); write {
				lines++
				left += omitted
			}
		}
		now = now.Add(time.Second)
	}
	if want := 3 * callLines; lines != want {
		t.Errorf("%d lines are written, want %d", lines, want)
	}
	if want := 2 * (6000 - callLines); left != want {
		t.Errorf("%d lines are said to be left out of the first two minutes, want %d", left, want)
	}
	other := away
	other.reason = "OXIDE_FORBIDDEN"
	if write, omitted := log.admit(other, now); !write || omitted != 0 {
		t.Errorf("a call that fails otherwise: written %v with %d left out, want true and none", write, omitted)
	}
}
