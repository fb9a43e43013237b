// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package loadbalancers

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/shim/annotations"
	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

func fromPool(pool string) func(*backendv1.DesiredLoadBalancer) {
	return func(d *backendv1.DesiredLoadBalancer) {
		d.Addresses[0].GetFloatingIp().Selector = &backendv1.FloatingIpSource_Pool{Pool: pool}
	}
}

func existing(nameOrID string) func(*backendv1.DesiredLoadBalancer) {
	return func(d *backendv1.DesiredLoadBalancer) {
		d.Addresses[0].GetFloatingIp().Selector = &backendv1.FloatingIpSource_Existing{
			Existing: nameOrID,
		}
	}
}

func retained(d *backendv1.DesiredLoadBalancer) { d.RetainAddresses = true }

func on(ids ...string) func(*backendv1.DesiredLoadBalancer) {
	return func(d *backendv1.DesiredLoadBalancer) {
		d.EligibleInstances = &backendv1.InstanceSet{InstanceIds: ids}
	}
}

func TestAnnotationsBecomeDesiredState(t *testing.T) {
	v4, v6 := v1.IPv4Protocol, v1.IPv6Protocol
	nodes := []*v1.Node{
		node("edge-b", id2, labelled("pool", "edge"), labelled("zone", "b")),
		node("edge-a", id1, labelled("pool", "edge"), labelled("zone", "a"), unready),
		node("edge-a-renamed", id1, labelled("pool", "edge")),
		node("edge-new", "", labelled("pool", "edge")),
		node("other", id3, labelled("pool", "other")),
	}
	longest := "a" + strings.Repeat("b", 62)
	type change = func(*v1.Service)
	type want = func(*backendv1.DesiredLoadBalancer)
	for _, tt := range []struct {
		name   string
		change []change
		want   []want
	}{
		{"the source, as it is anyway", []change{annotated(annotations.AddressSource, "floating-ip")}, nil},
		{"values that say nothing", []change{
			annotated(annotations.AddressSource, ""), annotated(annotations.FloatingIP, " "),
			annotated(annotations.FloatingIPPool, ""), annotated(annotations.ExistingFloatingIP, ""),
			annotated(annotations.FloatingIPVersion, ""), annotated(annotations.RetainAddress, ""),
			annotated(annotations.NodeSelector, ""),
		}, nil},
		{"an address", []change{annotated(annotations.FloatingIP, " 198.51.100.9 ")},
			[]want{wantAddress("198.51.100.9")}},
		{"an IPv6 address that is not written canonically",
			[]change{families(v6), annotated(annotations.FloatingIP, "2001:0DB8:0:0::0:9")},
			[]want{ipv6, wantAddress("2001:db8::9")}},
		{"an IPv4 address that is written as IPv6",
			[]change{annotated(annotations.FloatingIP, "::ffff:198.51.100.9")},
			[]want{wantAddress("198.51.100.9")}},
		{"an address of each family: that of the Service's counts",
			[]change{annotated(annotations.FloatingIP, "198.51.100.9, 2001:db8::9")},
			[]want{wantAddress("198.51.100.9")}},
		{"an address of each family, in the other order, for IPv6",
			[]change{families(v6, v4), annotated(annotations.FloatingIP, "198.51.100.9,2001:db8::9")},
			[]want{ipv6, wantAddress("2001:db8::9")}},
		{"the same address in both places, differently written", []change{families(v6),
			annotated(annotations.FloatingIP, "2001:db8:0::9"),
			func(s *v1.Service) { s.Spec.LoadBalancerIP = "2001:DB8::9" },
		}, []want{ipv6, wantAddress("2001:db8::9")}},
		{"a pool by its name", []change{annotated(annotations.FloatingIPPool, longest)},
			[]want{fromPool(longest)}},
		{"a pool by its id", []change{annotated(annotations.FloatingIPPool, id3)}, []want{fromPool(id3)}},
		{"a pool by its id without hyphens", []change{
			annotated(annotations.FloatingIPPool, strings.ReplaceAll(id3, "-", "")),
		}, []want{fromPool(strings.ReplaceAll(id3, "-", ""))}},
		{"a user's own floating IP", []change{annotated(annotations.ExistingFloatingIP, "mine")},
			[]want{existing("mine")}},
		{"a user's own floating IP by its id", []change{annotated(annotations.ExistingFloatingIP, id2)},
			[]want{existing(id2)}},
		{"the second family", []change{families(v4, v6), annotated(annotations.FloatingIPVersion, "v6")},
			[]want{ipv6}},
		{"the family that is the first anyway", []change{annotated(annotations.FloatingIPVersion, "v4")},
			nil},
		{"the second family, with an address of each", []change{families(v4, v6),
			annotated(annotations.FloatingIPVersion, "v6"),
			annotated(annotations.FloatingIP, "198.51.100.9,2001:db8::9"),
		}, []want{ipv6, wantAddress("2001:db8::9")}},
		{"kept", []change{annotated(annotations.RetainAddress, "true")}, []want{retained}},
		{"not kept", []change{annotated(annotations.RetainAddress, "false")}, nil},
		{"nodes that match, ready or not", []change{annotated(annotations.NodeSelector, "pool=edge")},
			[]want{on(id1, id2)}},
		{"nodes in a set", []change{annotated(annotations.NodeSelector, "pool=edge,zone in (b,c)")},
			[]want{on(id2)}},
		{"a selector that matches nothing is no selector of all",
			[]change{annotated(annotations.NodeSelector, "pool=none")}, []want{on()}},
		{"what is somebody else's", []change{annotated("oxide.computer/owner", "x"),
			annotated("example.com/floating-ip", "x")}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := factsOf(nodes).desired(service(tt.change...))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(wantedLB(tt.want...), got, protocmp.Transform()); diff != "" {
				t.Errorf("desired (-want +got):\n%s", diff)
			}
		})
	}
}

func TestAnnotationsThatCannotBeAreNamedWithTheRemedy(t *testing.T) {
	type change = func(*v1.Service)
	one := func(name, value string) []change { return []change{annotated(name, value)} }
	hex := "abcdefab-1111-4111-8111-11111111111"
	for _, tt := range []struct {
		name   string
		change []change
		// want are parts of the error.
		want []string
	}{
		{"external subnets", one(annotations.AddressSource, "external-subnet"),
			[]string{annotations.AddressSource, "not supported yet", "floating-ip"}},
		{"an unknown source", one(annotations.AddressSource, "floating-ip,external-subnet"),
			[]string{annotations.AddressSource, "use floating-ip"}},
		{"no address", one(annotations.FloatingIP, "web.example.com"),
			[]string{annotations.FloatingIP, "web.example.com"}},
		{"an address with a prefix", one(annotations.FloatingIP, "198.51.100.9/32"),
			[]string{annotations.FloatingIP, "198.51.100.9/32"}},
		{"an address with a zone", one(annotations.FloatingIP, "fe80::1%eth0"),
			[]string{annotations.FloatingIP, "fe80::1%eth0"}},
		{"a list with nothing in it", one(annotations.FloatingIP, "198.51.100.9,"),
			[]string{annotations.FloatingIP, `""`}},
		{"two addresses of a family", one(annotations.FloatingIP, "198.51.100.9,198.51.100.8"),
			[]string{annotations.FloatingIP, "198.51.100.9", "198.51.100.8", "at most one"}},
		{"an address of the other family", one(annotations.FloatingIP, "2001:db8::9"),
			[]string{annotations.FloatingIP, "IPv4", "spec.ipFamilies"}},
		{"an address of the family that the version excludes", []change{
			families(v1.IPv4Protocol, v1.IPv6Protocol), annotated(annotations.FloatingIPVersion, "v6"),
			annotated(annotations.FloatingIP, "198.51.100.9"),
		}, []string{annotations.FloatingIP, "IPv6"}},
		{"another address in the field", []change{annotated(annotations.FloatingIP, "198.51.100.9"),
			func(s *v1.Service) { s.Spec.LoadBalancerIP = "198.51.100.8" },
		}, []string{annotations.FloatingIP, "spec.loadBalancerIP", "198.51.100.9", "198.51.100.8"}},
		{"an address and a pool", []change{annotated(annotations.FloatingIP, "198.51.100.9"),
			annotated(annotations.FloatingIPPool, "dmz")},
			[]string{annotations.FloatingIP, annotations.FloatingIPPool, "exclude each other"}},
		{"an address in the field and one's own", []change{
			annotated(annotations.ExistingFloatingIP, "mine"),
			func(s *v1.Service) { s.Spec.LoadBalancerIP = "198.51.100.8" },
		}, []string{"spec.loadBalancerIP", annotations.ExistingFloatingIP, "exclude each other"}},
		{"a pool and one's own", []change{annotated(annotations.ExistingFloatingIP, "mine"),
			annotated(annotations.FloatingIPPool, "dmz")},
			[]string{annotations.FloatingIPPool, annotations.ExistingFloatingIP, "exclude each other"}},
		{"two pools", one(annotations.FloatingIPPool, "v4,v6"),
			[]string{annotations.FloatingIPPool, "name one"}},
		{"two of one's own", one(annotations.ExistingFloatingIP, "a,b"),
			[]string{annotations.ExistingFloatingIP, "name one"}},
		{"a pool that nothing is called", one(annotations.FloatingIPPool, "My Pool"),
			[]string{annotations.FloatingIPPool, "My Pool", "neither a name nor an id"}},
		{"a name that is too long", one(annotations.FloatingIPPool, strings.Repeat("a", 64)),
			[]string{annotations.FloatingIPPool, "neither a name nor an id"}},
		{"a name that ends with a hyphen", one(annotations.ExistingFloatingIP, "mine-"),
			[]string{annotations.ExistingFloatingIP, "neither a name nor an id"}},
		{"another family", one(annotations.FloatingIPVersion, "v6"),
			[]string{annotations.FloatingIPVersion, "spec.ipFamilies", "IPv4"}},
		{"no family", one(annotations.FloatingIPVersion, "4"),
			[]string{annotations.FloatingIPVersion, "use v4 or v6"}},
		{"both families", one(annotations.FloatingIPVersion, "v4,v6"),
			[]string{annotations.FloatingIPVersion, "use v4 or v6"}},
		{"kept perhaps", one(annotations.RetainAddress, "True"),
			[]string{annotations.RetainAddress, "use true or false"}},
		{"no selector", one(annotations.NodeSelector, "pool=edge,,"),
			[]string{annotations.NodeSelector, "pool=edge,,"}},
		{"a selector with lines", one(annotations.NodeSelector, "pool in\n(a"),
			[]string{annotations.NodeSelector}},
		{"all of them together", []change{annotated(annotations.AddressSource, "x"),
			annotated(annotations.FloatingIP, "x"), annotated(annotations.FloatingIPPool, "X"),
			annotated(annotations.ExistingFloatingIP, "X"), annotated(annotations.RetainAddress, "x"),
			annotated(annotations.FloatingIPVersion, "x"), annotated(annotations.NodeSelector, "!!"),
		}, annotations.Known()},
		// The backend would refuse these, and with them the full set of all Services.
		{"what has the letters of an id only", one(annotations.FloatingIPPool, strings.Repeat("-", 36)),
			[]string{annotations.FloatingIPPool, "neither a name nor an id"}},
		{"an id that lacks a digit", one(annotations.ExistingFloatingIP, "0"+hex[:34]),
			[]string{annotations.ExistingFloatingIP, "neither a name nor an id"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := factsOf(nil).desired(service(tt.change...))
			if err == nil {
				t.Fatalf("it was accepted as %v", got)
			}
			if got != nil {
				t.Errorf("an error, and %v", got)
			}
			for _, part := range tt.want {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("the error has no %q: %v", part, err)
				}
			}
			if strings.Contains(err.Error(), "\n") {
				t.Errorf("more than one line: %q", err)
			}
		})
	}
}

func TestMisspeltAnnotationsAreNearlyKnownOnes(t *testing.T) {
	for _, tt := range []struct {
		name, annotation, want string
	}{
		{"known", annotations.FloatingIP, ""},
		{"one letter too many", "oxide.computer/floating-ips", annotations.FloatingIP},
		{"one letter changed", "oxide.computer/floating_ip", annotations.FloatingIP},
		{"one letter missing", "oxide.computer/floatingip", annotations.FloatingIP},
		{"two letters swapped", "oxide.computer/floatnig-ip", annotations.FloatingIP},
		{"two letters missing", "oxide.computer/node-select", annotations.NodeSelector},
		{"three letters missing", "oxide.computer/node-selec", ""},
		{"three letters changed", "oxide.computer/Floating-IP", ""},
		{"near another known one", "oxide.computer/floating-ip-pol", annotations.FloatingIPPool},
		{"somebody else's", "oxide.computer/instance-name", ""},
		{"another prefix", "oxide.compute/floating-ip", ""},
		{"another prefix that begins the same", "oxide.computers/floating-ip", ""},
		{"no prefix", "floating-ip", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := service(annotated(tt.annotation, "x"), annotated(annotations.RetainAddress, "true"))
			want := map[string]string{}
			if tt.want != "" {
				want[tt.annotation] = tt.want
			}
			if diff := cmp.Diff(want, misspelt(s)); diff != "" {
				t.Errorf("misspelt (-want +got):\n%s", diff)
			}
		})
	}
}

func TestEveryKnownAnnotationIsKnown(t *testing.T) {
	s := &v1.Service{ObjectMeta: metav1.ObjectMeta{Annotations: map[string]string{}}}
	for _, name := range annotations.Known() {
		if !strings.HasPrefix(name, annotations.Prefix) {
			t.Errorf("%s has another prefix", name)
		}
		s.Annotations[name] = "x"
	}
	if got := misspelt(s); len(got) > 0 {
		t.Errorf("known and misspelt: %v", got)
	}
}
