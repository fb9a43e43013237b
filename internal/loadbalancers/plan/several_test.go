// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package plan

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
)

// several makes a load balancer desire so many addresses of IPv4.
func several(n int) func(*LoadBalancer) {
	return func(d *LoadBalancer) { d.Desired = slices.Repeat([]Desired{{Family: IPv4}}, n) }
}

// targets are where the addresses of a load balancer go, "-" for nowhere.
func targets(p *Planned) string {
	var all []string
	for _, c := range p.Claims {
		if c.Target == "" {
			all = append(all, "-")
			continue
		}
		all = append(all, c.Target)
	}
	slices.Sort(all)
	return strings.Join(all, " ")
}

// Of several addresses of one family each is on another node: what finds none stays reserved, with a
// condition, and is no problem of the load balancer.
func TestSeveralAddressesAreEachOnAnotherNode(t *testing.T) {
	alone := web(several(3))
	p := planWeb(nil, alone, cluster("n1", "n2", "n3"))
	same(t, "targets", "n1 n2 n3", targets(p))
	names := make(map[string]bool)
	for _, c := range p.Claims {
		names[c.Create.Name] = true
	}
	if len(names) != 3 {
		t.Errorf("of three addresses the names are %v", names)
	}
	p = planWeb(nil, alone, cluster("n1", "n2"))
	same(t, "targets", "- n1 n2", targets(p))
	same(t, "conditions", []ConditionType{NoCandidate}, conditionsOf(p))
	if p.Problem != nil || !strings.Contains(says(p), "carries another address of the load balancer") {
		t.Errorf("%v, says %s", p.Problem, says(p))
	}
	t.Run("of either source", func(t *testing.T) {
		lb := web(func(d *LoadBalancer) {
			d.Desired = slices.Repeat([]Desired{{Family: IPv4, Source: Source{Kind: ExternalSubnet, Pool: "s"}}}, 3)
		})
		same(t, "targets", "- n1 n2", targets(planWeb(nil, lb, cluster("n1", "n2"))))
	})
	t.Run("one of each family may share a node", func(t *testing.T) {
		lb := web(func(d *LoadBalancer) { d.Desired = []Desired{{Family: IPv4}, {Family: IPv6}} })
		same(t, "targets", "n1 n1", targets(planWeb(nil, lb, cluster("n1"))))
	})
	t.Run("two that are on one node part", func(t *testing.T) {
		found := ips{ip("a 192.0.2.1 n1"), ip("bb 192.0.2.2 n1")}
		p := planWeb(found, web(several(2)), cluster("n1", "n2"))
		same(t, "actions", []string{"detach bb n1", "attach bb n2"}, briefly(p))
		p = planWeb(found, web(several(2)), cluster("n1"))
		same(t, "actions", []string{"detach bb n1"}, briefly(p))
	})
	t.Run("while it is not known what is desired they stay", func(t *testing.T) {
		found := ips{ip("a 192.0.2.1 n1"), ip("bb 192.0.2.2 n1"), ip("ccc 192.0.2.3 n2")}
		p := planWeb(found, web(preserved), cluster("n1", "n2"))
		same(t, "actions", []string(nil), briefly(p))
		if len(p.Claims) != 3 {
			t.Errorf("it has %d addresses, want 3", len(p.Claims))
		}
	})
}

// While it is not known what is desired, all that a load balancer has still fails over.
func TestWhatIsPreservedFailsOver(t *testing.T) {
	found := ips{ip("a 192.0.2.1 n1"), ip("bb 192.0.2.2 n2")}
	for _, lb := range []*LoadBalancer{
		web(preserved), web(preserved, func(d *LoadBalancer) { d.Desired = nil }),
	} {
		p := planWeb(found, lb, cluster("n1 unhealthy", "n2", "n3"))
		same(t, "actions", []string{"detach a n1", "attach a n3"}, briefly(p))
	}
}

// The death of a node moves what is there, for nobody else's sake.
func TestANodeThatDiesLeavesTheOtherAddressesServing(t *testing.T) {
	found := ips{ip("a 192.0.2.1 n1"), ip("bb 192.0.2.2 n2"), ip("ccc 192.0.2.3 n3")}
	p := planWeb(found, web(several(3)), cluster("n1 unhealthy", "n2", "n3", "n4"))
	same(t, "actions", []string{"detach a n1", "attach a n4"}, briefly(p))
	p = planWeb(found, web(several(3)), cluster("n1 unhealthy", "n2", "n3"))
	same(t, "actions", []string(nil), briefly(p))
	same(t, "conditions", []ConditionType{Degraded}, conditionsOf(p))
	if !strings.Contains(says(p), "node-n2: carries another address of the load balancer") {
		t.Errorf("it says %s", says(p))
	}
}

// More addresses are added to those that are there; of those that are too many, those go first whose
// nodes are unhealthy, then the newest.
func TestTheCountIsRaisedAndLowered(t *testing.T) {
	found := ips{ip("a 192.0.2.1 n1"), ip("bb 192.0.2.2 n2"), ip("ccc 192.0.2.3 n3")}
	published := publishing("192.0.2.1", "192.0.2.2", "192.0.2.3", "10.0.0.1", "10.0.0.2", "10.0.0.3")
	for _, tc := range []struct {
		name    string
		count   int
		cluster []string
		actions []string
	}{
		{"one more", 4, []string{"n1", "n2", "n3", "n4"}, []string{"create", "attach n4"}},
		{"one fewer: the newest", 2, []string{"n1", "n2", "n3"}, []string{"detach ccc n3", "delete ccc"}},
		{
			"one fewer: that on an unhealthy node", 2, []string{"n1 unhealthy", "n2", "n3"},
			[]string{"detach a n1", "delete a"},
		},
		{
			"two fewer", 1, []string{"n1", "n2 unhealthy", "n3"},
			[]string{"detach bb n2", "delete bb", "detach ccc n3", "delete ccc"},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p := planWeb(found, web(several(tc.count), published), cluster(tc.cluster...))
			same(t, "actions", tc.actions, briefly(p))
		})
	}
}

// An exchange of several addresses ends although one of the new ones finds no node of its own.
func TestAnExchangeEndsThoughANodeIsMissing(t *testing.T) {
	lb := web(func(d *LoadBalancer) {
		d.Desired = slices.Repeat([]Desired{{Family: IPv4, Source: Source{Pool: "p"}}}, 2)
	})
	p := planWeb(ips{ip("a 192.0.2.1 n1")}, lb, cluster("n1"))
	same(t, "actions", []string{"create", "attach n1", "create", "detach a n1", "delete a"}, briefly(p))
}

// A name of a user's own is one address.
func TestAnAddressThatIsNamedTwiceIsOne(t *testing.T) {
	lb := web(func(d *LoadBalancer) {
		d.Desired = slices.Repeat([]Desired{{Family: IPv4, Source: Source{Existing: "name-mine"}}}, 2)
	})
	p := planWeb(ips{foreign("mine 192.0.2.9")}, lb, cluster("n1", "n2"))
	if !isProblem(p.Problem, ReasonInvalid, "the floating IP name-mine is named twice") {
		t.Errorf("got %v", p.Problem)
	}
}

// An address that is desired no more waits for what replaces it, but not where another load balancer has
// its ports, to which somebody has attached it by hand.
func TestAFormerAddressLeavesThePlaceOfAnother(t *testing.T) {
	found := ips{
		ip("new 192.0.2.9", func(m *Marker) { m.Source = "address:192.0.2.9" }), ip("old 192.0.2.1 n1"),
		ip("theirs 192.0.2.2 n1", ofOther),
	}
	set := []*LoadBalancer{
		web(from(Source{Addr: netip.MustParseAddr("192.0.2.9")})),
		other(serving(Port{Protocol: TCP, Number: 80})),
	}
	same(t, "actions", [][]string{{"detach old n1"}, nil},
		brieflyAll(planned(found, set, cluster("n1 unhealthy"))))
	same(t, "actions where nobody else is", [][]string{nil},
		brieflyAll(planned(found[:2], set[:1], cluster("n1 unhealthy"))))
}
