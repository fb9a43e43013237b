// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package plan

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/ownership"
)

// placeCase is a set and where its addresses are; the actions are those of web and of other.
type placeCase struct {
	name       string
	candidates []string
	facts      ips
	set        []*LoadBalancer
	change     []func(*Input)
	web, other []string
	// conditions are those of web, then of other.
	conditions []ConditionType
	says       string
}

func (tc placeCase) run(t *testing.T) {
	t.Helper()
	r := planned(tc.facts, tc.set, append([]func(*Input){cluster(tc.candidates...)}, tc.change...)...)
	var conditions []ConditionType
	var messages strings.Builder
	for _, p := range r.LoadBalancers {
		want := tc.web
		if p.LoadBalancer.Key == otherKey {
			want = tc.other
		}
		same(t, "actions of "+p.LoadBalancer.Key.Name, want, briefly(p))
		conditions = append(conditions, conditionsOf(p)...)
		fmt.Fprintln(&messages, says(p))
	}
	same(t, "conditions", tc.conditions, conditions)
	if !strings.Contains(messages.String(), tc.says) {
		t.Errorf("got %q, want one that says %q", messages.String(), tc.says)
	}
}

// Invariant 4: one port of one node serves one load balancer.
func TestInvariant4OnePlaceOneLoadBalancer(t *testing.T) {
	tcp80, udp80 := Port{Protocol: TCP, Number: 80}, Port{Protocol: UDP, Number: 80}
	both := ips{ip("a 192.0.2.1 n1"), ip("b 192.0.2.2 n1", ofOther)}
	for _, tc := range []placeCase{
		{
			name: "the oldest keeps a contested port", candidates: []string{"n1", "n2"}, facts: both,
			set:   []*LoadBalancer{other(serving(tcp80)), web()},
			other: []string{"detach b n1", "attach b n2"},
		},
		{
			name:       "without another place the younger loses it, and keeps its address",
			candidates: []string{"n1"}, facts: both, set: []*LoadBalancer{other(serving(tcp80)), web()},
			other: []string{"detach b n1"}, conditions: []ConditionType{PortConflict},
			says: "192.0.2.2 is reserved but attached nowhere: TCP 80 is held by default/web",
		},
		{
			name: "one that is created gets no port that is held", candidates: []string{"n1"},
			facts: both[:1], set: []*LoadBalancer{web(), other(serving(tcp80))},
			other: []string{"create"}, conditions: []ConditionType{PortConflict},
			says: "the IPv4 address is reserved but attached nowhere: TCP 80 is held by default/web",
		},
		{
			name: "one port of several is enough", candidates: []string{"n1"}, facts: both,
			set:   []*LoadBalancer{web(), other(serving(Port{Protocol: TCP, Number: 443}, tcp80))},
			other: []string{"detach b n1"}, conditions: []ConditionType{PortConflict},
		},
		{
			name:       "an edit moves the edited one, though it is older",
			candidates: []string{"n1", "n2"}, facts: both,
			set: []*LoadBalancer{
				web(held(Port{Protocol: TCP, Number: 79})), other(serving(tcp80), held(tcp80)),
			},
			web: []string{"detach a n1", "attach a n2"},
		},
		{
			name: "the edited one without another place loses", candidates: []string{"n1"}, facts: both,
			set: []*LoadBalancer{
				web(held(Port{Protocol: TCP, Number: 79})), other(serving(tcp80), held(tcp80)),
			},
			web: []string{"detach a n1"}, conditions: []ConditionType{PortConflict},
		},
		{
			name: "fewer ports are no edit", candidates: []string{"n1"}, facts: both,
			set: []*LoadBalancer{
				web(held(tcp80, Port{Protocol: TCP, Number: 443})), other(serving(tcp80), held(tcp80)),
			},
			other: []string{"detach b n1"}, conditions: []ConditionType{PortConflict},
		},
		{
			name: "two protocols do not conflict", candidates: []string{"n1"}, facts: both,
			set: []*LoadBalancer{web(), other(serving(udp80))},
		},
		{
			name: "two families do not conflict", candidates: []string{"n1"},
			facts: ips{ip("a 192.0.2.1 n1"), ip("b 2001:db8::2 n1", ofOther,
				func(m *Marker) { m.Family = IPv6 })},
			set: []*LoadBalancer{web(), other(ofIPv6, serving(tcp80))},
		},
		{
			name:       "the place of one that leaves is not free before it has left",
			candidates: []string{"n1", "n2"}, facts: both[:1],
			set:   []*LoadBalancer{web(eligible("n2")), other(serving(tcp80))},
			web:   []string{"detach a n1", "attach a n2"},
			other: []string{"create"}, conditions: []ConditionType{PortConflict},
			says: "is about to be left by default/web",
		},
		{
			name: "two that have to change places do", candidates: []string{"n1", "n2"},
			facts: ips{ip("a 192.0.2.1 n1"), ip("b 192.0.2.2 n2", ofOther)},
			set:   []*LoadBalancer{web(eligible("n2")), other(serving(tcp80), eligible("n1"))},
			web:   []string{"detach a n1", "attach a n2"},
			other: []string{"detach b n2", "attach b n1"},
		},
		{
			name:       "an address that waits to be let go holds its place",
			candidates: []string{"n1", "n2"},
			facts:      ips{ip("a 192.0.2.1 n1"), ip("c 192.0.2.3 n2")},
			set:        []*LoadBalancer{web(preserved), other(serving(tcp80))},
			other:      []string{"create"}, conditions: []ConditionType{PortConflict},
		},
		{
			name:       "an address that the existing CCM gave, and that is not wanted, holds its place",
			candidates: []string{"n1"},
			facts:      ips{legacy("a 192.0.2.1 n1", "default-web"), ip("c 192.0.2.3 n2")},
			set: []*LoadBalancer{
				web(publishing("192.0.2.1"), eligible("n2"), serving(tcp80)), other(serving(tcp80)),
			},
			other: []string{"create"}, conditions: []ConditionType{Degraded, PortConflict},
			says: "TCP 80 is held by default/web",
		},
		{
			name: "another scope holds its place", candidates: []string{"n1", "n2"},
			set: []*LoadBalancer{other(serving(tcp80))},
			change: []func(*Input){func(in *Input) {
				in.Occupied = map[Place]string{{"n1", IPv4, tcp80}: "default/x in cluster-2"}
			}},
			other: []string{"create", "attach n2"},
		},
	} {
		t.Run(tc.name, tc.run)
	}
}

// Reserved and used ports refuse what comes. What is there already stays, with a condition.
func TestInvariant4RefusedPorts(t *testing.T) {
	reserve := func(r ReservedPorts) func(*Input) {
		return func(in *Input) { in.Reserved = append(in.Reserved, r) }
	}
	used := func(u UsedPort) func(*Input) {
		return func(in *Input) {
			in.Candidates = slices.Clone(in.Candidates)
			in.Candidates[0].Used = append(in.Candidates[0].Used, u)
		}
	}
	ingress := UsedPort{Port: Port{Protocol: TCP, Number: 80}, Holder: "pod ingress/nginx-x7k2p"}
	kubelet := ReservedPorts{First: 70, Last: 90, Purpose: "the kubelet"}
	serves := func(names ...string) UsedPort {
		u := ingress
		u.Serves = names
		return u
	}
	for _, tc := range []placeCase{
		{
			name: "reserved on every node", candidates: []string{"n1", "n2"}, set: []*LoadBalancer{web()},
			change: []func(*Input){reserve(kubelet)}, web: []string{"create"},
			conditions: []ConditionType{PortConflict}, says: "TCP 80 is reserved for the kubelet",
		},
		{
			name: "reserved for another protocol", candidates: []string{"n1"}, set: []*LoadBalancer{web()},
			change: []func(*Input){reserve(ReservedPorts{Protocol: UDP, First: 80, Last: 80})},
			web:    []string{"create", "attach n1"},
		},
		{
			name: "a range beside it", candidates: []string{"n1"}, set: []*LoadBalancer{web()},
			change: []func(*Input){reserve(ReservedPorts{First: 81, Last: 90})},
			web:    []string{"create", "attach n1"},
		},
		{
			name: "reserved, and free for this one", candidates: []string{"n1"}, set: []*LoadBalancer{web()},
			change: []func(*Input){reserve(ReservedPorts{
				First: 80, Last: 80, Serves: []string{"default/x", "default/web"},
			})},
			web: []string{"create", "attach n1"},
		},
		{
			name: "used on one node: the other one", candidates: []string{"n1", "n2"},
			facts: ips{foreign("x 192.0.2.9 n2")}, set: []*LoadBalancer{web()},
			change: []func(*Input){used(ingress)}, web: []string{"create", "attach n2"},
		},
		{
			name: "used by a pod that it serves itself", candidates: []string{"n1"},
			set: []*LoadBalancer{web()}, change: []func(*Input){used(serves("default/web"))},
			web: []string{"create", "attach n1"},
		},
		{
			name: "used by a pod that another one serves", candidates: []string{"n1"},
			set: []*LoadBalancer{web()}, change: []func(*Input){used(serves("default/other"))},
			web: []string{"create"}, conditions: []ConditionType{PortConflict},
			says: "TCP 80 is used by pod ingress/nginx-x7k2p",
		},
		{
			name: "attached already: it stays", candidates: []string{"n1", "n2"},
			facts: ips{ip("a 192.0.2.1 n1")}, set: []*LoadBalancer{web()},
			change:     []func(*Input){used(ingress), reserve(kubelet)},
			conditions: []ConditionType{PortRefused}, says: "the address stays",
		},
		{
			name:       "attached, and moved: refused where it would come",
			candidates: []string{"n1", "n2 unhealthy"}, facts: ips{ip("a 192.0.2.1 n2")},
			set: []*LoadBalancer{web()}, change: []func(*Input){used(ingress)},
			conditions: []ConditionType{Degraded},
		},
	} {
		t.Run(tc.name, tc.run)
	}
}

// A port is refused where packets for the load balancer would arrive, and nowhere else: instance n1
// has the addresses 10.0.0.1 and fd00::1.
func TestInvariant4OnlyTheAddressWherePacketsArriveCounts(t *testing.T) {
	tcp80 := Port{Protocol: TCP, Number: 80}
	for _, tc := range []struct {
		on         string
		v4, v6     bool
		elsewhere4 bool
	}{
		{on: "", v4: true, v6: true, elsewhere4: true},
		{on: "0.0.0.0", v4: true, elsewhere4: true},
		{on: "::", v6: true},
		{on: "10.0.0.1", v4: true}, {on: "fd00::1", v6: true},
		{on: "127.0.0.1"}, {on: "::1"}, {on: "192.168.7.7"},
	} {
		var on netip.Addr
		if tc.on != "" {
			on = netip.MustParseAddr(tc.on)
		}
		for what, change := range map[string]func(in *Input){
			"used": func(in *Input) {
				for i := range in.Candidates {
					in.Candidates[i].Used = []UsedPort{{Port: tcp80, Holder: "the pod a/b", On: on}}
				}
			},
			"reserved": func(in *Input) {
				in.Reserved = []ReservedPorts{{First: 80, Last: 80, Purpose: "the status of a/b", On: on}}
			},
		} {
			refused := func(node string, family func(*LoadBalancer)) bool {
				p := planWeb(nil, web(family), cluster(node), change)
				if is := len(conditionsOf(p)) > 0; is != (p.Claims[0].Target == "") {
					t.Errorf("%s on %q: %v", what, tc.on, p.Claims[0])
				}
				return p.Claims[0].Target == ""
			}
			if got := refused("n1", func(*LoadBalancer) {}); got != tc.v4 {
				t.Errorf("%s on %q: an IPv4 address is refused: %t", what, tc.on, got)
			}
			if got := refused("n1", ofIPv6); got != tc.v6 {
				t.Errorf("%s on %q: an IPv6 address is refused: %t", what, tc.on, got)
			}
			if got := refused("n2", func(*LoadBalancer) {}); got != tc.elsewhere4 {
				t.Errorf("%s on %q: elsewhere an IPv4 address is refused: %t", what, tc.on, got)
			}
		}
	}
}

// What is attached already stays where something else has captured its place since.
func TestInvariant4WhatIsAttachedStaysOnACapturedAddress(t *testing.T) {
	captured := func(in *Input) {
		in.Reserved = []ReservedPorts{{First: 80, Last: 80, Purpose: "the externalIPs of the Service a/b",
			On: netip.MustParseAddr("10.0.0.1")}}
	}
	p := planWeb(ips{ip("a 192.0.2.1 n1")}, web(), cluster("n1", "n2"), captured)
	same(t, "actions", []string(nil), briefly(p))
	same(t, "conditions", []ConditionType{PortRefused}, conditionsOf(p))
	const want = "TCP 80 is reserved for the externalIPs of the Service a/b on 10.0.0.1"
	if !strings.Contains(says(p), want) {
		t.Errorf("it says %q", says(p))
	}
	same(t, "a new one", "n2", planWeb(nil, web(), cluster("n1", "n2"), captured).Claims[0].Target)
}

// Invariant 5: an address moves only if it has to.
func TestInvariant5WhereAddressesGo(t *testing.T) {
	at := func(n string) ips { return ips{ip("a 192.0.2.1 " + n)} }
	for _, tc := range []placeCase{
		{
			name: "an ineligible node loses it", candidates: []string{"n1", "n2"}, facts: at("n1"),
			set: []*LoadBalancer{web(eligible("n2"))}, web: []string{"detach a n1", "attach a n2"},
		},
		{
			name: "an ineligible node keeps it if there is no other", candidates: []string{"n1"},
			facts: at("n1"), set: []*LoadBalancer{web(eligible())}, conditions: []ConditionType{Degraded},
		},
		{
			name: "a suspect node keeps it", candidates: []string{"n1 suspect", "n2"}, facts: at("n1"),
			set: []*LoadBalancer{web()},
		},
		{
			name: "no failover to a suspect node", candidates: []string{"n1 unhealthy", "n2 suspect"},
			facts: at("n1"), set: []*LoadBalancer{web()}, conditions: []ConditionType{Degraded},
		},
		{
			name: "a node to be avoided keeps what it has", candidates: []string{"n1 least", "n2"},
			facts: at("n1"), set: []*LoadBalancer{web()},
		},
		{
			name: "a foreign instance keeps it", candidates: []string{"n1"}, facts: at("theirs"),
			set: []*LoadBalancer{web(publishing("192.0.2.1"))}, conditions: []ConditionType{ForeignAttachment},
			says: "which never was a node of this cluster",
		},
		{
			name: "what was a node loses it", candidates: []string{"n1"}, facts: at("n7"),
			set: []*LoadBalancer{web()}, web: []string{"detach a n7", "attach a n1"},
		},
		{
			name:       "after a restart: its private address is published, so it was a node",
			candidates: []string{"n1"}, facts: at("n7"), set: []*LoadBalancer{web(publishing("192.0.2.1", "10.0.0.7"))},
			change: []func(*Input){func(in *Input) { delete(in.FormerCandidates, "n7") }},
			web:    []string{"detach a n7", "attach a n1"},
		},
		{
			name:       "after a restart, and its private address is not published: it stays",
			candidates: []string{"n1"}, facts: at("n7"), set: []*LoadBalancer{web(publishing("192.0.2.1", "10.0.0.6"))},
			change:     []func(*Input){func(in *Input) { delete(in.FormerCandidates, "n7") }},
			conditions: []ConditionType{ForeignAttachment},
		},
		{
			name:       "after a restart: it was not published before its move was announced",
			candidates: []string{"n1"}, facts: at("n7"),
			set:    []*LoadBalancer{web(publishing("192.0.2.1", "10.0.0.1"), announcing("a", "n1"))},
			change: []func(*Input){func(in *Input) { delete(in.FormerCandidates, "n7") }},
			web:    []string{"detach a n7", "attach a n1"},
		},
		{
			name: "a node without an address of the family gets none", candidates: []string{"n1", "n2"},
			set: []*LoadBalancer{web(ofIPv6)},
			change: []func(*Input){func(in *Input) {
				e := in.Instances["n1"]
				e.Addrs = e.Addrs[:1]
				in.Instances["n1"] = e
			}},
			web: []string{"create", "attach n2"},
		},
		{
			name: "a node whose interface is not known gets none", candidates: []string{"unknown"},
			set: []*LoadBalancer{web()}, web: []string{"create"}, conditions: []ConditionType{NoCandidate},
		},
	} {
		t.Run(tc.name, tc.run)
	}
}

// Oxide counts ephemeral addresses and that of outbound NAT, which IPv4 alone has, too.
func TestInstanceLimits(t *testing.T) {
	v4, v6 := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("fd00::1")
	for _, tc := range []struct {
		addrs     []netip.Addr
		ephemeral int
		known     bool
		room      int
	}{
		{[]netip.Addr{v4}, 0, true, 32},
		{[]netip.Addr{v4}, 1, true, 31},
		{[]netip.Addr{v4, v6}, 0, true, 32},
		{[]netip.Addr{v4, v6}, 2, true, 30},
		{[]netip.Addr{v6}, 0, true, 33},
		{[]netip.Addr{v6}, 1, true, 32},
		{[]netip.Addr{v4}, 0, false, 31},
		{[]netip.Addr{v4, v6}, 0, false, 30},
		{[]netip.Addr{v6}, 0, false, 32},
	} {
		got := room(Instance{Addrs: tc.addrs, Ephemeral: tc.ephemeral, EphemeralKnown: tc.known})
		if got != tc.room {
			t.Errorf("%+v: room for %d floating IPs", tc, got)
		}
	}
}

// Five Services on one port on one node, as the existing CCM leaves them: the oldest stays, the
// others go where there is room for them, and who finds none keeps its address.
func TestInvariant4FiveLegacyServicesOnOnePort(t *testing.T) {
	for nodes, placed := range map[int]int{1: 1, 3: 3, 5: 5, 6: 5} {
		t.Run(fmt.Sprintf("%d nodes", nodes), func(t *testing.T) {
			var names []string
			for n := range nodes {
				names = append(names, fmt.Sprintf("n%d", n))
			}
			var set []*LoadBalancer
			var found ips
			for i := range 5 {
				addr := fmt.Sprintf("192.0.2.%d", i+1)
				set = append(set, web(publishing(addr, "10.0.0.0"), func(d *LoadBalancer) {
					d.Key.Name = fmt.Sprintf("default/svc-%d", i)
					d.Created -= int64(i)
				}))
				found = append(found, legacy(fmt.Sprintf("ip-%d %s n0", i, addr),
					fmt.Sprintf("default-svc-%d", i)))
			}
			c := []func(*Input){cluster(names...), func(in *Input) { in.LegacyName = "kubernetes" }}
			m := newModel(found)
			m.apply(t, planned(m.ips(), set, c...))
			on := make(map[string]int)
			for _, f := range m.found {
				on[f.InstanceID]++
				marker, _ := ownership.ParseMarker(f.Description)
				if marker.Key.Name != "default/svc-"+f.ID[len("ip-"):] {
					t.Errorf("%s is marked as that of %s", f.ID, marker.Key)
				}
			}
			if m.found["ip-4"].InstanceID != "n0" {
				t.Errorf("the oldest is on %q", m.found["ip-4"].InstanceID)
			}
			if on[""] != 5-placed || len(m.found) != 5 {
				t.Errorf("%d of %d are attached nowhere, want %d", on[""], len(m.found), 5-placed)
			}
			if n := m.apply(t, planned(m.ips(), set, c...)); n != 0 {
				t.Errorf("a second plan does %d actions more", n)
			}
		})
	}
}

// What leaves a full node is there until it has left: nothing comes before.
func TestAFullNodeIsFullUntilSomethingHasLeft(t *testing.T) {
	full := ips{ip("a 192.0.2.1 n1")}
	for i := range maxExternalIPs - 2 {
		full = append(full, foreign(fmt.Sprintf("x-%d 192.0.2.%d n1", i, i+2)))
	}
	r := planned(full, []*LoadBalancer{web(eligible("n2")), other(eligible("n1"))}, cluster("n1", "n2"))
	same(t, "what leaves", []string{"detach a n1", "attach a n2"}, briefly(r.LoadBalancers[0]))
	if p := r.LoadBalancers[1]; !isProblem(p.Problem, ReasonLimit, "") {
		t.Errorf("what comes: %v, %v", briefly(p), p.Problem)
	}
}
