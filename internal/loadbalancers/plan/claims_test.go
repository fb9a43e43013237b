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

// claimCase is a set, what is there, and what is done for each load balancer of it, the oldest
// first.
type claimCase struct {
	name    string
	facts   ips
	set     []*LoadBalancer
	actions [][]string
	// problem is a part of what is wrong with what is desired of the first; empty: nothing.
	problem string
	reason  Reason
}

func (tc claimCase) run(t *testing.T) {
	t.Helper()
	change := []func(*Input){cluster("n1", "n2 unhealthy"), func(in *Input) { in.LegacyName = "kubernetes" }}
	r := planned(tc.facts, tc.set, change...)
	same(t, "actions", tc.actions, brieflyAll(r))
	problem := r.LoadBalancers[0].Problem
	if tc.problem == "" && problem != nil {
		t.Errorf("refused: %v", problem)
	}
	if tc.problem != "" && !isProblem(problem, tc.reason, tc.problem) {
		t.Errorf("got %v, want one that says %q", problem, tc.problem)
	}
	// What was planned leads to something that stays as it is.
	m := newModel(tc.facts)
	m.apply(t, r)
	m.apply(t, planned(m.ips(), tc.set, change...))
	if n := m.apply(t, planned(m.ips(), tc.set, change...)); n != 0 {
		t.Errorf("a third plan does %d actions more", n)
	}
}

// A user's own address is attached and detached, and never marked.
func TestAnExistingAddressOfTheUser(t *testing.T) {
	mine := from(Source{Existing: "name-x"})
	for _, tc := range []claimCase{
		{
			name: "by name", facts: ips{foreign("x 192.0.2.9")}, set: []*LoadBalancer{web(mine)},
			actions: [][]string{{"attach x n1"}},
		},
		{
			name: "by id", facts: ips{foreign("x 192.0.2.9")},
			set: []*LoadBalancer{web(from(Source{Existing: "x"}))}, actions: [][]string{{"attach x n1"}},
		},
		{
			name:  "it replaces one that was allocated, which goes last",
			facts: ips{foreign("x 192.0.2.9"), ip("a 192.0.2.1 n1")}, set: []*LoadBalancer{web(mine)},
			actions: [][]string{{"attach x n1", "detach a n1", "delete a"}},
		},
		{
			name:  "it is marked as the load balancer's own: released to the user",
			facts: ips{ip("x 192.0.2.9 n1")}, set: []*LoadBalancer{web(mine)},
			actions: [][]string{{"mark x"}},
		},
		{
			name:  "it is marked as somebody else's",
			facts: ips{ip("x 192.0.2.9", ofOther)}, set: []*LoadBalancer{web(mine)},
			actions: [][]string{nil}, reason: ReasonNotOwned,
			problem: "name-x is of the load balancer default/other",
		},
		{
			name: "two name it: the older has it", facts: ips{foreign("x 192.0.2.9")},
			set: []*LoadBalancer{other(mine), web(mine)}, actions: [][]string{{"attach x n1"}, nil},
		},
		{
			name: "it is not there", set: []*LoadBalancer{web(mine)}, actions: [][]string{nil},
			reason: ReasonResourceNotFound, problem: "there is no floating IP name-x",
		},
		{
			name: "it is of the other family", facts: ips{foreign("x 192.0.2.9")},
			set: []*LoadBalancer{web(mine, ofIPv6)}, actions: [][]string{nil},
			reason: ReasonInvalid, problem: "which is not of IPv6",
		},
		{
			name:  "it is not there: what was allocated stays, and fails over",
			facts: ips{ip("a 192.0.2.1 n2")}, set: []*LoadBalancer{web(mine)},
			actions: [][]string{{"detach a n2", "attach a n1"}},
			reason:  ReasonResourceNotFound, problem: "there is no floating IP name-x",
		},
		{
			name:    "another one, not there, is named instead: the first stays, and fails over",
			facts:   ips{foreign("y 192.0.2.8 n2")},
			set:     []*LoadBalancer{web(mine, publishing("192.0.2.8", "10.0.0.2"))},
			actions: [][]string{{"detach y n2", "attach y n1"}},
			reason:  ReasonResourceNotFound, problem: "there is no floating IP name-x",
		},
		{
			name:    "another one is named instead: the first is detached, after that",
			facts:   ips{foreign("x 192.0.2.9"), foreign("y 192.0.2.8 n1")},
			set:     []*LoadBalancer{web(mine, publishing("192.0.2.8", "10.0.0.1"))},
			actions: [][]string{{"attach x n1", "detach y n1"}},
		},
		{
			name:    "it passes from one to another",
			facts:   ips{foreign("x 192.0.2.9 n1")},
			set:     []*LoadBalancer{web(publishing("192.0.2.9", "10.0.0.1")), other(mine)},
			actions: [][]string{{"create", "attach n1"}, nil},
		},
	} {
		t.Run(tc.name, tc.run)
	}
}

// Invariant 2: a marker that was lost or edited is restored if name and status agree, and nothing
// is deleted, or given to another load balancer, because of it.
func TestInvariant2LostMarkers(t *testing.T) {
	has := publishing("192.0.2.1")
	marked := ip("a 192.0.2.1 n1").Description
	otherHas := ip("b 192.0.2.2 n1", ofOther)
	for _, tc := range []claimCase{
		{
			name: "lost", facts: ips{named(foreign("a 192.0.2.1 n1"), ownName())},
			set: []*LoadBalancer{web(has)}, actions: [][]string{{"mark a"}},
		},
		{
			name:  "lost, and its node is unhealthy",
			facts: ips{named(foreign("a 192.0.2.1 n2"), ownName())}, set: []*LoadBalancer{web(has)},
			actions: [][]string{{"mark a", "detach a n2", "attach a n1"}},
		},
		{
			name:  "damaged",
			facts: ips{named(described("a 192.0.2.1 n1", strings.Replace(marked, "v4", "4", 1)), ownName())},
			set:   []*LoadBalancer{web(has)}, actions: [][]string{{"mark a"}},
		},
		{
			name:  "doubled",
			facts: ips{named(described("a 192.0.2.1 n1", marked+"\n"+marked), ownName())},
			set:   []*LoadBalancer{web(has)}, actions: [][]string{{"mark a"}},
		},
		{
			name:  "edited to another load balancer's key",
			facts: ips{named(ip("a 192.0.2.1 n1", ofOther), ownName()), otherHas},
			set:   []*LoadBalancer{web(has), other()}, actions: [][]string{{"mark a"}, nil},
		},
		{
			name:  "edited to the key of one that has no address",
			facts: ips{named(ip("a 192.0.2.1 n1", ofOther), ownName())},
			set:   []*LoadBalancer{web(has), other()}, actions: [][]string{{"mark a"}, {"create", "attach n1"}},
		},
		{
			name:  "edited to another scope: not ours to take back",
			facts: ips{named(ip("a 192.0.2.1 n1", func(m *Marker) { m.Key.Scope = "x" }), ownName())},
			set:   []*LoadBalancer{web(has)}, actions: [][]string{nil}, reason: ReasonNotOwned,
			problem: "is taken by another floating IP",
		},
		{
			name:    "edited, and its name proves nothing: the other one leaves it alone",
			facts:   ips{ip("a 192.0.2.1 n1", ofOther), otherHas},
			set:     []*LoadBalancer{web(has), other()},
			actions: [][]string{{"create", "attach n1"}, nil},
		},
		{
			name:  "lost, but not published: not taken",
			facts: ips{named(foreign("a 192.0.2.1 n1"), ownName())}, set: []*LoadBalancer{web()},
			actions: [][]string{nil}, reason: ReasonNotOwned, problem: "rename it, or detach and delete it",
		},
		{
			name:    "lost, and another load balancer names it as the user's own",
			facts:   ips{named(foreign("a 192.0.2.1 n1"), ownName())},
			set:     []*LoadBalancer{web(has), other(from(Source{Existing: "a"}))},
			actions: [][]string{{"mark a"}, nil},
		},
		{
			name:    "damaged, and another load balancer names it as the user's own",
			facts:   ips{named(described("a 192.0.2.1 n1", ownership.MarkerPrefix+"?"), ownName())},
			set:     []*LoadBalancer{web(has), other(from(Source{Existing: "a"}))},
			actions: [][]string{{"mark a"}, nil},
		},
		{
			name:    "damaged, and not known to be anybody's: nobody may name it",
			facts:   ips{described("a 192.0.2.1", ownership.MarkerPrefix+"?")},
			set:     []*LoadBalancer{web(from(Source{Existing: "a"}))},
			actions: [][]string{nil}, reason: ReasonNotOwned, problem: "remove the line",
		},
		{
			name:  "lost, and the load balancer itself names it as the user's own",
			facts: ips{named(foreign("a 192.0.2.1 n1"), ownName())},
			set:   []*LoadBalancer{web(has, from(Source{Existing: "a"}))}, actions: [][]string{nil},
		},
	} {
		t.Run(tc.name, tc.run)
	}
	t.Run("released to the user before", func(t *testing.T) {
		found := ips{named(foreign("a 192.0.2.1 n1"), ownName())}
		p := planWeb(found, web(publishing("192.0.2.1", "10.0.0.1")), cluster("n1"),
			func(in *Input) { in.UserOwned = map[Named]bool{{NameOrID: "a"}: true} })
		if !isProblem(p.Problem, ReasonNotOwned, "") || len(briefly(p)) != 0 || len(p.Claims) != 1 {
			t.Errorf("does %v, %v", briefly(p), p.Problem)
		}
	})
}

// What is desired and cannot be had leaves what is there, and that fails over as ever.
func TestWhatCannotBeHad(t *testing.T) {
	was := ips{ip("a 192.0.2.1 n2")}
	moved := [][]string{{"detach a n2", "attach a n1"}}
	for _, tc := range []claimCase{
		{
			name: "a pool that is not there", facts: was, set: []*LoadBalancer{web(from(Source{Pool: "gone"}))},
			actions: moved, reason: ReasonPoolNotFound, problem: "the IP pool gone does not exist",
		},
		{
			name: "a pool of the other family", facts: was, set: []*LoadBalancer{web(from(Source{Pool: "six"}))},
			actions: moved, reason: ReasonInvalid, problem: "the IP pool six has no IPv4 addresses",
		},
		{
			name: "a multicast pool", facts: was, set: []*LoadBalancer{web(from(Source{Pool: "multicast"}))},
			actions: moved, reason: ReasonInvalid, problem: "is a multicast pool",
		},
		{
			name: "an address that is taken", facts: append(ips{foreign("x 192.0.2.9")}, was...),
			set:     []*LoadBalancer{web(from(Source{Addr: netip.MustParseAddr("192.0.2.9")}))},
			actions: moved, reason: ReasonNotOwned, problem: "192.0.2.9 is taken",
		},
		{
			name: "two want one new address: the older has it",
			set: []*LoadBalancer{
				other(from(Source{Addr: netip.MustParseAddr("192.0.2.9")})),
				web(from(Source{Addr: netip.MustParseAddr("192.0.2.9")})),
			},
			actions: [][]string{{"create", "attach n1"}, nil},
		},
		{
			name:  "of two that it has, the one in use",
			facts: ips{ip("0 192.0.2.3"), ip("a 192.0.2.1 n2")},
			set:   []*LoadBalancer{web(from(Source{Pool: "gone"}))}, actions: moved,
			reason: ReasonPoolNotFound, problem: "the IP pool gone",
		},
		{
			name:  "what is retained does not come back for it",
			facts: ips{ip("a 192.0.2.1", func(m *Marker) { m.Retained = true })},
			set:   []*LoadBalancer{web(from(Source{Pool: "gone"}))}, actions: [][]string{nil},
			reason: ReasonPoolNotFound, problem: "the IP pool gone",
		},
		{
			name:    "what the existing CCM gave it is taken over",
			facts:   ips{legacy("a 192.0.2.1 n1", "default-web")},
			set:     []*LoadBalancer{web(from(Source{Pool: "gone"}), publishing("192.0.2.1"))},
			actions: [][]string{{"mark a"}}, reason: ReasonPoolNotFound, problem: "the IP pool gone",
		},
		{
			name: "it is not known what is desired: it fails over", facts: was, set: []*LoadBalancer{web(preserved)},
			actions: moved,
		},
		{
			name: "it is not known what is desired: nothing is allocated", set: []*LoadBalancer{web(preserved)},
			actions: [][]string{nil},
		},
		{
			name: "it is not known what is desired: nothing is exchanged or let go", set: []*LoadBalancer{web(preserved,
				from(Source{Addr: netip.MustParseAddr("192.0.2.7")}))},
			facts: ips{ip("a 192.0.2.1 n1"), ip("bb 192.0.2.2")}, actions: [][]string{nil},
		},
		{
			name:  "it is not known what is desired: what is retained stays so",
			facts: ips{ip("a 192.0.2.1", func(m *Marker) { m.Retained = true })},
			set:   []*LoadBalancer{web(preserved)}, actions: [][]string{nil},
		},
		{
			name:  "it is not known what is desired: what is attached and published nowhere stays reserved",
			facts: ips{ip("a 192.0.2.1")}, set: []*LoadBalancer{web(preserved)}, actions: [][]string{nil},
		},
		{
			name:    "it is not known what is desired: what is published comes back",
			facts:   ips{ip("a 192.0.2.1")},
			set:     []*LoadBalancer{web(preserved, publishing("192.0.2.1"))},
			actions: [][]string{{"attach a n1"}},
		},
		{
			name:  "it is not known what is desired: what its owner publishes nowhere comes back",
			facts: ips{ip("a 192.0.2.1")},
			set: []*LoadBalancer{web(preserved, func(d *LoadBalancer) {
				d.NoPublication = true
			})},
			actions: [][]string{{"attach a n1"}},
		},
		{
			name:  "it is not known what is desired: a user's own address fails over, too",
			facts: ips{foreign("a 192.0.2.1 n2")},
			set:   []*LoadBalancer{web(preserved, publishing("192.0.2.1", "10.0.0.2"))}, actions: moved,
		},
	} {
		t.Run(tc.name, tc.run)
	}
}

// If there is no room for a marker nothing is changed, and the error says how many characters to
// remove.
func TestNoRoomForAMarker(t *testing.T) {
	marker := ip("a 192.0.2.1").Description
	renewed := strings.Replace(marker, "uid-1", "uid-123456", 1)
	text := strings.Repeat("é", 512-len(marker)-1) + "\n" + marker
	over := len(renewed) - len(marker)
	tc := claimCase{
		facts:   ips{described("a 192.0.2.1 n2", text)},
		set:     []*LoadBalancer{web(func(d *LoadBalancer) { d.OwnerUID = "uid-123456" })},
		actions: [][]string{nil}, reason: ReasonInvalid, problem: "remove 5 characters",
	}
	if over != 5 {
		t.Fatalf("the marker grew by %d characters", over)
	}
	tc.run(t)
}

func TestPoolsByNameAndID(t *testing.T) {
	inPool := func(f Address, pool string) Address {
		f.PoolID = pool
		return f
	}
	for _, tc := range []claimCase{
		{
			name:  "the pool that an address is of, by name",
			facts: ips{inPool(ip("a 192.0.2.1 n1"), "pool-of-name-p")},
			set:   []*LoadBalancer{web(from(Source{Pool: "p"}))}, actions: [][]string{nil},
		},
		{
			name: "another pool: exchanged", facts: ips{ip("a 192.0.2.1 n1")},
			set:     []*LoadBalancer{web(from(Source{Pool: "p"}))},
			actions: [][]string{{"create", "attach n1", "detach a n1", "delete a"}},
		},
		{
			name:  "a pool that cannot be read: nothing speaks against what is there",
			facts: ips{ip("a 192.0.2.1 n1")}, set: []*LoadBalancer{web(from(Source{Pool: "unread"}))},
			actions: [][]string{nil},
		},
		{
			name: "IPv6 from a pool", set: []*LoadBalancer{web(ofIPv6, from(Source{Pool: "six"}))},
			actions: [][]string{{"create", "attach n1"}},
		},
	} {
		t.Run(tc.name, tc.run)
	}
}

// Whoever asks why there is a new address learns of the one that was lost.
func TestWhyAnAddressIsCreated(t *testing.T) {
	const first = "the load balancer has no such address yet"
	for _, tc := range []struct {
		name  string
		facts ips
		lb    *LoadBalancer
		why   string
	}{
		{"it is the first one", nil, web(), first},
		{"the one that it had was deleted", nil, web(publishing("192.0.2.1", "10.0.0.1")),
			"its address 192.0.2.1 is gone from the project"},
		{"the one that it had was deleted, and the node with it", nil, web(publishing("192.0.2.1", "10.9.9.9")),
			"its address 192.0.2.1 is gone from the project"},
		{"another one is desired", ips{ip("a 192.0.2.1 n1")},
			web(publishing("192.0.2.1", "10.9.9.9"), from(Source{Pool: "p"})),
			"it replaces the floating IP 192.0.2.1, which is no longer desired: the address changes"},
		{"another source is desired", ips{ip("a 192.0.2.1 n1")},
			web(publishing("192.0.2.1", "10.0.0.1"), from(Source{Kind: ExternalSubnet, Pool: "s"})),
			"it replaces the floating IP 192.0.2.1, which is no longer desired: the address changes"},
		{"several are desired from another source", ips{ip("a 192.0.2.1 n1"), ip("bb 192.0.2.2 n2")},
			web(publishing("192.0.2.1", "192.0.2.2"), func(d *LoadBalancer) {
				source := Source{Kind: ExternalSubnet, Pool: "s"}
				d.Desired = []Desired{{Family: IPv4, Source: source}, {Family: IPv4, Source: source}}
			}), "it replaces the floating IP 192.0.2.1, the floating IP 192.0.2.2, which are no longer " +
				"desired: the addresses change"},
		{"it had one of the other IP family", nil, web(publishing("2001:db8::1")), first},
	} {
		t.Run(tc.name, func(t *testing.T) {
			create := planWeb(tc.facts, tc.lb, cluster("n1")).Claims[0].Create
			if create == nil || create.Why != tc.why || create.Replaces != (tc.why != first) {
				t.Errorf("%+v, want %s", create, tc.why)
			}
		})
	}
}
