// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package session_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/firewall"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/health"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/ownership"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/plan"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/session"
)

func TestAPlanOfASetRefusesAMissingDefaultPool(t *testing.T) {
	inWorld(t, 1, func(w *world) {
		key := ownership.Key{Scope: scope, Name: "default/web"}
		planned, err := w.manager.Plan(w.Context(), session.PlanRequest{Set: &session.Set{
			Opening: session.Opening{Scope: scope},
			LoadBalancers: []session.Desired{{
				Key: key, OwnerUID: "uid-1", Generation: 1,
				Addresses: []plan.Desired{{Family: ownership.IPv6}},
				Ports:     []plan.Port{{Protocol: firewall.TCP, Number: 80}},
			}},
		}})
		w.must(err)
		if len(planned.LoadBalancers) != 1 || len(planned.Actions) != 0 ||
			!session.IsReason(planned.LoadBalancers[0].Problem, session.ReasonPoolNotFound) {
			t.Errorf("planned %+v", planned)
		}
	})
}

// A metric shows it: an address on its own is no reason to read anything.
func TestTheLoadIsThatOfTheFullestInstance(t *testing.T) {
	inWorld(t, 1, func(w *world) {
		loads := func() [2]session.Load {
			all := w.manager.Load()
			return [2]session.Load{all[ownership.FloatingIP], all[ownership.ExternalSubnet]}
		}
		want := [2]session.Load{
			{Kind: ownership.FloatingIP, Limit: 32}, {Kind: ownership.ExternalSubnet, Limit: 32},
		}
		if got := loads(); got != want {
			t.Errorf("before any session: %+v", got)
		}
		o := w.open().sync()
		defer o.close()
		o.settled(o.want("default/web", nil, 80))
		o.settled(o.want("default/dns", nil, 53))
		want[ownership.FloatingIP].Most = 2
		if got := loads(); got != want {
			t.Errorf("with two addresses on one instance: %+v", got)
		}
	})
}

// Whoever asks what happens without a node knows the nodes by their names, and what was explained as the
// session shows it.
func TestAPlanNamesItsCandidatesAndWhatTheSessionSays(t *testing.T) {
	inWorld(t, 3, func(w *world) {
		o := w.open().sync()
		defer o.close()
		key := o.want("default/web", nil, 80)
		from := w.node(o.settled(key).Attached.InstanceID)
		o.observe(from, func(c *health.Observation) { c.Name = "kube-name" })
		idle, cordoned := (from+1)%3, (from+2)%3
		o.observe(idle, func(c *health.Observation) { c.Name, c.Exclusion = "a-name", "has the label x" })
		o.observe(cordoned, func(c *health.Observation) { c.Name, c.Cordoned = "b-name", true })
		w.await(time.Minute, "the names", func() bool {
			planned, err := w.manager.Plan(w.Context(), session.PlanRequest{Scope: scope})
			w.must(err)
			return len(planned.Candidates) == 3 && planned.Candidates[2].Name == "kube-name"
		})
		planned, err := w.manager.Plan(w.Context(), session.PlanRequest{Scope: scope})
		w.must(err)
		all := []session.PlannedCandidate{
			{InstanceID: w.nodes[idle], Name: "a-name", InstanceName: nodeName(idle), Why: "has the label x"},
			{InstanceID: w.nodes[cordoned], Name: "b-name", InstanceName: nodeName(cordoned), LastChoice: true},
			{
				InstanceID: w.nodes[from], Name: "kube-name", InstanceName: nodeName(from),
				Addresses: 1, Planned: 1,
			},
		}
		if diff := cmp.Diff(all, planned.Candidates); diff != "" {
			t.Errorf("the candidates (-want +got):\n%s", diff)
		}
		if planned.LoadBalancers[0].State != nil {
			t.Error("what is not to be explained comes with its state")
		}
		without, err := w.manager.Plan(w.Context(), session.PlanRequest{
			Scope: scope, Without: []string{w.nodes[from]}, Explain: []string{key.Name},
		})
		w.must(err)
		all[1].Planned = 1
		if diff := cmp.Diff(all[:2], without.Candidates); diff != "" {
			t.Errorf("the candidates without one (-want +got):\n%s", diff)
		}
		if says := without.Actions[0].Summary; !strings.HasSuffix(says,
			" from kube-name: kube-name is no candidate any more") {
			t.Errorf("the action says %q", says)
		}
		if state := without.LoadBalancers[0].State; state != o.state(key) || state.Phase != session.PhaseReady {
			t.Errorf("the state is %+v", state)
		}
	})
}

// An operator asks for an even spread when a failed node is back, often soon after the last move.
func TestARebalanceIsPlannedSoonAfterAMove(t *testing.T) {
	inWorld(t, 2, func(w *world) {
		o := w.open().sync()
		defer o.close()
		o.observe(0, excluded)
		var keys []ownership.Key
		for _, name := range []string{"default/a", "default/b"} {
			keys = append(keys, o.want(name, nil, 8000+len(keys)))
		}
		for _, key := range keys {
			o.settled(key)
		}
		o.observe(0, func(c *health.Observation) { c.Exclusion = "" })
		o.observe(1, excluded)
		w.await(time.Minute, "both moves", func() bool {
			for _, key := range keys {
				if w.node(o.settled(key).Attached.InstanceID) != 0 {
					return false
				}
			}
			return true
		})
		o.observe(1, func(c *health.Observation) { c.Exclusion = "" })
		time.Sleep(time.Second)
		planned, err := w.manager.Rebalance(w.Context(), scope, true)
		w.must(err)
		if len(planned.Actions) != 2 {
			t.Errorf("planned are %+v, want one move", planned.Actions)
		}
	})
}
