// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package loadbalancers

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/oxide"
)

func TestNamesAreValidInOxide(t *testing.T) {
	for _, name := range []string{
		"default/web", "a/b", "UPPER/Case", "-/-", "1/2", "a.b/c_d",
		strings.Repeat("n", 63) + "/" + strings.Repeat("s", 63),
		strings.Repeat("n", 39) + "/web", "0123456789abcdef0123456789abcdef/x",
	} {
		got := nameOf(Key{Scope: "scope", Name: name}, Wanted{Family: IPv4})
		if !oxide.ValidName(got) {
			t.Errorf("%q gives %q (%d characters)", name, got, len(got))
		}
	}
}

// Invariant 3: names collide only where the same address is made twice.
func TestInvariant3NamesTellLoadBalancersApart(t *testing.T) {
	long := strings.Repeat("n", 60)
	names := make(map[string]string)
	add := func(what string, key Key, want Wanted) {
		name := nameOf(key, want)
		if other, taken := names[name]; taken {
			t.Errorf("%s and %s share the name %s", what, other, name)
		}
		names[name] = what
	}
	v4 := Wanted{Family: IPv4}
	add("team-a/web", Key{"c", "team-a/web"}, v4)
	add("team/a-web", Key{"c", "team/a-web"}, v4)
	add("another cluster", Key{"d", "team-a/web"}, v4)
	add("fields that run together", Key{"cteam-a", "/web"}, v4)
	add("the other family", Key{"c", "team-a/web"}, Wanted{Family: IPv6})
	add("another source", Key{"c", "team-a/web"}, Wanted{IPv4, Source{Pool: "p"}})
	add("an address", Key{"c", "team-a/web"},
		Wanted{IPv4, Source{Addr: netip.MustParseAddr("192.0.2.1")}})
	add("long, ends with 1", Key{"c", long + "/" + long + "1"}, v4)
	add("long, ends with 2", Key{"c", long + "/" + long + "2"}, v4)

	if again := nameOf(Key{"c", "team-a/web"}, v4); names[again] != "team-a/web" {
		t.Errorf("the same address gets another name: %s", again)
	}
}

// A name that changed would make a second address for every Service.
func TestNamesNeverChange(t *testing.T) {
	const want = "lb-default-web-51sa4pp8koe30gj0"
	if got := nameOf(Key{"c1", "default/web"}, Wanted{Family: IPv4}); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}
