// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package ownership

import (
	"net/netip"
	"slices"
	"testing"
)

// Load balancers are listed by cluster, then by name, and known to people by the latter.
func TestKeysAreOrderedByScopeThenName(t *testing.T) {
	keys := []Key{{"b", "a"}, {"a", "b"}, {"a", "a"}}
	slices.SortFunc(keys, CompareKeys)
	if !slices.Equal(keys, []Key{{"a", "a"}, {"a", "b"}, {"b", "a"}}) {
		t.Errorf("got %v", keys)
	}
	if got := keys[1].String(); got != "b" {
		t.Errorf("people see %q", got)
	}
}

// A subnet of a single address is as long as an address of its family.
func TestAFamilyIsThatOfItsAddresses(t *testing.T) {
	for text, want := range map[string]Family{
		"192.0.2.1": IPv4, "2001:db8::1": IPv6, "::ffff:192.0.2.1": IPv6,
	} {
		addr := netip.MustParseAddr(text)
		if got := FamilyOf(addr); got != want || got.Bits() != addr.BitLen() {
			t.Errorf("%s is of the family %s, of %d bits", text, got, got.Bits())
		}
	}
}

func TestKindsAreCalledWhatOxideCallsThem(t *testing.T) {
	if got := FloatingIP.String() + ", " + ExternalSubnet.String(); got != "floating IP, external subnet" {
		t.Error(got)
	}
}

// Only what a user names is the user's own: an address or a pool that is asked for gives none.
func TestASourceNamesTheUsersOwnAlone(t *testing.T) {
	for _, tc := range []struct {
		source         Source
		isDefault, own bool
	}{
		{Source{}, true, false},
		{Source{Kind: ExternalSubnet}, true, false},
		{Source{Pool: "vip"}, false, false},
		{Source{Addr: someAddr}, false, false},
		{Source{Existing: "vip"}, false, true},
		{Source{Existing: "id"}, false, true},
		{Source{Existing: "other"}, false, false},
		{Source{Kind: ExternalSubnet, Existing: "vip"}, false, false},
	} {
		if tc.source.IsDefault() != tc.isDefault || tc.source.Names(FloatingIP, "id", "vip") != tc.own {
			t.Errorf("%+v: default %v, the user's own %v",
				tc.source, tc.source.IsDefault(), tc.source.Names(FloatingIP, "id", "vip"))
		}
	}
	if (Source{}).Names(FloatingIP, "", "") {
		t.Error("a source without a name names a resource without one")
	}
}
