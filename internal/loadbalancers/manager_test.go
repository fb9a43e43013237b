// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package loadbalancers_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/instances"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/oxide"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/oxidesim"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const scope = "cluster-1"

var webKey = loadbalancers.Key{Scope: scope, Name: "default/web"}

// How an operation is made.
var (
	dry  = loadbalancers.EnsureOptions{DryRun: true}
	real = loadbalancers.EnsureOptions{}

	drySet  = loadbalancers.SetOptions{DryRun: true}
	realSet = loadbalancers.SetOptions{}
)

// rack is a simulated rack with nodes, and a Manager that works on it.
type rack struct {
	*oxidesim.Server
	// api is how a user changes things by hand.
	api     *oxide.Client
	manager *loadbalancers.Manager
	nodes   []string
}

// newRack returns a rack with two nodes.
func newRack(t *testing.T) *rack {
	t.Helper()
	return newRackOf(t, 2, oxidesim.Config{})
}

func newRackOf(t *testing.T, nodes int, config oxidesim.Config) *rack {
	t.Helper()
	r := &rack{Server: oxidesim.Start(t, config)}
	for i := range nodes {
		name := fmt.Sprintf("node-%d", i+1)
		node, err := r.AddInstance("demo", oxidesim.InstanceSeed{Name: name})
		if err != nil {
			t.Fatal(err)
		}
		r.nodes = append(r.nodes, node.ID)
	}
	r.manager = r.newManager(t)
	return r
}

// newManager returns another Manager for the same rack, as another backend has one.
func (r *rack) newManager(t *testing.T) *loadbalancers.Manager {
	t.Helper()
	manager := r.restarted(t)
	if _, err := manager.Reconcile(t.Context(), r.cluster(), nil, drySet); err != nil {
		t.Fatal(err)
	}
	r.ResetCounters()
	return manager
}

// restarted returns a Manager that has not been told any load balancer.
func (r *rack) restarted(t *testing.T) *loadbalancers.Manager {
	t.Helper()
	host, err := oxide.ParseHost(r.URL)
	if err != nil {
		t.Fatal(err)
	}
	token, err := oxide.StaticToken(oxidesim.DefaultToken)
	if err != nil {
		t.Fatal(err)
	}
	client, err := oxide.New(oxide.Config{
		Host: host, Token: token, Project: oxidesim.DefaultProject,
	}, prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	r.api = client
	manager := loadbalancers.NewManager(client)
	manager.UseInventory(instances.NewFinder(client, instances.NewInventory(client, manager)))
	return manager
}

func (r *rack) cluster() loadbalancers.Cluster {
	c := loadbalancers.Cluster{Scope: scope}
	for _, id := range r.nodes {
		c.Candidates = append(c.Candidates, loadbalancers.Candidate{InstanceID: id})
	}
	return c
}

func (r *rack) only(node int) loadbalancers.Cluster {
	c := r.cluster()
	c.Candidates = c.Candidates[node : node+1]
	return c
}

func (r *rack) ensure(
	t *testing.T, cluster loadbalancers.Cluster, want loadbalancers.Desired,
) loadbalancers.Result {
	t.Helper()
	result, err := r.manager.Ensure(t.Context(), cluster, want, real)
	if err != nil {
		t.Fatal(err)
	}
	return result
}

// theOnlyAddress fails unless the rack has exactly one floating IP, and returns it.
func (r *rack) theOnlyAddress(t *testing.T) oxidesim.FloatingIP {
	t.Helper()
	ips := r.FloatingIPs()
	if len(ips) != 1 {
		t.Fatalf("the rack has %d floating IPs, want one: %+v", len(ips), ips)
	}
	return ips[0]
}

func (r *rack) mutations() int {
	n := 0
	for operation, byStatus := range r.Counters() {
		if strings.HasPrefix(operation, "floating_ip_") &&
			operation != "floating_ip_list" && operation != "floating_ip_view" {
			for _, count := range byStatus {
				n += count
			}
		}
	}
	return n
}

func web() loadbalancers.Desired {
	return loadbalancers.Desired{
		Key: webKey, OwnerUID: "uid-1",
		Wanted: []loadbalancers.Wanted{{Family: loadbalancers.IPv4}},
		Ports:  []loadbalancers.Port{{Protocol: loadbalancers.TCP, Number: 80}},
	}
}

// served is another load balancer.
func served(name string, port int) loadbalancers.Desired {
	want := web()
	want.Key.Name = name
	want.Ports[0].Number = port
	return want
}

// gone is the end of web.
func gone(ownerUID string, retain bool) loadbalancers.Deletion {
	return loadbalancers.Deletion{Key: webKey, OwnerUID: ownerUID, Retain: retain}
}

func TestEnsureGivesOneAddressOnOneNode(t *testing.T) {
	r := newRack(t)
	result := r.ensure(t, r.cluster(), web())
	onRack := r.theOnlyAddress(t)
	if len(result.LoadBalancer.Addresses) != 1 {
		t.Fatalf("got %+v", result.LoadBalancer)
	}
	got := result.LoadBalancer.Addresses[0]
	if got.ID != onRack.ID || got.Addr.String() != onRack.IP || onRack.AttachState != "attached" ||
		got.Attached.InstanceID != onRack.InstanceID {
		t.Errorf("answered %+v, the rack has %+v", got, onRack)
	}
	for _, node := range r.Instances() {
		if node.ID == onRack.InstanceID && got.Attached.PrivateAddr.String() != node.PrivateIPs["v4"] {
			t.Errorf("answered the private address %s, the node has %s",
				got.Attached.PrivateAddr, node.PrivateIPs["v4"])
		}
	}
	marker, ok := loadbalancers.ParseMarker(onRack.Description)
	if !ok || marker.Key != webKey || marker.OwnerUID != "uid-1" {
		t.Errorf("the address is marked %q", onRack.Description)
	}
}

// Invariant 6: every step is idempotent.
func TestInvariant6TenRepetitionsChangeNothing(t *testing.T) {
	r := newRack(t)
	first := r.ensure(t, r.cluster(), web())
	r.ResetCounters()
	for range 10 {
		again := r.ensure(t, r.cluster(), web())
		if diff := cmp.Diff(first.LoadBalancer, again.LoadBalancer, byText); diff != "" {
			t.Error(diff)
		}
		if len(again.Actions) != 0 {
			t.Errorf("a repetition did %+v", again.Actions)
		}
	}
	if n := r.mutations(); n != 0 {
		t.Errorf("ten repetitions sent %d mutations", n)
	}
	for range 10 {
		if _, err := r.manager.Delete(t.Context(), gone("uid-1", false), false); err != nil {
			t.Fatal(err)
		}
	}
	if ips := r.FloatingIPs(); len(ips) != 0 {
		t.Errorf("left over: %+v", ips)
	}
	if n := r.mutations(); n != 2 {
		t.Errorf("ten deletions sent %d mutations, want a detach and a delete", n)
	}
}

// Invariant 6: the process may die, or an answer be lost, at any call of Oxide; the next run
// converges. Each call in turn is not carried out, or carried out and its answer lost.
func TestInvariant6EveryCallMayFail(t *testing.T) {
	stories := []struct {
		name  string
		play  func(r *rack, ctx context.Context) error
		holds func(t *testing.T, r *rack)
	}{
		{
			name: "create",
			play: func(r *rack, ctx context.Context) error {
				_, err := r.manager.Ensure(ctx, r.only(0), web(), real)
				return err
			},
			holds: func(t *testing.T, r *rack) { r.mustBeOn(t, 0) },
		},
		{
			name: "move",
			play: func(r *rack, ctx context.Context) error {
				_, err := r.manager.Ensure(ctx, r.only(1), web(), real)
				return err
			},
			holds: func(t *testing.T, r *rack) { r.mustBeOn(t, 1) },
		},
		{
			name: "delete",
			play: func(r *rack, ctx context.Context) error {
				_, err := r.manager.Delete(ctx, gone("uid-1", false), false)
				return err
			},
			holds: func(t *testing.T, r *rack) {
				if ips := r.FloatingIPs(); len(ips) != 0 {
					t.Errorf("left over: %+v", ips)
				}
			},
		},
	}
	operations := []string{
		"floating_ip_list", "floating_ip_create", "floating_ip_attach", "floating_ip_detach",
		"floating_ip_delete", "vpc_subnet_list_network_interfaces", "vpc_list",
	}
	for _, operation := range operations {
		for _, fault := range []struct {
			name string
			oxidesim.Fault
		}{
			{"not carried out", oxidesim.Fault{Status: 503, ErrorCode: "ServiceNotAvailable"}},
			{"answer lost", oxidesim.Fault{Execute: true, Reset: true}},
			{"answered 500", oxidesim.Fault{Status: 500, ErrorCode: "Internal"}},
			{"answered 500 though done", oxidesim.Fault{
				Status: 500, ErrorCode: "Internal", Execute: true,
			}},
		} {
			t.Run(operation+" "+fault.name, func(t *testing.T) {
				r := newRack(t)
				for _, story := range stories {
					rule := fault.Fault
					rule.Operation, rule.Nth = operation, []int{1}
					id, err := r.AddFault(rule)
					if err != nil {
						t.Fatal(err)
					}
					_ = story.play(r, t.Context())
					r.RemoveFault(id)
					if err := story.play(r, t.Context()); err != nil {
						t.Fatalf("%s, the second time: %v", story.name, err)
					}
					story.holds(t, r)
				}
			})
		}
	}
}

func (r *rack) mustBeOn(t *testing.T, node int) {
	t.Helper()
	ip := r.theOnlyAddress(t)
	if ip.InstanceID != r.nodes[node] || ip.AttachState != "attached" {
		t.Errorf("the address is %s on %s, want it on node-%d", ip.AttachState, ip.Instance, node+1)
	}
}

// Invariant 3 and 6: two leaders may overlap.
func TestInvariant6TwoBackendsMakeOneAddress(t *testing.T) {
	r := newRack(t)
	managers := []*loadbalancers.Manager{r.newManager(t), r.newManager(t)}
	var wg sync.WaitGroup
	for _, m := range managers {
		wg.Go(func() { _, _ = m.Ensure(t.Context(), r.only(0), web(), real) })
	}
	wg.Wait()
	for _, m := range managers {
		if _, err := m.Ensure(t.Context(), r.only(0), web(), real); err != nil {
			t.Error(err)
		}
	}
	r.mustBeOn(t, 0)
}

func TestNothingIsBegunOnceTheCallIsCancelled(t *testing.T) {
	r := newRack(t)
	if _, err := r.AddFault(oxidesim.Fault{
		Operation: "floating_ip_create", LatencyMS: 200,
	}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		_, err := r.manager.Ensure(ctx, r.cluster(), web(), real)
		done <- err
	}()
	await(t, "the create is under way", func() bool { return r.Count("floating_ip_list") > 0 })
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	// Oxide finishes what it was sent; what matters is that no attach follows.
	await(t, "Oxide has finished the create", func() bool {
		return r.Count("floating_ip_create") == 0 || len(r.FloatingIPs()) == 1
	})
	if n := r.Count("floating_ip_attach"); n != 0 {
		t.Errorf("%d attaches were sent after the cancellation", n)
	}
}

func TestDryRunChangesNothing(t *testing.T) {
	r := newRack(t)
	result, err := r.manager.Ensure(t.Context(), r.only(0), web(), dry)
	if err != nil {
		t.Fatal(err)
	}
	var planned []string
	for _, a := range result.Actions {
		planned = append(planned, a.Type.String())
	}
	if diff := cmp.Diff([]string{"create", "attach"}, planned); diff != "" {
		t.Error(diff)
	}
	address := result.LoadBalancer.Addresses[0]
	if address.Attached.InstanceID != "" || address.Planned.InstanceID != r.nodes[0] {
		t.Errorf("got %+v", address)
	}
	r.ensure(t, r.only(0), web())
	move, err := r.manager.Ensure(t.Context(), r.only(1), web(), dry)
	if err != nil {
		t.Fatal(err)
	}
	address = move.LoadBalancer.Addresses[0]
	if address.Attached.InstanceID != r.nodes[0] || address.Planned.InstanceID != r.nodes[1] {
		t.Errorf("got %+v", address)
	}
	if _, err := r.manager.Delete(t.Context(), gone("", false), true); err != nil {
		t.Fatal(err)
	}
	r.mustBeOn(t, 0)
}

func TestActionsSayWhenTheyWereDone(t *testing.T) {
	r := newRack(t)
	planned, err := r.manager.Ensure(t.Context(), r.only(0), web(), dry)
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range planned.Actions {
		if !a.EndTime.IsZero() {
			t.Errorf("%s was not done, and says %s", a.Type, a.EndTime)
		}
	}
	last := time.Now()
	done, err := r.manager.Ensure(t.Context(), r.only(0), web(), real)
	if err != nil || len(done.Actions) != 2 {
		t.Fatalf("done: %+v, %v", done.Actions, err)
	}
	for _, a := range done.Actions {
		if a.EndTime.Before(last) || a.EndTime.After(time.Now()) {
			t.Errorf("%s says %s, want between %s and now", a.Type, a.EndTime, last)
		}
		last = a.EndTime
	}
}

func TestNodeWithoutACandidateReservesTheAddress(t *testing.T) {
	r := newRack(t)
	result := r.ensure(t, loadbalancers.Cluster{Scope: scope}, web())
	ip := r.theOnlyAddress(t)
	if ip.AttachState != "detached" || len(result.LoadBalancer.Conditions) != 1 ||
		result.LoadBalancer.Conditions[0].Type != loadbalancers.NoCandidate {
		t.Errorf("the rack has %+v, answered %+v", ip, result.LoadBalancer)
	}
}

// What is in use is described, and no orphan, until what is wanted instead has a place.
func TestAnAddressServesOnUntilTheWantedOneHasAPlace(t *testing.T) {
	r := newRack(t)
	before := r.ensure(t, r.cluster(), web()).LoadBalancer.Addresses[0]
	want := web()
	want.Wanted[0].Source.Addr = before.Addr.Next().Next()
	cluster := r.cluster()
	for i := range cluster.Candidates {
		cluster.Candidates[i].Health = loadbalancers.Unhealthy
	}
	found, err := r.manager.Reconcile(t.Context(), cluster, []loadbalancers.Desired{want},
		loadbalancers.SetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	addresses := found.Results[0].LoadBalancer.Addresses
	if len(addresses) != 2 || addresses[0].ID != before.ID || addresses[0].Attached != before.Attached {
		t.Errorf("had %+v, and then %+v", before, addresses)
	}
	if len(found.Orphans) != 0 {
		t.Errorf("taken for orphans: %+v", found.Orphans)
	}
}

func TestRetainedAddressComesBack(t *testing.T) {
	r := newRack(t)
	before := r.ensure(t, r.cluster(), web()).LoadBalancer.Addresses[0]
	if _, err := r.manager.Delete(t.Context(), gone("uid-1", true), false); err != nil {
		t.Fatal(err)
	}
	if ip := r.theOnlyAddress(t); ip.AttachState != "detached" {
		t.Errorf("retained, but %s", ip.AttachState)
	}
	next := web()
	next.OwnerUID = "uid-2"
	if after := r.ensure(t, r.cluster(), next).LoadBalancer.Addresses[0]; after.ID != before.ID {
		t.Errorf("got %s, had %s", after.Addr, before.Addr)
	}
}

func TestFailuresAreNamed(t *testing.T) {
	wish := func(s loadbalancers.Source) loadbalancers.Desired {
		want := web()
		want.Wanted[0].Source = s
		return want
	}
	for _, tc := range []struct {
		name    string
		prepare func(t *testing.T, r *rack) loadbalancers.Desired
		reason  loadbalancers.Reason
		says    string
	}{
		{
			name: "the name is taken by a user",
			prepare: func(t *testing.T, r *rack) loadbalancers.Desired {
				dry, err := r.manager.Ensure(t.Context(), r.cluster(), web(), dry)
				if err != nil {
					t.Fatal(err)
				}
				r.addUsersOwn(t, dry.Actions[0].Name)
				return web()
			},
			reason: loadbalancers.ReasonNotOwned, says: "rename or delete it",
		},
		{
			name: "no such pool",
			prepare: func(*testing.T, *rack) loadbalancers.Desired {
				return wish(loadbalancers.Source{Pool: "nope"})
			},
			reason: loadbalancers.ReasonPoolNotFound, says: "the pool nope does not exist",
		},
		{
			name: "no default pool of the family",
			prepare: func(*testing.T, *rack) loadbalancers.Desired {
				want := web()
				want.Wanted[0].Family = loadbalancers.IPv6
				return want
			},
			reason: loadbalancers.ReasonPoolNotFound, says: "no default pool for IPv6",
		},
		{
			name: "an address in no pool",
			prepare: func(*testing.T, *rack) loadbalancers.Desired {
				return wish(loadbalancers.Source{Addr: netip.MustParseAddr("203.0.113.1")})
			},
			reason: loadbalancers.ReasonRefused, says: "203.0.113.1 is taken, or in no pool",
		},
		{
			name: "a pool of the other family",
			prepare: func(*testing.T, *rack) loadbalancers.Desired {
				return wish(loadbalancers.Source{Pool: "default-v6"})
			},
			reason: loadbalancers.ReasonInvalid, says: "has no IPv4 addresses",
		},
		{
			name: "a failed instance lets nothing go",
			prepare: func(t *testing.T, r *rack) loadbalancers.Desired {
				r.ensure(t, r.only(0), web())
				if err := r.SetRunState(r.nodes[0], "failed"); err != nil {
					t.Fatal(err)
				}
				r.nodes = r.nodes[1:]
				return web()
			},
			reason: loadbalancers.ReasonNotOperable, says: "is failed",
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := newRack(t)
			want := tc.prepare(t, r)
			before := r.FloatingIPs()
			_, err := r.manager.Ensure(t.Context(), r.cluster(), want, real)
			if !loadbalancers.IsReason(err, tc.reason) || !strings.Contains(err.Error(), tc.says) {
				t.Errorf("got %v, want one that says %q", err, tc.says)
			}
			if err != nil && strings.ContainsAny(err.Error(), "\n\r") {
				t.Errorf("more than one line: %q", err)
			}
			if diff := cmp.Diff(before, r.FloatingIPs()); diff != "" {
				t.Errorf("something was changed:\n%s", diff)
			}
		})
	}
}

func TestAPoolThatIsExhaustedIsTold(t *testing.T) {
	r := newRack(t)
	if err := r.FillPool("default"); err != nil {
		t.Fatal(err)
	}
	_, err := r.manager.Ensure(t.Context(), r.cluster(), web(), real)
	if !oxide.IsKind(err, oxide.KindNoCapacity) ||
		!loadbalancers.IsReason(err, loadbalancers.ReasonPoolExhausted) ||
		!strings.Contains(err.Error(), "default pool for IPv4 addresses has no free address") {
		t.Errorf("got %v", err)
	}
}

// One dead sled must not hold up the rest: a second change on its instance is soon given up.
func TestOneMutationPerInstance(t *testing.T) {
	r := newRack(t)
	if _, err := r.AddFault(oxidesim.Fault{
		Operation: "floating_ip_attach", LatencyMS: 20_000, Nth: []int{1},
	}); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	wg.Go(func() { _, _ = r.manager.Ensure(ctx, r.only(0), web(), real) })
	await(t, "the first address is made", func() bool { return len(r.FloatingIPs()) == 1 })

	start := time.Now()
	for _, busy := range []struct {
		what string
		want loadbalancers.Desired
		at   int
	}{
		{"another load balancer on the same instance", served("default/other", 81), 0},
		{"the same load balancer", web(), 1},
	} {
		_, err := r.manager.Ensure(t.Context(), r.only(busy.at), busy.want, real)
		if !loadbalancers.IsReason(err, loadbalancers.ReasonBusy) {
			t.Errorf("%s: got %v", busy.what, err)
		}
	}
	if took := time.Since(start); took > 3*time.Second {
		t.Errorf("waited %s for another change", took)
	}
	r.ensure(t, r.only(1), served("default/elsewhere", 80))
}

// Services that are created together do not queue for one node while the other has nothing to do.
func TestPlansMadeTogetherSpread(t *testing.T) {
	r := newRack(t)
	if _, err := r.AddFault(oxidesim.Fault{
		Operation: "floating_ip_create", LatencyMS: 100,
	}); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for i := range len(r.nodes) {
		want := served(fmt.Sprintf("default/svc-%d", i), 80)
		wg.Go(func() {
			if _, err := r.manager.Ensure(t.Context(), r.cluster(), want, real); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	on := make(map[string]int)
	for _, ip := range r.FloatingIPs() {
		on[ip.InstanceID]++
	}
	for _, node := range r.nodes {
		if on[node] != 1 {
			t.Errorf("node %s carries %d addresses, want one on each: %v", node, on[node], on)
		}
	}
}

func TestGetAndList(t *testing.T) {
	r := newRack(t)
	_, err := r.manager.Get(t.Context(), webKey)
	if !loadbalancers.IsReason(err, loadbalancers.ReasonNotFound) {
		t.Errorf("got %v", err)
	}
	for i, name := range []string{"b/two", "a/one", "c/three"} {
		r.ensure(t, r.cluster(), served(name, 80+i))
	}
	r.addUsersOwn(t, "users-own")
	var names []string
	var after loadbalancers.Key
	for more := true; more; {
		var page []loadbalancers.LoadBalancer
		page, more, err = r.manager.List(t.Context(), "", after, 2)
		if err != nil {
			t.Fatal(err)
		}
		for _, lb := range page {
			names = append(names, lb.Key.Name)
			after = lb.Key
		}
	}
	if diff := cmp.Diff([]string{"a/one", "b/two", "c/three"}, names); diff != "" {
		t.Error(diff)
	}
	other, _, err := r.manager.List(t.Context(), "cluster-2", loadbalancers.Key{}, 10)
	if err != nil || len(other) != 0 {
		t.Errorf("another cluster's: %+v, %v", other, err)
	}
}

var byText = cmp.Comparer(func(a, b netip.Addr) bool { return a == b })

func (r *rack) addUsersOwn(t *testing.T, name string) {
	t.Helper()
	if _, err := r.AddFloatingIP("demo", oxidesim.FloatingIPSeed{Name: name}); err != nil {
		t.Fatal(err)
	}
}

func await(t *testing.T, what string, holds func() bool) {
	t.Helper()
	deadline := time.Now().Add(5 * time.Second)
	for !holds() {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain until %s", what)
		}
		time.Sleep(time.Millisecond)
	}
}
