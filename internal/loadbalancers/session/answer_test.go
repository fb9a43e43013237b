// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package session

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

type noAPI struct{ API }

// Otherwise calls that are made faster than they are answered stop every failover.
func TestQuestionsDoNotHoldUpTheLoop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLoop(newSession(NewManager(t.Context(), Config{API: noAPI{}}), Opening{}))
		defer l.m.Stop(t.Context())
		gone, cancel := context.WithCancel(t.Context())
		cancel()
		var answered []string
		ask := func(ctx context.Context, name string) {
			l.session.questions = append(l.session.questions, question{ctx, func(*loop) {
				answered = append(answered, name)
				time.Sleep(2 * maxAnswering)
			}})
		}
		ask(gone, "of a call that has ended")
		ask(t.Context(), "first")
		ask(t.Context(), "second")
		ask(gone, "of another one")
		for _, want := range [][]string{{"first"}, {"first", "second"}, {"first", "second"}} {
			l.drain(time.Now())
			if !slices.Equal(answered, want) {
				t.Errorf("answered %q, want %q", answered, want)
			}
		}
	})
}
