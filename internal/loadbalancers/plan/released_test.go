// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package plan

import (
	"strings"
	"testing"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/ownership"
)

// A load balancer names its own address as the user's, and later does not any more: what was handed
// over stays the user's, whether or not anybody remembers, and the load balancer gets an address of
// its own.
func TestInvariant2WhatWasHandedOverIsNeverTakenBack(t *testing.T) {
	m := newModel(ips{named(ip("a 192.0.2.1 n1"), ownName())})
	has := publishing("192.0.2.1", "10.0.0.1")
	names := []*LoadBalancer{web(has, from(Source{Existing: "a"}))}
	r := planned(m.ips(), names, cluster("n1"))
	same(t, "when it is named", [][]string{{"mark a"}}, brieflyAll(r))
	m.apply(t, r)
	a := m.found["a"]
	if key, released := ownership.ReleasedFrom(a.Description); !released || key != webKey ||
		ownership.BearsMarker(a.Description) {
		t.Fatalf("it says %q", a.Description)
	}
	if n := m.apply(t, planned(m.ips(), names, cluster("n1"))); n != 0 {
		t.Errorf("named again: %d actions", n)
	}
	// The annotation is removed, and nobody remembers that it was there.
	r = planned(m.ips(), []*LoadBalancer{web(has)}, cluster("n1"))
	same(t, "afterwards", [][]string{{"create", "attach n1", "detach a n1"}}, brieflyAll(r))
	create := r.LoadBalancers[0].Claims[0].Create
	if create.Name == ownName() || !strings.HasPrefix(create.Name, "lb-default-web-") {
		t.Errorf("the new one is called %s", create.Name)
	}
	m.apply(t, r)
	again := []*LoadBalancer{web(publishing("203.0.0.2", "10.0.0.1"))}
	if n := m.apply(t, planned(m.ips(), again, cluster("n1"))); n != 0 {
		t.Errorf("in the end: %d actions", n)
	}
	// The marker of the new one can be lost, too.
	made := m.found["made-1"]
	made.Description = ""
	m.found["made-1"] = made
	r = planned(m.ips(), []*LoadBalancer{web(publishing(made.Addr.String(), "10.0.0.1"))}, cluster("n1"))
	same(t, "its marker is lost", [][]string{{"mark made-1"}}, brieflyAll(r))
	// Both may be handed over.
	made.Description = a.Description
	m.found["made-1"] = made
	r = planned(m.ips(), []*LoadBalancer{web()}, cluster("n1"))
	if third := r.LoadBalancers[0].Claims[0].Create; third.Name == create.Name || third.Name == ownName() {
		t.Errorf("the third is called %s", third.Name)
	}
}

// Its name may be taken by what another load balancer has released, or by anybody: that is in the
// way.
func TestANameThatSomebodyElseHasIsInTheWay(t *testing.T) {
	ofOther, err := ownership.WithReleased("", otherKey)
	if err != nil {
		t.Fatal(err)
	}
	for _, description := range []string{"", "mine", ofOther} {
		taken := named(described("x 192.0.2.9", description), ownName())
		p := planWeb(ips{taken}, web(), cluster("n1"))
		if !isProblem(p.Problem, ReasonNotOwned, "rename it, or detach and delete it") {
			t.Errorf("%q: %v", description, p.Problem)
		}
	}
}

// The line takes less room than the marker that it replaces, so a full description is no obstacle.
func TestAFullDescriptionHasRoomToSayThatItWasReleased(t *testing.T) {
	marker := ip("x 192.0.2.9").Description
	text := strings.Repeat("x", ownership.MaxDescription-len(marker)-1)
	found := ips{described("x 192.0.2.9 n1", marker+"\n"+text)}
	p := planWeb(found, web(from(Source{Existing: "x"})), cluster("n1"))
	same(t, "actions", []string{"mark x"}, briefly(p))
}

// Where the marker alone proves that an address may be moved, it goes once the address has left.
func TestAnAdoptedAddressThatIsHandedOverMovesFirst(t *testing.T) {
	found := ips{ip("a 192.0.2.1 theirs", ofOldCluster)}
	lb := web(from(Source{Existing: "a"}), publishing("192.0.2.1"))
	p := planWeb(found, lb, cluster("n1"), adopting)
	same(t, "actions", []string{"detach a theirs", "mark a", "attach a n1"}, briefly(p))
	p = planWeb(found, lb, adopting)
	same(t, "with no candidate", []string(nil), briefly(p))
}
