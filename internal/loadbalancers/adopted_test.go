// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package loadbalancers

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// ofOldCluster makes a marker one of the cluster that cluster-1 takes over from.
func ofOldCluster(m *Marker) { m.Key.Scope, m.OwnerUID = "cluster-0", "uid-0" }

// A rebuilt cluster takes over the addresses of the one that it replaces, wherever they are.
func TestATakeOverFromAnotherScope(t *testing.T) {
	oldKey := Key{Scope: "cluster-0", Name: "default/web"}
	oldName := nameOf(oldKey, Wanted{Family: IPv4})
	for _, tc := range []struct {
		name       string
		facts      ips
		candidates []string
		want       Desired
		actions    []string
		conditions []ConditionType
		orphans    int
	}{
		{
			name: "on an instance of the old cluster: moved, then marked", candidates: []string{"n1"},
			facts: ips{ip("a 192.0.2.1 theirs", ofOldCluster)}, want: web(),
			actions: []string{"detach a theirs", "mark a", "attach a n1"},
		},
		{
			name: "on a node of this one: marked in its place", candidates: []string{"n1"},
			facts: ips{ip("a 192.0.2.1 n1", ofOldCluster)}, want: web(), actions: []string{"mark a"},
		},
		{
			name: "attached nowhere", candidates: []string{"n1"},
			facts: ips{ip("a 192.0.2.1", ofOldCluster)}, want: web(),
			actions: []string{"mark a", "attach a n1"},
		},
		{
			name:  "no candidate yet: it stays, and keeps the marker that proves it may be moved",
			facts: ips{ip("a 192.0.2.1 theirs", ofOldCluster)}, want: web(),
			conditions: []ConditionType{Degraded},
		},
		{
			name: "the load balancer has an address already: the old one is left as an orphan",
			facts: ips{
				ip("a 192.0.2.1 n1"), ip("bb 192.0.2.2 theirs", ofOldCluster),
			},
			candidates: []string{"n1"}, want: web(), orphans: 1,
		},
		{
			name:       "it does not fit the wish: it is left as an orphan",
			facts:      ips{ip("a 192.0.2.1 n2", ofOldCluster)},
			candidates: []string{"n1"},
			want:       web(wish(Source{Addr: netip.MustParseAddr("192.0.2.7")})),
			actions:    []string{"create", "attach n1"}, orphans: 1,
		},
		{
			name: "its marker was lost: restored", candidates: []string{"n1"},
			facts: ips{named(foreign("a 192.0.2.1 n1"), oldName)}, want: web(publishing("192.0.2.1")),
			actions: []string{"mark a"},
		},
		{
			name: "a scope that is not adopted", candidates: []string{"n1"},
			facts: ips{ip("a 192.0.2.1 n1", func(m *Marker) { m.Key.Scope = "cluster-9" })},
			want:  web(), actions: []string{"create", "attach n1"},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := cluster(tc.candidates...)
			c.Adopted = []string{"cluster-0"}
			p := planned(tc.facts, c, []Desired{tc.want})
			b := p.balancers[0]
			if b.problem != nil {
				t.Fatal(b.problem)
			}
			if diff := cmp.Diff(tc.actions, briefly(b)); diff != "" {
				t.Errorf("actions (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(tc.conditions, conditionsOf(b)); diff != "" {
				t.Errorf("conditions (-want +got):\n%s", diff)
			}
			if got := len(p.orphans()); got != tc.orphans {
				t.Errorf("%d load balancers with orphans, want %d", got, tc.orphans)
			}
		})
	}
}

// An exchange of scopes ends: a second plan over what the first one made does nothing.
func TestATakeOverFromAnotherScopeIsDoneOnce(t *testing.T) {
	c := cluster("n1")
	c.Adopted = []string{"cluster-0"}
	m := newModel(ips{ip("a 192.0.2.1 theirs", ofOldCluster)})
	m.apply(t, planned(m.ips(), c, []Desired{web()}))
	if again := briefly(planned(m.ips(), c, []Desired{web()}).balancers[0]); len(again) != 0 {
		t.Errorf("a second plan does %v", again)
	}
	if got := m.facts["a"]; got.Marker.Key != webKey || got.InstanceID != "n1" {
		t.Errorf("ended as %+v", got)
	}
}
