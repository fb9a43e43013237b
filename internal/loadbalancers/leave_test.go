// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package loadbalancers_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers"
)

// Who edits ports makes way, even if its address was left where it is at first.
func TestAnAddressThatIsLeftWhereItIsMayYetHaveToMakeWay(t *testing.T) {
	r := newRack(t)
	older, younger := served("default/older", 80), served("default/younger", 81)
	younger.Created = older.Created.Add(time.Second)
	r.ensure(t, r.only(0), older)
	r.ensure(t, r.only(0), younger)

	older.Ports = younger.Ports
	result, err := r.manager.Ensure(t.Context(), r.cluster(), older,
		loadbalancers.EnsureOptions{LeaveAttached: true})
	if err != nil || len(result.Actions) > 0 {
		t.Fatalf("it did %v, %v", result.Actions, err)
	}
	set, err := r.manager.Reconcile(t.Context(), r.cluster(),
		[]loadbalancers.Desired{older, younger}, realSet)
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []string{r.nodes[1], r.nodes[0]} {
		lb := set.Results[i].LoadBalancer
		if at := lb.Addresses[0].Attached.InstanceID; at != want {
			t.Errorf("%s is on %s, want %s", lb.Key, at, want)
		}
	}
}

// What proves whose a place is stays as it is until the address has moved: where an address is on an
// instance that never was of this cluster, nothing is changed, and where it is an adopted one's, its
// marker is not.
func TestAnAddressThatIsLeftAbroadKeepsItsMarker(t *testing.T) {
	for name, change := range map[string]func(*loadbalancers.Cluster, *loadbalancers.Desired){
		"another owner": func(_ *loadbalancers.Cluster, w *loadbalancers.Desired) { w.OwnerUID = "uid-2" },
		"adopted": func(c *loadbalancers.Cluster, w *loadbalancers.Desired) {
			c.Scope, c.Adopted, w.Key.Scope = "rebuilt", []string{scope}, "rebuilt"
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRack(t)
			r.ensure(t, r.only(0), web())
			before := r.FloatingIPs()
			elsewhere, want := r.only(1), web()
			change(&elsewhere, &want)
			m := r.restarted(t)
			set := []loadbalancers.Desired{want}
			if _, err := m.Reconcile(t.Context(), elsewhere, set, drySet); err != nil {
				t.Fatal(err)
			}
			result, err := m.Ensure(t.Context(), elsewhere, want,
				loadbalancers.EnsureOptions{LeaveAttached: true})
			if err != nil || len(result.Actions) > 0 {
				t.Errorf("it did %v, %v", result.Actions, err)
			}
			if diff := cmp.Diff(before, r.FloatingIPs()); diff != "" {
				t.Errorf("the rack (-before +after):\n%s", diff)
			}
		})
	}
}
