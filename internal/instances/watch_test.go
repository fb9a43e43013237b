// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package instances_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/instances"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/oxide"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/oxidesim"
)

// watcher is somebody who watches, and notes what it is told.
type watcher struct {
	cancel context.CancelFunc
	done   chan struct{}
	gate   chan struct{} // if set, each event waits for it

	mu     sync.Mutex
	events []string
	lags   []time.Duration
	err    error
}

func (w *world) watch(gate chan struct{}) *watcher {
	ctx, cancel := context.WithCancel(w.t.Context())
	v := &watcher{cancel: cancel, done: make(chan struct{}), gate: gate}
	go func() {
		defer close(v.done)
		v.err = w.inventory.Watch(ctx, false, v.note, func(d time.Duration) {
			v.mu.Lock()
			defer v.mu.Unlock()
			v.lags = append(v.lags, d)
		})
	}()
	return v
}

func (v *watcher) note(e instances.Event) error {
	if v.gate != nil {
		<-v.gate
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	switch {
	case e.Instance != nil:
		v.events = append(v.events, e.Instance.Name+" "+e.Instance.RunState)
	case e.NoLongerListed != "":
		v.events = append(v.events, "gone "+e.NoLongerListed)
	default:
		v.events = append(v.events, fmt.Sprint("complete ", time.Since(e.Complete)))
	}
	return nil
}

// take returns what came since it was last asked, the snapshot sorted.
func (v *watcher) take() string {
	synctest.Wait()
	v.mu.Lock()
	defer v.mu.Unlock()
	events := v.events
	v.events = nil
	if i := slices.IndexFunc(events, func(e string) bool {
		return strings.HasPrefix(e, "complete")
	}); i > 0 {
		slices.Sort(events[:i])
	}
	return strings.Join(events, ", ")
}

func (v *watcher) want(t *testing.T, want string) {
	t.Helper()
	if got := v.take(); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

// end ends watching and waits for it.
func (v *watcher) end(t *testing.T) {
	t.Helper()
	v.cancel()
	<-v.done
	if !oxide.IsKind(v.err, oxide.KindEnded) || !errors.Is(v.err, context.Canceled) {
		t.Errorf("ended with %v", v.err)
	}
}

func TestWatchGivesASnapshotAMarkerAndThenChanges(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.addNodes(2)
		v := w.watch(nil)
		defer v.end(t)
		v.want(t, "node-0 running, node-1 running, complete 0s")
		time.Sleep(time.Minute)
		v.want(t, "")

		w.must(w.rack.SetRunState("node-0", oxide.RunStateStopped))
		time.Sleep(5 * time.Second)
		v.want(t, "node-0 stopped")

		added := w.node("node-2")
		time.Sleep(5 * time.Second)
		v.want(t, "node-2 running")

		w.must(w.rack.RemoveInstance("node-2"))
		time.Sleep(5 * time.Second)
		v.want(t, "gone "+added.ID)
	})
}

func TestWatchOfAnEmptyProjectHasAMarker(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		v := w.watch(nil)
		defer v.end(t)
		v.want(t, "complete 0s")
		w.node("node-1")
		time.Sleep(5 * time.Second)
		v.want(t, "node-1 running")
	})
}

func TestWatchShowsAddresses(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		node := w.add(ourProject, oxidesim.InstanceSeed{Name: "node-1", NIC: "v4", Ephemeral: true})
		var last atomic.Pointer[instances.Instance]
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			_ = w.inventory.Watch(ctx, false, func(e instances.Event) error {
				if e.Instance != nil {
					last.Store(e.Instance)
				}
				return nil
			}, func(time.Duration) {})
		}()
		want := func(when string, external int, known bool) {
			t.Helper()
			synctest.Wait()
			if got := last.Load(); len(got.Interfaces) != 1 || len(got.ExternalIPs) != external ||
				got.EphemeralKnown != known {
				t.Errorf("%s: %+v", when, got)
			}
		}
		want("at first, when it is not known whether there are ephemeral ones", 0, false)
		w.findAll([]string{node.ID}) // which reads the ephemeral address
		time.Sleep(5 * time.Second)
		want("once they are known", 1, true)
		_, err := w.rack.AddFloatingIP(ourProject, oxidesim.FloatingIPSeed{
			Name: "web", Instance: "node-1",
		})
		w.must(err)
		time.Sleep(5*time.Minute + 5*time.Second)
		want("with a floating IP", 2, true)
		time.Sleep(6*time.Hour + 5*time.Second)
		want("once they should be read again", 2, false)
		cancel()
		<-done
	})
}

func TestLateWatcherGetsASnapshotOfNow(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.addNodes(1)
		first := w.watch(nil)
		defer first.end(t)
		time.Sleep(time.Hour + 2*time.Second)
		late := w.watch(nil)
		defer late.end(t)
		late.want(t, "node-0 running, complete 2s")
		if lag := late.lags[0]; lag > 4*time.Second {
			t.Errorf("its facts are said to be %v old", lag)
		}
	})
}

func TestSlowWatcherBlocksNobodyAndSeesTheLastState(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.addNodes(1)
		gate := make(chan struct{})
		slow, quick := w.watch(gate), w.watch(nil)
		defer quick.end(t)
		quick.want(t, "node-0 running, complete 0s")
		for range 5 {
			for _, state := range []string{oxide.RunStateStopped, oxide.RunStateFailed} {
				w.must(w.rack.SetRunState("node-0", state))
				time.Sleep(5 * time.Second)
				quick.want(t, "node-0 "+state)
			}
		}
		slow.want(t, "")
		close(gate)
		slow.want(t, "node-0 running, complete 50s, node-0 failed")
		if last := slow.lags[len(slow.lags)-1]; last > 5*time.Second {
			t.Errorf("its last lag is %v", last)
		}
		slow.end(t)
	})
}

// All watchers cost one list every four seconds, and nothing is asked when nobody watches.
func TestWatchersShareOneLoopThatEndsWithThem(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.addNodes(20)
		var watchers []*watcher
		for range 50 {
			watchers = append(watchers, w.watch(nil))
		}
		time.Sleep(2 * time.Second) // so that this always looks on between two lists
		w.requests()
		time.Sleep(5 * time.Minute)
		got := w.requests()
		if n := got["instance_list"]; n != 75 {
			t.Errorf("%d lists in five minutes, want one every 4 s", n)
		}
		delete(got, "instance_list")
		for operation, n := range got {
			if n > 1 {
				t.Errorf("%s: %d in five minutes", operation, n)
			}
		}
		for _, v := range watchers[1:] {
			v.end(t)
		}
		w.requests()
		time.Sleep(time.Minute)
		if n := w.requests()["instance_list"]; n != 15 {
			t.Errorf("%d lists in a minute for the last watcher, want one every 4 s", n)
		}
		watchers[0].end(t)
		time.Sleep(time.Minute)
		w.wantRequests("nobody watches", map[string]int{})

		again := w.watch(nil)
		defer again.end(t)
		if got := again.take(); strings.Count(got, "running") != 20 {
			t.Errorf("a new watcher got %s", got)
		}
	})
}

func TestWatchLooksEverySecondWhileSomethingIsInTransition(t *testing.T) {
	for state, want := range map[string]int{
		oxide.RunStateCreating: 60, oxide.RunStateStarting: 60, oxide.RunStateStopping: 60,
		oxide.RunStateRebooting: 60, oxide.RunStateMigrating: 60, oxide.RunStateRepairing: 60,
		oxide.RunStateRunning: 15, oxide.RunStateStopped: 15, oxide.RunStateFailed: 15,
		"hibernating": 15,
	} {
		t.Run(state, func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				w.addNodes(3)
				w.rewrite("/v1/instances", `"run_state":"running"`, `"run_state":"`+state+`"`)
				v := w.watch(nil)
				defer v.end(t)
				synctest.Wait()
				w.requests()
				time.Sleep(time.Minute + time.Millisecond)
				if n := w.requests()["instance_list"]; n != want {
					t.Errorf("%d lists in a minute, want %d", n, want)
				}
			})
		})
	}
}

func TestWatchTriesAgainSoonAfterALookThatFailed(t *testing.T) {
	for name, tc := range map[string]struct {
		known    bool
		failures int
		want     time.Duration
	}{
		"the first look, once":   {false, 1, time.Second},
		"the first look, thrice": {false, 3, 7 * time.Second},
		"the first look, often":  {false, 6, 19 * time.Second},
		"a later look, once":     {true, 1, 5 * time.Second},
		"a later look, often":    {true, 6, 23 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				w.addNodes(1)
				fail := func() {
					w.fault(oxidesim.Fault{Operation: "instance_list", Status: 500, Times: tc.failures})
				}
				if !tc.known {
					fail()
				}
				began := time.Now()
				v := w.watch(nil)
				defer v.end(t)
				if tc.known {
					v.want(t, "node-0 running, complete 0s")
					w.must(w.rack.SetRunState("node-0", oxide.RunStateStopped))
					fail()
				}
				for v.take() == "" {
					time.Sleep(time.Second)
				}
				if took := time.Since(began).Round(time.Second); took != tc.want {
					t.Errorf("known after %v, want %v", took, tc.want)
				}
			})
		})
	}
}

func TestWatchEndsAfterAMinuteWithoutOxide(t *testing.T) {
	for name, tc := range map[string]struct {
		fail func(*world)
		kind oxide.Kind
	}{
		"it refuses": {func(w *world) {
			w.fault(oxidesim.Fault{Status: 503})
		}, oxide.KindUnavailable},
		"it does not answer": {func(w *world) {
			w.handle(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
		}, oxide.KindUnavailable},
		"the role is revoked": {func(w *world) {
			w.must(w.rack.SetSiloRole("demo", "none"))
		}, oxide.KindProjectNotFound},
		"the token has expired": {func(w *world) {
			w.rack.RevokeToken(oxidesim.DefaultToken)
		}, oxide.KindUnauthorized},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				logged := w.log()
				w.addNodes(2)
				first, second := w.watch(nil), w.watch(nil)
				first.want(t, "node-0 running, node-1 running, complete 0s")
				tc.fail(w)
				start := time.Now()
				<-first.done
				<-second.done
				for _, v := range []*watcher{first, second} {
					wantError(t, v.err, tc.kind)
				}
				if took := time.Since(start); took < 50*time.Second || took > 65*time.Second {
					t.Errorf("ended after %v", took)
				}
				first.want(t, "") // and lost nothing
				if n := strings.Count(logged.String(), "cannot look"); n > 1 {
					t.Errorf("said %d times:\n%s", n, logged)
				}
				w.requests()
				time.Sleep(time.Minute)
				w.wantRequests("once it has ended", map[string]int{})
			})
		})
	}
}

func TestWatchOutlivesAShortOutage(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.addNodes(1)
		v := w.watch(nil)
		defer v.end(t)
		v.want(t, "node-0 running, complete 0s")
		for range 3 {
			w.fault(oxidesim.Fault{Status: 503})
			time.Sleep(40 * time.Second)
			w.rack.ClearFaults()
			time.Sleep(40 * time.Second)
		}
		v.want(t, "")
		w.must(w.rack.SetRunState("node-0", oxide.RunStateStopped))
		time.Sleep(5 * time.Second)
		v.want(t, "node-0 stopped")
	})
}

// A watcher that hangs in a call of its own must not keep the others out for ever.
func TestWatchBeginsAnewAfterAnErrorThatSomebodyHasNotSeen(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.addNodes(1)
		gate := make(chan struct{})
		hangs := w.watch(gate)
		synctest.Wait()
		w.fault(oxidesim.Fault{Status: 503})
		time.Sleep(2 * time.Minute)
		w.rack.ClearFaults()
		next := w.watch(nil)
		defer next.end(t)
		next.want(t, "node-0 running, complete 0s")
		close(gate)
		<-hangs.done
		wantError(t, hangs.err, oxide.KindUnavailable)
	})
}

func TestWatchEndsWithTheErrorOfItsReceiver(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.addNodes(2)
		broken := errors.New("broken")
		err := w.inventory.Watch(t.Context(), false,
			func(instances.Event) error { return broken },
			func(time.Duration) { t.Error("nothing was sent") })
		if !errors.Is(err, broken) {
			t.Errorf("got %v", err)
		}
	})
}

func TestWatchShowsTheRunStateOfAnInstanceWithAnUnknownInterface(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.addNodes(2)
		w.rewrite("/network-interfaces", `"type":"v4"`, `"type":"v8"`)
		v := w.watch(nil)
		defer v.end(t)
		v.want(t, "node-0 running, node-1 running, complete 0s")
	})
}
