// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package plan

import (
	"fmt"
	"testing"
)

// spread is how many load balancers of one port each are on which node.
func spread(on ...string) (ips, []*LoadBalancer) {
	var found ips
	var set []*LoadBalancer
	for i, node := range on {
		addr := fmt.Sprintf("192.0.2.%d", i+1)
		lb := web(serving(Port{Protocol: TCP, Number: 1000 + i}), publishing(addr), func(d *LoadBalancer) {
			d.Key.Name = fmt.Sprintf("default/svc-%d", i)
		})
		set = append(set, lb)
		found = append(found, ip(fmt.Sprintf("ip-%d %s %s", i, addr, node),
			func(m *Marker) { m.Key = lb.Key }))
	}
	return found, set
}

func evenly(in *Input) { in.Rebalance = true }

// Addresses are spread evenly with as few moves as possible, when it is asked for.
func TestRebalance(t *testing.T) {
	for _, tc := range []struct {
		name       string
		candidates []string
		on         []string
		edit       func(set []*LoadBalancer, in *Input)
		moves      int
		most       int
	}{
		{name: "even already", candidates: []string{"n1", "n2"}, on: []string{"n1", "n2"}, most: 1},
		{name: "one more makes no move", candidates: []string{"n1", "n2"},
			on: []string{"n1", "n1", "n2"}, most: 2},
		{name: "all on one node", candidates: []string{"n1", "n2", "n3"},
			on: []string{"n1", "n1", "n1", "n1", "n1", "n1"}, moves: 4, most: 2},
		{name: "a node that joined", candidates: []string{"n1", "n2", "n3"},
			on: []string{"n1", "n1", "n1", "n2", "n2", "n2"}, moves: 2, most: 2},
		{name: "not to a suspect node", candidates: []string{"n1", "n2 suspect"},
			on: []string{"n1", "n1"}, most: 2},
		{name: "not to a node that is least preferred", candidates: []string{"n1", "n2 least"},
			on: []string{"n1", "n1"}, most: 2},
		{name: "not to where the port is taken", candidates: []string{"n1", "n2"},
			on: []string{"n1", "n1", "n1", "n2"}, most: 3,
			edit: func(set []*LoadBalancer, _ *Input) {
				for i := range set[:3] {
					set[i].Ports = []Port{{Protocol: TCP, Number: 80 + i}}
				}
				set[3].Ports = []Port{
					{Protocol: TCP, Number: 80}, {Protocol: TCP, Number: 81}, {Protocol: TCP, Number: 82},
				}
			}},
		{name: "not to where it is not eligible", candidates: []string{"n1", "n2"},
			on: []string{"n1", "n1"}, most: 2,
			edit: func(set []*LoadBalancer, _ *Input) {
				for i := range set {
					eligible("n1")(set[i])
				}
			}},
		{name: "not to where a port is reserved", candidates: []string{"n1", "n2"},
			on: []string{"n1", "n1"}, most: 2,
			edit: func(_ []*LoadBalancer, in *Input) {
				in.Reserved = []ReservedPorts{{First: 1, Last: 65535, Purpose: "x"}}
			}},
		{name: "not from where it is foreign", candidates: []string{"n1", "n2"},
			on: []string{"theirs", "theirs", "theirs"}, most: 3},
	} {
		t.Run(tc.name, func(t *testing.T) {
			found, set := spread(tc.on...)
			edit := func(in *Input) {
				if tc.edit != nil {
					tc.edit(set, in)
				}
			}
			m := newModel(found)
			if n := m.apply(t, planned(m.ips(), set, cluster(tc.candidates...), edit)); n != 0 {
				t.Errorf("without being asked: %d actions", n)
			}
			r := planned(m.ips(), set, cluster(tc.candidates...), edit, evenly)
			if r.Rebalanced != (tc.moves > 0) {
				t.Errorf("rebalanced: %t", r.Rebalanced)
			}
			if n := m.apply(t, r); n != 2*tc.moves {
				t.Errorf("%d actions, want %d moves", n, tc.moves)
			}
			on, most := make(map[string]int), 0
			for _, f := range m.found {
				on[f.InstanceID]++
				most = max(most, on[f.InstanceID])
			}
			if most != tc.most {
				t.Errorf("ended as %v", on)
			}
			for _, change := range []func(*Input){evenly, nil} {
				if n := m.apply(t, planned(m.ips(), set, cluster(tc.candidates...), edit, change)); n != 0 {
					t.Errorf("afterwards: %d actions", n)
				}
			}
		})
	}
}

// Whoever moves to a better place has no conditions of the old one.
func TestARebalancedAddressHasConditionsOfItsNewPlaceAlone(t *testing.T) {
	found, set := spread("n1", "n1", "n1")
	r := planned(found, set, cluster("n1", "n2", "n3"), evenly, func(in *Input) {
		for i := range 3 {
			in.Candidates[0].Used = append(in.Candidates[0].Used,
				UsedPort{Port: Port{Protocol: TCP, Number: 1000 + i}, Holder: "pod a/b"})
		}
	})
	for _, p := range r.LoadBalancers {
		stays := p.Claims[0].Target == "n1"
		if warned := len(p.Conditions) == 1; warned != stays {
			t.Errorf("%s on %s: %+v", p.LoadBalancer.Key, p.Claims[0].Target, p.Conditions)
		}
	}
}

// A move that was announced is made, and no other one instead.
func TestARebalanceKeepsToWhatIsAnnounced(t *testing.T) {
	for i := range 4 {
		found, set := spread("n1", "n1", "n1", "n1")
		announcing(fmt.Sprintf("ip-%d", i), "n3")(set[i])
		r := planned(found, set, cluster("n1", "n2", "n3"), evenly)
		if got := r.LoadBalancers[i].Claims[0].Target; got != "n3" {
			t.Errorf("ip-%d goes to %s", i, got)
		}
		if n := len(r.Actions()); n != 2*2 {
			t.Errorf("%d actions", n)
		}
	}
}

// A load balancer that was moved a moment ago is not moved for a more even spread.
func TestARebalanceSparesWhatMayNotMove(t *testing.T) {
	found, set := spread("n1", "n1", "n1", "n1")
	for _, lb := range set {
		lb.MayMove = false
	}
	if r := planned(found, set, cluster("n1", "n2"), evenly); r.Rebalanced || len(r.Actions()) > 0 {
		t.Errorf("does %v", brief(r.Actions()))
	}
}
