// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package loadbalancers_test

import (
	"testing"
	"time"

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
