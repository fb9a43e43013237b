// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package loadbalancers

import (
	"fmt"
	"testing"
)

// spread is how many load balancers of one port each are on which node.
func spread(on ...string) (ips, []Desired) {
	var found ips
	var set []Desired
	for i, node := range on {
		want := web(serving(Port{TCP, 1000 + i}), func(d *Desired) {
			d.Key.Name = fmt.Sprintf("default/svc-%d", i)
		})
		set = append(set, want)
		found = append(found, ip(fmt.Sprintf("ip-%d 192.0.2.%d %s", i, i+1, node),
			func(m *Marker) { m.Key = want.Key }))
	}
	return found, set
}

// Addresses are spread evenly with as few moves as possible, when it is asked for.
func TestRebalance(t *testing.T) {
	for _, tc := range []struct {
		name       string
		candidates []string
		on         []string
		edit       func(set []Desired, c *Cluster)
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
		{name: "not to a node to be avoided", candidates: []string{"n1", "n2 avoid"},
			on: []string{"n1", "n1"}, most: 2},
		{name: "not to where the port is taken", candidates: []string{"n1", "n2"},
			on: []string{"n1", "n1", "n1", "n2"}, most: 3,
			edit: func(set []Desired, _ *Cluster) {
				for i := range set[:3] {
					set[i].Ports = []Port{{TCP, 80 + i}}
				}
				set[3].Ports = []Port{{TCP, 80}, {TCP, 81}, {TCP, 82}}
			}},
		{name: "not to where it is not eligible", candidates: []string{"n1", "n2"},
			on: []string{"n1", "n1"}, most: 2,
			edit: func(set []Desired, _ *Cluster) {
				for i := range set {
					set[i].Eligible = map[string]bool{"n1": true}
				}
			}},
		{name: "not to where a port is reserved", candidates: []string{"n1", "n2"},
			on: []string{"n1", "n1"}, most: 2,
			edit: func(_ []Desired, c *Cluster) {
				c.Reserved = []ReservedPorts{{First: 1, Last: 65535, Purpose: "x"}}
			}},
		{name: "not from where it is foreign", candidates: []string{"n1", "n2"},
			on: []string{"theirs", "theirs", "theirs"}, most: 3},
	} {
		t.Run(tc.name, func(t *testing.T) {
			found, set := spread(tc.on...)
			c := cluster(tc.candidates...)
			if tc.edit != nil {
				tc.edit(set, &c)
			}
			known := &scope{nodes: map[string]bool{}}
			plan := func(m *model, level bool) *planner {
				p := newPlanner(planned(m.ips(), c, nil).facts, c, set, known, nil)
				p.plan(level)
				return p
			}
			m := newModel(found)
			if n := m.apply(t, plan(m, false)); n != 0 {
				t.Errorf("without being asked: %d actions", n)
			}
			if n := m.apply(t, plan(m, true)); n != 2*tc.moves {
				t.Errorf("%d actions, want %d moves", n, tc.moves)
			}
			on, most := make(map[string]int), 0
			for _, f := range m.facts {
				on[f.InstanceID]++
				most = max(most, on[f.InstanceID])
			}
			if most != tc.most {
				t.Errorf("ended as %v", on)
			}
			if n := m.apply(t, plan(m, true)); n != 0 {
				t.Errorf("asked again: %d actions", n)
			}
			if n := m.apply(t, plan(m, false)); n != 0 {
				t.Errorf("afterwards: %d actions", n)
			}
		})
	}
}

// Whoever moves to a better place has nothing to tell of the old one.
func TestARebalancedAddressTellsOfItsNewPlace(t *testing.T) {
	found, set := spread("n1", "n1", "n1")
	c := cluster("n1", "n2", "n3")
	c.Candidates[0].Used = []UsedPort{{Port: Port{TCP, 1000}, Holder: "pod a/b"},
		{Port: Port{TCP, 1001}, Holder: "pod a/b"}, {Port: Port{TCP, 1002}, Holder: "pod a/b"}}
	p := newPlanner(planned(found, c, nil).facts, c, set, &scope{}, nil)
	plans, _ := p.plan(true)
	for key, b := range plans {
		stays := b.claims[0].target == "n1"
		if told := len(b.conditions) == 1; told != stays {
			t.Errorf("%s on %s: %+v", key, b.claims[0].target, b.conditions)
		}
	}
}
