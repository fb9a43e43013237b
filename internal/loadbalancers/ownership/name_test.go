// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package ownership

import (
	"net/netip"
	"regexp"
	"strings"
	"testing"
)

// isValid is what Oxide takes as a name.
func isValid(name string) bool {
	return len(name) <= maxName && regexp.MustCompile(`^[a-z]([a-z0-9-]*[a-z0-9])?$`).MatchString(name)
}

func TestNamesAreValidInOxide(t *testing.T) {
	for _, name := range []string{
		"default/web", "a/b", "UPPER/Case", "-/-", "1/2", "a.b/c_d",
		strings.Repeat("n", 63) + "/" + strings.Repeat("s", 63),
		strings.Repeat("n", 39) + "/web", "0123456789abcdef0123456789abcdef/x",
	} {
		got := Name(Key{Scope: "scope", Name: name}, IPv4, "default", 0)
		if !isValid(got) {
			t.Errorf("%q gives %q (%d characters)", name, got, len(got))
		}
	}
}

// Invariant 3: names collide only where the same address is made twice.
func TestInvariant3NamesTellLoadBalancersApart(t *testing.T) {
	long := strings.Repeat("n", 60)
	names := make(map[string]string)
	add := func(what string, key Key, family Family, source Source, counter int) {
		name := Name(key, family, source.String(), counter)
		if other, taken := names[name]; taken {
			t.Errorf("%s and %s share the name %s", what, other, name)
		}
		names[name] = what
	}
	web := Key{"c", "team-a/web"}
	add("team-a/web", web, IPv4, Source{}, 0)
	add("team/a-web", Key{"c", "team/a-web"}, IPv4, Source{}, 0)
	add("another cluster", Key{"d", "team-a/web"}, IPv4, Source{}, 0)
	add("fields that run together", Key{"cteam-a", "/web"}, IPv4, Source{}, 0)
	add("the other family", web, IPv6, Source{}, 0)
	add("another source", web, IPv4, Source{Pool: "p"}, 0)
	add("an address", web, IPv4, Source{Addr: netip.MustParseAddr("192.0.2.1")}, 0)
	add("long, ends with 1", Key{"c", long + "/" + long + "1"}, IPv4, Source{}, 0)
	add("long, ends with 2", Key{"c", long + "/" + long + "2"}, IPv4, Source{}, 0)
	add("the second", web, IPv4, Source{}, 1)
	add("the third", web, IPv4, Source{}, 2)

	if again := Name(web, IPv4, "default", 0); names[again] != "team-a/web" {
		t.Errorf("the same address gets another name: %s", again)
	}
}

// A name that changed would make a second address for every Service.
func TestNamesNeverChange(t *testing.T) {
	const want = "lb-default-web-51sa4pp8koe30gj0"
	if got := Name(Key{"c1", "default/web"}, IPv4, "default", 0); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestLegacyNamesAreCutAsTheExistingCCMDoes(t *testing.T) {
	for _, tc := range []struct{ cluster, name, want string }{
		{"kubernetes", "default/web", "kubernetes-default-web"},
		{"kubernetes", "default/" + strings.Repeat("x", 43) + "-b", "kubernetes-default-" + strings.Repeat("x", 43)},
	} {
		if got := LegacyName(tc.cluster, Key{Name: tc.name}); got != tc.want {
			t.Errorf("got %s, want %s", got, tc.want)
		}
	}
}

func TestNamesOfRulesAreReadableAndDistinct(t *testing.T) {
	long := strings.Repeat("x", 50)
	names := make(map[string]string)
	for _, name := range []string{
		"default/web", "kube-system/web", long + "/a", long + "/b", long + long + "/a", "d/" + long + "1",
		"d/" + long + "2",
	} {
		got := RuleName(Key{Scope: "s", Name: name})
		if other, taken := names[got]; taken {
			t.Errorf("%s and %s have one name: %s", name, other, got)
		}
		names[got] = name
		if len(got) > 63 || strings.HasSuffix(got, "-") || !strings.HasPrefix(got, "lb-") {
			t.Errorf("Oxide refuses the name %s", got)
		}
	}
	if names["lb-default-web"] == "" {
		t.Errorf("not readable: %v", names)
	}
}
