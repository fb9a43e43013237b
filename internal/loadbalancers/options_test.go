// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package loadbalancers_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/oxidesim"
)

var leaving = loadbalancers.EnsureOptions{LeaveAttached: true}

// A caller may want what is attached to stay for now.
func TestLeaveAttached(t *testing.T) {
	t.Run("the first attachment is made", func(t *testing.T) {
		r := newRack(t)
		if _, err := r.manager.Ensure(t.Context(), r.only(0), web(), leaving); err != nil {
			t.Fatal(err)
		}
		r.mustBeOn(t, 0)
	})
	t.Run("nothing is moved, exchanged or let go", func(t *testing.T) {
		r := newRack(t)
		want := web()
		want.Wanted = append(want.Wanted, loadbalancers.Wanted{
			Family: loadbalancers.IPv6, Source: loadbalancers.Source{Pool: "default-v6"},
		})
		r.ensure(t, r.only(0), want)
		before := r.FloatingIPs()
		result, err := r.manager.Ensure(t.Context(), r.only(1), web(), leaving)
		if err != nil || len(result.Actions) != 0 {
			t.Errorf("%+v, %v", result.Actions, err)
		}
		if diff := cmp.Diff(before, r.FloatingIPs()); diff != "" {
			t.Error(diff)
		}
	})
	t.Run("an edited port is still the one that makes way", func(t *testing.T) {
		r := newRack(t)
		set := services(2)
		set[0].Ports[0].Number, set[1].Ports[0].Number = 79, 80
		r.reconcile(t, r.only(0), set)
		set[0].Ports = []loadbalancers.Port{{Protocol: loadbalancers.TCP, Number: 80}}
		if _, err := r.manager.Ensure(t.Context(), r.cluster(), set[0], leaving); err != nil {
			t.Fatal(err)
		}
		r.reconcile(t, r.cluster(), set)
		for _, ip := range r.FloatingIPs() {
			marker, _ := loadbalancers.ParseMarker(ip.Description)
			if moved := ip.InstanceID == r.nodes[1]; moved != (marker.Key == set[0].Key) {
				t.Errorf("%s is on %s", marker.Key, ip.Instance)
			}
		}
	})
	t.Run("what another cluster uses is told, and not marked", func(t *testing.T) {
		r := newRack(t)
		r.ensure(t, r.only(0), web())
		foreigner := r.restarted(t)
		if _, err := foreigner.Reconcile(t.Context(), r.only(1), nil, realSet); err != nil {
			t.Fatal(err)
		}
		before := r.FloatingIPs()
		theirs := web()
		theirs.OwnerUID = "uid-of-the-clone"
		result, err := foreigner.Ensure(t.Context(), r.only(1), theirs, leaving)
		if err != nil {
			t.Fatal(err)
		}
		if c := result.LoadBalancer.Conditions; len(c) == 0 ||
			c[0].Type != loadbalancers.ForeignAttachment {
			t.Errorf("told %+v", c)
		}
		if diff := cmp.Diff(before, r.FloatingIPs()); diff != "" {
			t.Error(diff)
		}
	})
}

// A caller may want only some load balancers to be changed: the others keep their places until their
// turn comes, and are described as they are.
func TestReconcileOfSome(t *testing.T) {
	r := newRackOf(t, 2, oxidesim.Config{})
	set := services(2)
	if _, err := r.AddFloatingIP("demo", oxidesim.FloatingIPSeed{Name: "mine"}); err != nil {
		t.Fatal(err)
	}
	set[0].Wanted[0].Source.Existing = "mine"
	r.reconcile(t, r.only(0), set[:1])
	set[1].Ports = set[0].Ports
	// The first has to leave the node, and the second would be free to have its place.
	set[0].Eligible = map[string]bool{r.nodes[1]: true}
	set[1].Eligible = map[string]bool{r.nodes[0]: true}
	second := loadbalancers.SetOptions{Only: map[string]bool{set[1].Key.Name: true}}
	result, err := r.manager.Reconcile(t.Context(), r.cluster(), set, second)
	if err != nil {
		t.Fatal(err)
	}
	first := result.Results[0]
	if first.Err != nil || len(first.Actions) != 0 || len(first.LoadBalancer.Addresses) != 1 ||
		first.LoadBalancer.Addresses[0].Name != "mine" ||
		first.LoadBalancer.Addresses[0].Attached.InstanceID != r.nodes[0] {
		t.Errorf("the other one: %+v", first)
	}
	if err := result.Results[1].Err; !loadbalancers.IsReason(err, loadbalancers.ReasonPortConflict) {
		t.Errorf("got a place that is not free: %v", err)
	}
	for range 2 {
		if _, err := r.manager.Reconcile(t.Context(), r.cluster(), set, realSet); err != nil {
			t.Fatal(err)
		}
	}
	for _, node := range r.Instances() {
		if len(node.Floating) != 1 {
			t.Errorf("%s carries %v", node.Name, node.Floating)
		}
	}
}
