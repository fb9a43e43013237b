// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package loadbalancers

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/oxide"
)

// known names the load balancers of a scope, with their owners and ports.
func (s *scope) known() []string {
	var all []string
	for key, want := range s.set {
		all = append(all, fmt.Sprint(key.Name, " ", want.OwnerUID, " ", want.Ports))
	}
	slices.Sort(all)
	return all
}

// A full set is as old as the call that brings it: what was told of one load balancer since is newer.
func TestAStaleSetUndoesNothing(t *testing.T) {
	const webAt80, otherAt81 = "default/web uid-1 [TCP 80]", "default/other uid-other [TCP 81]"
	edited := web(serving(Port{TCP, 8080}))
	next := web(func(d *Desired) { d.OwnerUID = "uid-2" })
	for _, tc := range []struct {
		name string
		// before and meanwhile happen before and after the call with the set arrives.
		before, meanwhile func(m *memory, s *scope)
		set               []Desired
		known             []string
	}{
		{name: "it replaces what was known", set: []Desired{other()}, known: []string{otherAt81},
			before: func(_ *memory, s *scope) { s.tell(web()) }},
		{name: "it replaces what was edited before", set: []Desired{web()}, known: []string{webAt80},
			before: func(_ *memory, s *scope) { s.tell(edited) }},
		{name: "not what was edited since", set: []Desired{web()},
			known:     []string{"default/web uid-1 [TCP 8080]"},
			meanwhile: func(_ *memory, s *scope) { s.tell(edited) }},
		{name: "not what was made since", set: []Desired{web()}, known: []string{otherAt81, webAt80},
			meanwhile: func(_ *memory, s *scope) { s.tell(other()) }},
		{name: "what was deleted since does not come back", set: []Desired{web(), other()},
			known:     []string{otherAt81},
			meanwhile: func(m *memory, _ *scope) { m.forget(webKey, "uid-1") }},
		{name: "nor if nobody said whose it was", set: []Desired{web(), other()},
			known:     []string{otherAt81},
			before:    func(_ *memory, s *scope) { s.tell(web()) },
			meanwhile: func(m *memory, _ *scope) { m.forget(webKey, "") }},
		{name: "what was deleted a moment before does not come back", set: []Desired{web()},
			before: func(m *memory, _ *scope) { m.forget(webKey, "uid-1") }},
		{name: "a new owner of the same name does", set: []Desired{next},
			known:  []string{"default/web uid-2 [TCP 80]"},
			before: func(m *memory, _ *scope) { m.forget(webKey, "uid-1") }},
		{name: "so does one that is wanted again", set: []Desired{web()}, known: []string{webAt80},
			before: func(m *memory, s *scope) {
				m.forget(webKey, "uid-1")
				s.tell(web())
			}},
		{name: "the end of an older owner does not end the newer", set: []Desired{next},
			known:     []string{"default/web uid-2 [TCP 80]"},
			meanwhile: func(m *memory, _ *scope) { m.forget(webKey, "uid-1") }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := &memory{}
				s := m.scope(testScope)
				if tc.before != nil {
					tc.before(m, s)
				}
				time.Sleep(time.Second)
				began := time.Now()
				s.replace(tc.set, began) // as for what has to be read
				time.Sleep(time.Second)
				if tc.meanwhile != nil {
					tc.meanwhile(m, s)
				}
				s.replace(tc.set, began) // as for the plan
				if diff := cmp.Diff(tc.known, s.known()); diff != "" {
					t.Errorf("(-want +got):\n%s", diff)
				}
				if !m.complete() || !s.complete {
					t.Error("the full set is not known")
				}
			})
		})
	}
}

// The end of a load balancer is remembered as long as a set may be on its way.
func TestAnEndIsForgottenInTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &memory{}
		s := m.scope(testScope)
		m.forget(webKey, "uid-1")
		time.Sleep(goneMaxAge + time.Second)
		s.replace(nil, time.Now())
		s.replace([]Desired{web()}, time.Now())
		if len(s.set) != 1 || len(s.gone) != 0 {
			t.Errorf("known are %v, gone %v", s.known(), s.gone)
		}
	})
}

// What was changed is known better than a list which began before.
func TestChangesNewerThanTheList(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &memory{}
		old := ip("a 192.0.2.1 n1")
		moved, made := ip("a 192.0.2.1 n2"), ip("b 192.0.2.2 n1")
		list := func(began time.Time, found ...fact) listing {
			l := listing{began: began}
			for _, f := range found {
				l.ips = append(l.ips, f.FloatingIP)
			}
			return l
		}
		before := time.Now()
		time.Sleep(time.Second)
		m.record("a", &moved)
		m.record("b", &made)
		m.record("c", nil)
		time.Sleep(time.Second)
		after := time.Now()

		stale := m.overlay(list(before, old, ip("c 192.0.2.3")))
		if ids := slices.Sorted(maps.Keys(stale)); !slices.Equal(ids, []string{"a", "b"}) ||
			stale["a"].InstanceID != "n2" {
			t.Errorf("over the older list: %v", stale)
		}
		fresh := m.overlay(list(after, old))
		if len(fresh) != 1 || fresh["a"].InstanceID != "n1" {
			t.Errorf("over the newer list, which somebody else changed since: %v", fresh)
		}
		stale["b"].InstanceID = "n9"
		if again := m.overlay(list(before)); again["b"].InstanceID != "n1" {
			t.Error("a plan can change what is remembered")
		}
		time.Sleep(changeMaxAge)
		m.record("d", &made)
		if len(m.changes) != 1 {
			t.Errorf("%d changes are remembered for ever", len(m.changes))
		}
	})
}

// A plan is under way for those who read before it ended, and no longer.
func TestFlights(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &memory{}
		f := &flight{key: webKey}
		m.take(f)
		flying := func(at time.Time, but ...Key) int {
			own := make(map[Key]bool)
			for _, key := range but {
				own[key] = true
			}
			return len(m.inFlight(own, at))
		}
		if flying(time.Now()) != 1 || flying(time.Now(), webKey) != 0 || flying(time.Now(), otherKey) != 1 {
			t.Error("not in flight for others alone")
		}
		began := time.Now()
		time.Sleep(time.Second)
		m.land(f)
		time.Sleep(time.Second)
		m.land(f) // once more, as deferred
		if flying(began) != 1 || flying(time.Now()) != 0 {
			t.Error("not in flight for those alone who read before its end")
		}
		time.Sleep(2 * changeMaxAge)
		m.land()
		if len(m.flights) != 0 {
			t.Error("it is remembered for ever")
		}
	})
}

// A user's address that a load balancer names is one of a load balancer.
func TestWhoNamesAUsersAddress(t *testing.T) {
	m := &memory{}
	m.scope(testScope).tell(web(wish(Source{Existing: "mine"})))
	m.scope("cluster-2").tell(other(wish(Source{Existing: "an-id"})))
	for _, tc := range []struct {
		ip   oxide.FloatingIP
		user Key
	}{
		{oxide.FloatingIP{ID: "x", Name: "mine"}, webKey},
		{oxide.FloatingIP{ID: "an-id", Name: "y"}, otherKey},
		{oxide.FloatingIP{ID: "z", Name: "z"}, Key{}},
	} {
		if got := m.userOf(tc.ip); got != tc.user || m.wantsExisting(tc.ip) != (tc.user != Key{}) {
			t.Errorf("%+v is named by %v", tc.ip, got)
		}
	}
}

// Ports that a load balancer has been moved with, or stays with, are those that it holds; what a dry
// run tries is not.
func TestHeldPorts(t *testing.T) {
	m := &memory{}
	s := m.scope(testScope)
	s.tell(web())
	m.hold(webKey, web().Ports)
	p := planned(ips{ip("a 192.0.2.1 n1")}, cluster("n1"), []Desired{web(serving(Port{TCP, 81}))},
		func(p *planner) { p.held = s.held })
	if !p.isEdited(p.balancers[0].claims[0]) {
		t.Error("another port is no edit")
	}
	p.rememberPlace(p.balancers[0])
	if p.isEdited(p.balancers[0].claims[0]) {
		t.Error("what stays with its ports is edited for ever")
	}
	s.replace([]Desired{other()}, time.Now())
	if len(s.held) != 0 {
		t.Errorf("of a load balancer that is gone is held %v", s.held)
	}
}

// The address of a user that a load balancer lets go is none of a Node until everybody knows that it is
// detached.
func TestFormerAddresses(t *testing.T) {
	for name, end := range map[string]func(*memory, *scope){
		"another wish": func(_ *memory, s *scope) { s.tell(web()) },
		"the end":      func(m *memory, _ *scope) { m.forget(webKey, "") },
		"another set":  func(_ *memory, s *scope) { s.replace(nil, time.Now()) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := &memory{}
				s := m.scope(testScope)
				mine := oxide.FloatingIP{ID: "an-id", Name: "mine"}
				s.tell(web(wish(Source{Existing: "mine"})))
				if m.isFormer(mine) {
					t.Error("it is let go before it is")
				}
				time.Sleep(time.Second)
				end(m, s)
				if m.wantsExisting(mine) || !m.isFormer(mine) {
					t.Error("nobody knows that it may be attached yet")
				}
				time.Sleep(formerMaxAge + time.Second)
				if m.isFormer(mine) {
					t.Error("it is known for ever")
				}
			})
		})
	}
}

// Between the loss of a marker and its restoration an address is still its Service's, and no Node's.
func TestAPublishedAddressIsALoadBalancersWithoutItsMarker(t *testing.T) {
	m := &Manager{}
	lost := oxide.FloatingIP{ID: "a", Addr: netip.MustParseAddr("192.0.2.1"), Description: "by hand"}
	if m.IsLoadBalancerAddress(lost) {
		t.Error("nobody publishes it, and it is a load balancer's")
	}
	m.memory.scope(testScope).replace([]Desired{web(func(d *Desired) {
		d.Published = []netip.Addr{lost.Addr}
	})}, time.Now())
	if !m.IsLoadBalancerAddress(lost) {
		t.Error("it is published, and not taken for a load balancer's")
	}
}
