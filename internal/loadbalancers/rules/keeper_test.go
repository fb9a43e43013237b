// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package rules_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/firewall/ruleset"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/ownership"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/rules"
)

// When a firewall is read and written.

func TestChangesAreGatheredForASecond(t *testing.T) {
	inWorld(t, func(w *world) {
		w.desire() // reads
		time.Sleep(10 * time.Second)
		began := time.Now()
		var names []string
		for i := range 9 {
			names = append(names, nameOf(i))
			w.desire(names...)
			time.Sleep(100 * time.Millisecond)
		}
		time.Sleep(time.Second)
		w.hasKept(names...)
		w.hasWritten(1)
		// After the second comes the reading, and then the write at once.
		if at := w.writes()[0].began.Sub(began); at != time.Second+latency {
			t.Errorf("it was written after %s", at)
		}
	})
}

func TestThereIsAtMostOneWriteInFiveSeconds(t *testing.T) {
	inWorld(t, func(w *world) {
		all := w.rules()
		for i := range 9 { // those that are removed by hand: that counts, too
			for _, rules := range desiredOf("gone", nameOf(i)).Rules {
				var rule map[string]any
				w.must(json.Unmarshal([]byte(rules[0].JSON()), &rule))
				all = append(all, rule)
			}
		}
		w.setRules(all)
		var names []string
		var removals sync.WaitGroup
		for i := range 60 {
			names = append(names, nameOf(100+i))
			w.desire(names...)
			if i%7 == 0 {
				removals.Go(func() {
					removed, err := w.keeper.Remove(context.Background(), w.vpc, func(s *ruleset.Stored) bool {
						return s.Marker.Key == ownership.Key{Scope: "gone", Name: nameOf(i / 7)}
					})
					if err != nil || len(removed) != 1 {
						t.Errorf("removed %d rules, %v", len(removed), err)
					}
				})
			}
			time.Sleep(time.Second)
		}
		removals.Wait()
		time.Sleep(10 * time.Second)
		w.hasKept(names...)
		writes := w.writes()
		if len(writes) < 12 {
			t.Errorf("%d writes in 70 seconds", len(writes))
		}
		for i, write := range writes[1:] {
			if after := write.began.Sub(writes[i].began); after < 5*time.Second {
				t.Errorf("a write came %s after another one", after)
			}
		}
	})
}

// However many callers there are: one request at a time, a reading just before each write, and one just
// after it. That two are never under way at once the rack itself says.
func TestThereIsOneWriterForAFirewallWhichReadsBeforeAndAfterEachWrite(t *testing.T) {
	inWorld(t, func(w *world) {
		w.keeper.Begin("cluster-2", time.Now())
		var callers sync.WaitGroup
		for i := range 20 {
			callers.Go(func() {
				time.Sleep(time.Duration(i) * 777 * time.Millisecond)
				w.desire(nameOf(i))
				d := map[string]ruleset.Desired{w.vpc: desiredOf("cluster-2", nameOf(i), nameOf(i+1))}
				w.keeper.Desire("cluster-2", d, time.Now())
				_, err := w.keeper.Read(context.Background(), w.vpc)
				w.must(err)
				_, err = w.keeper.Remove(context.Background(), w.vpc, func(s *ruleset.Stored) bool {
					return s.Marker.Key.Name == nameOf(i-1)
				})
				w.must(err)
				_, err = w.keeper.Fresh(context.Background(), w.vpc, time.Now())
				w.must(err)
			})
		}
		callers.Wait()
		time.Sleep(10 * time.Second)
		log, writes := w.log(), 0
		for i, r := range log {
			if r.method != http.MethodPut {
				continue
			}
			writes++
			reads := func(at int) bool { return at >= 0 && at < len(log) && log[at].method == http.MethodGet }
			if !reads(i-1) || !reads(i+1) {
				t.Fatalf("a write has no reading before or after it: %+v", log)
			}
			if between := r.began.Sub(log[i-1].ended); between != 0 {
				t.Errorf("%s are between a reading and the write", between)
			}
		}
		if writes < 3 {
			t.Errorf("%d writes", writes)
		}
		w.hasKept(nameOf(19), nameOf(19), nameOf(20))
	})
}

func TestWhatIsChangedAndChangedBackIsNotWritten(t *testing.T) {
	inWorld(t, func(w *world) {
		w.desire(nameOf(1))
		time.Sleep(10 * time.Second)
		w.hasWritten(1)
		for range 20 {
			w.desire(nameOf(1), nameOf(2))
			time.Sleep(900 * time.Millisecond)
			w.desire(nameOf(1))
			time.Sleep(time.Second)
		}
		w.hasWritten(1)
		w.hasKept(nameOf(1))
	})
}

// Asked all the time, it is read once a minute.
func TestAFirewallIsReadOnceAMinute(t *testing.T) {
	inWorld(t, func(w *world) {
		for range 600 {
			w.keeper.Get(w.vpc, time.Now())
			time.Sleep(time.Second)
		}
		if n := len(w.log()); n != 10 {
			t.Errorf("%d readings in ten minutes", n)
		}
		w.hasWritten(0)
	})
}

func TestWhatCannotBeReadIsReadAgain(t *testing.T) {
	inWorld(t, func(w *world) {
		w.handle(func(_ http.Handler, rw http.ResponseWriter, _ *http.Request) {
			rw.WriteHeader(http.StatusForbidden)
		})
		w.desire(nameOf(1))
		time.Sleep(10 * time.Second)
		if state := w.state(); state.Problem() == nil || !state.Known {
			t.Errorf("known: %t, %v", state.Known, state.Problem())
		}
		if _, err := w.keeper.Fresh(context.Background(), w.vpc, time.Now()); err == nil {
			t.Error("it is fresh")
		}
		w.hasWritten(0)
		w.heal()
		time.Sleep(31 * time.Second)
		w.state()
		time.Sleep(10 * time.Second)
		w.hasKept(nameOf(1))
		w.isSettled()
	})
}

// Whoever leads writes: a process without a session does not, whatever was left undone.
func TestWithoutASessionNothingIsWritten(t *testing.T) {
	inWorld(t, func(w *world) {
		w.spoil(func(n int) bool { return n <= 2 }, true, http.StatusInternalServerError)
		w.desire(nameOf(1))
		time.Sleep(3 * time.Second)
		w.hasWritten(1)
		w.keeper.End(scope, time.Now())
		time.Sleep(time.Hour)
		w.hasWritten(1)
		// The next session finds that the rules may not be in force everywhere.
		w.keeper.Begin(scope, time.Now())
		time.Sleep(time.Minute)
		w.hasWritten(3)
		time.Sleep(time.Hour)
		w.hasWritten(3)
		w.hasKept(nameOf(1))
	})
}

func TestOnceStoppedNoRequestBegins(t *testing.T) {
	inWorld(t, func(w *world) {
		w.desire(nameOf(1))
		time.Sleep(time.Second + latency/2) // while it is read
		stopped := make(chan struct{})
		go func() {
			defer close(stopped)
			w.keeper.Stop(context.Background())
		}()
		<-stopped
		before := len(w.log())
		w.desire(nameOf(1), nameOf(2))
		if _, err := w.keeper.Read(context.Background(), w.vpc); !errors.Is(err, rules.ErrStopped) {
			t.Errorf("it reads: %v", err)
		}
		time.Sleep(time.Hour)
		if n := len(w.log()); n != before {
			t.Errorf("%d requests after it was stopped", n-before)
		}
		w.hasWritten(0)
	})
}

// A caller that has gone is not answered, and what it asked for is not done.
func TestWhoHasGoneRemovesNothing(t *testing.T) {
	inWorld(t, func(w *world) {
		w.desire(nameOf(1))
		time.Sleep(3 * time.Second)
		w.desire() // so that it may go
		w.keeper.Desire(scope, nil, time.Now())
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_, err := w.keeper.Remove(ctx, w.vpc, everything)
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("within five seconds of a write: %v", err)
		}
		time.Sleep(time.Minute)
		w.hasKept(nameOf(1))
		w.hasWritten(1)
		removed, err := w.keeper.Remove(context.Background(), w.vpc, everything)
		if err != nil || len(removed) != 1 {
			t.Errorf("removed %+v, %v", removed, err)
		}
		w.hasKept()
	})
}

// What is desired by the time of the write is not removed.
func TestWhatIsDesiredMeanwhileIsNotRemoved(t *testing.T) {
	inWorld(t, func(w *world) {
		w.desire(nameOf(1))
		time.Sleep(3 * time.Second)
		w.keeper.Desire(scope, nil, time.Now())
		go func() {
			time.Sleep(time.Second)
			w.desire(nameOf(1))
		}()
		removed, err := w.keeper.Remove(context.Background(), w.vpc, everything)
		if err != nil || len(removed) > 0 {
			t.Errorf("removed %+v, %v", removed, err)
		}
		w.hasKept(nameOf(1))
		w.hasWritten(1)
		if n := w.metric("oxide_backend_firewall_rules"); n != 1 {
			t.Errorf("%v rules are held", n)
		}
	})
}

// Two clusters desire rules of one firewall: both have theirs, in one write.
func TestTwoClustersShareAWrite(t *testing.T) {
	inWorld(t, func(w *world) {
		w.desire(nameOf(1))
		w.keeper.Begin("cluster-2", time.Now())
		other := map[string]ruleset.Desired{w.vpc: desiredOf("cluster-2", nameOf(2))}
		w.keeper.Desire("cluster-2", other, time.Now())
		time.Sleep(3 * time.Second)
		w.hasKept(nameOf(1), nameOf(2))
		w.hasWritten(1)
		w.keeper.End("cluster-2", time.Now())
		w.desire()
		time.Sleep(time.Minute)
		w.hasKept(nameOf(1), nameOf(2)) // of a load balancer that is not mentioned the rules stay
		d := desired()
		d.Rules[nameOf(1)] = nil
		w.desireAll(d)
		time.Sleep(time.Minute)
		w.hasKept(nameOf(2))
		if key := (ownership.Key{Scope: scope, Name: nameOf(1)}); w.state().Differs[key] {
			t.Error("it differs")
		}
	})
}
