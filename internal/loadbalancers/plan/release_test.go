// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package plan

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/ownership"
)

// Two clusters of one id: what the other one uses is on instances that never were nodes here.
func TestAnAddressOnAForeignInstanceIsNeverReleased(t *testing.T) {
	theirs, published := ip("a 192.0.2.1 theirs"), publishing("192.0.2.1")
	t.Run("not for another source", func(t *testing.T) {
		p := planWeb(ips{theirs}, web(published, from(Source{Addr: netip.MustParseAddr("192.0.2.7")})),
			cluster("n1"))
		same(t, "actions", []string{"create", "attach n1"}, briefly(p))
		same(t, "conditions", []ConditionType{ForeignAttachment}, conditionsOf(p))
		if p.IsForeign() {
			t.Error("its publication would stay as it is")
		}
	})
	t.Run("not for a better one", func(t *testing.T) {
		p := planWeb(ips{theirs, ip("bb 192.0.2.2")}, web(published), cluster("n1"))
		same(t, "actions", []string{"attach bb n1"}, briefly(p))
	})
	t.Run("nor moved, and the publication stays", func(t *testing.T) {
		if p := planWeb(ips{theirs}, web(published), cluster("n1")); !p.IsForeign() || len(briefly(p)) > 0 {
			t.Errorf("does %v", briefly(p))
		}
	})
	t.Run("nor one of another owner of the same name", func(t *testing.T) {
		p := planWeb(ips{theirs}, web(func(d *LoadBalancer) { d.OwnerUID = "uid-2" }), cluster("n1"))
		if !p.IsForeign() || len(briefly(p)) > 0 {
			t.Errorf("does %v", briefly(p))
		}
	})
	forget := func(in *Input) { delete(in.FormerCandidates, "n3") }
	for _, tc := range []struct {
		name       string
		candidates []string
		change     func(*LoadBalancer)
		actions    []string
	}{
		{name: "not at the end of the load balancer", change: published},
		{
			name:   "unless its private address is published: it was a node",
			change: publishing("192.0.2.1", "10.0.0.3"), actions: []string{"detach a n3", "delete a"},
		},
		{
			name: "unless it is a node", candidates: []string{"n3 unhealthy"}, change: published,
			actions: []string{"detach a n3", "delete a"},
		},
		{
			name: "unless nobody ever published it", change: publishing(),
			actions: []string{"detach a n3", "delete a"},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p := planWeb(ips{ip("a 192.0.2.1 n3")}, web(ending(EndRelease), tc.change),
				cluster(append(tc.candidates, "n1")...), forget)
			same(t, "actions", tc.actions, briefly(p))
			if p.Ended != (tc.actions == nil) {
				t.Errorf("ended: %t", p.Ended)
			}
		})
	}
}

// Both programs may die during the first attachment, and the node may be gone afterwards: nobody
// ever published the address, so it is taken off the instance.
func TestAnAddressThatWasNeverPublishedLeavesAnInstanceThatIsNoNode(t *testing.T) {
	p := planWeb(ips{ip("a 192.0.2.1 gone")}, web(), cluster("n1"))
	same(t, "actions", []string{"detach a gone", "attach a n1"}, briefly(p))
	same(t, "conditions", []ConditionType(nil), conditionsOf(p))
}

// The end of a load balancer concerns its own addresses alone.
func TestTheEndOfALoadBalancer(t *testing.T) {
	retained := func(m *Marker) { m.Retained = true }
	newer := func(m *Marker) { m.OwnerUID = "uid-2" }
	has := publishing("192.0.2.1", "10.0.0.1")
	existing := func(name string) func(*LoadBalancer) { return from(Source{Existing: name}) }
	mine := legacy("a 192.0.2.1 n1", "default-web")
	for _, tc := range []struct {
		name    string
		facts   ips
		retain  bool
		change  []func(*LoadBalancer)
		others  []*LoadBalancer
		actions []string
	}{
		{name: "nothing is there"},
		{name: "attached", facts: ips{ip("a 192.0.2.1 n1")}, actions: []string{"detach a n1", "delete a"}},
		{name: "detached", facts: ips{ip("a 192.0.2.1")}, actions: []string{"delete a"}},
		{
			name: "to be retained", facts: ips{ip("a 192.0.2.1 n1")}, retain: true,
			actions: []string{"detach a n1", "mark a"},
		},
		{name: "already retained", facts: ips{ip("a 192.0.2.1", retained)}, retain: true},
		{name: "retained before", facts: ips{ip("a 192.0.2.1", retained)}},
		{name: "of a newer owner", facts: ips{ip("a 192.0.2.1 n1", newer)}},
		{name: "somebody else's", facts: ips{foreign("a 192.0.2.1 n5")}},
		{
			name: "a user's address is detached, and never deleted", facts: ips{foreign("a 192.0.2.1 n1")},
			change: []func(*LoadBalancer){has}, actions: []string{"detach a n1"},
		},
		{
			name:  "a user's address that is on another node than is published",
			facts: ips{foreign("a 192.0.2.1 n2")}, change: []func(*LoadBalancer){has},
		},
		{
			name: "a user's address that is attached nowhere", facts: ips{foreign("a 192.0.2.1")},
			change: []func(*LoadBalancer){has},
		},
		{
			name: "a user's address that is not published", facts: ips{foreign("a 192.0.2.9 n1")},
			change: []func(*LoadBalancer){has},
		},
		{
			name: "a user's address that another one names now", facts: ips{foreign("a 192.0.2.1 n1")},
			others: []*LoadBalancer{other(existing("a"), publishing("192.0.2.1"))},
			change: []func(*LoadBalancer){has},
		},
		{
			name:  "a user's address that was named, whatever is published",
			facts: ips{foreign("a 192.0.2.9 n1")}, change: []func(*LoadBalancer){existing("a")},
			actions: []string{"detach a n1"},
		},
		{
			name:  "a user's address that was named, of the other IP family",
			facts: ips{foreign("a 2001:db8::9 n1")}, change: []func(*LoadBalancer){existing("a")},
		},
		{
			name:  "a user's address that was named, on an instance that is no node",
			facts: ips{foreign("a 192.0.2.9 theirs")}, change: []func(*LoadBalancer){existing("a")},
		},
		{
			name:   "a user's address that was named, and that another one names now",
			facts:  ips{foreign("a 192.0.2.9 n1")},
			change: []func(*LoadBalancer){existing("name-a")}, others: []*LoadBalancer{other(existing("a"))},
		},
		{
			name:  "what was named, and is not the user's own",
			facts: ips{legacy("a 192.0.2.9 n1", "default-other")}, change: []func(*LoadBalancer){existing("a")},
		},
		{
			name:  "a damaged marker proves nothing",
			facts: ips{described("a 192.0.2.1 n1", "oxide-ccm/?")}, change: []func(*LoadBalancer){has},
		},
		{
			name: "marked, and another one publishes it", facts: ips{ip("a 192.0.2.1 n1")},
			others: []*LoadBalancer{other(publishing("192.0.2.1"))},
		},
		{
			name: "of the existing CCM", facts: ips{mine}, change: []func(*LoadBalancer){has},
			actions: []string{"detach a n1", "delete a"},
		},
		{
			name: "of the existing CCM, to be retained", facts: ips{mine}, retain: true,
			change: []func(*LoadBalancer){has}, actions: []string{"detach a n1", "mark a"},
		},
		{
			name: "of the existing CCM, and another one publishes it", facts: ips{mine},
			change: []func(*LoadBalancer){has}, others: []*LoadBalancer{other(publishing("192.0.2.1"))},
		},
		{name: "of the existing CCM, but not published", facts: ips{mine}},
		{
			name:    "both families",
			facts:   ips{ip("a 192.0.2.1 n1"), ip("b 2001:db8::1 n1", func(m *Marker) { m.Family = IPv6 })},
			actions: []string{"detach a n1", "delete a", "detach b n1", "delete b"},
		},
		{
			name: "retained already, and attached all the same", facts: ips{ip("a 192.0.2.1 n1", retained)},
			actions: []string{"detach a n1"},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			how := EndRelease
			if tc.retain {
				how = EndRetain
			}
			gone := web(append(tc.change, ending(how))...)
			p := planned(tc.facts, append(tc.others, gone), cluster("n1"),
				func(in *Input) { in.LegacyName = "kubernetes" }).ByKey[webKey]
			same(t, "actions", tc.actions, briefly(p))
			if p.Ended != (len(tc.actions) == 0) || len(p.Claims) > 0 {
				t.Errorf("ended: %t, with %d claims", p.Ended, len(p.Claims))
			}
		})
	}
}

// A load balancer has not ended while a request about an address of it is under way, nor while its
// address cannot be marked as retained.
func TestAnEndIsNoneBefore(t *testing.T) {
	released := from(Source{Existing: "x"})
	p := planWeb(ips{foreign("x 192.0.2.9")}, web(released, ending(EndRelease)), cluster("n1"),
		func(in *Input) { in.InFlight = map[string]InFlight{"x": {Instance: "n1"}} })
	if p.Ended || len(p.Releases) > 0 {
		t.Errorf("while its address is being attached: ended: %t, %v", p.Ended, briefly(p))
	}
	marker := ip("a 192.0.2.1").Description
	long := described("a 192.0.2.1", marker+"\n"+strings.Repeat("x", ownership.MaxDescription-len(marker)-1))
	p = planWeb(ips{long}, web(ending(EndRetain)), cluster("n1"))
	if p.Ended || !isProblem(p.Problem, ReasonInvalid, "remove 9 characters") {
		t.Errorf("without room for the marker: ended: %t, %v", p.Ended, p.Problem)
	}
}

// Until a load balancer is gone its addresses and ports are its own.
func TestALoadBalancerThatIsEndingHasItsAddressesAndPlaces(t *testing.T) {
	found := ips{ip("a 192.0.2.1 n1"), foreign("x 192.0.2.9 n1")}
	gone := web(ending(EndRelease), publishing("192.0.2.9", "10.0.0.1"))
	tcp80 := Port{Protocol: TCP, Number: 80}
	r := planned(found, []*LoadBalancer{gone, other(serving(tcp80))}, cluster("n1"))
	if len(r.Orphans) > 0 {
		t.Errorf("the orphans are %v", r.Orphans)
	}
	if p := r.ByKey[otherKey]; !isProblem(p.Problem, ReasonPortConflict, "TCP 80 is held by default/web") {
		t.Errorf("another one that has its port: %v", p.Problem)
	}
	r = planned(found, []*LoadBalancer{gone, other(from(Source{Existing: "name-x"}))}, cluster("n1"))
	const want = "the floating IP name-x is attached for the load balancer default/web until that is deleted"
	if p := r.ByKey[otherKey]; !isProblem(p.Problem, ReasonNotOwned, want) {
		t.Errorf("another one that names its user's address: %v", p.Problem)
	}
}

// What may have been the address of a load balancer that ended while nobody saw it is left alone,
// and named.
func TestWhatAnEndMayHaveLeftAttached(t *testing.T) {
	gone := web(ending(EndRelease))
	reserved, err := ownership.WithReservation("mine", ownership.NewReservation(Source{}, "mine"))
	if err != nil {
		t.Fatal(err)
	}
	var many ips
	for i := range 5 {
		many = append(many, foreign(fmt.Sprintf("x%d 192.0.2.%d n1", i, i+1)))
	}
	for _, tc := range []struct {
		name  string
		facts ips
		lb    *LoadBalancer
		says  string
	}{
		{"a user's address on a node", ips{foreign("x 192.0.2.9 n1")}, gone,
			"the floating IP name-x (192.0.2.9) is attached to node-n1 and belongs to no load balancer: " +
				"if it was this one's, detach it"},
		{"at most three of them", many, gone, "name-x2 (192.0.2.3) is attached to node-n1, and none"},
		{"not elsewhere", ips{foreign("x 192.0.2.9 n2")}, gone, ""},
		{"not what another one uses", ips{foreign("y 192.0.2.8 n1")}, gone, ""},
		{"not of the existing CCM", ips{legacy("x 192.0.2.9 n1", "default-web")}, gone, ""},
		{"not what was reserved for itself", ips{described("x 192.0.2.9 n1", reserved)}, gone, ""},
		{"not if it publishes something", ips{foreign("x 192.0.2.9 n1")},
			web(ending(EndRelease), publishing("192.0.2.1")), ""},
		{"not if it has an address", ips{foreign("x 192.0.2.9 n1"), ip("a 192.0.2.1")}, gone, ""},
		{"not if it names one", ips{foreign("x 192.0.2.9 n1")},
			web(ending(EndRelease), from(Source{Existing: "z"})), ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			set := []*LoadBalancer{tc.lb, other(from(Source{Existing: "name-y"}))}
			p := planned(tc.facts, set, cluster("n1")).ByKey[webKey]
			if !strings.Contains(says(p), tc.says) || (tc.says == "") != (len(p.Conditions) == 0) {
				t.Errorf("says %q, want %q", says(p), tc.says)
			}
		})
	}
}

// Two load balancers that publish one address of a user release it once.
func TestALeftoverIsDetachedOnce(t *testing.T) {
	has := publishing("192.0.2.9", "10.0.0.1")
	r := planned(ips{foreign("x 192.0.2.9 n1"), ip("a 192.0.2.1 n1"), ip("b 192.0.2.2 n1", ofOther)},
		[]*LoadBalancer{web(has), other(has)}, cluster("n1"))
	same(t, "actions", [][]string{{"detach x n1"}, nil}, brieflyAll(r))
}

// What is desired no more is reported, by whom it was, and left alone.
func TestOrphansArePlannedByNobody(t *testing.T) {
	retained := func(m *Marker) { m.Retained = true }
	found := ips{
		ip("a 192.0.2.1 n1"), ip("b 192.0.2.2 n1", ofOther), ip("c 192.0.2.3", ofOther, retained),
		foreign("x 192.0.2.9 n1"),
		ip("y 192.0.2.8", func(m *Marker) { m.Key.Scope = "cluster-9" }),
	}
	r := planned(found, []*LoadBalancer{web()}, cluster("n1"))
	if len(r.Orphans) != 1 || len(r.Orphans[otherKey]) != 2 {
		t.Errorf("got %+v", r.Orphans)
	}
	if actions := r.Actions(); len(actions) != 0 {
		t.Errorf("an orphan causes %v", brief(actions))
	}
	r = planned(found, []*LoadBalancer{web(), other(ending(EndRelease))}, cluster("n1"))
	if len(r.Orphans[otherKey]) != 1 || r.Orphans[otherKey][0].ID != "c" {
		t.Errorf("while it is ending, its retained one alone: %+v", r.Orphans)
	}
}
