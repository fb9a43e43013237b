// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package session_test

import (
	"testing"
	"time"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/health"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/plan"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/session"
)

func cordoned(c *health.Observation)     { c.Cordoned, c.CordonObserved = true, true }
func outOfService(c *health.Observation) { c.OutOfService = "has the taint out-of-service" }
func shuttingDown(c *health.Observation) {
	c.Readiness, c.ShuttingDown = health.NotReady, true
}

func TestPlannedWorkMovesAnAddressAtOnceAndPublishesFirst(t *testing.T) {
	for name, observed := range map[string]func(*health.Observation){
		"a cordon": cordoned, "the taint out-of-service": outOfService, "a shutdown": shuttingDown,
	} {
		t.Run(name, func(t *testing.T) {
			inServedWorld(t, 2, func(w *world, o *owner, before session.Address) {
				began := time.Now()
				o.observe(w.node(before.Attached.InstanceID), observed)
				after := o.left(web, before)
				detached := o.did(web, plan.ActionDetach, began)
				both := o.firstPublished(web, after.Attached.PrivateAddr, began)
				if len(detached) != 1 || detached[0].EndTime.Sub(both) < time.Second {
					t.Errorf("both places published at %s, detached %+v", both, detached)
				}
				if took := time.Since(began); took > 6*time.Second {
					t.Errorf("it took %s", took)
				}
			})
		})
	}
}

func TestACordonedNodeIsTheLastChoiceForAnAddressAndNotForbidden(t *testing.T) {
	inServedWorld(t, 2, func(w *world, o *owner, before session.Address) {
		at := w.node(before.Attached.InstanceID)
		o.observe(1-at, cordoned)
		o.observe(at, silent)
		onCordoned := o.left(web, before)
		time.Sleep(time.Minute)
		if o.hasCondition(web, session.Degraded) {
			t.Errorf("it is degraded: %+v", o.state(web).Conditions)
		}
		// Another candidate that can take it is better.
		o.observe(at, func(*health.Observation) {})
		o.left(web, onCordoned)
	})
}

func TestANodeThatShutsDownGivesItsAddressToACordonedOne(t *testing.T) {
	inServedWorld(t, 2, func(w *world, o *owner, before session.Address) {
		at := w.node(before.Attached.InstanceID)
		o.observe(1-at, func(c *health.Observation) { c.Cordoned = true })
		o.observe(at, shuttingDown)
		o.left(web, before)
	})
}

func TestAnAddressStaysOnACordonedNodeIfNoOtherCanTakeIt(t *testing.T) {
	inServedWorld(t, 2, func(w *world, o *owner, before session.Address) {
		at := w.node(before.Attached.InstanceID)
		o.observe(1-at, cordoned)
		o.observe(at, cordoned)
		time.Sleep(2 * time.Minute)
		if after := o.settled(web); after.Attached != before.Attached {
			t.Errorf("it moved from %+v to %+v", before.Attached, after.Attached)
		}
	})
}

// The next place was published for longer than an attachment may take, because the instance took long
// to stop.
func TestAnAddressMovesAtOnceWhenALongStopEnds(t *testing.T) {
	inServedWorld(t, 2, func(w *world, o *owner, before session.Address) {
		w.must(w.sim.SetRunState(before.Attached.InstanceID, "stopping"))
		time.Sleep(5 * time.Minute)
		began := time.Now()
		w.must(w.sim.SetRunState(before.Attached.InstanceID, "stopped"))
		o.left(web, before)
		if took := time.Since(began); took > 6*time.Second {
			t.Errorf("it moved %s after the stop", took)
		}
	})
}
