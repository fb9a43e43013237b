// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package health

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/plan"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/oxide"
)

// fleet is some candidates, as a client observes them and Oxide shows them.
type fleet struct {
	evaluator    Evaluator
	now          time.Time
	observations map[string]*Observation
	instances    map[string]Instance
	next         time.Time
}

func id(i int) string { return fmt.Sprintf("i-%d", i) }

// newFleet has n candidates that have been ready for long, on instances that run.
func newFleet(n int) *fleet {
	f := &fleet{
		now:          time.Date(2026, 5, 4, 3, 2, 1, 0, time.UTC),
		observations: make(map[string]*Observation), instances: make(map[string]Instance),
	}
	for i := range n {
		f.oxide(oxide.RunStateRunning, i)
	}
	f.client(Ready, all(n)...)
	return f
}

func all(n int) []int {
	indexes := make([]int, n)
	for i := range indexes {
		indexes[i] = i
	}
	return indexes
}

// client has the client observe this readiness from now on.
func (f *fleet) client(readiness Readiness, which ...int) {
	for _, i := range which {
		f.observe(i, func(o *Observation) { o.Readiness = readiness })
	}
}

// observe has the client send a further item about a candidate.
func (f *fleet) observe(i int, change func(*Observation)) {
	o := Observation{InstanceID: id(i)}
	if before := f.observations[id(i)]; before != nil {
		o = *before
	}
	o.ReceivedAt = f.now
	change(&o)
	f.observations[id(i)] = &o
}

// What a client observes of a candidate that it probes.
func unreachable(o *Observation) { o.Unreachable, o.InDoubt = true, false }
func inDoubt(o *Observation)     { o.Unreachable, o.InDoubt = true, true }
func reachable(o *Observation)   { o.Unreachable, o.InDoubt = false, false }

// oxide has Oxide show this run state.
func (f *fleet) oxide(runState string, i int) { f.instances[id(i)] = Instance{RunState: runState} }

func (f *fleet) evaluate() map[string]Health {
	healths, next := f.evaluator.Evaluate(f.now, f.observations,
		func(id string) Instance { return f.instances[id] })
	f.next = next
	return healths
}

// words are the healths in a word each: "h", "s", "d", "l" or "u", and "+" behind one that is suspended
// by a mass failure, or "?" by probes in doubt.
func (f *fleet) words() string {
	healths := f.evaluate()
	words := make([]string, len(healths))
	for i := range words {
		h := healths[id(i)]
		words[i] = map[plan.Health]string{
			plan.Healthy: "h", plan.Suspect: "s", plan.Draining: "d",
			plan.Leaving: "l", plan.Unhealthy: "u",
		}[h.Health]
		words[i] += map[Suspension]string{MassFailure: "+", ProbesInDoubt: "?"}[h.Suspended]
	}
	return strings.Join(words, " ")
}

func TestCandidatesAreEvaluatedWithDamping(t *testing.T) {
	type step struct {
		wait time.Duration
		do   func(*fleet)
		want string
	}
	for _, tt := range []struct {
		name  string
		nodes int
		steps []step
	}{
		{"all is well", 3, []step{{want: "h h h"}}},
		{"a silent one counts at once", 3, []step{
			{do: func(f *fleet) { f.client(Unknown, 0) }, want: "u h h"},
		}},
		{"so does one that does not answer the client's probe, while its lease is overdue", 3, []step{
			{do: func(f *fleet) { f.observe(0, unreachable) }, want: "u h h"},
		}},
		{"it is healthy at once when it answers again", 3, []step{
			{do: func(f *fleet) { f.observe(0, unreachable) }, want: "u h h"},
			{wait: 5 * time.Second, do: func(f *fleet) { f.observe(0, reachable) }, want: "h h h"},
			{wait: 5 * time.Second, do: func(f *fleet) { f.observe(0, unreachable) }, want: "u h h"},
		}},
		{"nothing follows from probes in doubt, for as long as they are", 3, []step{
			{do: func(f *fleet) {
				f.observe(0, inDoubt)
				f.observe(1, inDoubt)
			}, want: "s? s? h"},
			{wait: time.Hour, want: "s? s? h"},
			{do: func(f *fleet) { f.observe(1, reachable) }, want: "s? h h"},
			{do: func(f *fleet) { f.observe(0, unreachable) }, want: "u h h"},
		}},
		{"what the control plane says counts although probes are in doubt", 5, []step{
			{do: func(f *fleet) {
				f.observe(0, inDoubt)
				f.client(Unknown, 0)
				f.observe(1, inDoubt)
				f.client(NotReady, 1)
			}, want: "u s h h h"},
			{wait: 20 * time.Second, want: "u u h h h"},
		}},
		{"so does what Oxide shows", 3, []step{
			{do: func(f *fleet) {
				f.observe(0, inDoubt)
				f.oxide(oxide.RunStateStopped, 0)
			}, want: "u h h"},
		}},
		{"probes in doubt are no mass failure of nodes", 3, []step{
			{do: func(f *fleet) {
				for i := range 3 {
					f.observe(i, inDoubt)
				}
			}, want: "s? s? s?"},
			{wait: 2 * time.Minute, do: func(f *fleet) { f.client(Unknown, 0) }, want: "u s? s?"},
		}},
		{"more than half that do not answer suspend failover as more than half that are silent", 4, []step{
			{do: func(f *fleet) {
				for i := range 3 {
					f.observe(i, unreachable)
				}
			}, want: "s+ s+ s+ h"},
			{wait: 119 * time.Second, want: "s+ s+ s+ h"},
			{wait: time.Second, want: "u u u h"},
		}},
		{"who says that it is not ready has 20 s", 3, []step{
			{do: func(f *fleet) { f.client(NotReady, 0) }, want: "s h h"},
			{wait: 19 * time.Second, want: "s h h"},
			{wait: time.Second, want: "u h h"},
			{do: func(f *fleet) { f.client(Ready, 0) }, want: "h h h"},
			{do: func(f *fleet) { f.client(NotReady, 0) }, want: "s h h"},
		}},
		{"of which the client has observed some", 3, []step{
			{do: func(f *fleet) {
				f.observe(0, func(o *Observation) {
					o.Readiness, o.ReadinessFor = NotReady, 15*time.Second
				})
			}, want: "s h h"},
			{wait: 4 * time.Second, want: "s h h"},
			{wait: time.Second, want: "u h h"},
		}},
		{"a client that does not say for how long restarts nothing with a further item", 3, []step{
			{do: func(f *fleet) { f.client(NotReady, 0) }, want: "s h h"},
			{wait: 10 * time.Second, do: func(f *fleet) { f.client(NotReady, 0) }, want: "s h h"},
			{wait: 10 * time.Second, do: func(f *fleet) { f.client(NotReady, 0) }, want: "u h h"},
		}},
		{"an instance that is stopped counts at once, whatever the client observes", 3, []step{
			{do: func(f *fleet) { f.oxide(oxide.RunStateStopping, 0) }, want: "s h h"},
			{do: func(f *fleet) { f.oxide(oxide.RunStateStopped, 0) }, want: "u h h"},
			{do: func(f *fleet) { f.oxide(oxide.RunStateStarting, 0) }, want: "s h h"},
			{do: func(f *fleet) { f.oxide(oxide.RunStateRunning, 0) }, want: "h h h"},
		}},
		{"in a transition nothing comes and nothing leaves, whatever the client observes", 3, []step{
			{do: func(f *fleet) {
				f.oxide(oxide.RunStateRebooting, 0)
				f.client(Unknown, 0)
				f.oxide(oxide.RunStateMigrating, 1)
				f.client(NotReady, 1)
			}, want: "s s h"},
			{wait: time.Hour, want: "s s h"},
		}},
		{"what is destroyed is in doubt until it is stopped or gone", 3, []step{
			{do: func(f *fleet) { f.oxide(oxide.RunStateDestroyed, 0) }, want: "s h h"},
			{wait: time.Hour, want: "s h h"},
			{do: func(f *fleet) { f.instances[id(0)] = Instance{Gone: true} }, want: "u h h"},
		}},
		{"one that has failed counts at once, and so do all that are gone", 3, []step{
			{do: func(f *fleet) { f.oxide(oxide.RunStateFailed, 1) }, want: "h u h"},
			{do: func(f *fleet) {
				for i := range 3 {
					f.instances[id(i)] = Instance{Gone: true}
				}
			}, want: "u u u"},
		}},
		{"as long as instances are not known nothing is concluded from it", 2, []step{
			{do: func(f *fleet) { clear(f.instances) }, want: "h h"},
			{do: func(f *fleet) { f.client(Unknown, 0) }, want: "u h"},
		}},
		{"a run state that is not known counts as running", 2, []step{
			{do: func(f *fleet) { f.oxide("dreaming", 0) }, want: "h h"},
		}},
		{"an excluded one is unhealthy at once", 2, []step{
			{do: func(f *fleet) {
				f.observe(0, func(o *Observation) { o.Exclusion = "has a label" })
			}, want: "u h"},
		}},
		{"half of them are not more than half", 4, []step{
			{do: func(f *fleet) { f.client(Unknown, 0, 1) }, want: "u u h h"},
		}},
		{"more than half at once: suspended, for two minutes", 4, []step{
			{do: func(f *fleet) { f.client(Unknown, 0, 1, 2) }, want: "s+ s+ s+ h"},
			{wait: 119 * time.Second, want: "s+ s+ s+ h"},
			{wait: time.Second, want: "u u u h"},
			{wait: time.Hour, want: "u u u h"},
		}},
		{"whichever way they turn", 4, []step{
			{do: func(f *fleet) {
				f.client(Unknown, 0)
				f.client(NotReady, 1)
				f.observe(2, unreachable)
			}, want: "s+ s+ s+ h"},
			{wait: 30 * time.Second, do: func(f *fleet) { f.client(Unknown, 1) }, want: "s+ s+ s+ h"},
			{wait: 90 * time.Second, want: "u u u h"},
		}},
		{"more than half within a minute, one after the other", 4, []step{
			{do: func(f *fleet) { f.client(Unknown, 0) }, want: "u h h h"},
			{wait: 30 * time.Second, do: func(f *fleet) { f.client(Unknown, 1) }, want: "u u h h"},
			{wait: 20 * time.Second, do: func(f *fleet) { f.client(Unknown, 2) }, want: "s+ s+ s+ h"},
		}},
		{"more than half over a longer time is not at once", 4, []step{
			{do: func(f *fleet) { f.client(Unknown, 0) }, want: "u h h h"},
			{wait: 61 * time.Second, do: func(f *fleet) { f.client(Unknown, 1) }, want: "u u h h"},
			{wait: 61 * time.Second, do: func(f *fleet) { f.client(Unknown, 2) }, want: "u u u h"},
		}},
		{"silence after NotReady is no further turn", 4, []step{
			{do: func(f *fleet) { f.client(NotReady, 0, 1) }, want: "s s h h"},
			{wait: 2 * time.Minute, do: func(f *fleet) { f.client(Unknown, 0, 1, 2) }, want: "u u u h"},
		}},
		{"the suspension ends when enough have recovered", 4, []step{
			{do: func(f *fleet) { f.client(Unknown, 0, 1, 2) }, want: "s+ s+ s+ h"},
			{wait: 10 * time.Second, do: func(f *fleet) { f.client(Ready, 1, 2) }, want: "u h h h"},
		}},
		{"what Oxide shows as stopped never counts and never waits", 4, []step{
			{do: func(f *fleet) {
				f.client(Unknown, 0, 1, 2)
				f.oxide(oxide.RunStateStopped, 0)
				f.oxide(oxide.RunStateStopped, 1)
			}, want: "u u u h"},
		}},
		{"a stopped one does not wait in the middle of a suspension", 4, []step{
			{do: func(f *fleet) { f.client(Unknown, 0, 1, 2) }, want: "s+ s+ s+ h"},
			{do: func(f *fleet) { f.oxide(oxide.RunStateStopped, 0) }, want: "u u u h"},
		}},
		{"nor does one that is gone, excluded, or out of service", 5, []step{
			{do: func(f *fleet) {
				f.client(Unknown, 0, 1, 2, 3)
				f.instances[id(0)] = Instance{Gone: true}
				f.observe(1, func(o *Observation) { o.Exclusion = "has a label" })
				f.observe(2, func(o *Observation) { o.OutOfService = "has a taint" })
			}, want: "u u u u h"},
		}},
		{"nor does one that is shutting down", 3, []step{
			{do: func(f *fleet) {
				f.client(NotReady, 0, 1, 2)
				f.observe(0, func(o *Observation) { o.ShuttingDown = true })
				f.observe(1, func(o *Observation) { o.ShuttingDown = true })
			}, want: "l l s"},
		}},
		{"nor does one that stops answering while it shuts down", 3, []step{
			{do: func(f *fleet) {
				for i := range 2 {
					f.observe(i, func(o *Observation) {
						o.Readiness, o.ShuttingDown, o.Unreachable = NotReady, true, true
					})
				}
			}, want: "u u h"},
		}},
		{"excluded ones are not among those that others are compared with", 4, []step{
			{do: func(f *fleet) {
				f.observe(3, func(o *Observation) { o.Exclusion = "has a label" })
				f.client(Unknown, 0, 1)
			}, want: "s+ s+ h u"},
		}},
		{"of two one may fail", 2, []step{
			{do: func(f *fleet) { f.client(Unknown, 0) }, want: "u h"},
		}},
		{"the only one waits", 1, []step{
			{do: func(f *fleet) { f.client(Unknown, 0) }, want: "s+"},
			{wait: 2 * time.Minute, want: "u"},
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := newFleet(tt.nodes)
			f.evaluate()
			f.now = f.now.Add(time.Hour)
			var got, want []string
			for _, s := range tt.steps {
				f.now = f.now.Add(s.wait)
				if s.do != nil {
					s.do(f)
				}
				got, want = append(got, f.words()), append(want, s.want)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("healths (-want +got):\n%s", diff)
			}
		})
	}
}

// Who was not ready before anybody was asked may have turned just now, whatever the client says.
func TestNotReadyInTheFirstEvaluationCountsAsTurnedWithinTheMinute(t *testing.T) {
	f := newFleet(4)
	for i := range 3 {
		f.observe(i, func(o *Observation) { o.Readiness, o.ReadinessFor = Unknown, time.Hour })
	}
	if got := f.words(); got != "s+ s+ s+ h" {
		t.Errorf("at first: %s", got)
	}
	f.now = f.now.Add(2 * time.Minute)
	if got := f.words(); got != "u u u h" {
		t.Errorf("two minutes later: %s", got)
	}
}

// Every rule, with all that follows from it.
func TestWhatFollowsFromEachObservation(t *testing.T) {
	observed := func(change func(*Observation)) func(*fleet) {
		return func(f *fleet) { f.observe(0, change) }
	}
	shown := func(state string) func(*fleet) {
		return func(f *fleet) { f.oxide(state, 0) }
	}
	for _, tt := range []struct {
		name string
		do   func(*fleet)
		want Health
	}{
		{"healthy", func(*fleet) {}, Health{}},
		{"a cordon that nobody observed", observed(func(o *Observation) { o.Cordoned = true }),
			Health{}},
		{"a cordon that was observed", observed(func(o *Observation) {
			o.Cordoned, o.CordonObserved = true, true
		}), Health{Health: plan.Draining, Why: "was cordoned", Planned: true}},
		{"a cordon and silence", observed(func(o *Observation) {
			o.Cordoned, o.CordonObserved, o.Readiness = true, true, Unknown
		}), Health{
			Health: plan.Unhealthy, Why: "is not Ready: it is silent", ServesNothing: true,
		}},
		{"uncordoned", observed(func(o *Observation) { o.CordonObserved = true }), Health{}},
		{"out of service", observed(func(o *Observation) { o.OutOfService = "has a taint" }),
			Health{Health: plan.Leaving, Why: "has a taint", Planned: true}},
		{"out of service and not ready", observed(func(o *Observation) {
			o.OutOfService, o.Readiness = "has a taint", NotReady
		}), Health{Health: plan.Unhealthy, Why: "has a taint", ServesNothing: true}},
		{"out of service and unreachable", observed(func(o *Observation) {
			o.OutOfService, o.Unreachable = "has a taint", true
		}), Health{Health: plan.Unhealthy, Why: "has a taint", ServesNothing: true}},
		{"shutting down", observed(func(o *Observation) {
			o.Readiness, o.ShuttingDown = NotReady, true
		}), Health{Health: plan.Leaving, Why: "is shutting down", Planned: true}},
		{"unreachable", observed(unreachable), Health{
			Health: plan.Unhealthy, Why: "does not answer, and its other sign of life is overdue",
			ServesNothing: true, MayRecover: true,
		}},
		{"unreachable and silent", observed(func(o *Observation) {
			o.Unreachable, o.Readiness = true, Unknown
		}), Health{
			Health: plan.Unhealthy, Why: "is not Ready: it is silent", ServesNothing: true,
		}},
		{"it has ceased to answer", observed(func(o *Observation) { o.Silent = true }),
			Health{Health: plan.Suspect, Why: "does not answer"}},
		{"it has ceased to answer, and is excluded", observed(func(o *Observation) {
			o.Silent, o.Exclusion = true, "has a label"
		}), Health{Health: plan.Unhealthy, Why: "has a label"}},
		{"unreachable in doubt", observed(inDoubt), Health{
			Health: plan.Suspect, Why: "does not answer, and its other sign of life is overdue",
			Suspended: ProbesInDoubt,
		}},
		{"cordoned, and unreachable in doubt", observed(func(o *Observation) {
			o.Cordoned, o.CordonObserved, o.Unreachable, o.InDoubt = true, true, true, true
		}), Health{
			Health: plan.Suspect, Why: "does not answer, and its other sign of life is overdue",
			Suspended: ProbesInDoubt,
		}},
		{"out of service, and unreachable in doubt", observed(func(o *Observation) {
			o.OutOfService, o.Unreachable, o.InDoubt = "has a taint", true, true
		}), Health{Health: plan.Leaving, Why: "has a taint", Planned: true}},
		{"excluded, and unreachable in doubt", observed(func(o *Observation) {
			o.Exclusion, o.Unreachable, o.InDoubt = "has a label", true, true
		}), Health{Health: plan.Unhealthy, Why: "has a label"}},
		{"in doubt although it answers", observed(func(o *Observation) { o.InDoubt = true }), Health{}},
		{"not ready for a moment", observed(func(o *Observation) { o.Readiness = NotReady }),
			Health{Health: plan.Suspect, Why: "is not Ready", ServesNothing: true}},
		{"excluded and ready", observed(func(o *Observation) { o.Exclusion = "has a label" }),
			Health{Health: plan.Unhealthy, Why: "has a label"}},
		{"excluded and silent", observed(func(o *Observation) {
			o.Exclusion, o.Readiness = "has a label", Unknown
		}), Health{Health: plan.Unhealthy, Why: "has a label", ServesNothing: true}},
		{"excluded and unreachable", observed(func(o *Observation) {
			o.Exclusion, o.Unreachable = "has a label", true
		}), Health{Health: plan.Unhealthy, Why: "has a label", ServesNothing: true}},
		{"excluded and stopped", func(f *fleet) {
			f.oxide(oxide.RunStateStopped, 0)
			f.observe(0, func(o *Observation) { o.Exclusion = "has a label" })
		}, Health{Health: plan.Unhealthy, Why: "has a label", ServesNothing: true, Off: true}},
		{"gone", func(f *fleet) { f.instances[id(0)] = Instance{Gone: true} }, Health{
			Health: plan.Unhealthy, Why: "has an instance that does not exist", ServesNothing: true,
			Off: true,
		}},
		{"stopped", shown(oxide.RunStateStopped), Health{
			Health: plan.Unhealthy, Why: "has an instance that is stopped", ServesNothing: true,
			Off: true,
		}},
		{"failed", shown(oxide.RunStateFailed), Health{
			Health: plan.Unhealthy, Why: "has an instance that is failed", ServesNothing: true,
		}},
		{"stopping", shown(oxide.RunStateStopping), Health{
			Health: plan.Suspect, Why: "has an instance that is stopping", PlanNext: true,
		}},
		{"destroyed", shown(oxide.RunStateDestroyed), Health{
			Health: plan.Suspect, Why: "has an instance that is destroyed", PlanNext: true,
		}},
		{"creating", shown(oxide.RunStateCreating), Health{
			Health: plan.Suspect, Why: "has an instance that is creating",
		}},
		{"repairing", shown(oxide.RunStateRepairing), Health{
			Health: plan.Suspect, Why: "has an instance that is repairing",
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := newFleet(3)
			f.evaluate()
			f.now = f.now.Add(time.Hour)
			tt.do(f)
			want := tt.want
			if want.Why != "" {
				want.Since = f.now
			}
			if diff := cmp.Diff(want, f.evaluate()[id(0)]); diff != "" {
				t.Errorf("health (-want +got):\n%s", diff)
			}
		})
	}
}

func TestSinceIsWhenTheCauseWasFirstObserved(t *testing.T) {
	f := newFleet(3)
	f.evaluate()
	start := f.now
	since := func(want time.Time) {
		t.Helper()
		if got := f.evaluate()[id(0)].Since; !got.Equal(want) {
			t.Errorf("since %s, want %s", got.Sub(start), want.Sub(start))
		}
	}
	f.now = start.Add(time.Minute)
	f.observe(0, func(o *Observation) { o.Readiness, o.ReadinessFor = NotReady, 10*time.Second })
	f.now = f.now.Add(5 * time.Second)
	since(start.Add(50 * time.Second))
	f.now = f.now.Add(time.Hour)
	since(start.Add(50 * time.Second))
	// Another cause.
	f.oxide(oxide.RunStateStopping, 0)
	since(f.now)
	f.now = f.now.Add(time.Second)
	since(f.now.Add(-time.Second))
	// The client's own probes, and whether they are in doubt.
	f.oxide(oxide.RunStateRunning, 0)
	f.client(Ready, 0)
	for _, probed := range []func(*Observation){inDoubt, unreachable} {
		f.observe(0, func(o *Observation) { probed(o); o.UnreachableFor = 7 * time.Second })
		since(f.now.Add(-7 * time.Second))
		f.observe(0, reachable)
		since(time.Time{})
	}
	// A client whose durations make no sense.
	f.oxide(oxide.RunStateRunning, 0)
	f.client(Ready, 0)
	since(time.Time{})
	f.observe(0, func(o *Observation) { o.Readiness, o.ReadinessFor = Unknown, -time.Hour })
	since(f.now)
}

func TestWhenToEvaluateAgain(t *testing.T) {
	f := newFleet(4)
	f.evaluate()
	f.now = f.now.Add(time.Hour)
	if f.evaluate(); !f.next.IsZero() {
		t.Errorf("all is well, but evaluate again at %s", f.next)
	}
	f.client(NotReady, 0)
	f.client(Unknown, 1, 2)
	f.evaluate()
	if wait := f.next.Sub(f.now); wait != notReadyTimeout {
		t.Errorf("evaluate again in %s, want %s", wait, notReadyTimeout)
	}
	f.now = f.now.Add(notReadyTimeout)
	f.evaluate()
	if wait := f.next.Sub(f.now); wait != suspensionTimeout-notReadyTimeout {
		t.Errorf("evaluate again in %s, want at the end of the suspension", wait)
	}
}

func TestTimeScaleMultipliesEveryDuration(t *testing.T) {
	f := newFleet(4)
	f.evaluator.TimeScale = 0.1
	f.evaluate()
	f.now = f.now.Add(time.Hour)
	f.client(NotReady, 0)
	f.evaluate()
	if wait := f.next.Sub(f.now); wait != 2*time.Second {
		t.Errorf("not ready: evaluate again in %s", wait)
	}
	f.client(Unknown, 0, 1, 2)
	f.evaluate()
	if wait := f.next.Sub(f.now); wait != 12*time.Second {
		t.Errorf("suspended: evaluate again in %s", wait)
	}
}

func TestNothingIsRememberedOfACandidateThatWasRemoved(t *testing.T) {
	f := newFleet(3)
	f.evaluate()
	f.client(NotReady, 0)
	f.evaluate()
	delete(f.observations, id(0))
	f.evaluate()
	f.now = f.now.Add(time.Hour)
	f.client(NotReady, 0)
	if h := f.evaluate()[id(0)]; h.Health != plan.Suspect || !h.Since.Equal(f.now) {
		t.Errorf("got %+v", h)
	}
	if len(f.evaluator.causes) != 1 {
		t.Errorf("%d causes are kept", len(f.evaluator.causes))
	}
}

// A plan for "what if" is made with a copy.
func TestEvaluatingWithACopyChangesNothing(t *testing.T) {
	f := newFleet(4)
	f.evaluate()
	f.now = f.now.Add(time.Hour)
	f.client(NotReady, 0)
	f.evaluate()
	original := f.evaluator
	f.client(Unknown, 0, 1, 2, 3)
	f.now = f.now.Add(time.Minute)
	f.evaluate()
	f.evaluator = original
	f.client(Ready, 1, 2, 3)
	f.client(NotReady, 0)
	if got := f.words(); got != "u h h h" {
		t.Errorf("got %s", got)
	}
}
