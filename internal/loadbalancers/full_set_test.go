// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package loadbalancers_test

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/oxidesim"
)

// A backend that was started a moment ago knows one load balancer of many: it leaves everything that
// may conflict with the others as it is until it is told the full set.
func TestBeforeTheFullSetIsKnown(t *testing.T) {
	const legacy = "Managed by oxide-cloud-controller-manager."
	for _, tc := range []struct {
		name    string
		prepare func(t *testing.T, r *rack) (loadbalancers.Cluster, loadbalancers.Desired)
		refused bool
	}{
		{
			name: "what is as desired is told",
			prepare: func(t *testing.T, r *rack) (loadbalancers.Cluster, loadbalancers.Desired) {
				r.ensure(t, r.only(0), web())
				return r.only(0), web()
			},
		},
		{
			name: "a new owner is noted",
			prepare: func(t *testing.T, r *rack) (loadbalancers.Cluster, loadbalancers.Desired) {
				r.ensure(t, r.only(0), web())
				next := web()
				next.OwnerUID = "uid-2"
				return r.only(0), next
			},
		},
		{
			name: "nothing is attached", refused: true,
			prepare: func(_ *testing.T, r *rack) (loadbalancers.Cluster, loadbalancers.Desired) {
				return r.only(0), web()
			},
		},
		{
			name: "nothing is moved", refused: true,
			prepare: func(t *testing.T, r *rack) (loadbalancers.Cluster, loadbalancers.Desired) {
				r.ensure(t, r.only(0), web())
				c := r.cluster()
				c.Candidates[0].Health = loadbalancers.Unhealthy
				return c, web()
			},
		},
		{
			name: "nothing is let go: another one may publish it", refused: true,
			prepare: func(t *testing.T, r *rack) (loadbalancers.Cluster, loadbalancers.Desired) {
				both := web()
				both.Wanted = append(both.Wanted, loadbalancers.Wanted{
					Family: loadbalancers.IPv6, Source: loadbalancers.Source{Pool: "default-v6"},
				})
				r.ensure(t, r.only(0), both)
				return r.only(0), web()
			},
		},
		{
			name: "nothing is taken over: another one may be older", refused: true,
			prepare: func(t *testing.T, r *rack) (loadbalancers.Cluster, loadbalancers.Desired) {
				old, err := r.AddFloatingIP("demo", oxidesim.FloatingIPSeed{
					Name: "kubernetes-default-web", Description: legacy, Instance: "node-1",
				})
				if err != nil {
					t.Fatal(err)
				}
				c, want := r.only(0), web()
				c.LegacyName = "kubernetes"
				want.Published = []netip.Addr{netip.MustParseAddr(old.IP)}
				return c, want
			},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := newRack(t)
			c, want := tc.prepare(t, r)
			manager, before := r.restarted(t), r.FloatingIPs()
			_, err := manager.Ensure(t.Context(), c, want, real)
			if !tc.refused {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			if !loadbalancers.IsReason(err, loadbalancers.ReasonFullSetRequired) {
				t.Errorf("got %v", err)
			}
			if diff := cmp.Diff(before, r.FloatingIPs()); diff != "" {
				t.Errorf("something was changed:\n%s", diff)
			}
			set := []loadbalancers.Desired{want}
			if _, err := manager.Reconcile(t.Context(), c, set, realSet); err != nil {
				t.Fatal(err)
			}
			again, err := manager.Ensure(t.Context(), c, want, real)
			if err != nil || len(again.Actions) != 0 {
				t.Errorf("once it is known: %+v, %v", again.Actions, err)
			}
		})
	}
}

// What operators ask for takes to know the set, too.
func TestOrphansAndRebalanceTakeAFullSet(t *testing.T) {
	r := newRack(t)
	manager := r.restarted(t)
	_, orphans := manager.Orphans(t.Context(), scope)
	_, deletion := manager.DeleteOrphan(t.Context(), scope, r.nodes[0], false)
	_, rebalance := manager.Rebalance(t.Context(), r.cluster(), nil, false)
	_, soon := manager.RebalanceSoon(t.Context(), scope, false)
	for what, err := range map[string]error{
		"orphans": orphans, "deletion of one": deletion, "rebalance": rebalance,
		"rebalance soon": soon,
	} {
		if !loadbalancers.IsReason(err, loadbalancers.ReasonFullSetRequired) {
			t.Errorf("%s: got %v", what, err)
		}
	}
	if manager.AllLoadBalancersKnown() {
		t.Error("all load balancers are known before any was told")
	}
	if _, err := manager.Reconcile(t.Context(), r.cluster(), nil, drySet); err != nil {
		t.Fatal(err)
	}
	if !manager.AllLoadBalancersKnown() {
		t.Error("not all load balancers are known though a set was told")
	}
}
