// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package oxidesim_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/oxidesim"
)

// cutOff sends a request that a restart of Nexus cuts off in the middle of its work, and waits until
// Nexus is back.
func (r *rack) cutOff(method, path string, body any) {
	r.t.Helper()
	r.RestartNexusDuringNextTransition()
	if a, err := r.try(method, path, body); err == nil {
		r.t.Fatalf("%s %s: an answer came: %d %s", method, path, a.status, a.body)
	}
	eventually(r.t, "Nexus back", func() bool {
		_, err := r.try("GET", "/v1/ping", nil)
		return err == nil
	})
}

// OXIDE_API.md §8, §13: what was cut off in transition completes when the same is asked for again;
// anything else is a 503.
func TestTheSameOperationRepeatedInTransitionCompletes(t *testing.T) {
	r := startRack(t, oxidesim.Config{Timings: oxidesim.Timings{SagaRecovery: 24 * time.Hour}})
	i, j := r.instance("node-1"), r.instance("node-2")
	for _, tc := range r.attachables() {
		t.Run(tc.name, func(t *testing.T) {
			attach, detach := tc.path+"/attach", tc.path+"/detach"
			r.cutOff("POST", attach, tc.to(i))
			if got := r.get(tc.path).ok(200).str("instance_id"); got != i {
				t.Errorf("an attach under way shows the instance %q", got)
			}
			r.post(attach, tc.to(j)).want(503, "ServiceNotAvailable")
			r.post(detach, nil).want(503, "ServiceNotAvailable")
			r.post(attach, tc.to(i)).ok(202)
			r.cutOff("POST", detach, nil)
			r.post(attach, tc.to(i)).want(503, "ServiceNotAvailable")
			r.post(attach, tc.to(j)).want(503, "ServiceNotAvailable")
			r.post(detach, nil).ok(202)
			if got := r.get(tc.path).ok(200).str("instance_id"); got != "" {
				t.Errorf("detached, and shows the instance %q", got)
			}
			r.post(attach, tc.to(j)).ok(202)
		})
	}
	t.Run("an ephemeral IP", func(t *testing.T) {
		path := "/v1/instances/" + i + "/external-ips/ephemeral"
		r.cutOff("POST", path, obj{})
		r.del(path).want(503, "ServiceNotAvailable")
		r.post(path, obj{}).ok(202)
		r.cutOff("DELETE", path, nil)
		r.post(path, obj{}).want(503, "ServiceNotAvailable")
		r.del(path).ok(204)
		r.del(path).want(400, "InvalidRequest")
	})
}

// OXIDE_API.md §8, §13: two of the same at the same time both succeed, and the state moves once.
func TestTheSameOperationTwiceAtOnceSucceedsTwice(t *testing.T) {
	// Each takes about a second, so that the first is seen under way however busy the machine is.
	r := startRack(t, oxidesim.Config{TimeScale: 0.5})
	i := r.instance("node-1")
	for _, k := range r.attachables() {
		for _, step := range []struct {
			op, via, to string
			body        any
		}{
			{"attach", "attaching", "attached", k.to(i)},
			{"detach", "detaching", "detached", nil},
		} {
			first := make(chan *answer, 1)
			go func() { first <- r.post(k.path+"/"+step.op, step.body) }()
			eventually(t, step.via, func() bool { return k.state() == step.via })
			r.post(k.path+"/"+step.op, step.body).ok(202)
			(<-first).ok(202)
			if s := k.state(); s != step.to {
				t.Errorf("%s after two at once: %s", k.name, s)
			}
		}
	}
}

// OXIDE_API.md §8, §13: recovery does the work that was cut off, and unwinds if the sled does not
// answer.
func TestRecoveryOfACutOffDetachAsksTheSled(t *testing.T) {
	r := startRack(t, oxidesim.Config{TimeScale: 0.002})
	for n, k := range r.attachables() {
		node := fmt.Sprintf("node-%d", n)
		r.post(k.path+"/attach", k.to(r.instance(node))).ok(202)
		must(t, r.LoseSled("instance:"+node))
		r.cutOff("POST", k.path+"/detach", nil)
		eventually(t, "recovery", func() bool { return k.state() != "detaching" })
		if s := k.state(); s != "attached" {
			t.Errorf("%s: a detach that never reached the sled ended as %s", k.name, s)
		}
		must(t, r.RecoverSled("instance:"+node))
	}
}

// OXIDE_API.md §8, §13: recovery completes what was cut off, both ways, without being asked.
func TestRecoveryCompletesWhatWasCutOff(t *testing.T) {
	r := startRack(t, oxidesim.Config{})
	i := r.instance("node-1")
	for _, k := range r.attachables() {
		r.cutOff("POST", k.path+"/attach", k.to(i))
		eventually(t, "attached", func() bool { return k.state() == "attached" })
		r.cutOff("POST", k.path+"/detach", nil)
		eventually(t, "detached", func() bool { return k.state() == "detached" })
	}
}
