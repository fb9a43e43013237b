// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package loadbalancers_test

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/oxide"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/oxidesim"
)

// services are load balancers with a port each, the oldest first.
func services(n int) []loadbalancers.Desired {
	var set []loadbalancers.Desired
	for i := range n {
		want := served(fmt.Sprintf("default/svc-%d", i), 8000+i)
		want.Created = time.Date(2026, 1, 1+i, 0, 0, 0, 0, time.UTC)
		set = append(set, want)
	}
	return set
}

// reconcile reconciles, and fails if anything does.
func (r *rack) reconcile(
	t *testing.T, cluster loadbalancers.Cluster, set []loadbalancers.Desired,
) loadbalancers.SetResult {
	t.Helper()
	result, err := r.manager.Reconcile(t.Context(), cluster, set, realSet)
	if err != nil {
		t.Fatal(err)
	}
	for _, one := range result.Results {
		if one.Err != nil {
			t.Fatalf("%s: %v", one.LoadBalancer.Key, one.Err)
		}
	}
	return result
}

// requests counts those since the counters were reset.
func (r *rack) requests() int {
	n := 0
	for _, byStatus := range r.Counters() {
		for _, count := range byStatus {
			n += count
		}
	}
	return n
}

// mustBeServed fails unless each load balancer has exactly one address, on one of the nodes, and
// nothing is left over.
func (r *rack) mustBeServed(t *testing.T, set []loadbalancers.Desired, nodes ...int) {
	t.Helper()
	on, wanted := make(map[string]int), make(map[string]bool)
	for _, want := range set {
		wanted[want.Key.Name] = true
	}
	for _, ip := range r.FloatingIPs() {
		marker, marked := loadbalancers.ParseMarker(ip.Description)
		if !marked || !wanted[marker.Key.Name] {
			t.Errorf("left over: %+v", ip)
			continue
		}
		on[marker.Key.Name]++
		if ip.AttachState != "attached" || !slices.ContainsFunc(nodes, func(n int) bool {
			return r.nodes[n] == ip.InstanceID
		}) {
			t.Errorf("%s is %s on %q", ip.Name, ip.AttachState, ip.Instance)
		}
	}
	for name := range wanted {
		if on[name] != 1 {
			t.Errorf("%s has %d addresses", name, on[name])
		}
	}
}

func TestReconcileServesAllEvenly(t *testing.T) {
	r, set := newRackOf(t, 3, oxidesim.Config{}), services(20)
	r.reconcile(t, r.cluster(), set)
	r.mustBeServed(t, set, 0, 1, 2)
	for _, node := range r.Instances() {
		if n := len(node.Floating); n < 6 || n > 7 {
			t.Errorf("%s carries %d of 20 addresses on 3 nodes", node.Name, n)
		}
	}
	before := r.FloatingIPs()
	joined, err := r.AddInstance("demo", oxidesim.InstanceSeed{Name: "node-0"})
	if err != nil {
		t.Fatal(err)
	}
	r.nodes = append([]string{joined.ID}, r.nodes...)
	r.reconcile(t, r.cluster(), set)
	if after := r.FloatingIPs(); !slices.Equal(before, after) {
		t.Errorf("a node that joined moved something: %+v", after)
	}
	balanced, err := r.manager.Rebalance(t.Context(), r.cluster(), set, false)
	if err != nil || len(balanced.Results) != len(set) {
		t.Fatalf("%+v, %v", balanced, err)
	}
	for _, node := range r.Instances() {
		if n := len(node.Floating); n != 5 {
			t.Errorf("rebalanced, %s carries %d of 20 addresses on 4 nodes", node.Name, n)
		}
	}
}

// An operator asks for an even spread, and whoever reconciles next makes it: then it can publish first
// where an address will be. It is made once.
func TestAnEvenSpreadThatWasAskedForIsLeftToTheNextReconcile(t *testing.T) {
	r, set := newRackOf(t, 2, oxidesim.Config{}), services(6)
	r.reconcile(t, r.cluster(), set)
	joined, err := r.AddInstance("demo", oxidesim.InstanceSeed{Name: "node-0"})
	if err != nil {
		t.Fatal(err)
	}
	r.nodes = append(r.nodes, joined.ID)
	r.reconcile(t, r.cluster(), set)
	before := r.FloatingIPs()
	for _, dryRun := range []bool{true, false} {
		asked, err := r.manager.RebalanceSoon(t.Context(), scope, dryRun)
		actions := 0
		for _, one := range asked.Results {
			actions += len(one.Actions)
		}
		if err != nil || len(asked.Results) != len(set) || actions != 2*2 {
			t.Errorf("dry run %t: %d actions, %v: %+v", dryRun, actions, err, asked)
		}
		if after := r.FloatingIPs(); !slices.Equal(before, after) {
			t.Errorf("asking moved something: %+v", after)
		}
	}
	r.reconcile(t, r.cluster(), set)
	for _, node := range r.Instances() {
		if n := len(node.Floating); n != 2 {
			t.Errorf("%s carries %d of 6 addresses on 3 nodes", node.Name, n)
		}
	}
	r.reconcile(t, r.cluster(), set) // nothing left to move: it is forgotten
	r.nodes = r.nodes[:2]
	r.reconcile(t, r.cluster(), set)
	r.nodes = append(r.nodes, joined.ID)
	moved := r.FloatingIPs()
	r.reconcile(t, r.cluster(), set)
	if after := r.FloatingIPs(); !slices.Equal(moved, after) {
		t.Errorf("spread once more without being asked: %+v", after)
	}
}

// The promises of how many requests an operation costs, with warm caches.
func TestRequestsAreFew(t *testing.T) {
	r, set := newRackOf(t, 3, oxidesim.Config{}), services(20)
	c := r.cluster()
	r.reconcile(t, c, set)
	one := served("default/one", 80)
	one.Eligible = map[string]bool{r.nodes[0]: true}
	moved, again := one, one
	again.OwnerUID = "uid-2"
	moved.Eligible = map[string]bool{r.nodes[1]: true}
	for _, tc := range []struct {
		name string
		do   func()
		most int
	}{
		{"nothing to do for a set", func() { r.reconcile(t, c, set) }, 1},
		{"nothing to do for one", func() { r.ensure(t, c, set[7]) }, 1},
		{"create", func() { r.ensure(t, c, one) }, 3},
		{"nothing to do for the new one", func() { r.ensure(t, c, one) }, 1},
		{"move", func() { r.ensure(t, c, moved) }, 3},
		{"delete", func() {
			_, err := r.manager.Delete(t.Context(), loadbalancers.Deletion{
				Key: one.Key, OwnerUID: one.OwnerUID, Cluster: c,
			}, false)
			if err != nil {
				t.Fatal(err)
			}
		}, 3},
		{"nothing to delete", func() {
			if _, err := r.manager.Delete(t.Context(), gone("uid-1", false), false); err != nil {
				t.Fatal(err)
			}
		}, 1},
		{"create in a set", func() { r.reconcile(t, c, append(slices.Clip(set), again)) }, 3},
	} {
		r.ResetCounters()
		tc.do()
		if n := r.requests(); n > tc.most {
			t.Errorf("%s: %d requests, want at most %d: %v", tc.name, n, tc.most, r.Counters())
		}
	}
}

// One dead sled with several addresses holds up one change, and no other load balancer.
func TestADeadSledHoldsUpNoOther(t *testing.T) {
	r := newRackOf(t, 4, oxidesim.Config{Timings: oxidesim.Timings{SledTimeout: 1500 * time.Second}})
	on := func(set []loadbalancers.Desired, node int) {
		for i := range set {
			set[i].Eligible = map[string]bool{r.nodes[node]: true}
		}
	}
	set := services(8)
	on(set[:5], 0)
	on(set[5:], 1)
	r.reconcile(t, r.cluster(), set)
	if err := r.LoseSled("instance:node-1"); err != nil {
		t.Fatal(err)
	}
	on(set[:5], 2)
	on(set[5:], 3)
	r.ResetCounters()
	done := make(chan loadbalancers.SetResult, 1)
	go func() {
		result, err := r.manager.Reconcile(t.Context(), r.cluster(), set, realSet)
		if err != nil {
			t.Error(err)
		}
		done <- result
	}()
	await(t, "the others have moved", func() bool {
		n := 0
		for _, node := range r.Instances() {
			if node.ID == r.nodes[3] {
				n = len(node.Floating)
			}
		}
		return n == 3
	})
	select {
	case <-done:
		t.Error("the dead sled was not waited for at all")
	default:
	}
	// Whoever is not on the dead sled is not held up by the call that waits.
	if _, err := r.manager.Ensure(t.Context(), r.cluster(), set[6], real); err != nil {
		t.Errorf("meanwhile: %v", err)
	}
	result := <-done
	for i, one := range result.Results {
		if waits := oxide.IsKind(one.Err, oxide.KindUnavailable); waits != (i < 5) {
			t.Errorf("%s: %v", one.LoadBalancer.Key, one.Err)
		}
		for _, other := range result.Results {
			id := other.LoadBalancer.Addresses[0].ID
			if one.Err != nil && other.LoadBalancer.Key != one.LoadBalancer.Key &&
				strings.Contains(one.Err.Error(), id) {
				t.Errorf("%s is told of the address of %s: %v", one.LoadBalancer.Key,
					other.LoadBalancer.Key, one.Err)
			}
		}
	}
	if n := r.Count("floating_ip_detach"); n != 3+1 {
		t.Errorf("%d detaches were tried, want one on the dead sled and 3 elsewhere", n)
	}
	if err := r.RecoverSled("instance:node-1"); err != nil {
		t.Fatal(err)
	}
	r.reconcile(t, r.cluster(), set)
	r.mustBeServed(t, set, 2, 3)
}

// A pool that cannot be read hinders those alone who need a new address from it.
func TestAPoolThatCannotBeReadHindersNoOther(t *testing.T) {
	r, set := newRackOf(t, 2, oxidesim.Config{}), services(3)
	set[1].Wanted[0].Source.Pool = "default"
	r.reconcile(t, r.cluster(), set[:2])
	r.manager = r.newManager(t)
	if _, err := r.AddFault(oxidesim.Fault{
		Operation: "ip_pool_view", Status: 500, ErrorCode: "Internal",
	}); err != nil {
		t.Fatal(err)
	}
	set[2].Wanted[0].Source.Pool = "default"
	result, err := r.manager.Reconcile(t.Context(), r.only(1), set, realSet)
	if err != nil {
		t.Fatal(err)
	}
	for i, one := range result.Results {
		if failed := oxide.IsKind(one.Err, oxide.KindInternal); failed != (i == 2) {
			t.Errorf("%s: %v", one.LoadBalancer.Key, one.Err)
		}
	}
	r.mustBeServed(t, set[:2], 1)
}

// Invariant 4, with calls that know nothing of each other: two load balancers with one port, two
// nodes, and neither in the set that was told.
func TestInvariant4TwoAtOnceNeverShareAPlace(t *testing.T) {
	r := newRack(t)
	for round := range 15 {
		var wg sync.WaitGroup
		names := []string{fmt.Sprintf("default/a-%d", round), fmt.Sprintf("default/b-%d", round)}
		for _, name := range names {
			wg.Go(func() {
				_, err := r.manager.Ensure(t.Context(), r.cluster(), served(name, 80), real)
				if err != nil {
					t.Errorf("%s: %v", name, err)
				}
			})
		}
		wg.Wait()
		for _, node := range r.Instances() {
			if len(node.Floating) != 1 {
				t.Fatalf("round %d: %s carries %v", round, node.Name, node.Floating)
			}
		}
		for _, name := range names {
			wg.Go(func() {
				_, err := r.manager.Delete(t.Context(), loadbalancers.Deletion{
					Key: loadbalancers.Key{Scope: scope, Name: name}, OwnerUID: "uid-1",
				}, false)
				if err != nil {
					t.Errorf("%s: %v", name, err)
				}
			})
		}
		wg.Wait()
	}
	if left := r.FloatingIPs(); len(left) != 0 {
		t.Errorf("left over: %+v", left)
	}
}

// Invariant 6: two leaders may overlap, with sets of different age, and the newer has the last word.
func TestInvariant6TwoLeadersConverge(t *testing.T) {
	r, set := newRackOf(t, 3, oxidesim.Config{}), services(6)
	older, newer := r.newManager(t), r.newManager(t)
	edited := slices.Clone(set[1:])
	edited[0].Eligible = map[string]bool{r.nodes[2]: true}
	for range 5 {
		var wg sync.WaitGroup
		wg.Go(func() { _, _ = older.Reconcile(t.Context(), r.cluster(), set, realSet) })
		wg.Go(func() { _, _ = newer.Reconcile(t.Context(), r.cluster(), edited, realSet) })
		wg.Wait()
	}
	var last loadbalancers.SetResult
	for range 3 {
		var err error
		if last, err = newer.Reconcile(t.Context(), r.cluster(), edited, realSet); err != nil {
			t.Fatal(err)
		}
	}
	for _, one := range last.Results {
		if one.Err != nil || len(one.Actions) != 0 {
			t.Errorf("%s: %+v, %v", one.LoadBalancer.Key, one.Actions, one.Err)
		}
	}
	if len(last.Orphans) != 1 || last.Orphans[0].Key != set[0].Key {
		t.Errorf("orphans: %+v", last.Orphans)
	}
	for _, ip := range r.FloatingIPs() {
		if strings.HasPrefix(ip.Name, "lb-default-svc-0-") {
			continue
		}
		if ip.AttachState != "attached" {
			t.Errorf("%+v", ip)
		}
	}
	if n := len(r.FloatingIPs()); n != 6 {
		t.Errorf("%d addresses for 6 load balancers", n)
	}
}
