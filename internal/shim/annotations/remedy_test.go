// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package annotations

import "testing"

func TestARemedyNamesTheFieldThatAsksForWhatCannotBeHad(t *testing.T) {
	const (
		noPool   = "the silo has no default pool for IPv6 addresses"
		operator = ", or ask the rack's operator for a default pool with free addresses"
	)
	subnets := asks{"address-source": "external-subnet"}
	for _, tt := range []struct {
		name    string
		asks    asks
		message string
		ofPool  bool
		want    string
	}{
		{"an address by the annotation", v4.with(asks{"floating-ip": "198.51.100.9"}),
			"198.51.100.9 is taken", false,
			"give a free address of a pool that is linked to the silo in the annotation " + FloatingIP +
				", or leave it out"},
		{"an address by the field, of the other family than the annotation",
			requires.with(asks{"floating-ip": "198.51.100.9", "loadBalancerIP": "2001:db8::9"}),
			"2001:db8::9 is taken", false, "give a free address of a pool that is linked to the silo in " +
				"spec.loadBalancerIP, or leave it out"},
		{"the second of two addresses",
			v4.with(asks{"addresses-per-family": "2", "floating-ip": "198.51.100.1,198.51.100.10"}),
			"198.51.100.10 is taken", false, "give a free address of a pool that is linked to the silo in the " +
				"annotation " + FloatingIP + ", or leave it out"},
		{"a pool", v4.with(asks{"floating-ip-pool": "edge"}), "the pool edge is full", true,
			"name another pool in the annotation " + FloatingIPPool + ", or leave it out"},
		{"a pool whose name begins another one's",
			requires.with(asks{"floating-ip-pool": "edge,", "existing-floating-ip": ",edge-six"}),
			"there is no floating IP edge-six", false,
			"name a floating IP of your own in the annotation " + ExistingFloatingIP + ", or leave it out"},
		{"a subnet pool", v4.with(subnets).with(asks{"subnet-pool": "edge"}), "the pool edge is full", true,
			"name another subnet pool in the annotation " + SubnetPool + ", or leave it out"},
		{"a subnet of one's own", v4.with(subnets).with(asks{"existing-external-subnet": "mine"}),
			"mine has 256 addresses", false, "name an external subnet of one address of your own in the " +
				"annotation " + ExistingExternalSubnet + ", or leave it out"},
		{"the default pool", v6, noPool, true, "name another pool of IPv6 addresses in the annotation " +
			FloatingIPPool + ", or another IP family in spec.ipFamilies" + operator},
		{"the default pool of the family that an annotation names",
			prefers.with(asks{"floating-ip-version": "v6"}), noPool, true,
			"name another pool of IPv6 addresses in the annotation " + FloatingIPPool +
				", or another IP family in the annotation " + FloatingIPVersion + operator},
		{"the default pool of one of two families", requires, noPool, true,
			"name another pool of IPv6 addresses in the annotation " + FloatingIPPool + " (its second value), " +
				"or use spec.ipFamilyPolicy PreferDualStack" + operator},
		{"the default pool of the family without an address of its own",
			requires.with(asks{"floating-ip": "2001:db8::9"}), "the silo has no default pool", true,
			"name another pool of IPv4 addresses in the annotation " + FloatingIPPool + " (its first value), " +
				"or use spec.ipFamilyPolicy PreferDualStack" + operator},
		{"the default pools of either family", prefers, noPool, true,
			"name another pool in the annotation " + FloatingIPPool + operator},
		{"the default subnet pool", v6.with(subnets), noPool, true,
			"name another subnet pool of IPv6 addresses in the annotation " + SubnetPool +
				", or another IP family in spec.ipFamilies, or ask the rack's operator for a default " +
				"subnet pool with free subnets"},
		{"the default subnet pool of one of two sources",
			requires.with(asks{"address-source": "floating-ip,external-subnet"}), noPool, true,
			"name another subnet pool of IPv6 addresses in the annotation " + SubnetPool +
				" (its second value), or use spec.ipFamilyPolicy PreferDualStack, or ask the rack's operator for a default " +
				"subnet pool with free subnets"},
		{"something that it does not name", v4.with(asks{"floating-ip-pool": "edge"}),
			"the name lb-web is taken", false, ""},
		{"the default pool, where it names another", v4.with(asks{"floating-ip-pool": "edge"}),
			noPool, true, ""},
		{"nothing about a pool", v4, "the name lb-web is taken", false, ""},
		{"what cannot be", v4.with(asks{"floating-ip": "x"}), noPool, true, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := Remedy(tt.asks.service(), tt.message, tt.ofPool); got != tt.want {
				t.Errorf("the remedy is %q, want %q", got, tt.want)
			}
		})
	}
}
