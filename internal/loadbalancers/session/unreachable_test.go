// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package session_test

import (
	"slices"
	"testing"
	"time"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/health"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/ownership"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/plan"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/session"
)

// What a client observes of a node that it probes: its host is dead, its network or the client's is,
// or it answers.
func unreachable(c *health.Observation) { c.Unreachable = true }
func inDoubt(c *health.Observation)     { c.Unreachable, c.InDoubt = true, true }
func reachable(*health.Observation)     {}

func silentToProbes(c *health.Observation) { c.Silent = true }

// moves are the moves of a load balancer that ended after a time, oldest first.
func (o *owner) moves(key ownership.Key, after time.Time) []session.Action {
	return slices.DeleteFunc(o.did(key, plan.ActionAttach, after), func(a session.Action) bool {
		return a.From == ""
	})
}

func TestANodeThatDoesNotAnswerWhileItsLeaseIsOverdueIsLeftAtOnce(t *testing.T) {
	inServedWorld(t, 3, func(w *world, o *owner, before session.Address) {
		began := time.Now()
		after := o.leftWithin(5*time.Second, web, before, unreachable)
		t.Logf("on another node after %s", time.Since(began))
		o.observe(w.node(before.Attached.InstanceID), reachable)
		time.Sleep(2 * time.Minute)
		if moves := o.moves(web, began); len(moves) != 1 {
			t.Errorf("%d moves, want the one off the dead node: it answers again, and nothing moves back",
				len(moves))
		}
		// It is healthy at once.
		began = time.Now()
		for node := range w.nodes {
			if w.nodes[node] != before.Attached.InstanceID {
				o.observe(node, excluded)
			}
		}
		o.left(web, after)
		if took := time.Since(began); took > 5*time.Second {
			t.Errorf("the node that answers again got the address after %s", took)
		}
	})
}

// Two hosts die together: that of which it is not known yet for certain gets no address of the other one.
func TestNoAddressGoesFromOneDeadHostToAnother(t *testing.T) {
	inServedWorld(t, 5, func(w *world, o *owner, before session.Address) {
		at := w.node(before.Attached.InstanceID)
		for node := range w.nodes {
			if node != at && node != (at+1)%len(w.nodes) {
				o.observe(node, silentToProbes)
			}
		}
		o.observe(at, unreachable)
		after := o.left(web, before)
		if got := w.node(after.Attached.InstanceID); got != (at+1)%len(w.nodes) {
			t.Errorf("it went to node %d, which has ceased to answer", got)
		}
	})
}

func TestNothingMovesWhileTheClientsProbesAreInDoubt(t *testing.T) {
	inServedWorld(t, 5, func(w *world, o *owner, before session.Address) {
		at := w.node(before.Attached.InstanceID)
		began := time.Now()
		for node := range w.nodes {
			if node != (at+1)%len(w.nodes) { // the client's own answers in any case
				o.observe(node, inDoubt)
			}
		}
		w.await(5*time.Second, "the condition", func() bool {
			return o.hasCondition(web, session.FailoverSuspended, before.Addr.String(), nodeName(at),
				"does not answer, and its other sign of life is overdue", "the network of the client")
		})
		time.Sleep(10 * time.Minute)
		if n := len(o.did(web, plan.ActionDetach, began)); n != 0 {
			t.Errorf("it was detached %d times", n)
		}
		for node := range w.nodes {
			o.observe(node, reachable)
		}
		w.await(5*time.Second, "the end of the condition", func() bool {
			return !o.hasCondition(web, session.FailoverSuspended)
		})
		if got := o.settled(web); got.Attached != before.Attached {
			t.Errorf("it moved to %+v", got.Attached)
		}
	})
}

// What comes finds no place on a node of which nobody knows whether it lives.
func TestNothingComesToANodeWhileTheClientsProbesAreInDoubt(t *testing.T) {
	inWorld(t, 3, func(w *world) {
		o := w.open().sync()
		defer o.close()
		o.observe(0, inDoubt)
		o.observe(1, inDoubt)
		for _, name := range []string{"default/a", "default/b", "default/c"} {
			port := 8000 + int(name[len(name)-1])
			if at := w.node(o.settled(o.want(name, nil, port)).Attached.InstanceID); at != 2 {
				t.Errorf("%s came to %s", name, nodeName(at))
			}
		}
	})
}

func TestMostNodesThatDoNotAnswerKeepTheirAddresses(t *testing.T) {
	inWorld(t, 5, func(w *world) {
		o := w.open().sync()
		defer o.close()
		key := o.want("default/web", o.confined(0), 80)
		before := o.settled(key)
		o.want("default/web", func(d *session.Desired) { d.Eligible = nil })
		o.settled(key)
		began := time.Now()
		for node := range 3 {
			o.observe(node, unreachable)
		}
		w.await(5*time.Second, "the condition", func() bool {
			return o.hasCondition(key, session.FailoverSuspended, before.Addr.String(), "node-1",
				"more than half of the candidates have become unhealthy within a minute")
		})
		time.Sleep(time.Minute)
		if n := len(o.did(key, plan.ActionDetach, began)); n != 0 {
			t.Errorf("it was detached %d times", n)
		}
	})
}

func TestANodeThatFlapsEveryFiveSecondsIsLeftOnce(t *testing.T) {
	inServedWorld(t, 3, func(w *world, o *owner, before session.Address) {
		at := w.node(before.Attached.InstanceID)
		began := time.Now()
		for range 18 {
			o.observe(at, unreachable)
			time.Sleep(5 * time.Second)
			o.observe(at, reachable)
			time.Sleep(5 * time.Second)
		}
		if moves := o.moves(web, began); len(moves) != 1 {
			t.Errorf("%d moves in three minutes, want one", len(moves))
		}
	})
}

func TestWhereAllNodesFlapALoadBalancerMovesOnceInHalfAMinute(t *testing.T) {
	inServedWorld(t, 2, func(_ *world, o *owner, _ session.Address) {
		began := time.Now()
		for i := range 36 {
			o.observe(i%2, unreachable)
			o.observe(1-i%2, reachable)
			time.Sleep(5 * time.Second)
		}
		moves := o.moves(web, began)
		t.Logf("%d moves in three minutes", len(moves))
		if len(moves) < 2 {
			t.Fatal("it moved less than twice, so this shows nothing")
		}
		for i, move := range moves[1:] {
			if pause := move.EndTime.Sub(moves[i].EndTime); pause < 30*time.Second {
				t.Errorf("move %d came %s after the one before", i+2, pause)
			}
		}
	})
}

// A node that is silent by the control plane's word, too, does not flap.
func TestANodeThatBecomesSilentIsLeftWithinThePause(t *testing.T) {
	inServedWorld(t, 5, func(w *world, o *owner, first session.Address) {
		o.observe(w.node(first.Attached.InstanceID), unreachable)
		second := o.left(web, first)
		o.observe(w.node(second.Attached.InstanceID), unreachable)
		time.Sleep(10 * time.Second)
		if at := o.ip(second.ID).InstanceID; at != second.Attached.InstanceID {
			t.Errorf("it moved again after %s", nodeName(w.node(at)))
		}
		o.leftWithin(5*time.Second, web, second, silent)
	})
}
