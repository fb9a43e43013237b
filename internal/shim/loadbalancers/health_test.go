// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package loadbalancers

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

// known are instances as a test tells them.
type known struct {
	states   map[string]backendv1.RunState
	complete bool
}

func (k *known) Instance(id string) *backendv1.Instance {
	state, ok := k.states[id]
	if !ok {
		return nil
	}
	text := strings.ToLower(strings.TrimPrefix(state.String(), "RUN_STATE_"))
	return &backendv1.Instance{Id: id, RunState: state, RunStateText: text}
}

func (k *known) Complete() bool { return k.complete }

func (k *known) Subscribe(func(string)) {}

// fleet is a cluster whose Nodes turn this way and that.
type fleet struct {
	judge healthJudge
	known *known
	nodes []*v1.Node
}

// newFleet has n Nodes that are ready, on instances that run.
func newFleet(n int) *fleet {
	f := &fleet{known: &known{states: make(map[string]backendv1.RunState), complete: true}}
	f.judge.instances = f.known
	for i := range n {
		id := fmt.Sprintf("%08d-0000-4000-8000-000000000000", i)
		f.known.states[id] = backendv1.RunState_RUN_STATE_RUNNING
		f.nodes = append(f.nodes, &v1.Node{
			ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("n%d", i)},
			Spec:       v1.NodeSpec{ProviderID: "oxide://" + id},
		})
		f.turn(v1.ConditionTrue, i)
	}
	return f
}

// turn makes Nodes say this of their readiness, from now on.
func (f *fleet) turn(status v1.ConditionStatus, which ...int) {
	for _, i := range which {
		f.nodes[i].Status.Conditions = []v1.NodeCondition{{
			Type: v1.NodeReady, Status: status, LastTransitionTime: metav1.Now(),
		}}
	}
}

// oxide makes Oxide say this of the instance of a Node.
func (f *fleet) oxide(state backendv1.RunState, i int) {
	f.known.states[strings.TrimPrefix(f.nodes[i].Spec.ProviderID, "oxide://")] = state
}

// healths are the verdicts in a word each: "h", "s" or "u", and "+" behind one that is held.
func (f *fleet) healths() string {
	verdicts, _ := f.judge.judge(f.nodes)
	var words []string
	for _, node := range f.nodes {
		v := verdicts[node.Name]
		word := strings.ToLower(strings.TrimPrefix(v.health.String(), "CANDIDATE_HEALTH_"))[:1]
		if v.held {
			word += "+"
		}
		words = append(words, word)
	}
	return strings.Join(words, " ")
}

func TestNodesAreJudgedWithDamping(t *testing.T) {
	unknown, no, yes := v1.ConditionUnknown, v1.ConditionFalse, v1.ConditionTrue
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
		{"a silent kubelet counts at once", 3, []step{
			{do: func(f *fleet) { f.turn(unknown, 0) }, want: "u h h"},
		}},
		{"who says that it is not ready has 20 s", 3, []step{
			{do: func(f *fleet) { f.turn(no, 0) }, want: "s h h"},
			{wait: 19 * time.Second, want: "s h h"},
			{wait: time.Second, want: "u h h"},
			{do: func(f *fleet) { f.turn(yes, 0) }, want: "h h h"},
			{do: func(f *fleet) { f.turn(no, 0) }, want: "s h h"},
		}},
		{"no condition at all is silence", 3, []step{
			{do: func(f *fleet) { f.nodes[0].Status.Conditions = nil }, want: "u h h"},
		}},
		{"an instance that is stopped counts at once, whatever the Node says", 3, []step{
			{do: func(f *fleet) { f.oxide(backendv1.RunState_RUN_STATE_STOPPING, 0) }, want: "s h h"},
			{do: func(f *fleet) { f.oxide(backendv1.RunState_RUN_STATE_STOPPED, 0) }, want: "u h h"},
			{do: func(f *fleet) { f.oxide(backendv1.RunState_RUN_STATE_STARTING, 0) }, want: "s h h"},
			{do: func(f *fleet) { f.oxide(backendv1.RunState_RUN_STATE_RUNNING, 0) }, want: "h h h"},
		}},
		{"so does one that has failed, and one that is not listed", 3, []step{
			{do: func(f *fleet) { f.oxide(backendv1.RunState_RUN_STATE_FAILED, 1) }, want: "h u h"},
			{do: func(f *fleet) { clear(f.known.states) }, want: "u u u"},
		}},
		{"as long as the list is not complete nothing is concluded from it", 2, []step{
			{do: func(f *fleet) { clear(f.known.states); f.known.complete = false }, want: "h h"},
		}},
		{"an excluded Node is unhealthy at once", 2, []step{
			{do: func(f *fleet) {
				f.nodes[0].Labels = map[string]string{v1.LabelNodeExcludeBalancers: ""}
			}, want: "u h"},
		}},
		{"half of the nodes are not more than half", 4, []step{
			{do: func(f *fleet) { f.turn(unknown, 0, 1) }, want: "u u h h"},
		}},
		{"more than half at once: held, for two minutes", 4, []step{
			{do: func(f *fleet) { f.turn(unknown, 0, 1, 2) }, want: "s+ s+ s+ h"},
			{wait: 119 * time.Second, want: "s+ s+ s+ h"},
			{wait: time.Second, want: "u u u h"},
			{wait: time.Hour, want: "u u u h"},
		}},
		{"more than half within a minute, one after the other", 4, []step{
			{do: func(f *fleet) { f.turn(unknown, 0) }, want: "u h h h"},
			{wait: 30 * time.Second, do: func(f *fleet) { f.turn(unknown, 1) }, want: "u u h h"},
			{wait: 20 * time.Second, do: func(f *fleet) { f.turn(unknown, 2) }, want: "s+ s+ s+ h"},
		}},
		{"more than half over a longer time is not at once", 4, []step{
			{do: func(f *fleet) { f.turn(unknown, 0) }, want: "u h h h"},
			{wait: 61 * time.Second, do: func(f *fleet) { f.turn(unknown, 1) }, want: "u u h h"},
			{wait: 61 * time.Second, do: func(f *fleet) { f.turn(unknown, 2) }, want: "u u u h"},
		}},
		{"the hold ends when enough have recovered", 4, []step{
			{do: func(f *fleet) { f.turn(unknown, 0, 1, 2) }, want: "s+ s+ s+ h"},
			{wait: 10 * time.Second, do: func(f *fleet) { f.turn(yes, 1, 2) }, want: "u h h h"},
		}},
		{"what Oxide shows as stopped never counts and never waits", 4, []step{
			{do: func(f *fleet) {
				f.turn(unknown, 0, 1, 2)
				f.oxide(backendv1.RunState_RUN_STATE_STOPPED, 0)
				f.oxide(backendv1.RunState_RUN_STATE_STOPPED, 1)
			}, want: "u u u h"},
		}},
		{"a stopped one does not wait in the middle of a hold", 4, []step{
			{do: func(f *fleet) { f.turn(unknown, 0, 1, 2) }, want: "s+ s+ s+ h"},
			{do: func(f *fleet) { f.oxide(backendv1.RunState_RUN_STATE_STOPPED, 0) }, want: "u u u h"},
		}},
		{"of two nodes one may fail", 2, []step{
			{do: func(f *fleet) { f.turn(unknown, 0) }, want: "u h"},
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFleet(tt.nodes)
				time.Sleep(time.Hour) // they have been well for long
				f.healths()
				var got, want []string
				for _, s := range tt.steps {
					time.Sleep(s.wait)
					if s.do != nil {
						s.do(f)
					}
					got, want = append(got, f.healths()), append(want, s.want)
				}
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("healths (-want +got):\n%s", diff)
				}
			})
		})
	}
}

// A leader that begins judges by when the Nodes turned, not by when it saw them first.
func TestANewLeaderCountsFromWhenTheNodesTurned(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(4)
		time.Sleep(time.Hour)
		f.turn(v1.ConditionFalse, 0)
		time.Sleep(21 * time.Second)
		if got := f.healths(); got != "u h h h" {
			t.Errorf("got %s", got)
		}
		g := newFleet(4)
		time.Sleep(time.Hour)
		g.turn(v1.ConditionUnknown, 0, 1, 2)
		time.Sleep(10 * time.Minute)
		if got := g.healths(); got != "u u u h" {
			t.Errorf("long after they turned: %s", got)
		}
	})
}

// It is told when a verdict will be another one although nothing is changed.
func TestWhenToJudgeAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(4)
		time.Sleep(time.Hour)
		if _, next := f.judge.judge(f.nodes); !next.IsZero() {
			t.Errorf("all is well, but judge again at %s", next)
		}
		f.turn(v1.ConditionFalse, 0)
		f.turn(v1.ConditionUnknown, 1, 2)
		_, next := f.judge.judge(f.nodes)
		if wait := time.Until(next); wait != notReadyPatience {
			t.Errorf("judge again in %s, want %s", wait, notReadyPatience)
		}
		time.Sleep(notReadyPatience)
		_, next = f.judge.judge(f.nodes)
		if wait := time.Until(next); wait != massHold-notReadyPatience {
			t.Errorf("judge again in %s, want at the end of the hold", wait)
		}
	})
}
