// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package plan

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestPlanEnsure(t *testing.T) {
	for _, tc := range []struct {
		name       string
		facts      ips
		cluster    func(*Input)
		want       *LoadBalancer
		actions    []string
		conditions []ConditionType
	}{
		{
			name: "nothing is there", cluster: cluster("n1"), want: web(),
			actions: []string{"create", "attach n1"},
		},
		{
			name: "all is as desired", facts: ips{ip("a 192.0.2.1 n1")},
			cluster: cluster("n1", "n2"), want: web(),
		},
		{
			name: "a suspect node keeps its address", facts: ips{ip("a 192.0.2.1 n1")},
			cluster: cluster("n1 suspect", "n2"), want: web(),
		},
		{
			name: "an unhealthy node loses it", facts: ips{ip("a 192.0.2.1 n1")},
			cluster: cluster("n1 unhealthy", "n2"), want: web(),
			actions: []string{"detach a n1", "attach a n2"},
		},
		{
			name: "a node that left the set loses it", facts: ips{ip("a 192.0.2.1 n1")},
			cluster: cluster("n2"), want: web(),
			actions: []string{"detach a n1", "attach a n2"},
		},
		{
			name: "a suspect node gets nothing new", facts: ips{ip("a 192.0.2.1")},
			cluster: cluster("n1 suspect"), want: web(), conditions: []ConditionType{NoCandidate},
		},
		{
			name: "no healthy node: it stays", facts: ips{ip("a 192.0.2.1 n1")},
			cluster: cluster("n1 unhealthy"), want: web(), conditions: []ConditionType{Degraded},
		},
		{
			name: "no candidate: it is reserved all the same", want: web(),
			actions: []string{"create"}, conditions: []ConditionType{NoCandidate},
		},
		{
			name: "a detached address comes back", facts: ips{ip("a 192.0.2.1")},
			cluster: cluster("n1"), want: web(), actions: []string{"attach a n1"},
		},
		{
			name: "only eligible nodes", cluster: cluster("n1", "n2"),
			want:    web(func(d *LoadBalancer) { eligible("n2")(d) }),
			actions: []string{"create", "attach n2"},
		},
		{
			name: "no eligible node", cluster: cluster("n1"),
			want:    web(func(d *LoadBalancer) { eligible()(d) }),
			actions: []string{"create"}, conditions: []ConditionType{NoCandidate},
		},
		{
			name: "nodes to be avoided come last", cluster: cluster("n1 least", "n2"),
			facts: ips{foreign("x 192.0.2.9 n2")}, want: web(),
			actions: []string{"create", "attach n2"},
		},
		{
			name: "a node to be avoided is better than none", cluster: cluster("n1 least"),
			want: web(), actions: []string{"create", "attach n1"},
		},
		{
			name: "a new owner of the same name", facts: ips{ip("a 192.0.2.1 n1")},
			cluster: cluster("n1"), want: web(func(d *LoadBalancer) { d.OwnerUID = "uid-2" }),
			actions: []string{"mark a"},
		},
		{
			name:    "a retained address comes back",
			facts:   ips{ip("a 192.0.2.1", func(m *Marker) { m.Retained = true })},
			cluster: cluster("n1"), want: web(func(d *LoadBalancer) { d.OwnerUID = "uid-2" }),
			actions: []string{"mark a", "attach a n1"},
		},
		{
			name:  "another address is desired: the new one is secured before the old one goes",
			facts: ips{ip("a 192.0.2.1 n1")}, cluster: cluster("n1"),
			want:    web(from(Source{Addr: netip.MustParseAddr("192.0.2.7")})),
			actions: []string{"create", "attach n1", "detach a n1", "delete a"},
		},
		{
			name: "the desired address is the one that is there", cluster: cluster("n1"),
			facts: ips{ip("a 192.0.2.7 n1")},
			want:  web(from(Source{Addr: netip.MustParseAddr("192.0.2.7")})),
		},
		{
			name: "the source is withdrawn: nothing changes", cluster: cluster("n1"), want: web(),
			facts: ips{ip("a 192.0.2.7 n1", func(m *Marker) { m.Source = "address:192.0.2.7" })},
		},
		{
			name: "the pool is the one it came from, by name", cluster: cluster("n1"),
			facts: ips{ip("a 192.0.2.7 n1", func(m *Marker) { m.Source = "pool:p" })},
			want:  web(from(Source{Pool: "p"})),
		},
		{
			name: "the pool is the one it came from, by id", cluster: cluster("n1"),
			facts: ips{ip("a 192.0.2.7 n1")}, want: web(from(Source{Pool: "pool-1"})),
		},
		{
			name: "two addresses: the attached one is kept", cluster: cluster("n1"), want: web(),
			facts: ips{ip("a 192.0.2.1"), ip("bb 192.0.2.2 n1")}, actions: []string{"delete a"},
		},
		{
			name: "two addresses: else the oldest", cluster: cluster("n1"), want: web(),
			facts:   ips{ip("bb 192.0.2.2"), ip("c 192.0.2.1")},
			actions: []string{"attach c n1", "delete bb"},
		},
		{
			name: "nobody else's address is touched", cluster: cluster("n1"), want: web(),
			facts: ips{
				foreign("x 192.0.2.9 n1"),
				ip("y 192.0.2.8 n1", func(m *Marker) { m.Key.Scope = "cluster-2" }),
				ip("z 192.0.2.7 n1", func(m *Marker) { m.Key.Name = "default/other" }),
			},
			actions: []string{"create", "attach n1"},
		},
		{
			name: "a marker copied to an address of the other family", cluster: cluster("n1"),
			facts: ips{ip("x 2001:db8::1 n1")}, want: web(),
			actions: []string{"create", "attach n1"},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p := planWeb(tc.facts, tc.want, tc.cluster)
			if p.Problem != nil {
				t.Fatal(p.Problem)
			}
			if diff := cmp.Diff(tc.actions, briefly(p)); diff != "" {
				t.Errorf("actions (-want +got):\n%s", diff)
			}
			var conditions []ConditionType
			for _, c := range p.Conditions {
				conditions = append(conditions, c.Type)
			}
			if diff := cmp.Diff(tc.conditions, conditions); diff != "" {
				t.Errorf("conditions (-want +got):\n%s", diff)
			}
		})
	}
}

func TestADesiredAddressThatIsTakenSaysByWhom(t *testing.T) {
	want := web(from(Source{Addr: netip.MustParseAddr("192.0.2.9")}))
	for _, tc := range []struct {
		name  string
		taken Address
		says  string
	}{
		{"by a user", foreign("x 192.0.2.9 n1"), "name-x, which is not managed here"},
		{
			"by another load balancer",
			ip("x 192.0.2.9 n1", func(m *Marker) { m.Key.Name = "default/other" }),
			"of the load balancer default/other in the scope cluster-1",
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			problem := planWeb(ips{tc.taken}, want, cluster("n1")).Problem
			if !isProblem(problem, ReasonNotOwned, tc.says) {
				t.Errorf("got %v, want one that says %q", problem, tc.says)
			}
		})
	}
}

// Invariant 5: addresses are spread, and a node that joins moves nothing.
func TestInvariant5SpreadAndLeastMovement(t *testing.T) {
	nodes := []string{"n0", "n1", "n2", "n3", "n4"}
	var set []*LoadBalancer
	for i := range 23 {
		set = append(set, web(func(d *LoadBalancer) {
			d.Key.Name, d.Ports = fmt.Sprintf("default/svc-%d", i), []Port{{Protocol: TCP, Number: 1000 + i}}
		}))
	}
	m := newModel(nil)
	m.apply(t, planned(nil, set, cluster(nodes...)))
	on := make(map[string]int)
	for _, a := range m.found {
		on[a.InstanceID]++
	}
	for _, node := range nodes {
		if on[node] < 4 || on[node] > 5 {
			t.Errorf("%s carries %d of 23 addresses on 5 nodes", node, on[node])
		}
	}
	if actions := planned(m.ips(), set, cluster(append(nodes, "n9")...)).Actions(); len(actions) != 0 {
		t.Errorf("a joining node causes %v", brief(actions))
	}
}

// An instance never gets more floating IPs than Oxide allows for certain.
func TestAFullNodeGetsNothing(t *testing.T) {
	var full ips
	for i := range maxExternalIPs - 1 {
		full = append(full, foreign(fmt.Sprintf("x-%d 192.0.2.%d n1", i, i+1)))
	}
	if p := planWeb(full, web(), cluster("n1", "n2 least")); p.Claims[0].Target != "n2" {
		t.Errorf("got %+v", p.Claims[0])
	}
	if p := planWeb(full, web(), cluster("n1")); !isProblem(p.Problem, ReasonLimit, "add a node") {
		t.Errorf("with every node full: %v", p.Problem)
	}
	if p := planWeb(full[1:], web(), cluster("n1")); p.Claims[0].Target != "n1" {
		t.Errorf("with room for one: %+v", p.Claims[0])
	}
}

// The order in which Oxide lists addresses, and Kubernetes nodes, decides nothing.
func TestThePlanDoesNotDependOnOrder(t *testing.T) {
	found := ips{ip("a 192.0.2.1"), ip("bb 192.0.2.2"), foreign("x 192.0.2.9 n1")}
	candidates := []string{"n1", "n2", "n3", "n4"}
	first := planWeb(found, web(), cluster(candidates...))
	for range 50 {
		rand.Shuffle(len(found), func(i, j int) { found[i], found[j] = found[j], found[i] })
		rand.Shuffle(len(candidates), func(i, j int) {
			candidates[i], candidates[j] = candidates[j], candidates[i]
		})
		same(t, "actions", briefly(first), briefly(planWeb(found, web(), cluster(candidates...))))
	}
}
