// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package annotations

import (
	"strings"
	"testing"
)

func TestWhatCannotBeIsOneLineWithTheFieldAndTheRemedy(t *testing.T) {
	many := strings.Repeat("198.51.100.9,", 100)
	for _, tt := range []struct {
		name string
		asks asks
		// want are parts of the error.
		want []string
	}{
		{"both families required of which there is one",
			asks{"families": "IPv6", "policy": "RequireDualStack"},
			[]string{"spec.ipFamilyPolicy is RequireDualStack", "spec.ipFamilies is IPv6 alone",
				"use PreferDualStack"}},
		{"both families required and one named", requires.with(asks{"floating-ip-version": "v4"}),
			[]string{FloatingIPVersion + " says v4", "RequireDualStack", "leave the annotation out"}},
		{"a family that is none", asks{"families": "IPv5"}, []string{"spec.ipFamilies", `"IPv5"`}},
		{"another family than it has", v4.with(asks{"floating-ip-version": "v6"}),
			[]string{FloatingIPVersion + " says v6, but spec.ipFamilies is IPv4"}},

		{"no addresses", v4.with(asks{"addresses-per-family": "0"}),
			[]string{AddressesPerFamily + ` says "0": use a number from 1 to 8`}},
		{"nine addresses", v4.with(asks{"addresses-per-family": "9"}),
			[]string{`says "9": use a number from 1 to 8`}},
		{"eighty addresses", v4.with(asks{"addresses-per-family": "80"}),
			[]string{`"80": use a number from 1 to 8`}},
		{"a count for each family", requires.with(asks{"addresses-per-family": "1,2"}),
			[]string{`"1,2": use a number from 1 to 8`}},
		{"a count that is none", v4.with(asks{"addresses-per-family": "two"}),
			[]string{AddressesPerFamily, `"two"`, "use a number from 1 to 8"}},

		{"a source that is none", v4.with(asks{"address-source": "subnet"}),
			[]string{AddressSource + ` says "subnet": use floating-ip or external-subnet`}},
		{"a source that is empty", requires.with(asks{"address-source": "external-subnet,"}),
			[]string{AddressSource + ` says "": use floating-ip or external-subnet`}},
		{"two sources of one family", v4.with(asks{"address-source": "floating-ip,external-subnet"}),
			[]string{AddressSource + " has 2 values", "IPv4 (spec.ipFamilies)", "one source for all"}},
		{"three sources", requires.with(asks{"address-source": "floating-ip,floating-ip,external-subnet"}),
			[]string{AddressSource + " has 3 values", "IPv4 and IPv6", "one for each"}},

		{"both sources", v4.with(asks{"address-source": "external-subnet", "floating-ip-pool": "edge"}),
			[]string{FloatingIPPool + " asks for a floating IP", AddressSource + " for an external subnet",
				"leave one"}},
		{"both sources, by one's own",
			v4.with(asks{"address-source": "external-subnet", "existing-floating-ip": "a"}),
			[]string{ExistingFloatingIP + " asks for a floating IP", AddressSource}},
		{"both sources, by an address",
			v4.with(asks{"address-source": "external-subnet", "floating-ip": "198.51.100.9"}),
			[]string{FloatingIP + " asks for a floating IP", AddressSource}},
		{"both sources, by the field", v4.with(
			asks{"address-source": "external-subnet", "loadBalancerIP": "198.51.100.9"}),
			[]string{"spec.loadBalancerIP asks for a floating IP", AddressSource}},
		{"both sources, the other way round",
			v4.with(asks{"address-source": "floating-ip", "subnet-pool": "edge"}),
			[]string{SubnetPool + " asks for an external subnet", AddressSource + " for a floating IP"}},
		{"a subnet without its source", v4.with(asks{"existing-external-subnet": "mine"}),
			[]string{ExistingExternalSubnet + " asks for an external subnet",
				"without the annotation " + AddressSource,
				"set that to external-subnet"}},
		{"a source other than that of the class", v4.with(
			asks{"class": ClassExternalSubnet, "loadBalancerIP": "198.51.100.9"}),
			[]string{"spec.loadBalancerIP asks for a floating IP",
				"spec.loadBalancerClass is " + ClassExternalSubnet,
				"leave it out, or create the Service with the class " + ClassFloatingIP}},
		{"both sources for one of two families", requires.with(asks{
			"address-source": "floating-ip,external-subnet", "floating-ip-pool": "four,six",
		}), []string{FloatingIPPool + " asks for a floating IP", AddressSource}},
		{"both annotations of a source", v4.with(asks{"floating-ip-pool": "edge", "subnet-pool": "edge"}),
			[]string{SubnetPool, "set that to external-subnet"}},

		{"two pools for one family", v4.with(asks{"floating-ip-pool": "four,six"}),
			[]string{FloatingIPPool + " has 2 values", "IPv4 alone (spec.ipFamilies)", "name one pool"}},
		{"three pools for two families", requires.with(asks{"floating-ip-pool": "four,six,eight"}),
			[]string{FloatingIPPool + " has 3 values", "IPv4 and IPv6", "one pool for each, in this order"}},
		{"one pool for two families", requires.with(asks{"floating-ip-pool": "edge"}),
			[]string{FloatingIPPool + " has one value", "one pool for each, in this order", "default pool"}},
		{"a pool for each address", v4.with(asks{"addresses-per-family": "3", "floating-ip-pool": "a,b,c"}),
			[]string{FloatingIPPool + " has 3 values", "name one pool"}},
		{"a pool for a family that is not wanted", prefers.with(
			asks{"floating-ip-pool": "a,b,c", "floating-ip-version": "v6"}),
			[]string{FloatingIPPool, "IPv6 alone (the annotation " + FloatingIPVersion + ")"}},

		{"two addresses of one family", v4.with(asks{"floating-ip": "198.51.100.9,198.51.100.8"}),
			[]string{FloatingIP + ` is "198.51.100.9,198.51.100.8"`, "names 2 addresses of IPv4",
				"gets one address",
				"or set the annotation " + AddressesPerFamily + ` to "2"`}},
		{"one address of two", v4.with(asks{"addresses-per-family": "2", "floating-ip": "198.51.100.9"}),
			[]string{FloatingIP, "names one address of IPv4", "gets 2 addresses",
				AddressesPerFamily + ` to "1"`}},
		{"one address more than can be",
			v6.with(asks{"addresses-per-family": "8", "loadBalancerIP": "::1,::2,::3,::4,::5,::6,::7,::8,::9"}),
			[]string{"spec.loadBalancerIP", "names 9 addresses of IPv6", "gets 8 addresses"}},
		{"as many addresses as are wanted of one family, and fewer of the other", requires.with(asks{
			"addresses-per-family": "2", "floating-ip": "198.51.100.9,198.51.100.8,2001:db8::9",
		}), []string{FloatingIP, "names one address of IPv6",
			"gets 2 addresses of that IP family: name 2 addresses"}},
		{"an address of a family that is not there", v4.with(asks{"floating-ip": "2001:db8::9"}),
			[]string{FloatingIP + ": 2001:db8::9 is of another IP family", "IPv4", "or spec.ipFamilies"}},
		{"an address of a family that is not there, beside one that is",
			v4.with(asks{"floating-ip": "198.51.100.9,2001:db8::9"}),
			[]string{FloatingIP + ": 2001:db8::9 is of another IP family", "IPv4", "or spec.ipFamilies"}},
		{"an address of a family that is not wanted", prefers.with(
			asks{"floating-ip": "198.51.100.9", "floating-ip-version": "v6"}),
			[]string{FloatingIP + ": 198.51.100.9 is of another IP family", "IPv6",
				"or the annotation " + FloatingIPVersion}},
		{"the same address twice",
			v4.with(asks{"addresses-per-family": "2", "floating-ip": "198.51.100.9,::ffff:198.51.100.9"}),
			[]string{FloatingIP + " names 198.51.100.9 twice"}},
		{"an empty address", v4.with(asks{"floating-ip": "198.51.100.9,"}),
			[]string{FloatingIP, `"" is not an IP address`}},
		{"another address in the field",
			v4.with(asks{"floating-ip": "198.51.100.9", "loadBalancerIP": "198.51.100.8"}),
			[]string{FloatingIP + " says 198.51.100.9 and spec.loadBalancerIP 198.51.100.8: make them agree"}},
		{"a list that never ends", v4.with(asks{"floating-ip": many}), []string{FloatingIP}},

		{"two of one's own for one address", v4.with(asks{"existing-floating-ip": "a,b"}),
			[]string{ExistingFloatingIP + " has 2 values", "one address, of IPv4: name one",
				"or set the annotation " + AddressesPerFamily + ` to "2"`}},
		{"one of one's own for two addresses",
			v4.with(asks{"addresses-per-family": "2", "existing-floating-ip": "a"}),
			[]string{ExistingFloatingIP + " has one value", "2 addresses of IPv4", "name 2", `to "1"`}},
		{"one of one's own for two families", requires.with(asks{"existing-floating-ip": "a"}),
			[]string{ExistingFloatingIP + " has one value", "one address each of IPv4 and IPv6",
				"name 2, in this order"}},
		{"three of one's own for two families", requires.with(asks{"existing-floating-ip": "a,b,c"}),
			[]string{ExistingFloatingIP + " has 3 values", "name 2, in this order"}},
		{"one's own for a part of a family",
			v4.with(asks{"addresses-per-family": "2", "existing-floating-ip": "a,"}),
			[]string{ExistingFloatingIP + " has an empty value for IPv4", "name 2 addresses, or none"}},
		{"the same twice", v4.with(asks{"addresses-per-family": "2", "existing-floating-ip": "mine,MINE"}),
			[]string{ExistingFloatingIP + ` names "MINE" twice`}},
		{"the same subnet twice", requires.with(
			asks{"address-source": "external-subnet", "existing-external-subnet": "mine,mine"}),
			[]string{ExistingExternalSubnet + ` names "mine" twice`}},

		{"an address and a pool", v4.with(asks{"floating-ip": "198.51.100.9", "floating-ip-pool": "edge"}),
			[]string{FloatingIP, FloatingIPPool, "exclude each other"}},
		{"an address and a pool of one of two families",
			requires.with(asks{"floating-ip": "198.51.100.9", "floating-ip-pool": "four,six"}),
			[]string{FloatingIP, FloatingIPPool, "exclude each other", "for each IP family"}},
		{"a subnet pool and one's own", v4.with(asks{
			"address-source": "external-subnet", "subnet-pool": "edge", "existing-external-subnet": "mine",
		}), []string{SubnetPool, ExistingExternalSubnet, "exclude each other"}},
		{"several mistakes are reported together", requires.with(asks{
			"floating-ip-version": "v7", "addresses-per-family": "x", "address-source": "x", "floating-ip": "x",
			"existing-floating-ip": "a,a",
		}), []string{FloatingIPVersion, AddressesPerFamily, AddressSource, FloatingIP + ":",
			ExistingFloatingIP}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := Addresses(tt.asks.service())
			if err == nil {
				t.Fatalf("it was accepted as %q", texts(got))
			}
			if got != nil {
				t.Errorf("beside the error there is %q", texts(got))
			}
			for _, part := range tt.want {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("the error has no %q: %v", part, err)
				}
			}
			checkLine(t, err)
		})
	}
}

func checkLine(t *testing.T, err error) {
	t.Helper()
	if text := err.Error(); strings.ContainsAny(text, "\r\n") || len(text) > 5000 {
		t.Errorf("it is no short line: %q", text)
	}
}
