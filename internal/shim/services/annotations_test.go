// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package services

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

func fromSubnet(source *backendv1.ExternalSubnetSource) func(*backendv1.DesiredLoadBalancer) {
	return func(d *backendv1.DesiredLoadBalancer) {
		d.Addresses[0].Source = &backendv1.DesiredAddress_ExternalSubnet{ExternalSubnet: source}
	}
}

func retained(d *backendv1.DesiredLoadBalancer) { d.RetainAddresses = true }

func on(ids ...string) func(*backendv1.DesiredLoadBalancer) {
	return func(d *backendv1.DesiredLoadBalancer) {
		if d.EligibleInstances == nil {
			d.EligibleInstances = &backendv1.EligibleInstances{}
		}
		for _, id := range ids {
			d.EligibleInstances.Instances = append(d.EligibleInstances.Instances,
				&backendv1.EligibleInstance{InstanceId: id})
		}
	}
}

// selected are the instances of Nodes that a selector selects.
func selected(selector string, ids ...string) func(*backendv1.DesiredLoadBalancer) {
	return func(d *backendv1.DesiredLoadBalancer) {
		on(ids...)(d)
		d.EligibleInstances.Description = "has labels that the annotation oxide.computer/node-selector " +
			"selects (" + selector + ")"
	}
}

func TestAnnotationsBecomeDesiredState(t *testing.T) {
	v4, v6 := v1.IPv4Protocol, v1.IPv6Protocol
	nodes := []metav1.Object{
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
			[]want{withAddress("198.51.100.9")}},
		{"an IPv6 address that is not written canonically",
			[]change{families(v6), annotated(annotations.FloatingIP, "2001:0DB8:0:0::0:9")},
			[]want{ipv6, withAddress("2001:db8::9")}},
		{"an IPv4 address that is written as IPv6",
			[]change{annotated(annotations.FloatingIP, "::ffff:198.51.100.9")},
			[]want{withAddress("198.51.100.9")}},
		{"an address of each family, of which one is wanted: that counts", []change{families(v4, v6),
			annotated(annotations.FloatingIP, "198.51.100.9, 2001:db8::9")},
			[]want{withAddress("198.51.100.9")}},
		{"an external subnet", []change{annotated(annotations.AddressSource, "external-subnet")},
			[]want{fromSubnet(&backendv1.ExternalSubnetSource{})}},
		{"an external subnet of a pool", []change{annotated(annotations.AddressSource, "external-subnet"),
			annotated(annotations.SubnetPool, "edge")}, []want{fromSubnet(&backendv1.ExternalSubnetSource{
			Selector: &backendv1.ExternalSubnetSource_Pool{Pool: "edge"},
		})}},
		{"a user's own external subnet", []change{annotated(annotations.AddressSource, "external-subnet"),
			annotated(annotations.ExistingExternalSubnet, "mine")}, []want{fromSubnet(
			&backendv1.ExternalSubnetSource{
				Selector: &backendv1.ExternalSubnetSource_Existing{Existing: "mine"},
			})}},
		{"two addresses", []change{annotated(annotations.AddressesPerFamily, "2")},
			[]want{func(d *backendv1.DesiredLoadBalancer) {
				d.Addresses = append(d.Addresses, d.GetAddresses()[0])
			}}},
		{"an address of each family, in the other order, for IPv6",
			[]change{families(v6, v4), annotated(annotations.FloatingIP, "198.51.100.9,2001:db8::9")},
			[]want{ipv6, withAddress("2001:db8::9")}},
		{"the same address in both places, differently written", []change{families(v6),
			annotated(annotations.FloatingIP, "2001:db8:0::9"),
			func(s *v1.Service) { s.Spec.LoadBalancerIP = "2001:DB8::9" },
		}, []want{ipv6, withAddress("2001:db8::9")}},
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
		}, []want{ipv6, withAddress("2001:db8::9")}},
		{"kept", []change{annotated(annotations.RetainAddress, "true")}, []want{retained}},
		{"not kept", []change{annotated(annotations.RetainAddress, "false")}, nil},
		{"nodes that match, ready or not", []change{annotated(annotations.NodeSelector, "pool=edge")},
			[]want{selected("pool=edge", id1, id2)}},
		{"nodes in a set", []change{annotated(annotations.NodeSelector, "pool=edge,zone in (b,c)")},
			[]want{selected("pool=edge,zone in (b,c)", id2)}},
		{"a selector that matches nothing is no selector of all",
			[]change{annotated(annotations.NodeSelector, "pool=none")}, []want{selected("pool=none")}},
		{"what is somebody else's", []change{annotated("oxide.computer/owner", "x"),
			annotated("example.com/floating-ip", "x")}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := desiredOf(bare(t, nodes...), service(tt.change...))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(desiredLB(tt.want...), got, protocmp.Transform()); diff != "" {
				t.Errorf("desired (-want +got):\n%s", diff)
			}
		})
	}
}

func TestAnnotationsThatCannotBeAreNamedWithTheRemedy(t *testing.T) {
	type change = func(*v1.Service)
	one := func(name, value string) []change { return []change{annotated(name, value)} }
	for _, tt := range []struct {
		name   string
		change []change
		// want are parts of the error.
		want []string
	}{
		{"an unknown source", one(annotations.AddressSource, "subnet"),
			[]string{annotations.AddressSource, "use floating-ip or external-subnet"}},
		{"a source for each of two families", one(annotations.AddressSource, "floating-ip,external-subnet"),
			[]string{annotations.AddressSource, "spec.ipFamilies", "one source for all IP families"}},
		{"both sources", []change{annotated(annotations.AddressSource, "external-subnet"),
			annotated(annotations.FloatingIPPool, "dmz")},
			[]string{annotations.AddressSource, annotations.FloatingIPPool, "leave one of them out"}},
		{"no number", one(annotations.AddressesPerFamily, "many"),
			[]string{annotations.AddressesPerFamily, "use a number from 1 to 8"}},
		{"no address", one(annotations.FloatingIP, "web.example.com"),
			[]string{annotations.FloatingIP, "web.example.com"}},
		{"an address with a prefix", one(annotations.FloatingIP, "198.51.100.9/32"),
			[]string{annotations.FloatingIP, "198.51.100.9/32"}},
		{"an address with a zone", one(annotations.FloatingIP, "fe80::1%eth0"),
			[]string{annotations.FloatingIP, "fe80::1%eth0"}},
		{"a list with nothing in it", one(annotations.FloatingIP, "198.51.100.9,"),
			[]string{annotations.FloatingIP, `""`}},
		{"two addresses of a family", one(annotations.FloatingIP, "198.51.100.9,198.51.100.8"),
			[]string{annotations.FloatingIP, "198.51.100.9", "198.51.100.8", "gets one address",
				annotations.AddressesPerFamily}},
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
		}, []string{annotations.AddressSource, annotations.FloatingIP, annotations.FloatingIPVersion,
			annotations.RetainAddress, annotations.NodeSelector}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := bare(t).desired(service(tt.change...))
			err := got.mistakes
			if err == nil {
				t.Fatalf("it was accepted as %v", got)
			}
			if got.PreserveReason == "" || len(got.PreserveReason) > maxText {
				t.Errorf("it is preserved for the reason %q", got.PreserveReason)
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
