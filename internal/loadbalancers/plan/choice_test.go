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

// preferring desires one address, of the first of these families that can be had.
func preferring(source Source, families ...Family) func(*LoadBalancer) {
	return func(d *LoadBalancer) {
		d.Desired = nil
		for _, family := range families {
			d.Desired = append(d.Desired, Desired{Family: family, Source: source, Optional: true})
		}
	}
}

func sixth(m *Marker) { m.Family = IPv6 }

// TestOfTwoFamiliesThoseThatCanBeHadAreGiven: in both orders, with any of the pools, and candidates with
// private addresses of either family or both. What is missing is one condition.
func TestOfTwoFamiliesThoseThatCanBeHadAreGiven(t *testing.T) {
	defaults := func(has string) func(*Input) {
		return func(in *Input) {
			for _, family := range []Family{IPv4, IPv6} {
				pool := Pool{Missing: true}
				if strings.Contains(has, string(family)) {
					pool = Pool{ID: "default-" + string(family), Family: family, Unicast: true}
				}
				in.Pools[defaultPool(family)] = pool
			}
		}
	}
	only := func(family Family, instances ...string) func(*Input) {
		return func(in *Input) {
			for _, id := range instances {
				instance := in.Instances[id]
				instance.Addrs = []netip.Addr{instance.Addr(family)}
				in.Instances[id] = instance
			}
		}
	}
	unknown := func(in *Input) { in.Instances = make(map[string]Instance) }
	unread := func(in *Input) { delete(in.Pools, defaultPool(IPv6)) }
	unreadable := func(in *Input) { in.Pools[defaultPool(IPv6)] = Pool{Unreadable: "forbidden"} }
	allUnreadable := func(in *Input) {
		for _, family := range []Family{IPv4, IPv6} {
			in.Pools[defaultPool(family)] = Pool{Unreadable: "forbidden"}
		}
	}
	exhausted := func(in *Input) { in.Pools[defaultPool(IPv6)] = Pool{Exhausted: true} }
	refused := func(d *LoadBalancer) { d.Refused = map[Family]bool{IPv6: true} }
	refusedBefore := func(d *LoadBalancer) { d.Refused = map[Family]bool{IPv6: false} }
	from4, from6 := []Family{IPv4, IPv6}, []Family{IPv6, IPv4}
	for _, tc := range []struct {
		name   string
		order  []Family
		source Source
		lb     func(*LoadBalancer)
		change []func(*Input)
		found  ips
		want   string
		says   string
	}{
		{"both pools, IPv4 first", from4, Source{}, nil, []func(*Input){defaults("v4 v6")}, nil, "v4 v6", ""},
		{"both pools, IPv6 first", from6, Source{}, nil, []func(*Input){defaults("v4 v6")}, nil, "v6 v4", ""},
		{"an IPv4 pool, IPv6 first", from6, Source{}, nil, []func(*Input){defaults("v4")}, nil, "v4", "no default pool for IPv6"},
		{"an IPv6 pool, IPv4 first", from4, Source{}, nil, []func(*Input){defaults("v6")}, nil, "v6", "no default pool for IPv4"},
		{"an exhausted IPv6 pool", from6, Source{}, nil, []func(*Input){defaults("v4"), exhausted}, nil, "v4", "no free address"},
		{"an IPv6 pool that had no address a moment ago", from6, Source{}, refused,
			[]func(*Input){defaults("v4 v6")}, nil, "v4", "the silo's default pool for IPv6 addresses gave none"},
		{"default pools that cannot be read", from6, Source{}, nil,
			[]func(*Input){defaults("v4"), unreadable}, nil, "v6 v4", ""},
		{"one that cannot be read and gave none", from6, Source{}, refused,
			[]func(*Input){defaults("v4"), unreadable}, nil, "v4", "gave none"},
		{"one that cannot be read and is tried again", from6, Source{}, refusedBefore,
			[]func(*Input){defaults("v4"), unreadable}, nil, "v6 v4", "gave none"},
		{"it has an IPv4 address, and default pools cannot be read", from4, Source{}, nil,
			[]func(*Input){defaults("v4"), unreadable}, ips{ip("a 192.0.2.1 n1")}, "v4 v6", ""},
		{"no node has IPv6", from6, Source{}, nil,
			[]func(*Input){defaults("v4 v6"), only(IPv4, "n1", "n2")}, nil, "v4", "no node has a private IPv6 address"},
		{"no node has IPv6, and of no pool anything can be read", from6, Source{}, nil,
			[]func(*Input){allUnreadable, only(IPv4, "n1", "n2")}, nil, "v4", "no node has a private IPv6 address"},
		{"of no pool anything can be read", from6, Source{}, nil, []func(*Input){allUnreadable}, nil, "v6 v4", ""},
		{"one node has IPv6", from6, Source{}, nil, []func(*Input){defaults("v4 v6"), only(IPv4, "n1")},
			nil, "v6 v4", ""},
		{"the node with IPv6 is not eligible", from6, Source{}, eligible("n1"),
			[]func(*Input){defaults("v4 v6"), only(IPv4, "n1")}, nil, "v4", "no node has a private IPv6 address"},
		{"of the nodes nothing is known", from6, Source{}, nil, []func(*Input){defaults("v4 v6"), unknown},
			nil, "v6", ""},
		{"of the eligible node nothing is known", from4, Source{}, eligible("n1"),
			[]func(*Input){defaults("v4 v6"), func(in *Input) { delete(in.Instances, "n1") }}, nil, "v4", ""},
		{"the named pool has IPv4", from6, Source{Pool: "p"}, nil, []func(*Input){defaults("v6")}, nil, "v4", "the IP pool p has no IPv6 addresses"},
		{"the named pool has IPv6", from4, Source{Pool: "six"}, nil, []func(*Input){defaults("v4")}, nil, "v6", "the IP pool six has no IPv4 addresses"},
		{"the user's own address is of IPv4", from6, Source{Existing: "name-mine"}, nil,
			[]func(*Input){defaults("v4 v6")}, ips{foreign("mine 192.0.2.9")}, "v4", "there is no floating IP name-mine of that family"},
		{"it has an IPv4 address already", from6, Source{}, nil, []func(*Input){defaults("v4 v6")},
			ips{ip("a 192.0.2.1 n1")}, "v6 v4", ""},
		{"it has an IPv6 address already", from4, Source{}, nil, []func(*Input){defaults("v4 v6")},
			ips{ip("a 2001:db8::1 n1", sixth)}, "v4 v6", ""},
		{"it has an IPv6 address, and its pool is gone", from4, Source{}, nil,
			[]func(*Input){defaults("v4")}, ips{ip("a 2001:db8::1 n1", sixth)}, "v4 v6", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			lb := web(preferring(tc.source, tc.order...))
			if tc.lb != nil {
				tc.lb(lb)
			}
			p := planWeb(tc.found, lb, append(tc.change, cluster("n1", "n2"))...)
			var families []string
			for _, c := range p.Claims {
				families = append(families, string(c.Desired.Family))
			}
			if got := strings.Join(families, " "); got != tc.want || p.Problem != nil {
				t.Errorf("got %s, %v, %v; want %s", got, briefly(p), p.Problem, tc.want)
			}
			var says []string
			for _, c := range p.Conditions {
				if c.Type == FamilyMissing {
					says = append(says, c.Message)
				}
			}
			if (tc.says == "") != (len(says) == 0) || tc.says != "" && !strings.Contains(says[0], tc.says) {
				t.Errorf("it says %q, want %q", says, tc.says)
			}
			for _, c := range p.Claims {
				if c.Address != nil && c.Managed && (c.Target != c.Current() || c.Mark != nil) {
					t.Errorf("what it has changes: %v", briefly(p))
				}
			}
		})
	}
	t.Run("until the IPv6 pool was read nothing is made of it", func(t *testing.T) {
		p := planWeb(nil, web(preferring(Source{}, from6...)), cluster("n1"), defaults("v4"), unread)
		if !isProblem(p.Problem, ReasonPoolUnreadable, "has not been read yet") || len(p.Claims) != 1 ||
			p.Claims[0].Desired.Family != IPv4 {
			t.Errorf("got %v, %v", briefly(p), p.Problem)
		}
	})
	t.Run("neither pool: the first one's problem", func(t *testing.T) {
		p := planWeb(nil, web(preferring(Source{}, from6...)), cluster("n1"), defaults(""))
		if !isProblem(p.Problem, ReasonPoolNotFound, "no default pool for IPv6") || len(p.Claims) > 0 {
			t.Errorf("got %v, %v", briefly(p), p.Problem)
		}
	})
	t.Run("what cannot be had leaves it what it has", func(t *testing.T) {
		p := planWeb(ips{ip("a 192.0.2.1 n1")}, web(preferring(Source{Pool: "gone"}, from6...)),
			cluster("n1"), defaults("v4 v6"))
		if !isProblem(p.Problem, ReasonPoolNotFound, "gone") || len(briefly(p)) > 0 ||
			len(p.Claims) != 1 || p.Claims[0].Target != "n1" {
			t.Errorf("got %v, %v", briefly(p), p.Problem)
		}
	})
	t.Run("beside a required one an optional one that cannot be had is no problem", func(t *testing.T) {
		lb := web(preferring(Source{}, from4...))
		lb.Desired[0].Optional = false
		p := planWeb(nil, lb, cluster("n1"), defaults("v4"))
		if len(p.Claims) != 1 || p.Claims[0].Desired.Family != IPv4 || p.Problem != nil {
			t.Errorf("got %v, %v", briefly(p), p.Problem)
		}
	})
	t.Run("a change of the order changes nothing", func(t *testing.T) {
		for _, order := range [][]Family{from4, from6} {
			p := planWeb(ips{ip("a 192.0.2.1 n1"), ip("b 2001:db8::1 n2", sixth)}, web(preferring(Source{}, order...)), cluster("n1", "n2"),
				defaults("v4 v6"))
			same(t, "actions", []string(nil), briefly(p))
		}
	})
}

// An address of a family that no node has, of those that may be used, is no fault while the other family
// is served: it was allocated when nothing was eligible, and is not deleted.
func TestAReservedAddressOfAFamilyThatNoNodeHasIsExcused(t *testing.T) {
	found := ips{ip("a 192.0.2.1 n1"), ip("b 2001:db8::1", sixth)}
	only4 := func(in *Input) {
		instance := in.Instances["n1"]
		instance.Addrs = []netip.Addr{instance.Addr(IPv4)}
		in.Instances["n1"] = instance
	}
	for name, tc := range map[string]struct {
		lb   func(*LoadBalancer)
		node string
		want ConditionType
	}{
		"it may use a node with IPv4 alone": {eligible("n1"), "n1", FamilyMissing},
		"one with IPv6 is not healthy":      {eligible("n1", "n2"), "n1", NoCandidate},
		"both are required": {func(d *LoadBalancer) {
			eligible("n1")(d)
			d.Desired[0].Optional, d.Desired[1].Optional = false, false
		}, "n1", NoCandidate},
		"IPv4 is not served, either": {eligible("n1"), "n1 unhealthy", NoCandidate},
	} {
		t.Run(name, func(t *testing.T) {
			kept := found
			if tc.node != "n1" {
				kept = ips{ip("a 192.0.2.1"), found[1]}
			}
			lb := web(preferring(Source{}, IPv4, IPv6), tc.lb)
			p := planWeb(kept, lb, cluster(tc.node, "n2 unhealthy"), only4)
			conditions := conditionsOf(p)
			if len(conditions) == 0 || conditions[len(conditions)-1] != tc.want || len(briefly(p)) > 0 ||
				len(p.Claims) != 2 {
				t.Errorf("%v %s, %v", conditions, says(p), briefly(p))
			}
		})
	}
}

// Who requires a family of which there is no default pool is shown the others.
func TestWhoRequiresAFamilyIsShownItsPools(t *testing.T) {
	missing := func(others ...string) func(*Input) {
		return func(in *Input) { in.Pools[defaultPool(IPv6)] = Pool{Missing: true, Others: others} }
	}
	for want, change := range map[string]func(*Input){
		"the silo has no default pool for IPv6 addresses; ask for one of its IPv6 pools: edge, six": missing("edge", "six"),
		"the silo has no default pool for IPv6 addresses; ask its administrator for one":            missing(),
	} {
		p := planWeb(nil, web(ofIPv6), cluster("n1"), change)
		if p.Problem == nil || p.Problem.Message != want {
			t.Errorf("got %v, want %q", p.Problem, want)
		}
	}
	many := slices.Repeat([]string{"a-pool-with-a-long-name"}, 100)
	if p := planWeb(nil, web(ofIPv6), cluster("n1"), missing(many...)); len(p.Problem.Message) > maxMessage {
		t.Errorf("it says %q", p.Problem.Message)
	}
}
