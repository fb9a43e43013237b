// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package loadbalancers_test

import (
	"net/netip"
	"testing"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers"
)

// The status leads: a caller that publishes first is never overtaken by Ensure.
func TestAnAddressThatIsToBeLeftIsAttachedOnlyWhileNothingIsPublished(t *testing.T) {
	r := newRack(t)
	ensure := func(cluster loadbalancers.Cluster, published ...string) {
		t.Helper()
		want := web()
		for _, address := range published {
			want.Published = append(want.Published, netip.MustParseAddr(address))
		}
		_, err := r.manager.Ensure(t.Context(), cluster, want,
			loadbalancers.EnsureOptions{LeaveAttached: true})
		if err != nil {
			t.Fatal(err)
		}
	}
	ensure(r.only(0))
	r.mustBeOn(t, 0)
	sick := r.cluster()
	sick.Candidates[0].Health = loadbalancers.Unhealthy
	ensure(sick)
	r.mustBeOn(t, 0)

	ip := r.theOnlyAddress(t)
	if err := r.SetAttachState(ip.Name, "detached", ""); err != nil {
		t.Fatal(err)
	}
	r.manager = r.newManager(t)
	ensure(r.only(0), ip.IP)
	if now := r.theOnlyAddress(t); now.AttachState != "detached" {
		t.Errorf("the address is published, and was attached all the same: %+v", now)
	}
	ensure(r.only(0))
	r.mustBeOn(t, 0)
}
