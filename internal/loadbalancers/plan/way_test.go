// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package plan

import (
	"fmt"
	"strings"
	"testing"
)

var tcp80, tcp8080 = Port{Protocol: TCP, Number: 80}, Port{Protocol: TCP, Number: 8080}

// wayCase is where web's address a is to go.
type wayCase struct {
	name       string
	candidates []string
	at         string
	web        []func(*LoadBalancer)
	others     []*LoadBalancer
	found      ips
	change     func(*Input)
	target     string
	next       string
	blocked    string
	conditions []ConditionType
	why        string
}

func (tc wayCase) run(t *testing.T) {
	t.Helper()
	found := append(ips{ip("a 192.0.2.1 " + tc.at)}, tc.found...)
	p := planned(found, append(tc.others, web(tc.web...)), cluster(tc.candidates...), tc.change).ByKey[webKey]
	c := p.Claims[0]
	same(t, "target, next, blocked", []string{tc.target, tc.next, tc.blocked}, []string{c.Target, c.Next, c.Blocked})
	same(t, "conditions", tc.conditions, conditionsOf(p))
	if tc.why != "" && !strings.Contains(c.Why, tc.why) {
		t.Errorf("because %q, want %q", c.Why, tc.why)
	}
}

func inFlight(id, instance string) func(*Input) {
	return func(in *Input) { in.InFlight = map[string]InFlight{id: {Instance: instance}} }
}

// What is on its way has its place, but never against one that stays.
func TestInvariant5WhatIsOnItsWay(t *testing.T) {
	older := func(d *LoadBalancer) { d.Created -= 10 * day }
	for _, tc := range []wayCase{
		{
			name: "keeps its target, however loaded", candidates: []string{"n1", "n2"}, at: "",
			found: ips{foreign("x 192.0.2.9 n2")}, change: inFlight("a", "n2"), target: "n2",
		},
		{
			name: "keeps its target before one that is older", candidates: []string{"n1"},
			others: []*LoadBalancer{other(older, serving(tcp80))}, change: inFlight("a", "n1"), target: "n1",
		},
		{
			name: "not against one that stays", candidates: []string{"n1", "n2"},
			others: []*LoadBalancer{other(serving(tcp80))}, found: ips{ip("b 192.0.2.2 n1", ofOther)},
			change: inFlight("a", "n1"), target: "n2",
		},
		{
			name: "not against one that stays, and then nowhere", candidates: []string{"n1"},
			others: []*LoadBalancer{other(serving(tcp80))}, found: ips{ip("b 192.0.2.2 n1", ofOther)},
			change: inFlight("a", "n1"), conditions: []ConditionType{PortConflict},
		},
		{
			name: "not where nothing can be served any more", candidates: []string{"n1 unhealthy", "n2"},
			change: inFlight("a", "n1"), target: "n2",
		},
		{
			name: "it stays where it is to be attached once it is detached", candidates: []string{"n1", "n2"},
			at: "n1", change: inFlight("a", "n2"), target: "n2",
		},
		{
			name: "an announced place is kept", candidates: []string{"n1", "n2", "n3 unhealthy"}, at: "n3",
			found: ips{foreign("x 192.0.2.9 n2")}, web: []func(*LoadBalancer){announcing("a", "n2")},
			target: "n2",
		},
		{
			name:       "an announced place is kept before others choose",
			candidates: []string{"n1", "n2 unhealthy"}, at: "n2",
			others: []*LoadBalancer{other(older, serving(tcp80))},
			found:  ips{ip("b 192.0.2.2 n2", ofOther)},
			web:    []func(*LoadBalancer){announcing("a", "n1")}, target: "n1",
		},
		{
			name:       "an announced place that is not healthy any more is not kept",
			candidates: []string{"n1 unhealthy", "n2 suspect", "n3"}, at: "n1",
			web: []func(*LoadBalancer){announcing("a", "n2")}, target: "n3", why: "node-n1 is not Ready",
		},
		{
			name: "an announced place is forgotten where it may stay", candidates: []string{"n1", "n2"},
			at: "n1", web: []func(*LoadBalancer){announcing("a", "n2")}, target: "n1",
		},
		{
			name: "an announced place whose changes fail is not kept", candidates: []string{"n1 backoff", "n2"},
			web: []func(*LoadBalancer){announcing("a", "n1")}, target: "n2",
		},
		{
			name: "where changes fail is better than nothing", candidates: []string{"n1 backoff"},
			web: []func(*LoadBalancer){announcing("a", "n1")}, target: "n1",
		},
		{
			name:       "after a restart it goes where its owner publishes it",
			candidates: []string{"n1", "n2"}, found: ips{foreign("x 192.0.2.9 n2")},
			web: []func(*LoadBalancer){publishing("192.0.2.1", "10.0.0.2")}, target: "n2",
		},
		{
			name:       "after a restart a published place is kept before others choose",
			candidates: []string{"n1", "n2 unhealthy"}, at: "n2",
			others: []*LoadBalancer{other(older, serving(tcp80))},
			found:  ips{ip("b 192.0.2.2 n2", ofOther)},
			web:    []func(*LoadBalancer){publishing("192.0.2.1", "10.0.0.2", "10.0.0.1")}, target: "n1",
		},
		{
			name:       "a published place is not kept before an announced one",
			candidates: []string{"n1", "n2 unhealthy"}, at: "n2",
			others: []*LoadBalancer{other(serving(tcp80), announcing("b", "n1"))},
			found:  ips{ip("b 192.0.2.2", ofOther)},
			web:    []func(*LoadBalancer){publishing("192.0.2.1", "10.0.0.2", "10.0.0.1"), older}, target: "n2",
			conditions: []ConditionType{Degraded},
		},
		{
			name:       "what its owner publishes without the address does not count",
			candidates: []string{"n1", "n2"}, found: ips{foreign("x 192.0.2.9 n2")},
			web: []func(*LoadBalancer){publishing("10.0.0.2")}, target: "n1",
		},
	} {
		t.Run(tc.name, tc.run)
	}
}

// X serves 8080 on n1; Y, which serves 80, is on its way there; Y is edited to 8080. Y makes way.
func TestInvariant4AnEditMakesWayThoughItIsOnItsWay(t *testing.T) {
	y := other(serving(tcp8080), held(tcp80), func(d *LoadBalancer) { d.Created = 0 })
	x := web(serving(tcp8080), held(tcp8080))
	found := ips{ip("a 192.0.2.1 n1"), ip("b 192.0.2.2", ofOther)}
	r := planned(found, []*LoadBalancer{y, x}, cluster("n1", "n2"), inFlight("b", "n1"))
	if c := r.ByKey[webKey].Claims[0]; c.Target != "n1" {
		t.Errorf("the one that stays goes to %q", c.Target)
	}
	if c := r.ByKey[otherKey].Claims[0]; c.Target != "n2" || c.Blocked != "" {
		t.Errorf("the edited one goes to %q, blocked by %q", c.Target, c.Blocked)
	}
}

// X serves 80 on n1; Y, which serves 8080, is on its way there; X is edited to 8080. X makes way.
func TestInvariant4AnEditMakesWayForOneOnItsWay(t *testing.T) {
	y := other(serving(tcp8080), held(tcp8080))
	x := web(serving(tcp8080), held(tcp80), func(d *LoadBalancer) { d.Created -= 10 * day })
	found := ips{ip("a 192.0.2.1 n1"), ip("b 192.0.2.2", ofOther)}
	r := planned(found, []*LoadBalancer{y, x}, cluster("n1", "n2"), inFlight("b", "n1"))
	if c := r.ByKey[webKey].Claims[0]; c.Target != "n2" {
		t.Errorf("the edited one goes to %q", c.Target)
	}
	if c := r.ByKey[otherKey].Claims[0]; c.Target != "n1" {
		t.Errorf("the one on its way goes to %q", c.Target)
	}
	r = planned(found, []*LoadBalancer{y, x}, cluster("n1 unhealthy", "n2"), inFlight("b", "n1"))
	if c := r.ByKey[webKey].Claims[0]; c.Target == "" {
		t.Error("the edited one makes way where nobody comes")
	}
}

// Both are edited to 8080 on n1. X is older, and would leave n1; since its other address, which is on its
// way, gets the only other node, it stays. So Y makes way, as the younger of two in one place.
func TestInvariant4TheYoungerOfTwoEditsMakesWay(t *testing.T) {
	x := web(serving(tcp8080), held(tcp80), local("n1 leaving", "n2"), func(d *LoadBalancer) {
		d.Desired = append(d.Desired, d.Desired[0])
	})
	y := other(serving(tcp8080), held(tcp80))
	found := ips{ip("a 192.0.2.1"), ip("bb 192.0.2.2 n1"), ip("c 192.0.2.3 n1", ofOther)}
	for _, tc := range []struct {
		name   string
		change func(*Input)
		x, y   string
	}{
		{"nothing is on its way", nil, "n2", "n1"},
		{"the other one is on its way", inFlight("a", "n1"), "n1", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := planned(found, []*LoadBalancer{y, x}, cluster("n1", "n2 backoff"), tc.change)
			for _, c := range r.ByKey[webKey].Claims {
				if c.Address.ID == "bb" && c.Target != tc.x {
					t.Errorf("the older one goes to %q, want %q", c.Target, tc.x)
				}
			}
			if c := r.ByKey[otherKey].Claims[0]; c.Target != tc.y {
				t.Errorf("the younger one goes to %q, want %q", c.Target, tc.y)
			}
		})
	}
}

// X serves 8080 on n1, and gets another address; Y is edited to 8080 on n1. Y makes way, and X gets its new
// address where it was.
func TestInvariant4AnEditMakesWayForWhatIsReplaced(t *testing.T) {
	x := web(serving(tcp8080), held(tcp8080), from(Source{Pool: "p"}), func(d *LoadBalancer) {
		d.Created += 10 * day
	})
	y := other(serving(tcp8080), held(tcp80))
	found := ips{ip("a 192.0.2.1 n1"), ip("b 192.0.2.2 n1", ofOther)}
	found[0].PoolID = "pool-9"
	for _, tc := range []struct {
		candidates []string
		y          string
	}{
		{[]string{"n1"}, ""},
		{[]string{"n1", "n2"}, "n2"},
	} {
		r := planned(found, []*LoadBalancer{y, x}, cluster(tc.candidates...))
		if c := r.ByKey[webKey].Claims[0]; c.Address != nil || c.Target != "n1" {
			t.Errorf("%v: what replaces the address goes to %q, want n1", tc.candidates, c.Target)
		}
		if c := r.ByKey[otherKey].Claims[0]; c.Target != tc.y {
			t.Errorf("%v: the edited one goes to %q, want %q", tc.candidates, c.Target, tc.y)
		}
	}
}

// A place that another address is about to leave is taken last, and by nobody who can wait.
func TestInvariant4APlaceThatIsBeingLeft(t *testing.T) {
	b := ip("b 192.0.2.2 n1", ofOther)
	leaves := []*LoadBalancer{other(serving(tcp80), eligible("n3"))}
	for _, tc := range []wayCase{
		{
			name: "another place is preferred", candidates: []string{"n1", "n2", "n3"}, others: leaves,
			found: ips{b, foreign("x 192.0.2.9 n2"), foreign("y 192.0.2.8 n2")}, target: "n2",
		},
		{
			name: "one that is not in use waits", candidates: []string{"n1", "n2"},
			others: []*LoadBalancer{other(serving(tcp80), eligible("n2"))},
			web:    []func(*LoadBalancer){eligible("n1")}, found: ips{b},
			conditions: []ConditionType{PortConflict},
		},
		{
			name: "one that is in use takes it", candidates: []string{"n1", "n3", "n4 unhealthy"}, at: "n4",
			others: leaves, web: []func(*LoadBalancer){eligible("n1")}, found: ips{b},
			target: "n1", blocked: "default/other",
		},
		{
			name:       "one that is not in use waits for what a request brings there, too",
			candidates: []string{"n1", "n3"}, others: leaves, web: []func(*LoadBalancer){eligible("n1")},
			found: ips{ip("b 192.0.2.2", ofOther)}, change: inFlight("b", "n1"),
			conditions: []ConditionType{PortConflict},
		},
	} {
		t.Run(tc.name, tc.run)
	}
}

// Whoever can wait for a place has no problem: nobody has to change anything.
func TestAPlaceThatOnlyTakesTimeIsNoProblem(t *testing.T) {
	set := []*LoadBalancer{web(eligible("n1")), other(serving(tcp80), eligible("n3"))}
	p := planned(ips{ip("b 192.0.2.2 n1", ofOther)}, set, cluster("n1", "n3")).ByKey[webKey]
	if u := p.Claims[0].Unscheduled; p.Problem != nil || u == nil || !u.OnlyTime ||
		!strings.HasSuffix(u.Message, "TCP 80 is about to be left by default/other") {
		t.Errorf("%v, %+v", p.Problem, u)
	}
}

// A node that is taken out of service is left if another one can take over, and is no degradation.
func TestInvariant5NodesThatAreLeaving(t *testing.T) {
	for _, tc := range []wayCase{
		{
			name: "to a healthy one", candidates: []string{"n1 leaving", "n2"}, at: "n1", target: "n2",
			why: "node-n1 is drained",
		},
		{name: "to one that is least preferred", candidates: []string{"n1 leaving", "n2 least"}, at: "n1", target: "n2"},
		{
			name: "to a cordoned one, which stays", candidates: []string{"n1 leaving", "n2 cordoned"}, at: "n1",
			target: "n2", why: "node-n1 is drained",
		},
		{name: "to one that is drained rather than nowhere", candidates: []string{"n1 leaving", "n2 draining"}, at: "n1", target: "n2"},
		{name: "drained, to a healthy one", candidates: []string{"n1 draining", "n2"}, at: "n1", target: "n2"},
		{name: "drained, not to a cordoned one", candidates: []string{"n1 draining", "n2 cordoned"}, at: "n1", target: "n1"},
		{name: "drained, not to another", candidates: []string{"n1 draining", "n2 draining"}, at: "n1", target: "n1"},
		{name: "drained, and the only one", candidates: []string{"n1 draining"}, target: "n1"},
		{
			name: "off a dead one to one that is drained", candidates: []string{"n1 unhealthy", "n2 draining"},
			at: "n1", target: "n2",
		},
		{
			name: "one that is drained comes last", candidates: []string{"n1 unhealthy", "n2 draining", "n3 least"},
			at: "n1", target: "n3",
		},
		{
			name: "not to the announced one, once that is drained", candidates: []string{"n1 unhealthy", "n2 draining", "n3"},
			at: "n1", web: []func(*LoadBalancer){announcing("a", "n2")}, target: "n3",
		},
		{name: "not to a suspect one", candidates: []string{"n1 leaving", "n2 suspect"}, at: "n1", target: "n1"},
		{name: "not to another that is leaving", candidates: []string{"n1 leaving", "n2 leaving"}, at: "n1", target: "n1"},
		{
			name: "nothing comes to it", candidates: []string{"n1 leaving"}, at: "",
			conditions: []ConditionType{NoCandidate},
		},
		{
			name:       "its place is not lost to one that has to move",
			candidates: []string{"n1 leaving", "n2 unhealthy"}, at: "n1",
			others: []*LoadBalancer{other(serving(tcp80))}, found: ips{ip("b 192.0.2.2 n2", ofOther)},
			target: "n1",
		},
		{name: "a cordoned one is better than none", candidates: []string{"n1 cordoned"}, target: "n1"},
		{name: "a cordoned one comes last", candidates: []string{"n1 cordoned", "n2 least"}, target: "n2"},
		{
			name: "a failing one comes after a cordoned one", candidates: []string{"n1 backoff", "n2 cordoned"},
			target: "n2",
		},
	} {
		t.Run(tc.name, tc.run)
	}
}

// An address whose instance is stopping stays, and has its next place.
func TestTheNextPlaceOfAnAddressIsChosenBefore(t *testing.T) {
	stopping := []string{"n1 stopping", "n2"}
	for _, tc := range []wayCase{
		{name: "a healthy one", candidates: stopping, at: "n1", target: "n1", next: "n2"},
		{name: "none is healthy", candidates: []string{"n1 stopping", "n2 suspect"}, at: "n1", target: "n1"},
		{name: "a suspect one alone has none", candidates: []string{"n1 suspect", "n2"}, at: "n1", target: "n1"},
		{
			name: "the announced one", candidates: []string{"n1 stopping", "n2", "n3"}, at: "n1",
			found: ips{foreign("x 192.0.2.9 n3")}, web: []func(*LoadBalancer){announcing("a", "n3")},
			target: "n1", next: "n3",
		},
		{
			name: "not where somebody else has the port", candidates: stopping, at: "n1",
			others: []*LoadBalancer{other(serving(tcp80))}, found: ips{ip("b 192.0.2.2 n2", ofOther)},
			target: "n1",
		},
	} {
		t.Run(tc.name, tc.run)
	}
	t.Run("nobody else gets it", func(t *testing.T) {
		r := planned(ips{ip("a 192.0.2.1 n1")}, []*LoadBalancer{web(), other(serving(tcp80))}, cluster(stopping...))
		if c := r.ByKey[otherKey].Claims[0]; c.Target != "" {
			t.Errorf("it goes to %s", c.Target)
		}
	})
	t.Run("they are spread", func(t *testing.T) {
		found, set := spread("n1", "n1", "n1", "n1")
		next := make(map[string]int)
		for _, p := range planned(found, set, cluster("n1 stopping", "n2", "n3")).LoadBalancers {
			next[p.Claims[0].Next]++
		}
		same(t, "next", map[string]int{"n2": 2, "n3": 2}, next)
	})
}

// With Local, traffic is served where endpoints are.
func TestInvariant5LocalFollowsItsEndpoints(t *testing.T) {
	for _, tc := range []wayCase{
		{
			name: "it stays where one serves", candidates: []string{"n1", "n2"}, at: "n1",
			web: []func(*LoadBalancer){local("n1", "n2")}, target: "n1",
		},
		{
			name: "it leaves where they are leaving", candidates: []string{"n1", "n2"}, at: "n1",
			web: []func(*LoadBalancer){local("n1 leaving", "n2")}, target: "n2",
			why: "node-n1 has only endpoints that are about to end",
		},
		{
			name: "it stays while they are leaving everywhere", candidates: []string{"n1", "n2"}, at: "n1",
			web: []func(*LoadBalancer){local("n1 leaving", "n2 leaving")}, target: "n1",
		},
		{
			name: "it leaves where there is none", candidates: []string{"n1", "n2"}, at: "n1",
			web: []func(*LoadBalancer){local("n2")}, target: "n2",
			why: "node-n1 is not one that has a ready endpoint",
		},
		{
			name: "it comes where they serve rather than leave", candidates: []string{"n1", "n2"},
			found: ips{foreign("x 192.0.2.9 n2")},
			web:   []func(*LoadBalancer){local("n1 leaving", "n2")}, target: "n2",
		},
		{
			name: "it comes where they are leaving if they serve nowhere", candidates: []string{"n1", "n2"},
			web: []func(*LoadBalancer){local("n1 leaving")}, target: "n1",
		},
		{
			name: "none anywhere", candidates: []string{"n1"}, at: "n1", web: []func(*LoadBalancer){local()},
			target: "n1", conditions: []ConditionType{Degraded},
		},
		{
			name: "its place is not lost while it may have to stay", candidates: []string{"n1", "n2 unhealthy"},
			at: "n1", web: []func(*LoadBalancer){local("n1 leaving")},
			others: []*LoadBalancer{other(serving(tcp80))}, found: ips{ip("b 192.0.2.2 n2", ofOther)},
			target: "n1",
		},
	} {
		t.Run(tc.name, tc.run)
	}
}

// Whoever finds no place learns why in one line.
func TestWhyThereIsNoCandidate(t *testing.T) {
	const begins = "the address 192.0.2.1 is reserved but attached nowhere: "
	long := func(in *Input) {
		for i := range in.Candidates {
			in.Candidates[i].Name = fmt.Sprintf("worker-%d.%s", i, strings.Repeat("x", 50))
		}
	}
	two := func(in *Input) {
		in.Instances["n1"] = Instance{}
		in.Candidates[0].Name, in.Candidates[0].Why = "node-b", "has the label x"
	}
	for _, tc := range []struct {
		name       string
		candidates []string
		change     func(*Input)
		web        func(*LoadBalancer)
		says       string
	}{
		{name: "there is none", says: "no node can carry the address: there is none"},
		{name: "one is not ready", candidates: []string{"n1 unhealthy"},
			says: "no node can carry the address: node-n1 is not Ready"},
		{name: "none is eligible", candidates: []string{"n1"}, web: eligible(),
			says: "no node can carry the address: none has what it takes"},
		{name: "those that are not eligible do not count", candidates: []string{"n1", "n2 unhealthy"},
			web: eligible("n2"), says: "no node can carry the address: node-n2 is not Ready"},
		{name: "none has an address of the family", candidates: []string{"unknown"},
			says: "no node can carry the address: none has a private address of its IP family"},
		{name: "one is not ready, the other has no address", candidates: []string{"n2 unhealthy", "n1"},
			change: two, says: "node-b has the label x, the others do not have a private address of its IP family"},
		{name: "many", candidates: []string{"n1 unhealthy", "n2 unhealthy", "n3 suspect", "n4 leaving",
			"n5 unhealthy", "n6 unhealthy", "n7 unhealthy"},
			says: "node-n1 is not Ready, node-n2 is not Ready, node-n3 may fail, node-n4 is drained, " +
				"node-n5 is not Ready, and 2 more"},
		{name: "many with long names", candidates: []string{"n1 unhealthy", "n2 unhealthy", "n3 unhealthy",
			"n4 unhealthy", "n5 unhealthy"}, change: long, says: ", and 2 more"},
		{name: "every holder of the port", candidates: []string{"n1", "n2"}, change: func(in *Input) {
			in.Occupied = map[Place]string{
				{"n1", IPv4, tcp80}: "default/b in cluster-2", {"n2", IPv4, tcp80}: "default/a in cluster-2",
			}
		}, says: begins + "TCP 80 is held by default/a in cluster-2 and default/b in cluster-2; use another " +
			"port, or add a node"},
		{name: "at most five holders", candidates: []string{"n1", "n2", "n3", "n4", "n5", "n6", "n7"},
			change: func(in *Input) {
				in.Occupied = make(map[Place]string)
				for i := range 8 {
					in.Occupied[Place{fmt.Sprintf("n%d", i), IPv4, tcp80}] = fmt.Sprintf("default/%d", i)
				}
			}, says: "default/1 and default/2 and default/3 and default/4 and default/5 and 2 more; use"},
		{name: "a reserved port", candidates: []string{"n1", "n2"}, change: func(in *Input) {
			in.Reserved = []ReservedPorts{{First: 1, Last: 100, Purpose: "the kubelet"}}
		}, says: begins + "TCP 80 is reserved for the kubelet; use another port"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p := planWeb(ips{ip("a 192.0.2.1")}, web(func(d *LoadBalancer) {
				if tc.web != nil {
					tc.web(d)
				}
			}), cluster(tc.candidates...), tc.change)
			if got := says(p); !strings.Contains(got, tc.says) || !strings.HasPrefix(got, begins) ||
				len(got) > maxMessage {
				t.Errorf("says %q (%d bytes), want %q", got, len(got), tc.says)
			}
		})
	}
}

// A plan that is to explain says of each candidate why it was chosen, or was not.
func TestVerdictsOfCandidates(t *testing.T) {
	found := ips{ip("b 192.0.2.2 n2", ofOther), foreign("x 192.0.2.9 n3")}
	explain := func(in *Input) {
		in.Explain = map[string]bool{"default/web": true}
		in.Instances["n6"] = Instance{}
		n4 := in.Instances["n4"]
		n4.Ephemeral = 99
		in.Instances["n4"] = n4
	}
	set := []*LoadBalancer{web(), other(serving(tcp80))}
	r := planned(found, set, cluster("n1", "n2", "n3", "n4", "n5 unhealthy", "n6", "n7 cordoned"), explain)
	want := []Verdict{
		{InstanceID: "n1", Name: "node-n1", Chosen: true, Load: 1,
			Reason: "a new IPv4 address comes here: first in the order of preference"},
		{InstanceID: "n3", Name: "node-n3", Load: 1, Reason: "carries 1, and node-n1 no more with this one"},
		{InstanceID: "n7", Name: "node-n7", Reason: "is cordoned, so it is the last choice"},
		{InstanceID: "n4", Name: "node-n4",
			Reason: "carries as many addresses as Oxide allows (32, with ephemeral ones)"},
		{InstanceID: "n2", Name: "node-n2", Load: 1, Reason: "TCP 80 is held by default/other"},
		{InstanceID: "n6", Name: "node-n6", Reason: "has no private IPv4 address"},
		{InstanceID: "n5", Name: "node-n5", Reason: "is not Ready"},
	}
	got := r.ByKey[webKey].Verdicts
	same(t, "chosen and next", want[:4], got[:4])
	reasons := make(map[string]string)
	for _, v := range got {
		reasons[v.InstanceID] = v.Reason
	}
	for _, v := range want {
		if reasons[v.InstanceID] != v.Reason {
			t.Errorf("%s: %q, want %q", v.InstanceID, reasons[v.InstanceID], v.Reason)
		}
	}
	if r.ByKey[otherKey].Verdicts != nil {
		t.Error("one that is not named is explained")
	}
}
