// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package session_test

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/health"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/ownership"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/plan"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/session"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/oxidesim"
)

// hasCondition reports whether a condition of a kind holds whose text has all words.
func (o *owner) hasCondition(
	key ownership.Key, kind session.ConditionType, words ...string,
) bool {
	state := o.state(key)
	return state != nil && slices.ContainsFunc(state.Conditions, func(c session.Condition) bool {
		return c.Type == kind && !slices.ContainsFunc(words, func(word string) bool {
			return !strings.Contains(c.Message, word)
		})
	})
}

// left waits until an address is attached to another node than before.
func (o *owner) left(key ownership.Key, before session.Address) session.Address {
	o.Helper()
	o.await(2*time.Minute, "the move of "+key.Name, func() bool {
		ip := o.ip(before.ID)
		return ip.AttachState == "attached" && ip.InstanceID != before.Attached.InstanceID
	})
	return o.settled(key)
}

// leftWithin observes something of the node that an address is on, and waits until it has moved, which may
// take so long.
func (o *owner) leftWithin(
	limit time.Duration, key ownership.Key, before session.Address, observed func(*health.Observation),
) session.Address {
	o.Helper()
	began := time.Now()
	o.observe(o.node(before.Attached.InstanceID), observed)
	after := o.left(key, before)
	if took := time.Since(began); took > limit {
		o.Errorf("%s moved after %s, want %s at most", key.Name, took, limit)
	}
	return after
}

// confined makes one node the only one that a load balancer may use.
func (o *owner) confined(to ...int) func(*session.Desired) {
	return func(d *session.Desired) {
		d.Eligible = &plan.Eligible{Instances: make(map[string]plan.Serving), Description: "is chosen"}
		for _, node := range to {
			d.Eligible.Instances[o.nodes[node]] = plan.IsServing
		}
	}
}

func TestTwentyAddressesLeaveADeadNodeTogether(t *testing.T) {
	inWorld(t, 5, func(w *world) {
		o := w.open()
		defer o.close()
		var keys []ownership.Key
		for i := range 20 {
			keys = append(keys, o.want(fmt.Sprintf("default/web-%d", i), o.confined(0), 8000+i))
		}
		o.sync()
		for _, key := range keys {
			o.settled(key)
			o.want(key.Name, func(d *session.Desired) { d.Eligible = nil })
		}
		for _, key := range keys {
			o.settled(key)
		}
		began := time.Now()
		o.observe(0, silent)
		for _, key := range keys {
			o.await(time.Minute, "the move of "+key.Name, func() bool {
				return len(o.did(key, plan.ActionAttach, began)) == 1
			})
			o.settled(key)
		}
		took := time.Since(began)
		t.Logf("all statuses are final after %s", took)
		if took > 6*time.Second {
			t.Errorf("it took %s", took)
		}
	})
}

func TestAnAddressLeavesANewNodeThatDiesRightAfterAMove(t *testing.T) {
	inWorld(t, 5, func(w *world) {
		o := w.open().sync()
		defer o.close()
		key := o.want("default/web", nil, 80)
		first := o.settled(key)
		o.observe(w.node(first.Attached.InstanceID), silent)
		second := o.left(key, first)
		time.Sleep(5 * time.Second)
		o.leftWithin(5*time.Second, key, second, silent)
	})
}

func TestALivingNodeIsLeftOnceInHalfAMinute(t *testing.T) {
	inWorld(t, 3, func(w *world) {
		o := w.open().sync()
		defer o.close()
		key := o.want("default/web", nil, 80)
		first := o.settled(key)
		o.observe(w.node(first.Attached.InstanceID), excluded)
		second := o.left(key, first)
		began := time.Now()
		o.observe(w.node(second.Attached.InstanceID), excluded)
		o.left(key, second)
		if took := time.Since(began); took < 27*time.Second || took > 35*time.Second {
			t.Errorf("the second move took %s", took)
		}
	})
}

func TestAFailedInstanceHoldsUpItsOwnAddressesOnly(t *testing.T) {
	inWorld(t, 3, func(w *world) {
		o := w.open().sync()
		defer o.close()
		web := o.want("default/web", o.confined(0), 80)
		dns := o.want("default/dns", o.confined(1), 53)
		a, b := o.settled(web), o.settled(dns)
		o.want("default/web", func(d *session.Desired) { d.Eligible = nil })
		o.want("default/dns", func(d *session.Desired) { d.Eligible = nil })
		o.settled(web)
		o.settled(dns)
		w.must(w.sim.SetRunState(w.nodes[0], "failed"))
		w.await(30*time.Second, "the condition", func() bool {
			return o.hasCondition(web, session.Pending, a.Addr.String(), "node-1", "failed")
		})
		o.leftWithin(4*time.Second, dns, b, silent)
		w.must(w.sim.SetRunState(w.nodes[0], "running"))
		w.await(20*time.Second, "the end of the condition", func() bool {
			return !o.hasCondition(web, session.Pending)
		})
		if ip := w.ip(a.ID); ip.InstanceID != w.nodes[0] {
			t.Errorf("the instance runs again, and the address is on %s", ip.InstanceID)
		}
	})
}

func TestASilentSledHoldsUpItsOwnAddressesOnly(t *testing.T) {
	inWorld(t, 6, func(w *world) {
		o := w.open().sync()
		defer o.close()
		var crowd []ownership.Key
		var places []session.Address
		for i := range 12 {
			crowd = append(crowd, o.want(fmt.Sprintf("default/crowd-%d", i), o.confined(0), 8000+i))
		}
		beside := o.want("default/beside", o.confined(1), 80)
		for _, key := range crowd {
			places = append(places, o.settled(key))
			o.want(key.Name, func(d *session.Desired) { d.Eligible = nil })
		}
		b := o.settled(beside)
		o.want("default/beside", o.confined(1, 2))
		o.settled(beside)
		w.must(w.sim.LoseSled(w.sled(0)))
		o.observe(0, silent)
		time.Sleep(10 * time.Second)
		o.leftWithin(4*time.Second, beside, b, silent)
		w.await(2*time.Minute, "the condition", func() bool {
			return slices.ContainsFunc(crowd, func(key ownership.Key) bool {
				return o.hasCondition(key, session.Pending, "node-1")
			})
		})
		w.must(w.sim.RecoverSled(w.sled(0)))
		for i, key := range crowd {
			o.left(key, places[i])
		}
	})
}

func TestTheNextPlaceIsPublishedWhileAnInstanceStops(t *testing.T) {
	inWorld(t, 2, func(w *world) {
		o := w.open().sync()
		defer o.close()
		key := o.want("default/web", nil, 80)
		before := o.settled(key)
		began := time.Now()
		w.must(w.sim.SetRunState(before.Attached.InstanceID, "stopping"))
		w.await(10*time.Second, "the publication", func() bool {
			return len(o.state(key).Publish) == 3
		})
		if n := len(o.did(key, plan.ActionDetach, began)); n != 0 {
			t.Errorf("detached %d times while the instance is stopping", n)
		}
		began = time.Now()
		w.must(w.sim.SetRunState(before.Attached.InstanceID, "stopped"))
		o.left(key, before)
		t.Logf("on another node %s after the stop", time.Since(began))
		if took := time.Since(began); took > 4*time.Second {
			t.Errorf("it took %s", took)
		}
	})
}

func TestAddressesLeaveANodeThatIsCordonedOneAtATime(t *testing.T) {
	inWorld(t, 3, func(w *world) {
		o := w.open().sync()
		defer o.close()
		var keys []ownership.Key
		for i := range 3 {
			keys = append(keys, o.want(fmt.Sprintf("default/web-%d", i), o.confined(0), 8000+i))
		}
		for _, key := range keys {
			o.settled(key)
			o.want(key.Name, func(d *session.Desired) { d.Eligible = nil })
		}
		for _, key := range keys {
			o.settled(key)
		}
		o.observe(0, func(c *health.Observation) { c.Cordoned = true })
		time.Sleep(time.Minute)
		for _, key := range keys {
			if at := w.node(o.settled(key).Attached.InstanceID); at != 0 {
				t.Errorf("a cordon whose beginning nobody saw moved an address to %s", nodeName(at))
			}
		}
		began := time.Now()
		o.observe(0, func(c *health.Observation) { c.Cordoned, c.CordonObserved = true, true })
		most := 0
		w.await(time.Minute, "the end of the drain", func() bool {
			leaving, here := 0, 0
			for _, ip := range w.sim.FloatingIPs() {
				if ip.AttachState == "detaching" || ip.AttachState == "detached" {
					leaving++
				}
				if ip.InstanceID == w.nodes[0] {
					here++
				}
			}
			most = max(most, leaving)
			return here == 0 && leaving == 0
		})
		if most > 1 {
			t.Errorf("%d addresses were under way at once", most)
		}
		t.Logf("drained after %s", time.Since(began))
		o.observe(0, func(*health.Observation) {})
		time.Sleep(time.Minute)
		for _, key := range keys {
			if at := w.node(o.settled(key).Attached.InstanceID); at == 0 {
				t.Error("an address came back when the node was uncordoned")
			}
		}
	})
}

func TestALocalLoadBalancerLeavesANodeWhoseEndpointsAreLeaving(t *testing.T) {
	inWorld(t, 3, func(w *world) {
		o := w.open().sync()
		defer o.close()
		endpoints := func(at map[int]plan.Serving) func(*session.Desired) {
			return func(d *session.Desired) {
				d.Eligible = &plan.Eligible{
					Instances: make(map[string]plan.Serving), Description: "has a ready endpoint",
					FollowsServing: true,
				}
				for node, serving := range at {
					d.Eligible.Instances[w.nodes[node]] = serving
				}
			}
		}
		key := o.want("default/web", endpoints(map[int]plan.Serving{0: plan.IsServing}), 80)
		before := o.settled(key)
		o.want("default/web", endpoints(map[int]plan.Serving{0: plan.IsLeaving}))
		time.Sleep(10 * time.Second)
		if at := o.settled(key); at.Attached != before.Attached {
			t.Errorf("it left the only endpoint for %+v", at)
		}
		o.want("default/web", endpoints(map[int]plan.Serving{0: plan.IsLeaving, 1: plan.IsServing}))
		after := o.left(key, before)
		began := time.Now()
		o.want("default/web", endpoints(map[int]plan.Serving{2: plan.IsServing}))
		o.left(key, after)
		if took := time.Since(began); took > 3*time.Second {
			t.Errorf("a node without any endpoint was left after %s", took)
		}
	})
}

func TestMostNodesThatFallSilentTogetherKeepTheirAddresses(t *testing.T) {
	inWorld(t, 5, func(w *world) {
		o := w.open().sync()
		defer o.close()
		key := o.want("default/web", o.confined(0), 80)
		before := o.settled(key)
		o.want("default/web", func(d *session.Desired) { d.Eligible = nil })
		o.settled(key)
		for node := range 3 {
			o.observe(node, silent)
		}
		w.await(5*time.Second, "the condition", func() bool {
			return o.hasCondition(key, session.FailoverSuspended, before.Addr.String(), "node-1")
		})
		time.Sleep(time.Minute)
		if ip := w.ip(before.ID); ip.InstanceID != w.nodes[0] {
			t.Errorf("the address moved to %s", ip.Instance)
		}
		began := time.Now()
		o.left(key, before)
		if took := time.Since(began); took > 70*time.Second {
			t.Errorf("it was suspended for another %s", took)
		}
	})
}

func TestALostAnswerToAnAttachmentIsTriedAgain(t *testing.T) {
	inWorld(t, 2, func(w *world) {
		o := w.open().sync()
		defer o.close()
		_, err := w.sim.AddFault(oxidesim.Fault{
			Operation: "floating_ip_attach", Reset: true, Execute: true, Times: 1,
		})
		w.must(err)
		key := o.want("default/web", nil, 80)
		o.settled(key)
		if n := w.sim.Count("floating_ip_attach"); n != 2 {
			t.Errorf("%d requests to attach, want 2", n)
		}
	})
}

func TestASecondServiceHasItsPortsBesideAnEditedOne(t *testing.T) {
	inWorld(t, 1, func(w *world) {
		o := w.open().sync()
		defer o.close()
		x := o.want("default/x", nil, 8080)
		a := o.settled(x)
		y := o.want("default/y", nil, 80)
		w.await(5*time.Second, "the way of y", func() bool {
			return slices.ContainsFunc(w.sim.FloatingIPs(), func(ip oxidesim.FloatingIP) bool {
				return ip.AttachState == "attaching"
			})
		})
		began := time.Now()
		o.want("default/y", nil, 8080)
		time.Sleep(2 * time.Minute)
		if n := len(o.did(x, plan.ActionDetach, began)); n != 0 {
			t.Errorf("the one that stays was detached %d times", n)
		}
		if ip := w.ip(a.ID); ip.AttachState != "attached" {
			t.Errorf("the oldest has lost its place: %+v", ip)
		}
		if !o.hasCondition(y, session.PortConflict, "default/x") {
			t.Errorf("the edited one is told %+v", o.state(y))
		}
		if state := o.state(y); len(state.Publish) != 0 {
			t.Errorf("the edited one publishes %v", state.Publish)
		}
	})
}

func TestAnotherAddressIsThereBeforeTheOldOneGoes(t *testing.T) {
	inWorld(t, 2, func(w *world) {
		o := w.open().sync()
		defer o.close()
		key := o.want("default/web", nil, 80)
		before := o.settled(key)
		next := netip.MustParseAddr("198.51.100.77")
		began := time.Now()
		o.want("default/web", func(d *session.Desired) {
			d.Addresses = []plan.Desired{{Family: ownership.IPv4, Source: ownership.Source{Addr: next}}}
		})
		w.await(time.Minute, "the end of the old one", func() bool {
			ips := w.sim.FloatingIPs()
			attached := 0
			for _, ip := range ips {
				if ip.AttachState == "attached" {
					attached++
				}
			}
			if attached == 0 {
				t.Error("for a moment none is attached")
			}
			return len(ips) == 1 && ips[0].IP == next.String()
		})
		o.settled(key)
		both := o.firstPublished(key, next, began)
		detached := o.did(key, plan.ActionDetach, began)
		attached := o.did(key, plan.ActionAttach, began)
		if len(detached) != 1 || len(attached) != 1 || !both.Before(attached[0].EndTime) ||
			!attached[0].EndTime.Before(detached[0].EndTime) || detached[0].ID != before.ID {
			t.Errorf("both published at %s, attached %+v, detached %+v", both, attached, detached)
		}
	})
}
