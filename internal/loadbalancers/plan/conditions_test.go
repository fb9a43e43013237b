// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package plan

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/firewall"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/ownership"
)

// inVPC puts all instances into a VPC, whose firewall has these rules; nil: it is not known.
func inVPC(rules []firewall.Rule) func(*Input) {
	return func(in *Input) {
		for id, instance := range in.Instances {
			instance.Interface = firewall.Interface{
				InstanceName: instance.Name, VPCID: "vpc-id", VPCName: "default", Addrs: instance.Addrs,
			}
			in.Instances[id] = instance
		}
		if rules != nil {
			in.Firewalls = map[string][]firewall.Rule{"vpc-id": rules}
		}
	}
}

func TestConditionsOfClosedFirewalls(t *testing.T) {
	both := web(func(d *LoadBalancer) { d.Desired = append(d.Desired, Desired{Family: IPv6}) })
	open := []firewall.Rule{{Enabled: true, Inbound: true, Allow: true}}
	for _, tc := range []struct {
		name       string
		rules      []firewall.Rule
		lb         *LoadBalancer
		conditions []ConditionType
	}{
		{"not known", nil, web(), nil},
		{"empty", []firewall.Rule{}, web(), []ConditionType{FirewallClosed}},
		{"open", open, web(), nil},
		{"both families behind one make one", []firewall.Rule{}, both, []ConditionType{FirewallClosed}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			same(t, "conditions", tc.conditions, conditionsOf(planWeb(nil, tc.lb, cluster("n1"), inVPC(tc.rules))))
		})
	}
}

// Plans of what would be know of pools what Oxide would say.
func TestPoolsThatHaveNoAddress(t *testing.T) {
	defaults := func(pool Pool) func(*Input) {
		return func(in *Input) { in.Pools[defaultPool(IPv4)] = pool }
	}
	for _, tc := range []struct {
		name   string
		source Source
		change func(*Input)
		reason Reason
		says   string
	}{
		{"one that is exhausted", Source{Pool: "empty"}, nil, ReasonPoolExhausted,
			"the IP pool empty has no free address"},
		{"one that cannot be read", Source{Pool: "unread"}, nil, ReasonPoolUnreadable, "503"},
		{"one that was not read yet", Source{Pool: "new"}, nil, ReasonPoolUnreadable,
			"the IP pool new has not been read yet"},
		{"no default pool", Source{}, defaults(Pool{Missing: true}), ReasonPoolNotFound,
			"the silo has no default pool for IPv4 addresses"},
		{"the default pool is exhausted", Source{}, defaults(Pool{Exhausted: true}), ReasonPoolExhausted,
			"the silo's default pool for IPv4 addresses has no free address"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p := planWeb(nil, web(from(tc.source)), cluster("n1"), tc.change)
			if !isProblem(p.Problem, tc.reason, tc.says) || len(p.Claims) > 0 {
				t.Errorf("got %v, %v", p.Problem, briefly(p))
			}
		})
	}
	t.Run("the default pool matters only for what comes from it", func(t *testing.T) {
		p := planWeb(nil, web(from(Source{Addr: netip.MustParseAddr("192.0.2.7")})), cluster("n1"),
			defaults(Pool{Missing: true}))
		same(t, "actions", []string{"create", "attach n1"}, briefly(p))
	})
}

// What is released stays in use as long as what replaces it has no place.
func TestAnAddressInUseEndsOnlyForOneInUse(t *testing.T) {
	another := from(Source{Addr: netip.MustParseAddr("192.0.2.7")})
	found := ips{ip("a 192.0.2.1 n1")}
	p := planWeb(found, web(another), cluster("n1 unhealthy"))
	same(t, "actions", []string{"create"}, briefly(p))
	if len(p.Kept) != 1 || p.Kept[0].ID != "a" || len(p.Releases) > 0 {
		t.Errorf("kept are %v, released %v", p.Kept, p.Releases)
	}
	p = planWeb(found, web(another), cluster("n1"))
	if len(p.Kept) != 0 || len(p.Releases) != 1 {
		t.Errorf("kept are %v, released %v", p.Kept, p.Releases)
	}
}

// The actions of a plan are complete, in the order in which they are taken.
func TestActionsOfAPlan(t *testing.T) {
	found := ips{ip("a 192.0.2.1 n1"), ip("bb 192.0.2.2 n2", ofOther)}
	r := planned(found, []*LoadBalancer{
		web(from(Source{Addr: netip.MustParseAddr("192.0.2.7")}), publishing("192.0.2.9")), other(),
	}, cluster("n1", "n2 unhealthy"))
	name := nameOf(webKey, IPv4, Source{Addr: netip.MustParseAddr("192.0.2.7")})
	seven, one, two := netip.MustParseAddr("192.0.2.7"), found[0].Addr, found[1].Addr
	same(t, "actions", []Action{
		{Type: ActionCreate, Key: webKey, Name: name, Addr: seven, Replaces: true,
			Why: "its address 192.0.2.9 is gone from the project"},
		{Type: ActionAttach, Key: webKey, Name: name, Addr: seven, Instance: "n1", Why: "it is attached nowhere"},
		{Type: ActionDetach, Key: webKey, ID: "a", Name: "name-a", Addr: one, Instance: "n1",
			Why: "no longer desired"},
		{Type: ActionDelete, Key: webKey, ID: "a", Name: "name-a", Addr: one, Why: "no longer desired"},
		{Type: ActionDetach, Key: otherKey, ID: "bb", Name: "name-bb", Addr: two, Instance: "n2",
			Why: "node-n2 is not Ready"},
		{Type: ActionAttach, Key: otherKey, ID: "bb", Name: "name-bb", Addr: two, Instance: "n1", From: "n2",
			Why: "node-n2 is not Ready"},
	}, r.Actions())
	if got := r.Loads; got["n1"] != 3 || got["n2"] != 0 {
		t.Errorf("the loads are %v", got)
	}
}

// A plan changes nothing in its input.
func TestInvariant9APlanChangesNothing(t *testing.T) {
	for seed := range uint64(50) {
		in := newWorld(seed).input()
		candidates, set := slices.Clone(in.Candidates), slices.Clone(in.LoadBalancers)
		addresses := slices.Clone(in.Addresses.All())
		first := summary(Make(in))
		same(t, "the second plan", first, summary(Make(in)))
		for i, lb := range in.LoadBalancers {
			if set[i] != lb {
				t.Error("the load balancers have another order")
			}
		}
		for i := range candidates {
			if candidates[i].InstanceID != in.Candidates[i].InstanceID {
				t.Error("the candidates have another order")
			}
		}
		if !slices.Equal(addresses, in.Addresses.All()) {
			t.Error("the addresses have changed")
		}
	}
}

// A marker that would not be understood again is never written.
func TestAKeyThatCannotBeMarkedIsInvalid(t *testing.T) {
	p := planWeb(nil, web(func(d *LoadBalancer) { d.OwnerUID = "a b" }), cluster("n1"))
	if !isProblem(p.Problem, ReasonInvalid, "would not be understood again") || len(p.Claims) > 0 {
		t.Errorf("got %v, %v", p.Problem, briefly(p))
	}
	if _, err := ownership.WithMarker("", Marker{}); err == nil {
		t.Error("an empty marker is written")
	}
}
