// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package loadbalancers_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/oxidesim"
)

// addUsers adds an address of a user.
func (r *rack) addUsers(t *testing.T, name, description, instance string) oxidesim.FloatingIP {
	t.Helper()
	ip, err := r.AddFloatingIP("demo", oxidesim.FloatingIPSeed{
		Name: name, Description: description, Instance: instance,
	})
	if err != nil {
		t.Fatal(err)
	}
	return ip
}

// adopt adopts an address for web by hand.
func (r *rack) adopt(t *testing.T, nameOrID string, dryRun bool) (loadbalancers.Outcome, error) {
	t.Helper()
	return r.manager.Adopt(t.Context(), nameOrID, webKey, "uid-1", dryRun)
}

// described returns the description of an address.
func (r *rack) described(t *testing.T, id string) string {
	t.Helper()
	for _, ip := range r.FloatingIPs() {
		if ip.ID == id {
			return ip.Description
		}
	}
	t.Fatalf("there is no floating IP %s", id)
	return ""
}

func TestAdoptByHand(t *testing.T) {
	const text = "Ours since 2019.\nAsk ops."
	r := newRack(t)
	mine := r.addUsers(t, "mine", text, "node-1")
	outcome, err := r.adopt(t, "mine", true)
	if err != nil || len(outcome.Actions) != 1 || outcome.Address.Managed ||
		r.described(t, mine.ID) != text {
		t.Errorf("a dry run: %+v, %v", outcome, err)
	}
	for _, by := range []string{"mine", mine.ID} {
		outcome, err = r.adopt(t, by, false)
		if err != nil || !outcome.Address.Managed || outcome.Address.Name != "mine" ||
			outcome.Address.Attached.InstanceID != r.nodes[0] {
			t.Fatalf("got %+v, %v", outcome, err)
		}
	}
	if len(outcome.Actions) != 0 {
		t.Errorf("a second time: %+v", outcome.Actions)
	}
	got := r.described(t, mine.ID)
	if marker, _ := loadbalancers.ParseMarker(got); marker.Key != webKey || !strings.HasPrefix(got, text) {
		t.Errorf("described %q", got)
	}
	if has := r.ensure(t, r.cluster(), web()).LoadBalancer.Addresses; len(has) != 1 ||
		has[0].ID != mine.ID {
		t.Errorf("the load balancer has %+v", has)
	}
}

func TestAdoptByHandIsRefused(t *testing.T) {
	for _, tc := range []struct {
		name    string
		prepare func(t *testing.T, r *rack)
		reason  loadbalancers.Reason
		says    string
	}{
		{
			name: "there is none", prepare: func(*testing.T, *rack) {},
			reason: loadbalancers.ReasonResourceNotFound, says: "no floating IP x",
		},
		{
			name: "it is another load balancer's",
			prepare: func(t *testing.T, r *rack) {
				r.addUsers(t, "x", loadbalancers.Marker{
					Key:      loadbalancers.Key{Scope: scope, Name: "default/other"},
					OwnerUID: "u", Family: loadbalancers.IPv4, Source: "default",
				}.String(), "")
			},
			reason: loadbalancers.ReasonNotOwned, says: "release it there first",
		},
		{
			name: "the load balancer has one already",
			prepare: func(t *testing.T, r *rack) {
				r.ensure(t, r.cluster(), web())
				r.addUsersOwn(t, "x")
			},
			reason: loadbalancers.ReasonInUse, says: "release that first",
		},
		{
			name: "another one names it as the user's own",
			prepare: func(t *testing.T, r *rack) {
				r.addUsersOwn(t, "x")
				other := served("default/other", 81)
				other.Wanted[0].Source.Existing = "x"
				r.ensure(t, r.cluster(), other)
			},
			reason: loadbalancers.ReasonInUse, says: "default/other uses the floating IP x",
		},
		{
			name: "its description leaves no room",
			prepare: func(t *testing.T, r *rack) {
				r.addUsers(t, "x", strings.Repeat("x", 500), "")
			},
			reason: loadbalancers.ReasonInvalid, says: "characters",
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := newRack(t)
			tc.prepare(t, r)
			before := r.FloatingIPs()
			for _, dryRun := range []bool{true, false} {
				_, err := r.adopt(t, "x", dryRun)
				if !loadbalancers.IsReason(err, tc.reason) || !strings.Contains(err.Error(), tc.says) {
					t.Errorf("got %v, want one that says %q", err, tc.says)
				}
			}
			if diff := cmp.Diff(before, r.FloatingIPs()); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// What is released is the user's, attached as before, and described as before it was marked.
func TestReleaseByHand(t *testing.T) {
	r := newRack(t)
	mine := r.addUsers(t, "mine", "", "node-1")
	if _, err := r.adopt(t, "mine", false); err != nil {
		t.Fatal(err)
	}
	set := []loadbalancers.Desired{web()}
	r.reconcile(t, r.cluster(), set)
	_, err := r.manager.Release(t.Context(), "mine", false)
	if !loadbalancers.IsReason(err, loadbalancers.ReasonInUse) {
		t.Errorf("released while it is wanted: %v", err)
	}
	r.reconcile(t, r.cluster(), nil)
	for _, dryRun := range []bool{true, false} {
		outcome, err := r.manager.Release(t.Context(), "mine", dryRun)
		if err != nil || len(outcome.Actions) != 1 {
			t.Fatalf("got %+v, %v", outcome, err)
		}
		if marked := r.described(t, mine.ID) != ""; marked != dryRun {
			t.Errorf("dry run %v: described %q", dryRun, r.described(t, mine.ID))
		}
	}
	r.mustBeOn(t, 0)
	if outcome, err := r.manager.Release(t.Context(), "mine", false); err != nil ||
		len(outcome.Actions) != 0 || outcome.Address.Managed {
		t.Errorf("once more: %+v, %v", outcome, err)
	}
}

func TestOrphansAreDeletedByHandAlone(t *testing.T) {
	r, set := newRack(t), services(3)
	r.addUsersOwn(t, "mine")
	r.reconcile(t, r.cluster(), set)
	result := r.reconcile(t, r.cluster(), set[:1])
	if len(result.Orphans) != 2 || len(r.FloatingIPs()) != 4 {
		t.Fatalf("orphans %+v", result.Orphans)
	}
	orphans, err := r.manager.Orphans(t.Context(), scope)
	if diff := cmp.Diff(result.Orphans, orphans, byText); diff != "" || err != nil {
		t.Errorf("%v\n%s", err, diff)
	}
	for _, ip := range r.FloatingIPs() {
		marker, _ := loadbalancers.ParseMarker(ip.Description)
		if marker.Key == set[1].Key || marker.Key == set[2].Key {
			continue
		}
		_, err := r.manager.DeleteOrphan(t.Context(), scope, ip.ID, false)
		if !loadbalancers.IsReason(err, loadbalancers.ReasonNotOwned) {
			t.Errorf("%s, which is no orphan: %v", ip.Name, err)
		}
	}
	id := orphans[0].Addresses[0].ID
	for _, left := range []int{4, 3, 3} {
		actions, err := r.manager.DeleteOrphan(t.Context(), scope, id, left == 4)
		if err != nil || len(r.FloatingIPs()) != left {
			t.Errorf("%d are left: %+v, %v", len(r.FloatingIPs()), actions, err)
		}
	}
	if orphans, err = r.manager.Orphans(t.Context(), scope); err != nil || len(orphans) != 1 {
		t.Errorf("left are the orphans %+v, %v", orphans, err)
	}
}

// Its load balancer comes back at the moment when an orphan is to be deleted: it is none any more.
func TestAnOrphanThatIsClaimedMeanwhileIsNotDeleted(t *testing.T) {
	r, set := newRack(t), services(1)
	r.reconcile(t, r.only(0), set)
	id := r.theOnlyAddress(t).ID
	r.reconcile(t, r.cluster(), nil)
	if _, err := r.AddFault(oxidesim.Fault{
		Operation: "floating_ip_attach", LatencyMS: 500,
	}); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() {
		_, err := r.manager.Ensure(t.Context(), onlySecond(r), set[0], real)
		done <- err
	}()
	await(t, "the address is moved", func() bool { return r.Count("floating_ip_detach") > 0 })
	_, err := r.manager.DeleteOrphan(t.Context(), scope, id, false)
	if !loadbalancers.IsReason(err, loadbalancers.ReasonNotOwned) {
		t.Errorf("while it is moved: %v", err)
	}
	if orphans, err := r.manager.Orphans(t.Context(), scope); err != nil || len(orphans) != 0 {
		t.Errorf("while it is moved, told of as orphans: %+v, %v", orphans, err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	r.mustBeOn(t, 1)
}

func onlySecond(r *rack) loadbalancers.Cluster {
	c := r.cluster()
	c.Candidates[0].Health = loadbalancers.Unhealthy
	return c
}

// An operator's change is planned again once it is the only one: here the address was taken by another
// load balancer while the operator waited.
func TestWhatOperatorsDoIsVerifiedAgain(t *testing.T) {
	r := newRack(t)
	r.addUsers(t, "mine", "", "")
	// Whoever comes first holds the lock of web while the reading is slow.
	if _, err := r.AddFault(oxidesim.Fault{
		Operation: "floating_ip_create", LatencyMS: 300,
	}); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() {
		_, err := r.manager.Ensure(t.Context(), r.only(0), web(), real)
		done <- err
	}()
	await(t, "the load balancer has an address under way", func() bool {
		return r.Count("floating_ip_list") > 0
	})
	_, err := r.adopt(t, "mine", false)
	if !loadbalancers.IsReason(err, loadbalancers.ReasonInUse) {
		t.Errorf("adopted a second address: %v", err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}
