// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package loadbalancers

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func serving(ports ...Port) func(*Desired) {
	return func(d *Desired) { d.Ports = ports }
}

func eligible(instances ...string) func(*Desired) {
	return func(d *Desired) {
		d.Eligible = make(map[string]bool)
		for _, id := range instances {
			d.Eligible[id] = true
		}
	}
}

// held says with which ports a load balancer got its place.
func held(key Key, ports ...Port) func(*planner) {
	return func(p *planner) { p.held[key] = ports }
}

// placeCase is a set and where its addresses are; the actions are those of web and of other.
type placeCase struct {
	name       string
	candidates []string
	facts      ips
	set        []Desired
	change     []func(*planner)
	web, other []string
	// conditions are those of web, then of other.
	conditions []ConditionType
	says       string
}

func (tc placeCase) run(t *testing.T) {
	t.Helper()
	p := planned(tc.facts, cluster(tc.candidates...), tc.set, tc.change...)
	var conditions []ConditionType
	var messages strings.Builder
	for _, b := range p.balancers {
		want := tc.web
		if b.want.Key == otherKey {
			want = tc.other
		}
		if diff := cmp.Diff(want, briefly(b)); diff != "" {
			t.Errorf("actions of %s (-want +got):\n%s", b.want.Key, diff)
		}
		conditions = append(conditions, conditionsOf(b)...)
		for _, c := range b.conditions {
			fmt.Fprintln(&messages, c.Message)
		}
	}
	if diff := cmp.Diff(tc.conditions, conditions); diff != "" {
		t.Errorf("conditions (-want +got):\n%s", diff)
	}
	if !strings.Contains(messages.String(), tc.says) {
		t.Errorf("got %q, want one that says %q", messages.String(), tc.says)
	}
}

// Invariant 4: one port of one node serves one load balancer.
func TestInvariant4OnePlaceOneLoadBalancer(t *testing.T) {
	tcp80, udp80 := Port{TCP, 80}, Port{UDP, 80}
	both := ips{ip("a 192.0.2.1 n1"), ip("b 192.0.2.2 n1", ofOther)}
	for _, tc := range []placeCase{
		{
			name: "the oldest keeps a contested port", candidates: []string{"n1", "n2"}, facts: both,
			set:   []Desired{other(serving(tcp80)), web()},
			other: []string{"detach b n1", "attach b n2"},
		},
		{
			name:       "without another place the younger loses it, and keeps its address",
			candidates: []string{"n1"}, facts: both, set: []Desired{other(serving(tcp80)), web()},
			other: []string{"detach b n1"}, conditions: []ConditionType{PortConflict},
			says: "192.0.2.2 is reserved but attached nowhere: TCP 80 is held by default/web",
		},
		{
			name: "one that is created gets no port that is held", candidates: []string{"n1"},
			facts: both[:1], set: []Desired{web(), other(serving(tcp80))},
			other: []string{"create"}, conditions: []ConditionType{PortConflict},
			says: "the IPv4 address is reserved but attached nowhere: TCP 80 is held by default/web",
		},
		{
			name: "one port of several is enough", candidates: []string{"n1"}, facts: both,
			set:   []Desired{web(), other(serving(Port{TCP, 443}, tcp80))},
			other: []string{"detach b n1"}, conditions: []ConditionType{PortConflict},
		},
		{
			name:       "an edit moves the edited one, though it is older",
			candidates: []string{"n1", "n2"}, facts: both,
			set:    []Desired{web(), other(serving(tcp80))},
			change: []func(*planner){held(webKey, Port{TCP, 79}), held(otherKey, tcp80)},
			web:    []string{"detach a n1", "attach a n2"},
		},
		{
			name: "the edited one without another place loses", candidates: []string{"n1"}, facts: both,
			set:    []Desired{web(), other(serving(tcp80))},
			change: []func(*planner){held(webKey, Port{TCP, 79}), held(otherKey, tcp80)},
			web:    []string{"detach a n1"}, conditions: []ConditionType{PortConflict},
		},
		{
			name: "fewer ports are no edit", candidates: []string{"n1"}, facts: both,
			set:    []Desired{web(), other(serving(tcp80))},
			change: []func(*planner){held(webKey, tcp80, Port{TCP, 443}), held(otherKey, tcp80)},
			other:  []string{"detach b n1"}, conditions: []ConditionType{PortConflict},
		},
		{
			name: "two protocols do not conflict", candidates: []string{"n1"}, facts: both,
			set: []Desired{web(), other(serving(udp80))},
		},
		{
			name: "two families do not conflict", candidates: []string{"n1"},
			facts: ips{ip("a 192.0.2.1 n1"), ip("b 2001:db8::2 n1", ofOther,
				func(m *Marker) { m.Family = IPv6 })},
			set: []Desired{web(), other(ofIPv6, serving(tcp80))},
		},
		{
			name:       "the place of one that leaves is not free before it has left",
			candidates: []string{"n1", "n2"}, facts: both[:1],
			set:   []Desired{web(eligible("n2")), other(serving(tcp80))},
			web:   []string{"detach a n1", "attach a n2"},
			other: []string{"create"}, conditions: []ConditionType{PortConflict},
			says: "is about to be left by default/web",
		},
		{
			name: "two that have to change places do", candidates: []string{"n1", "n2"},
			facts: ips{ip("a 192.0.2.1 n1"), ip("b 192.0.2.2 n2", ofOther)},
			set:   []Desired{web(eligible("n2")), other(serving(tcp80), eligible("n1"))},
			web:   []string{"detach a n1", "attach a n2"},
			other: []string{"detach b n2", "attach b n1"},
		},
		{
			name:       "an address that waits to be let go holds its place",
			candidates: []string{"n1", "n2"},
			facts:      ips{ip("a 192.0.2.1 n1"), ip("c 192.0.2.3 n2")},
			set:        []Desired{web(func(d *Desired) { d.Hold = true }), other(serving(tcp80))},
			other:      []string{"create"}, conditions: []ConditionType{PortConflict},
		},
		{
			name:       "an address that the existing CCM gave, and that is not wanted, holds its place",
			candidates: []string{"n1"},
			facts:      ips{legacy("a 192.0.2.1 n1", "default-web"), ip("c 192.0.2.3 n2")},
			set: []Desired{
				web(publishing("192.0.2.1"), eligible("n2"), serving(tcp80)), other(serving(tcp80)),
			},
			other: []string{"create"}, conditions: []ConditionType{Degraded, PortConflict},
			says: "TCP 80 is held by default/web",
		},
		{
			name: "a flight holds its place", candidates: []string{"n1", "n2"},
			set: []Desired{other(serving(tcp80))},
			change: []func(*planner){func(p *planner) {
				p.occupied[place{"n1", IPv4, tcp80}] = webKey
			}},
			other: []string{"create", "attach n2"},
		},
	} {
		t.Run(tc.name, tc.run)
	}
}

// Reserved and used ports refuse what comes anew. What is there already stays, and that is told.
func TestInvariant4RefusedPorts(t *testing.T) {
	reserve := func(r ReservedPorts) func(*planner) {
		return func(p *planner) { p.cluster.Reserved = append(p.cluster.Reserved, r) }
	}
	used := func(u UsedPort) func(*planner) {
		return func(p *planner) { p.candidates["n1"].Used = append(p.candidates["n1"].Used, u) }
	}
	ingress := UsedPort{Port: Port{TCP, 80}, Holder: "pod ingress/nginx-x7k2p"}
	kubelet := ReservedPorts{First: 70, Last: 90, Purpose: "the kubelet"}
	serves := func(names ...string) UsedPort {
		u := ingress
		u.Serves = names
		return u
	}
	for _, tc := range []placeCase{
		{
			name: "reserved on every node", candidates: []string{"n1", "n2"}, set: []Desired{web()},
			change: []func(*planner){reserve(kubelet)}, web: []string{"create"},
			conditions: []ConditionType{PortConflict}, says: "TCP 80 is reserved for the kubelet",
		},
		{
			name: "reserved for another protocol", candidates: []string{"n1"}, set: []Desired{web()},
			change: []func(*planner){reserve(ReservedPorts{Protocol: UDP, First: 80, Last: 80})},
			web:    []string{"create", "attach n1"},
		},
		{
			name: "a range beside it", candidates: []string{"n1"}, set: []Desired{web()},
			change: []func(*planner){reserve(ReservedPorts{First: 81, Last: 90})},
			web:    []string{"create", "attach n1"},
		},
		{
			name: "reserved, and free for this one", candidates: []string{"n1"}, set: []Desired{web()},
			change: []func(*planner){reserve(ReservedPorts{
				First: 80, Last: 80, Serves: []string{"default/x", "default/web"},
			})},
			web: []string{"create", "attach n1"},
		},
		{
			name: "used on one node: the other one", candidates: []string{"n1", "n2"},
			facts: ips{foreign("x 192.0.2.9 n2")}, set: []Desired{web()},
			change: []func(*planner){used(ingress)}, web: []string{"create", "attach n2"},
		},
		{
			name: "used by a pod that it serves itself", candidates: []string{"n1"},
			set: []Desired{web()}, change: []func(*planner){used(serves("default/web"))},
			web: []string{"create", "attach n1"},
		},
		{
			name: "used by a pod that another one serves", candidates: []string{"n1"},
			set: []Desired{web()}, change: []func(*planner){used(serves("default/other"))},
			web: []string{"create"}, conditions: []ConditionType{PortConflict},
			says: "TCP 80 is used by pod ingress/nginx-x7k2p",
		},
		{
			name: "attached already: it stays", candidates: []string{"n1", "n2"},
			facts: ips{ip("a 192.0.2.1 n1")}, set: []Desired{web()},
			change:     []func(*planner){used(ingress), reserve(kubelet)},
			conditions: []ConditionType{PortRefused}, says: "the address stays",
		},
		{
			name:       "attached, and moved: refused where it comes anew",
			candidates: []string{"n1", "n2 unhealthy"}, facts: ips{ip("a 192.0.2.1 n2")},
			set: []Desired{web()}, change: []func(*planner){used(ingress)},
			conditions: []ConditionType{Degraded},
		},
	} {
		t.Run(tc.name, tc.run)
	}
}

// Invariant 5: an address moves only if it has to.
func TestInvariant5WhereAddressesGo(t *testing.T) {
	at := func(n string) ips { return ips{ip("a 192.0.2.1 " + n)} }
	for _, tc := range []placeCase{
		{
			name: "an ineligible node loses it", candidates: []string{"n1", "n2"}, facts: at("n1"),
			set: []Desired{web(eligible("n2"))}, web: []string{"detach a n1", "attach a n2"},
		},
		{
			name: "an ineligible node keeps it if there is no other", candidates: []string{"n1"},
			facts: at("n1"), set: []Desired{web(eligible())}, conditions: []ConditionType{Degraded},
		},
		{
			name: "a suspect node keeps it", candidates: []string{"n1 suspect", "n2"}, facts: at("n1"),
			set: []Desired{web()},
		},
		{
			name: "no failover to a suspect node", candidates: []string{"n1 unhealthy", "n2 suspect"},
			facts: at("n1"), set: []Desired{web()}, conditions: []ConditionType{Degraded},
		},
		{
			name: "a node to be avoided keeps what it has", candidates: []string{"n1 avoid", "n2"},
			facts: at("n1"), set: []Desired{web()},
		},
		{
			name: "a foreign instance keeps it", candidates: []string{"n1"}, facts: at("theirs"),
			set: []Desired{web()}, conditions: []ConditionType{ForeignAttachment},
			says: "which never was a node of this cluster",
		},
		{
			name: "what was a node loses it", candidates: []string{"n1"}, facts: at("n7"),
			set: []Desired{web()}, web: []string{"detach a n7", "attach a n1"},
		},
		{
			name:       "after a restart: its private address is published, so it was a node",
			candidates: []string{"n1"}, facts: at("n7"), set: []Desired{web(publishing("10.0.0.7"))},
			change: []func(*planner){func(p *planner) { delete(p.nodes, "n7") }},
			web:    []string{"detach a n7", "attach a n1"},
		},
		{
			name:       "after a restart, and its private address is not published: it stays",
			candidates: []string{"n1"}, facts: at("n7"), set: []Desired{web(publishing("10.0.0.6"))},
			change:     []func(*planner){func(p *planner) { delete(p.nodes, "n7") }},
			conditions: []ConditionType{ForeignAttachment},
		},
		{
			name: "a node without an address of the family gets none", candidates: []string{"n1", "n2"},
			set: []Desired{web(ofIPv6)},
			change: []func(*planner){func(p *planner) {
				e := p.facts.endpoints["n1"]
				e.Addrs = e.Addrs[:1]
				p.facts.endpoints["n1"] = e
			}},
			web: []string{"create", "attach n2"},
		},
		{
			name: "a node whose interface is not known gets none", candidates: []string{"unknown"},
			set: []Desired{web()}, web: []string{"create"}, conditions: []ConditionType{NoCandidate},
		},
	} {
		t.Run(tc.name, tc.run)
	}
}

// Oxide counts ephemeral addresses and those of outbound NAT, too.
func TestInstanceLimits(t *testing.T) {
	for _, tc := range []struct {
		families, ephemeral int
		known               bool
		room                int
	}{
		{1, 0, true, 32}, {1, 1, true, 31}, {2, 0, true, 31}, {2, 1, true, 30}, {2, 2, true, 29},
		{1, 0, false, 31}, {2, 0, false, 29},
	} {
		p := planned(nil, cluster(), nil)
		e := p.facts.endpoints["n1"]
		e.Addrs, e.Ephemeral, e.EphemeralKnown = e.Addrs[:tc.families], tc.ephemeral, tc.known
		p.facts.endpoints["n1"] = e
		if got := p.room("n1"); got != tc.room {
			t.Errorf("%+v: room for %d floating IPs", tc, got)
		}
	}
}

// Five Services on one port on one node, as the existing CCM leaves them: the oldest stays, the others
// go where there is room for them, and who finds none keeps its address.
func TestInvariant4FiveLegacyServicesOnOnePort(t *testing.T) {
	for nodes, placed := range map[int]int{1: 1, 3: 3, 5: 5, 6: 5} {
		t.Run(fmt.Sprintf("%d nodes", nodes), func(t *testing.T) {
			var names []string
			for n := range nodes {
				names = append(names, fmt.Sprintf("n%d", n))
			}
			c := cluster(names...)
			c.LegacyName = "kubernetes"
			var set []Desired
			var found ips
			for i := range 5 {
				addr := fmt.Sprintf("192.0.2.%d", i+1)
				set = append(set, web(publishing(addr, "10.0.0.0"), func(d *Desired) {
					d.Key.Name = fmt.Sprintf("default/svc-%d", i)
					d.Created = d.Created.Add(-time.Duration(i) * time.Hour)
				}))
				found = append(found, legacy(fmt.Sprintf("ip-%d %s n0", i, addr),
					fmt.Sprintf("default-svc-%d", i)))
			}
			m := newModel(found)
			m.apply(t, planned(m.ips(), c, set))
			on := make(map[string]int)
			for _, f := range m.facts {
				on[f.InstanceID]++
				if f.Marker.Key.Name != "default/svc-"+f.ID[len("ip-"):] {
					t.Errorf("%s is marked as that of %s", f.ID, f.Marker.Key)
				}
			}
			if m.facts["ip-4"].InstanceID != "n0" {
				t.Errorf("the oldest is on %q", m.facts["ip-4"].InstanceID)
			}
			if on[""] != 5-placed || len(m.facts) != 5 {
				t.Errorf("%d of %d are attached nowhere, want %d", on[""], len(m.facts), 5-placed)
			}
			if n := m.apply(t, planned(m.ips(), c, set)); n != 0 {
				t.Errorf("a second plan does %d actions more", n)
			}
		})
	}
}

// What leaves a full node is there until it has left: nothing comes before.
func TestAFullNodeIsFullUntilSomethingHasLeft(t *testing.T) {
	full := ips{ip("a 192.0.2.1 n1")}
	for i := range maxExternalIPs - 3 {
		full = append(full, foreign(fmt.Sprintf("x-%d 192.0.2.%d n1", i, i+2)))
	}
	set := []Desired{web(eligible("n2")), other(eligible("n1"))}
	p := planned(full, cluster("n1", "n2"), set)
	if got := briefly(p.balancers[0]); !cmp.Equal(got, []string{"detach a n1", "attach a n2"}) {
		t.Errorf("what leaves: %v", got)
	}
	if b := p.balancers[1]; !IsReason(b.refusal(), ReasonLimit) {
		t.Errorf("what comes: %v, %v", briefly(b), b.refusal())
	}
}
