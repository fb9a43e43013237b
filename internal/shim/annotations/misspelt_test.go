// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package annotations

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestMisspeltAnnotationsAreNearlyKnownOnes(t *testing.T) {
	for _, tt := range []struct {
		name, annotation, want string
	}{
		{"known", FloatingIP, ""},
		{"one letter too many", "oxide.computer/floating-ips", FloatingIP},
		{"one letter changed", "oxide.computer/floating_ip", FloatingIP},
		{"one letter missing", "oxide.computer/floatingip", FloatingIP},
		{"two letters swapped", "oxide.computer/floatnig-ip", FloatingIP},
		{"two letters missing", "oxide.computer/node-select", NodeSelector},
		{"a subnet pool", "oxide.computer/subnets-pool", SubnetPool},
		{"an existing subnet", "oxide.computer/existing-external-subnets", ExistingExternalSubnet},
		{"a count", "oxide.computer/address-per-family", AddressesPerFamily},
		{"three letters missing", "oxide.computer/node-selec", ""},
		{"three letters changed", "oxide.computer/Floating-IP", ""},
		{"near another known one", "oxide.computer/floating-ip-pol", FloatingIPPool},
		{"somebody else's", "oxide.computer/instance-name", ""},
		{"another prefix", "oxide.compute/floating-ip", ""},
		{"another prefix that begins the same", "oxide.computers/floating-ip", ""},
		{"no prefix", "floating-ip", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			all := map[string]string{tt.annotation: "x", RetainAddress: "true"}
			want := map[string]string{}
			if tt.want != "" {
				want[tt.annotation] = tt.want
			}
			if diff := cmp.Diff(want, Misspelt(all)); diff != "" {
				t.Errorf("misspelt (-want +got):\n%s", diff)
			}
		})
	}
}

func TestEveryKnownAnnotationIsKnown(t *testing.T) {
	all := make(map[string]string)
	for _, name := range Known() {
		if !strings.HasPrefix(name, Prefix) {
			t.Errorf("%s has another prefix", name)
		}
		all[name] = "x"
	}
	if got := Misspelt(all); len(got) > 0 {
		t.Errorf("known and misspelt: %v", got)
	}
}
