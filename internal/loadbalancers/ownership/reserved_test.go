// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package ownership

import (
	"net/netip"
	"strings"
	"testing"
)

func TestAReservationIsReadAsItWasWritten(t *testing.T) {
	for _, source := range []Source{
		{}, {Pool: "default"}, {Pool: strings.Repeat("p", 63)}, {Addr: netip.MustParseAddr("192.0.2.1")},
		{Kind: ExternalSubnet}, {Kind: ExternalSubnet, Pool: strings.Repeat("p", 63)},
		{Kind: ExternalSubnet, Addr: netip.MustParseAddr("2001:db8:1111:2222:3333:4444:5555:6666")},
	} {
		for _, text := range []string{"", "mine", "mine\n", "two\nlines", strings.Repeat("ä", 380)} {
			r := NewReservation(source, text)
			description, err := WithReservation(text, r)
			if err != nil {
				t.Fatal(err)
			}
			if got, ok := ParseReservation(description); !ok || got != r {
				t.Errorf("%q is read as %v, %v", description, got, ok)
			}
			if got := OwnText(description); got != text {
				t.Errorf("the text of %q is %q", description, got)
			}
			if _, released := ReleasedFrom(description); BearsMarker(description) || released {
				t.Errorf("%q counts as a load balancer's", description)
			}
			if again, err := WithReservation(description, r); err != nil || again != description {
				t.Errorf("written twice it is %q, %v", again, err)
			}
		}
	}
}

func TestReservationsThatDifferAreTold(t *testing.T) {
	seen := make(map[Reservation]bool)
	addr := netip.MustParseAddr("192.0.2.1")
	for _, source := range []Source{
		{}, {Pool: "a"}, {Pool: "b"}, {Addr: addr}, {Kind: ExternalSubnet}, {Kind: ExternalSubnet, Pool: "a"},
		{Kind: ExternalSubnet, Addr: addr},
	} {
		for _, text := range []string{"", "a", "b", "a\n"} {
			r := NewReservation(source, text)
			if seen[r] {
				t.Errorf("%v %q is like another one: %v", source, text, r)
			}
			seen[r] = true
		}
	}
}

func TestALineThatWasEditedReservesNothing(t *testing.T) {
	line, err := WithReservation("", NewReservation(Source{}, ""))
	if err != nil {
		t.Fatal(err)
	}
	for name, description := range map[string]string{
		"none":            "mine",
		"doubled":         line + "\n" + line,
		"a later version": strings.Replace(line, "/v1", "/v2", 1),
		"a field more":    line + " uid=x",
		"a field less":    strings.TrimSuffix(line, line[strings.Index(line, " text="):]),
		"within a line":   "see " + line,
	} {
		if r, ok := ParseReservation(description); ok {
			t.Errorf("%s: read as %v", name, r)
		}
	}
}

// A marker takes the place of the line: an address that a load balancer was given is not reserved.
func TestAMarkerTakesThePlaceOfAReservation(t *testing.T) {
	reserved, err := WithReservation("mine", NewReservation(Source{}, "mine"))
	if err != nil {
		t.Fatal(err)
	}
	marked, err := WithMarker(reserved, someMarker)
	if err != nil || marked != "mine\n"+someMarker.String() {
		t.Errorf("marked: %q, %v", marked, err)
	}
}

func TestGeneratedNamesAreRecognized(t *testing.T) {
	for _, key := range []Key{webKey, {Scope: "x", Name: "Ä/Ü"}, {Scope: "x", Name: strings.Repeat("a", 250)}} {
		if name := Name(key, IPv4, "default", 3); !IsGeneratedName(name) {
			t.Errorf("%s is not recognized", name)
		}
	}
	for _, name := range []string{"vip", "lb-web", "lb-web-0123456789abcde", "web-0123456789abcdef"} {
		if IsGeneratedName(name) {
			t.Errorf("%s counts as generated", name)
		}
	}
}

// What would not be understood again is not written: the address could never be found under its name.
func TestAReservationThatCouldNotBeReadIsNotWritten(t *testing.T) {
	for _, r := range []Reservation{
		{}, {Source: "pool:a b", Text: strings.Repeat("0", 16)}, {Source: "default", Text: "short"},
		{Source: "default\nsource=x", Text: strings.Repeat("0", 16)},
	} {
		if description, err := WithReservation("mine", r); err == nil {
			t.Errorf("%v is written as %q", r, description)
		}
	}
}
