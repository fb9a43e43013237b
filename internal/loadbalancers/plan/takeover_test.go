// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package plan

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/ownership"
)

func TestTakeOverFromTheExistingCCM(t *testing.T) {
	has := publishing("192.0.2.1")
	longName := "default/" + strings.Repeat("x", 44) + "-b"
	cut := ("default-" + strings.Repeat("x", 44) + "-b")[:52]
	long := func(d *LoadBalancer) { d.Key.Name = longName }
	alike := func(d *LoadBalancer) { d.Key.Name = longName + "c" }
	for _, tc := range []claimCase{
		{
			name: "it stays where it is", facts: ips{legacy("a 192.0.2.1 n1", "default-web")},
			set: []*LoadBalancer{web(has)}, actions: [][]string{{"mark a"}},
		},
		{
			name: "attached nowhere", facts: ips{legacy("a 192.0.2.1", "default-web")},
			set: []*LoadBalancer{web(has)}, actions: [][]string{{"mark a", "attach a n1"}},
		},
		{
			name: "on an unhealthy node", facts: ips{legacy("a 192.0.2.1 n2", "default-web")},
			set: []*LoadBalancer{web(has)}, actions: [][]string{{"mark a", "detach a n2", "attach a n1"}},
		},
		{
			name: "on what was a node", facts: ips{legacy("a 192.0.2.1 n5", "default-web")},
			set: []*LoadBalancer{web(has)}, actions: [][]string{{"mark a", "detach a n5", "attach a n1"}},
		},
		{
			name:  "on a foreign instance: not taken",
			facts: ips{legacy("a 192.0.2.1 theirs", "default-web")},
			set:   []*LoadBalancer{web(has)}, actions: [][]string{{"create", "attach n1"}},
		},
		{
			name: "not published: not taken", facts: ips{legacy("a 192.0.2.1 n1", "default-web")},
			set: []*LoadBalancer{web()}, actions: [][]string{{"create", "attach n1"}},
		},
		{
			name: "of another Service: not taken", facts: ips{legacy("a 192.0.2.1 n1", "default-other")},
			set: []*LoadBalancer{web(has)}, actions: [][]string{{"create", "attach n1"}},
		},
		{
			name: "the description is not exact: not taken",
			facts: ips{named(described("a 192.0.2.1 n1", ownership.LegacyDescription+" And by me."),
				"kubernetes-default-web")},
			set: []*LoadBalancer{web(has)}, actions: [][]string{{"create", "attach n1"}},
		},
		{
			name:  "the name was cut, and its last dash trimmed",
			facts: ips{legacy("a 192.0.2.1 n1", strings.TrimRight(cut, "-"))},
			set:   []*LoadBalancer{web(has, long)}, actions: [][]string{{"mark a"}},
		},
		{
			name:    "two that publish it: the older has it",
			facts:   ips{legacy("a 192.0.2.1 n1", strings.TrimRight(cut, "-"))},
			set:     []*LoadBalancer{other(has, alike), web(has, long)},
			actions: [][]string{{"mark a"}, {"create", "attach n1"}},
		},
		{
			name:    "the older does not publish it: the other has it",
			facts:   ips{legacy("a 192.0.2.1 n1", strings.TrimRight(cut, "-"))},
			set:     []*LoadBalancer{web(long), other(has, alike)},
			actions: [][]string{{"create", "attach n1"}, {"mark a"}},
		},
		{
			name:  "two keys that run together to one name",
			facts: ips{legacy("a 192.0.2.1 n1", "team-a-web")},
			set: []*LoadBalancer{
				web(has, func(d *LoadBalancer) { d.Key.Name = "team-a/web" }),
				other(has, func(d *LoadBalancer) { d.Key.Name = "team/a-web" }),
			},
			actions: [][]string{{"mark a"}, {"create", "attach n1"}},
		},
		{
			name: "its marker was damaged later: restored",
			facts: ips{named(described("a 192.0.2.1 n1", ownership.LegacyDescription+"\n"+ownership.MarkerPrefix+"v1?"),
				"kubernetes-default-web")},
			set: []*LoadBalancer{web(has)}, actions: [][]string{{"mark a"}},
		},
		{
			name:    "another load balancer names it as the user's own",
			facts:   ips{legacy("a 192.0.2.1 n1", "default-web")},
			set:     []*LoadBalancer{web(has), other(from(Source{Existing: "a"}))},
			actions: [][]string{{"mark a"}, nil},
		},
	} {
		t.Run(tc.name, tc.run)
	}
}

// The way back: the existing CCM finds the address by its name, and its description still begins as
// it wrote it.
func TestATakenOverAddressKeepsItsNameAndText(t *testing.T) {
	m := newModel(ips{legacy("a 192.0.2.1 n1", "default-web")})
	m.apply(t, planned(m.ips(), []*LoadBalancer{web(publishing("192.0.2.1"))}, cluster("n1"),
		func(in *Input) { in.LegacyName = "kubernetes" }))
	got := m.found["a"]
	marker, _ := ownership.ParseMarker(got.Description)
	if got.Name != "kubernetes-default-web" || marker.Key != webKey ||
		ownership.WithoutMarker(got.Description) != ownership.LegacyDescription {
		t.Errorf("became %+v", got)
	}
}

// Without a legacy name nothing is taken over.
func TestNoLegacyNameNoTakeOver(t *testing.T) {
	found := ips{named(described("a 192.0.2.1 n1", ownership.LegacyDescription), "-default-web")}
	p := planWeb(found, web(publishing("192.0.2.1")), cluster("n1"))
	same(t, "actions", []string{"create", "attach n1"}, briefly(p))
}

// ofOldCluster makes a marker one of the cluster that cluster-1 takes over from.
func ofOldCluster(m *Marker) { m.Key.Scope, m.OwnerUID = "cluster-0", "uid-0" }

// A rebuilt cluster takes over the addresses of the one that it replaces, wherever they are.
func TestATakeOverFromAnotherScope(t *testing.T) {
	oldKey := Key{Scope: "cluster-0", Name: "default/web"}
	oldName := nameOf(oldKey, IPv4, Source{})
	for _, tc := range []struct {
		name       string
		facts      ips
		candidates []string
		want       *LoadBalancer
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
			name:       "it is not from the source: it is left as an orphan",
			facts:      ips{ip("a 192.0.2.1 n2", ofOldCluster)},
			candidates: []string{"n1"},
			want:       web(from(Source{Addr: netip.MustParseAddr("192.0.2.7")})),
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
			r := planned(tc.facts, []*LoadBalancer{tc.want}, cluster(tc.candidates...), adopting)
			p := r.LoadBalancers[0]
			if p.Problem != nil {
				t.Fatal(p.Problem)
			}
			same(t, "actions", tc.actions, briefly(p))
			same(t, "conditions", tc.conditions, conditionsOf(p))
			if got := len(r.Orphans); got != tc.orphans {
				t.Errorf("%d load balancers with orphans, want %d", got, tc.orphans)
			}
		})
	}
}

func adopting(in *Input) { in.Adopted = []string{"cluster-0"} }

// An exchange of scopes ends: a second plan over what the first one made does nothing.
func TestATakeOverFromAnotherScopeIsDoneOnce(t *testing.T) {
	m := newModel(ips{ip("a 192.0.2.1 theirs", ofOldCluster)})
	m.apply(t, planned(m.ips(), []*LoadBalancer{web()}, cluster("n1"), adopting))
	again := planned(m.ips(), []*LoadBalancer{web()}, cluster("n1"), adopting)
	if actions := brief(again.Actions()); len(actions) != 0 {
		t.Errorf("a second plan does %v", actions)
	}
	got := m.found["a"]
	if marker, _ := ownership.ParseMarker(got.Description); marker.Key != webKey || got.InstanceID != "n1" {
		t.Errorf("ended as %+v", got)
	}
}
