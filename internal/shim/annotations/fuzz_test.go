// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package annotations

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	v1 "k8s.io/api/core/v1"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/proto/client"
	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

// Whatever is written, there is one line about it, or addresses as the API takes them.
func FuzzAddresses(f *testing.F) {
	for _, seed := range []asks{
		v4, requires.with(asks{"floating-ip": "198.51.100.9,2001:db8::9", "addresses-per-family": "1"}),
		prefers.with(asks{"address-source": "external-subnet,floating-ip", "subnet-pool": "a,",
			"floating-ip-pool": ",b"}),
		v6First.with(asks{"existing-floating-ip": "a,b,c,d", "addresses-per-family": "2"}),
		v4.with(asks{"existing-external-subnet": "a", "floating-ip-version": "v6", "loadBalancerIP": "::"}),
	} {
		f.Add(seed["families"], seed["policy"], seed["address-source"], seed["addresses-per-family"],
			seed["floating-ip-version"], seed["loadBalancerIP"], seed["floating-ip"], seed["floating-ip-pool"],
			seed["existing-floating-ip"], seed["subnet-pool"], seed["existing-external-subnet"])
	}
	f.Fuzz(func(t *testing.T, families, policy, source, each, version, field, address, pool, existing,
		subnetPool,
		existingSubnet string,
	) {
		service := asks{
			"families": families, "policy": policy, "address-source": source, "addresses-per-family": each,
			"floating-ip-version": version, "loadBalancerIP": field, "floating-ip": address,
			"floating-ip-pool": pool, "existing-floating-ip": existing, "subnet-pool": subnetPool,
			"existing-external-subnet": existingSubnet,
		}.service()
		addresses, err := Addresses(service)
		if err != nil {
			checkLine(t, err)
			return
		}
		checkAddresses(t, addresses)
		if got, err := Addresses(service); err != nil || cmp.Diff(texts(addresses), texts(got)) != "" {
			t.Errorf("once it is %q, and then %q, %v", texts(addresses), texts(got), err)
		}
	})
}

// Whatever the other annotations say, each is understood, the same way each time, or there is one line about
// it; what is taken for a misspelt name is none of ours; and all lines together fit into an event when cut.
func FuzzAnnotations(f *testing.F) {
	f.Add("true", "pool=edge,zone in (a,b)", "off", "203.0.113.0/24, 2001:db8::/64", "retain-address-", "x")
	f.Add("yes\n", "!!\n,", "on", "203.0.113.0/24,\n", "", ClassFloatingIP)
	f.Add("\xff", "a in (\u2028)", strings.Repeat("\x00", 200), "::/129,", "firewal\x00", Prefix)
	f.Fuzz(func(t *testing.T, retain, selector, firewall, ranges, name, class string) {
		service := asks{
			"retain-address": retain, "node-selector": selector, "firewall": firewall, "class": class, name: "x",
		}.service()
		service.Annotations[v1.AnnotationLoadBalancerSourceRangesKey] = ranges
		read := func() (texts []string, errs []error) {
			kept, retainErr := Retain(service)
			chosen, selectorErr := Selector(service)
			off, offErr := FirewallOff(service)
			networks, rangesErr := SourceRanges(service)
			sources, sourcesErr := SourcesOf(service)
			return []string{strconv.FormatBool(kept), fmt.Sprint(chosen), strconv.FormatBool(off), fmt.Sprint(networks),
				fmt.Sprint(sources)}, []error{retainErr, selectorErr, offErr, rangesErr, sourcesErr}
		}
		texts, errs := read()
		for _, err := range errs {
			if err != nil && strings.ContainsAny(err.Error(), "\r\n") {
				t.Errorf("it is more than one line: %q", err)
			}
		}
		if err := OneLine(errs...); err != nil {
			if text := client.Text(err.Error(), 400); len(text) > 400 || !utf8.ValidString(text) ||
				strings.ContainsAny(text, "\r\n") {
				t.Errorf("it is no line of at most 400 bytes: %q", text)
			}
		}
		if again, _ := read(); cmp.Diff(texts, again) != "" {
			t.Errorf("once it is %q, and then %q", texts, again)
		}
		for wrong, right := range Misspelt(service.Annotations) {
			if slices.Contains(Known(), wrong) || !slices.Contains(Known(), right) {
				t.Errorf("%q is said to mean %q", wrong, right)
			}
		}
		if IsOurClass(service) && IsUnknownClass(service) {
			t.Errorf("the class %q is ours and unknown", class)
		}
	})
}

// checkAddresses checks what the API says of the addresses of one load balancer.
func checkAddresses(t *testing.T, addresses []*backendv1.DesiredAddress) {
	t.Helper()
	if len(addresses) == 0 {
		t.Fatal("there is none")
	}
	count := make(map[backendv1.IpFamily]int)
	explicit := make(map[string]bool)
	for i, address := range addresses {
		family := address.GetFamily()
		if i > 0 {
			before := addresses[i-1]
			same := before.GetFamily() == family
			kind, kindBefore := fmt.Sprintf("%T", address.GetSource()), fmt.Sprintf("%T", before.GetSource())
			if same && (kind != kindBefore || before.GetOptional() != address.GetOptional()) {
				t.Errorf("two of one family differ: %q", texts(addresses))
			}
			if !same && count[family] > 0 {
				t.Errorf("those of one family are not together: %q", texts(addresses))
			}
		}
		if count[family]++; count[family] > maxPerFamily {
			t.Errorf("too many of %s: %q", family, texts(addresses))
		}
		if ip := address.GetFloatingIp().GetAddress(); ip != "" && explicit[ip] {
			t.Errorf("%s is there twice: %q", ip, texts(addresses))
		} else {
			explicit[ip] = true
		}
	}
	if len(count) == 1 && addresses[0].GetOptional() {
		t.Errorf("it has one family, which is optional: %q", texts(addresses))
	}
}
