// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package rules_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/firewall"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/ownership"
)

// What comes of a write, whatever Oxide answers.

// spoil has some writes, counted from 1, answered with a status, after they were carried out or not. 0
// is no answer at all.
func (w *world) spoil(which func(n int) bool, stored bool, status int) {
	var writes atomic.Int64
	w.handle(func(next http.Handler, rw http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPut || !which(int(writes.Add(1))) {
			next.ServeHTTP(rw, r)
			return
		}
		if stored {
			next.ServeHTTP(httptest.NewRecorder(), r)
		}
		if status == 0 {
			panic(http.ErrAbortHandler)
		}
		rw.Header().Set("Content-Type", "application/json")
		rw.WriteHeader(status)
		_, _ = io.WriteString(rw, `{"request_id":"x","message":"no"}`)
	})
}

// A write that Oxide has not said to be in force everywhere is made again until it does, and its load
// balancers are known meanwhile.
func TestAWriteIsRepeatedUntilItIsInForce(t *testing.T) {
	for name, tc := range map[string]struct {
		status int
		stored bool
	}{
		"500 although stored":        {500, true},
		"500 and not stored":         {500, false},
		"503 although stored":        {503, true},
		"503 and not stored":         {503, false},
		"no answer, although stored": {0, true},
		"no answer, and not stored":  {0, false},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(w *world) {
				w.spoil(func(n int) bool { return n <= 3 }, tc.stored, tc.status)
				w.desire(nameOf(1))
				time.Sleep(4 * time.Second)
				w.hasWritten(1)
				state, key := w.state(), ownership.Key{Scope: scope, Name: nameOf(1)}
				if state.Failure == nil || !state.Unsettled[key] && !state.Differs[key] {
					t.Fatalf("after the first write: %v, unsettled %v", state.Failure, state.Unsettled)
				}
				said := state.Failure.Error()
				if strings.Contains(said, "not yet in force") != tc.stored || strings.Contains(said, "\n") {
					t.Errorf("it says %q", said)
				}
				time.Sleep(time.Minute)
				w.hasWritten(4)
				w.hasKept(nameOf(1))
				w.isSettled()
				time.Sleep(time.Hour)
				w.hasWritten(4)
				if n := w.metric("oxide_backend_firewall_write_failures_total"); n != 3 {
					t.Errorf("%v failures are counted", n)
				}
			})
		})
	}
}

// Oxide goes on with a request whose client has gone. What it stores then is not known to be in
// force, so it is written once more; and it is no change of somebody else.
func TestAWriteThatIsStoredAfterItsAnswerWasLostIsRepeated(t *testing.T) {
	inWorld(t, func(w *world) {
		w.desire() // reads
		time.Sleep(10 * time.Second)
		var writes atomic.Int64
		w.handle(func(next http.Handler, rw http.ResponseWriter, r *http.Request) {
			if r.Method != http.MethodPut || writes.Add(1) > 1 {
				next.ServeHTTP(rw, r)
				return
			}
			body, err := io.ReadAll(r.Body)
			w.must(err)
			late := httptest.NewRequest(r.Method, r.URL.String(), strings.NewReader(string(body)))
			late.Header = r.Header.Clone()
			go func() {
				time.Sleep(3 * time.Second) // after it was read back, and before it is written again
				next.ServeHTTP(httptest.NewRecorder(), late)
			}()
			panic(http.ErrAbortHandler)
		})
		w.desire(nameOf(1))
		time.Sleep(time.Minute)
		w.hasKept(nameOf(1))
		w.hasWritten(2)
		w.isSettled()
		if n := w.metric("oxide_backend_firewall_foreign_changes_total"); n != 0 {
			t.Errorf("%v changes of others are counted", n)
		}
	})
}

// A write by hand that Oxide says is in force everywhere settles what an earlier one had left open: a load
// balancer that ended meanwhile has no rules any more, and nothing waits for them.
func TestAWriteByHandSettlesAnEarlierOne(t *testing.T) {
	inWorld(t, func(w *world) {
		w.desire(nameOf(1))
		time.Sleep(time.Minute)
		w.hasKept(nameOf(1))
		w.spoil(func(n int) bool { return n == 1 }, false, http.StatusServiceUnavailable)
		w.desire(nameOf(1), nameOf(2))
		time.Sleep(2 * time.Second) // one write, whose end is not known
		w.hasWritten(2)
		w.desire()
		_, err := w.keeper.Remove(context.Background(), w.vpc, everything)
		w.must(err)
		time.Sleep(time.Minute)
		w.hasKept()
		w.isSettled()
	})
}

// What Oxide refuses is tried again ever more seldom, and at once when something else is desired.
func TestWhatOxideRefusesIsTriedMoreSeldom(t *testing.T) {
	inWorld(t, func(w *world) {
		w.spoil(func(int) bool { return true }, false, http.StatusBadRequest)
		w.desire(nameOf(1))
		for range 720 {
			time.Sleep(5 * time.Second)
			w.state()
		}
		if n := len(w.writes()); n < 12 || n > 20 {
			t.Errorf("%d writes in an hour", n)
		}
		w.heal()
		w.desire(nameOf(1), nameOf(2))
		time.Sleep(10 * time.Second)
		w.hasKept(nameOf(1), nameOf(2))
	})
}

// A firewall that takes no more keeps what it has, and each load balancer that is left out is named.
func TestWhatDoesNotFitIsRefusedByName(t *testing.T) {
	inWorld(t, func(w *world) {
		all := w.rules()
		for len(all) < firewall.MaxRules-1 {
			all = append(all, map[string]any{
				"name": fmt.Sprintf("ann-%d", len(all)), "description": "", "status": "enabled",
				"direction": "inbound", "action": "deny", "priority": 9, "targets": []any{},
				"filters": map[string]any{},
			})
		}
		w.setRules(all)
		w.desire(nameOf(1), nameOf(2))
		time.Sleep(10 * time.Second)
		w.hasKept(nameOf(1))
		state := w.state()
		why := state.Refused[ownership.Key{Scope: scope, Name: nameOf(2)}]
		if !strings.Contains(why, "1024 rules") || len(state.Refused) != 1 {
			t.Errorf("refused: %v", state.Refused)
		}
		if n := w.metric("oxide_backend_firewall_refusals_total"); n != 1 {
			t.Errorf("%v refusals are counted", n)
		}
		time.Sleep(time.Hour)
		w.hasWritten(1)
	})
}
