// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package loadbalancers

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// described makes a fact about a floating IP with another description.
func described(text, description string) fact {
	f := ip(text)
	f.Description = description
	return newFact(f.FloatingIP)
}

// named gives a fact another name.
func named(f fact, name string) fact {
	f.Name = name
	return f
}

// publishing makes a load balancer publish addresses.
func publishing(addrs ...string) func(*Desired) {
	return func(d *Desired) {
		for _, addr := range addrs {
			d.Published = append(d.Published, netip.MustParseAddr(addr))
		}
	}
}

// conditionsOf are the types of a load balancer's conditions.
func conditionsOf(b *balancer) []ConditionType {
	var types []ConditionType
	for _, c := range b.conditions {
		types = append(types, c.Type)
	}
	return types
}

// Two clusters of one id: what the other one uses is on instances that never were nodes here.
func TestAnAddressOnAForeignInstanceIsNeverLetGo(t *testing.T) {
	theirs := ip("a 192.0.2.1 theirs")
	t.Run("not for another wish", func(t *testing.T) {
		want := web(wish(Source{Addr: netip.MustParseAddr("192.0.2.7")}))
		b := planWeb(ips{theirs}, cluster("n1"), want)
		if diff := cmp.Diff([]string{"create", "attach n1"}, briefly(b)); diff != "" {
			t.Error(diff)
		}
		if diff := cmp.Diff([]ConditionType{ForeignAttachment}, conditionsOf(b)); diff != "" {
			t.Error(diff)
		}
	})
	t.Run("not for a better one", func(t *testing.T) {
		b := planWeb(ips{theirs, ip("bb 192.0.2.2")}, cluster("n1"), web())
		if diff := cmp.Diff([]string{"attach bb n1"}, briefly(b)); diff != "" {
			t.Error(diff)
		}
	})
	for _, tc := range []struct {
		name    string
		gone    Deletion
		actions []string
	}{
		{name: "not at the end of the load balancer", gone: Deletion{Cluster: cluster("n1")}},
		{
			name: "unless its private address is published: it was a node",
			gone: Deletion{
				Cluster: cluster("n1"), Published: []netip.Addr{netip.MustParseAddr("10.0.0.3")},
			},
			actions: []string{"detach a n3", "delete a"},
		},
		{
			name: "unless it is a node", gone: Deletion{Cluster: cluster("n1", "n3 unhealthy")},
			actions: []string{"detach a n3", "delete a"},
		},
		{
			name: "unless nobody tells which instances are nodes",
			gone: Deletion{}, actions: []string{"detach a n3", "delete a"},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tc.gone.Key, tc.gone.OwnerUID = webKey, "uid-1"
			p := planned(ips{ip("a 192.0.2.1 n3")}, Cluster{}, nil)
			actions, err := planDelete(p.facts, tc.gone, &scope{complete: true})
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.actions, brief(actions)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// The end of a load balancer concerns its own addresses alone.
func TestPlanDeleteOfWhatIsNotMarked(t *testing.T) {
	published := []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("10.0.0.1")}
	told := func(set ...Desired) *scope {
		s := &scope{complete: true, set: make(map[Key]Desired)}
		for _, want := range set {
			s.set[want.Key] = want
		}
		return s
	}
	named := func(nameOrID string) []Wanted { return []Wanted{{IPv4, Source{Existing: nameOrID}}} }
	c := cluster("n1")
	c.LegacyName = "kubernetes"
	mine := legacy("a 192.0.2.1 n1", "default-web")
	for _, tc := range []struct {
		name    string
		facts   ips
		gone    Deletion
		known   *scope
		actions []string
		reason  Reason
		fails   bool
	}{
		{
			name: "a user's address is detached, and never deleted", facts: ips{foreign("a 192.0.2.1 n1")},
			gone: Deletion{Published: published}, known: told(), actions: []string{"detach a n1"},
		},
		{
			name:  "a user's address that is on another node than is published",
			facts: ips{foreign("a 192.0.2.1 n2")}, gone: Deletion{Published: published}, known: told(),
		},
		{
			name: "a user's address that is attached nowhere", facts: ips{foreign("a 192.0.2.1")},
			gone: Deletion{Published: published}, known: told(),
		},
		{
			name: "a user's address that is not published", facts: ips{foreign("a 192.0.2.9 n1")},
			gone: Deletion{Published: published}, known: told(),
		},
		{
			name: "a user's address that another one names now", facts: ips{foreign("a 192.0.2.1 n1")},
			gone: Deletion{Published: published}, known: told(other(wish(Source{Existing: "a"}))),
		},
		{
			name: "a user's address that was named, whatever is published", facts: ips{foreign("a 192.0.2.9 n1")},
			gone: Deletion{Cluster: c, Wanted: named("a")}, known: told(), actions: []string{"detach a n1"},
		},
		{
			name: "a user's address that was named, of the other IP family", known: told(),
			facts: ips{foreign("a 2001:db8::9 n1")}, gone: Deletion{Cluster: c, Wanted: named("a")},
		},
		{
			name: "a user's address that was named, on an instance that is no node", known: told(),
			facts: ips{foreign("a 192.0.2.9 n2")}, gone: Deletion{Cluster: c, Wanted: named("a")},
		},
		{
			name: "a user's address that was named, and that another one names now", known: told(
				other(wish(Source{Existing: "a"}))),
			facts: ips{foreign("a 192.0.2.9 n1")}, gone: Deletion{Cluster: c, Wanted: named("name-a")},
		},
		{
			name: "a user's address that was named, and the set is not known", known: &scope{},
			facts: ips{foreign("a 192.0.2.9 n1")}, gone: Deletion{Cluster: c, Wanted: named("a")},
			fails: true, reason: ReasonFullSetRequired,
		},
		{
			name: "what was named, and is not the user's own", known: told(),
			facts: ips{legacy("a 192.0.2.9 n1", "default-other")}, gone: Deletion{Cluster: c, Wanted: named("a")},
		},
		{
			name: "a damaged marker is nobody's word", facts: ips{described("a 192.0.2.1 n1", "oxide-ccm/?")},
			gone: Deletion{Published: published}, known: told(),
		},
		{
			name: "marked, and another one publishes it", facts: ips{ip("a 192.0.2.1 n1")},
			gone: Deletion{Cluster: c}, known: told(other(publishing("192.0.2.1"))),
		},
		{
			name: "of the existing CCM", facts: ips{mine}, known: told(),
			gone: Deletion{Cluster: c, Published: published}, actions: []string{"detach a n1", "delete a"},
		},
		{
			name: "of the existing CCM, to be retained", facts: ips{mine}, known: told(),
			gone:    Deletion{Cluster: c, Published: published, Retain: true},
			actions: []string{"detach a n1", "mark a"},
		},
		{
			name: "of the existing CCM, and another one publishes it", facts: ips{mine},
			gone:  Deletion{Cluster: c, Published: published},
			known: told(other(publishing("192.0.2.1"))),
		},
		{
			name: "of the existing CCM, but not published", facts: ips{mine}, known: told(),
			gone: Deletion{Cluster: c},
		},
		{
			name: "of the existing CCM, and the set is not known", facts: ips{mine}, known: &scope{},
			gone:  Deletion{Cluster: c, Published: published},
			fails: true, reason: ReasonFullSetRequired,
		},
		{
			name: "both families", known: told(),
			facts: ips{ip("a 192.0.2.1 n1"), ip("b 2001:db8::1 n1", func(m *Marker) { m.Family = IPv6 })},
			gone:  Deletion{Cluster: c}, actions: []string{"detach a n1", "delete a", "detach b n1", "delete b"},
		},
		{
			name: "retained already, and attached all the same", known: told(),
			facts: ips{ip("a 192.0.2.1 n1", func(m *Marker) { m.Retained = true })},
			gone:  Deletion{Cluster: c}, actions: []string{"detach a n1"},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tc.gone.Key, tc.gone.OwnerUID = webKey, "uid-1"
			actions, err := planDelete(planned(tc.facts, Cluster{}, nil).facts, tc.gone, tc.known)
			if tc.fails != (err != nil) || tc.fails && !IsReason(err, tc.reason) {
				t.Fatalf("got %v", err)
			}
			if diff := cmp.Diff(tc.actions, brief(actions)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// Two load balancers that publish one address of a user let it go once.
func TestALeftoverIsDetachedOnce(t *testing.T) {
	has := publishing("192.0.2.9", "10.0.0.1")
	p := planned(ips{foreign("x 192.0.2.9 n1"), ip("a 192.0.2.1 n1"), ip("b 192.0.2.2 n1", ofOther)},
		cluster("n1"), []Desired{web(has), other(has)})
	for i, want := range [][]string{{"detach x n1"}, nil} {
		if diff := cmp.Diff(want, briefly(p.balancers[i])); diff != "" {
			t.Errorf("%s (-want +got):\n%s", p.balancers[i].want.Key, diff)
		}
	}
}

// What nobody wants any more is told of, by whom it was wanted, and left alone.
func TestOrphansArePlannedByNobody(t *testing.T) {
	retained := func(m *Marker) { m.Retained = true }
	found := ips{
		ip("a 192.0.2.1 n1"), ip("b 192.0.2.2 n1", ofOther), ip("c 192.0.2.3", ofOther, retained),
		foreign("x 192.0.2.9 n1"),
		ip("y 192.0.2.8", func(m *Marker) { m.Key.Scope = "cluster-9" }),
	}
	p := planned(found, cluster("n1"), []Desired{web()})
	orphans := p.orphans()
	if len(orphans) != 1 || len(orphans[otherKey]) != 2 {
		t.Errorf("got %+v", orphans)
	}
	if actions := briefly(p.balancers[0]); len(actions) != 0 {
		t.Errorf("an orphan causes %v", actions)
	}
}

// A load balancer whose plan is under way has orphans no more than it can lose anything to another one.
func TestWhatIsInFlightIsLeftAlone(t *testing.T) {
	flying := &flight{key: webKey, ips: []string{"x"}, places: places("n1", IPv4, []Port{{TCP, 80}})}
	known := &scope{nodes: map[string]bool{}}
	found := planned(ips{ip("a 192.0.2.1 n1"), foreign("x 192.0.2.9")}, cluster(), nil).facts
	want := other(wish(Source{Existing: "x"}), serving(Port{TCP, 80}))
	p := newPlanner(found, cluster("n1"), []Desired{web(), want}, known, []*flight{flying})
	plans, _ := p.plan(false)
	if plans[webKey] != nil {
		t.Error("it is planned")
	}
	if b := plans[otherKey]; !IsReason(b.problem, ReasonNotOwned) || len(briefly(b)) != 0 {
		t.Errorf("another one does %v, %v", briefly(b), b.problem)
	}
	if orphans := p.orphans(); len(orphans) != 0 {
		t.Errorf("told of as orphans: %+v", orphans)
	}
}

// A new leader has the address of every Service secured, all at once. One that waits for its node to let
// it go must not lose the place where its status has led to one that comes anew meanwhile.
func TestInvariant8WhereTheStatusHasLedIsNobodyElses(t *testing.T) {
	for _, tc := range []struct {
		name string
		want Desired
		goes string
	}{
		{"the same port", other(serving(Port{TCP, 80})), ""},
		{"another port", other(), "n2"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			flying := &flight{key: webKey, places: places("n1", IPv4, []Port{{TCP, 80}})}
			stuck := web(publishing("192.0.2.1", "10.0.0.1", "10.0.0.2"))
			c := cluster("n1 unhealthy", "n2")
			found := planned(ips{ip("a 192.0.2.1 n1")}, c, nil).facts
			known := &scope{nodes: map[string]bool{"n1": true, "n2": true}}
			p := newPlanner(found, c, []Desired{stuck, tc.want}, known, []*flight{flying})
			plans, _ := p.plan(false)
			if got := plans[otherKey].claims[0].target; got != tc.goes {
				t.Errorf("another one goes to %q, want %q", got, tc.goes)
			}
		})
	}
}
