// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package loadbalancers

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// legacy makes a fact about a floating IP of the existing Oxide CCM.
func legacy(text, service string) fact {
	return named(described(text, legacyDescription), "kubernetes-"+service)
}

func TestTakeOverFromTheExistingCCM(t *testing.T) {
	has := publishing("192.0.2.1")
	longName := "default/" + strings.Repeat("x", 44) + "-b"
	cut := ("default-" + strings.Repeat("x", 44) + "-b")[:52]
	long := func(d *Desired) { d.Key.Name = longName }
	alike := func(d *Desired) { d.Key.Name = longName + "c" }
	for _, tc := range []claimCase{
		{
			name: "it stays where it is", facts: ips{legacy("a 192.0.2.1 n1", "default-web")},
			set: []Desired{web(has)}, actions: [][]string{{"mark a"}},
		},
		{
			name: "attached nowhere", facts: ips{legacy("a 192.0.2.1", "default-web")},
			set: []Desired{web(has)}, actions: [][]string{{"mark a", "attach a n1"}},
		},
		{
			name: "on an unhealthy node", facts: ips{legacy("a 192.0.2.1 n2", "default-web")},
			set: []Desired{web(has)}, actions: [][]string{{"mark a", "detach a n2", "attach a n1"}},
		},
		{
			name: "on what was a node", facts: ips{legacy("a 192.0.2.1 n5", "default-web")},
			set: []Desired{web(has)}, actions: [][]string{{"mark a", "detach a n5", "attach a n1"}},
		},
		{
			name:  "on a foreign instance: not taken",
			facts: ips{legacy("a 192.0.2.1 theirs", "default-web")},
			set:   []Desired{web(has)}, actions: [][]string{{"create", "attach n1"}},
		},
		{
			name: "not published: not taken", facts: ips{legacy("a 192.0.2.1 n1", "default-web")},
			set: []Desired{web()}, actions: [][]string{{"create", "attach n1"}},
		},
		{
			name: "of another Service: not taken", facts: ips{legacy("a 192.0.2.1 n1", "default-other")},
			set: []Desired{web(has)}, actions: [][]string{{"create", "attach n1"}},
		},
		{
			name: "the description is not exact: not taken",
			facts: ips{named(described("a 192.0.2.1 n1", legacyDescription+" And by me."),
				"kubernetes-default-web")},
			set: []Desired{web(has)}, actions: [][]string{{"create", "attach n1"}},
		},
		{
			name:  "the name was cut, and its last dash trimmed",
			facts: ips{legacy("a 192.0.2.1 n1", strings.TrimRight(cut, "-"))},
			set:   []Desired{web(has, long)}, actions: [][]string{{"mark a"}},
		},
		{
			name:    "two that publish it: the older has it",
			facts:   ips{legacy("a 192.0.2.1 n1", strings.TrimRight(cut, "-"))},
			set:     []Desired{other(has, alike), web(has, long)},
			actions: [][]string{{"mark a"}, {"create", "attach n1"}},
		},
		{
			name:    "the older does not publish it: the other has it",
			facts:   ips{legacy("a 192.0.2.1 n1", strings.TrimRight(cut, "-"))},
			set:     []Desired{web(long), other(has, alike)},
			actions: [][]string{{"create", "attach n1"}, {"mark a"}},
		},
		{
			name:  "two keys that run together to one name",
			facts: ips{legacy("a 192.0.2.1 n1", "team-a-web")},
			set: []Desired{
				web(has, func(d *Desired) { d.Key.Name = "team-a/web" }),
				other(has, func(d *Desired) { d.Key.Name = "team/a-web" }),
			},
			actions: [][]string{{"mark a"}, {"create", "attach n1"}},
		},
		{
			name: "its marker was damaged later: restored",
			facts: ips{named(described("a 192.0.2.1 n1", legacyDescription+"\n"+markerPrefix+"v1?"),
				"kubernetes-default-web")},
			set: []Desired{web(has)}, actions: [][]string{{"mark a"}},
		},
		{
			name:    "another load balancer names it as the user's own",
			facts:   ips{legacy("a 192.0.2.1 n1", "default-web")},
			set:     []Desired{web(has), other(wish(Source{Existing: "a"}))},
			actions: [][]string{{"mark a"}, nil},
		},
	} {
		t.Run(tc.name, tc.run)
	}
}

// The way back: the existing CCM finds the address by its name, and its description still begins as it
// wrote it.
func TestATakenOverAddressKeepsItsNameAndText(t *testing.T) {
	c := cluster("n1")
	c.LegacyName = "kubernetes"
	m := newModel(ips{legacy("a 192.0.2.1 n1", "default-web")})
	m.apply(t, planned(m.ips(), c, []Desired{web(publishing("192.0.2.1"))}))
	got := m.facts["a"]
	if got.Name != "kubernetes-default-web" ||
		WithoutMarker(got.Description) != legacyDescription || got.Marker.Key != webKey {
		t.Errorf("became %+v", got)
	}
}

// Without a legacy name nothing is taken over.
func TestNoLegacyNameNoTakeOver(t *testing.T) {
	found := ips{named(described("a 192.0.2.1 n1", legacyDescription), "-default-web")}
	b := planWeb(found, cluster("n1"), web(publishing("192.0.2.1")))
	if diff := cmp.Diff([]string{"create", "attach n1"}, briefly(b)); diff != "" {
		t.Error(diff)
	}
}
