// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package plan

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/firewall"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/ownership"
)

// scale is a rack with 100 candidates where every load balancer has an address that is attached.
func scale(size int) *Input {
	const candidates = 100
	in := &Input{
		Scope: testScope, Addresses: NewAddresses(), Instances: make(map[string]Instance),
		FormerCandidates: make(map[string]bool), Occupied: make(map[Place]string),
		Firewalls: map[string][]firewall.Rule{"vpc": {{
			Name: "open", Enabled: true, Inbound: true, Allow: true, Protocols: []string{"tcp"},
			Ports: []firewall.PortRange{{First: 1, Last: 65535}},
		}}},
		Reserved: []ReservedPorts{{First: 22, Last: 22}, {First: 10250, Last: 10250}},
	}
	instance := func(n int) string { return fmt.Sprintf("00000000-0000-0000-0000-%012d", n) }
	private := func(n int) netip.Addr { return netip.AddrFrom4([4]byte{10, 0, byte(n / 250), byte(n%250 + 1)}) }
	for n := range candidates {
		id := instance(n)
		in.Candidates = append(in.Candidates, Candidate{
			InstanceID: id, Name: fmt.Sprintf("worker-%d", n),
			Used: []UsedPort{{Port: Port{Protocol: TCP, Number: 9100}, Holder: "pod monitoring/node-exporter"}},
		})
		in.Instances[id] = Instance{
			Name: fmt.Sprintf("worker-%d", n), Addrs: []netip.Addr{private(n)}, EphemeralKnown: true,
			Interface: firewall.Interface{VPCID: "vpc", VPCName: "default"},
		}
		in.FormerCandidates[id] = true
	}
	var all []Address
	for i := range size {
		key := Key{Scope: testScope, Name: fmt.Sprintf("namespace-%d/service-%d", i%50, i)}
		marker := Marker{Key: key, OwnerUID: "uid", Family: IPv4, Source: "default"}
		n := i % candidates
		a := Address{
			ID: fmt.Sprintf("10000000-0000-0000-0000-%012d", i), Name: nameOf(key, IPv4, Source{}),
			Addr:        netip.AddrFrom4([4]byte{192, 0, byte(i / 250), byte(i%250 + 1)}),
			Description: marker.String(), InstanceID: instance(n),
		}
		all = append(all, a)
		in.LoadBalancers = append(in.LoadBalancers, &LoadBalancer{
			Key: key, OwnerUID: "uid", Created: int64(i), Desired: []Desired{{Family: IPv4}}, MayMove: true,
			Ports:     []Port{{Protocol: TCP, Number: 1000 + i}, {Protocol: TCP, Number: 20000 + i}},
			Published: []netip.Addr{a.Addr, private(n)},
		})
	}
	slices.Reverse(in.LoadBalancers)
	in.Addresses.Replace(all)
	return in
}

// roomy makes more room than Oxide has: 5,000 addresses on 100 candidates are more than it would
// allow.
func roomy(in *Input) *Input {
	for id, instance := range in.Instances {
		instance.Ephemeral = -10_000
		in.Instances[id] = instance
	}
	return in
}

// moving makes a tenth of the candidates unhealthy.
func moving(in *Input) *Input {
	for i := range in.Candidates {
		if i%10 == 0 {
			in.Candidates[i].Health, in.Candidates[i].Why = Unhealthy, "is not Ready"
		}
	}
	return roomy(in)
}

// uneven puts all addresses on a tenth of the candidates.
func uneven(in *Input) *Input {
	for i, a := range slices.Clone(in.Addresses.All()) {
		moved := *a
		moved.InstanceID = in.Candidates[i%10].InstanceID
		in.Addresses.Upsert(moved)
	}
	in.Rebalance = true
	return roomy(in)
}

func benchmark(b *testing.B, in *Input) {
	b.Helper()
	b.ReportAllocs()
	for b.Loop() {
		Make(in)
	}
	b.ReportMetric(float64(b.Elapsed().Milliseconds())/float64(b.N), "ms/plan")
}

func BenchmarkPlan1000Attached(b *testing.B) { benchmark(b, scale(1000)) }

func BenchmarkPlan5000Attached(b *testing.B) { benchmark(b, scale(5000)) }

func BenchmarkPlan1000Moving(b *testing.B) { benchmark(b, moving(scale(1000))) }

func BenchmarkPlan5000Moving(b *testing.B) { benchmark(b, moving(scale(5000))) }

func BenchmarkRebalance1000(b *testing.B) { benchmark(b, uneven(scale(1000))) }

// fastest returns how long a plan takes at best of several, and the plan.
func fastest(in *Input) (time.Duration, *Result) {
	best := time.Hour
	var r *Result
	for range 5 {
		began := time.Now()
		r = Make(in)
		best = min(best, time.Since(began))
	}
	return best, r
}

// A plan costs little, and not much more per load balancer when there are many. The bounds are
// three times the figures to hold.
func TestPlansAreCheap(t *testing.T) {
	if raceEnabled || testing.Short() {
		t.Skip("the race detector makes everything slower")
	}
	check := func(what string, took, bound time.Duration) {
		t.Helper()
		t.Logf("%s: %.1f ms", what, float64(took.Microseconds())/1000)
		if took > 3*bound {
			t.Errorf("%s took %s, more than three times %s", what, took, bound)
		}
	}
	var took [2][2]time.Duration
	for i, size := range []int{1000, 5000} {
		bound := []time.Duration{20 * time.Millisecond, 150 * time.Millisecond}[i]
		for j, in := range []*Input{scale(size), moving(scale(size))} {
			what, moves := []string{"attached", "moving"}[j], []int{0, 2 * size / 10}[j]
			cost, r := fastest(in)
			took[j][i] = cost
			check(fmt.Sprintf("%d load balancers, %s", size, what), cost, bound)
			if got := len(r.Actions()); got != moves {
				t.Errorf("%d actions, want %d", got, moves)
			}
		}
	}
	for _, grown := range took {
		if grown[1] > 3*8*grown[0] {
			t.Errorf("from 1,000 to 5,000 the cost grows from %s to %s", grown[0], grown[1])
		}
	}
	cost, r := fastest(uneven(scale(1000)))
	check("rebalance of 1,000", cost, 100*time.Millisecond)
	if got := len(r.Actions()); got != 2*900 {
		t.Errorf("%d actions for a rebalance", got)
	}
}

// Where nothing has a place the plan is not dearer by orders of magnitude.
func TestAPlanThatCannotPlaceAnythingIsCheap(t *testing.T) {
	if raceEnabled || testing.Short() {
		t.Skip("the race detector makes everything slower")
	}
	in := scale(1000)
	for _, lb := range in.LoadBalancers {
		lb.Ports = []Port{{Protocol: TCP, Number: 80}}
	}
	cost, _ := fastest(in)
	t.Logf("%.1f ms", float64(cost.Microseconds())/1000)
	if cost > 2*time.Second {
		t.Errorf("it took %s", cost)
	}
}

// Markers are parsed when a description changes, and only then.
func TestAListThatBringsNothingNewChangesNothing(t *testing.T) {
	in := scale(1000)
	all := make([]Address, 0, 1000)
	for _, a := range in.Addresses.All() {
		again := *a
		again.Marker, again.Marked = ownership.Marker{}, false
		all = append(all, again)
	}
	first := in.Addresses.All()[0]
	if vanished, changed := in.Addresses.Replace(all); len(vanished) > 0 || changed ||
		in.Addresses.All()[0] != first {
		t.Errorf("%d have vanished, changed: %t", len(vanished), changed)
	}
}
