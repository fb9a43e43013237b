// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package annotations

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

// asks is what a Service says of its addresses: annotations by their names without the prefix, and
// fields of its spec.
type asks map[string]string

// service returns a Service that says so. Without a policy it has one if it has two IP families.
func (a asks) service() *v1.Service {
	s := &v1.Service{ObjectMeta: metav1.ObjectMeta{
		Namespace: "shop", Name: "web", Annotations: make(map[string]string),
	}}
	for name, value := range a {
		switch name {
		case "policy":
			s.Spec.IPFamilyPolicy = new(v1.IPFamilyPolicy(value))
		case "families":
			for family := range strings.SplitSeq(value, ",") {
				s.Spec.IPFamilies = append(s.Spec.IPFamilies, v1.IPFamily(family))
			}
		case "class":
			s.Spec.LoadBalancerClass = &value
		case "loadBalancerIP":
			s.Spec.LoadBalancerIP = value
		default:
			s.Annotations[Prefix+name] = value
		}
	}
	return s
}

// with adds what a Service says.
func (a asks) with(more asks) asks {
	all := asks{}
	for _, each := range []asks{a, more} {
		for name, value := range each {
			all[name] = value
		}
	}
	return all
}

// The Services that tests are about, as the API server makes them.
var (
	v4       = asks{"families": "IPv4", "policy": "SingleStack"}
	v6       = asks{"families": "IPv6", "policy": "SingleStack"}
	requires = asks{"families": "IPv4,IPv6", "policy": "RequireDualStack"}
	prefers  = asks{"families": "IPv4,IPv6", "policy": "PreferDualStack"}
	v6First  = asks{"families": "IPv6,IPv4", "policy": "PreferDualStack"}
)

// text says in short what an address is to be, "optional IPv4 floating-ip pool edge" for example.
func text(address *backendv1.DesiredAddress) string {
	words := []string{familyName(address.GetFamily())}
	if address.GetOptional() {
		words = append([]string{"optional"}, words...)
	}
	switch source := address.GetSource().(type) {
	case *backendv1.DesiredAddress_FloatingIp:
		words = append(words, SourceFloatingIP)
		switch selector := source.FloatingIp.GetSelector().(type) {
		case *backendv1.FloatingIpSource_Address:
			words = append(words, selector.Address)
		case *backendv1.FloatingIpSource_Pool:
			words = append(words, "pool", selector.Pool)
		case *backendv1.FloatingIpSource_Existing:
			words = append(words, "existing", selector.Existing)
		}
	case *backendv1.DesiredAddress_ExternalSubnet:
		words = append(words, SourceExternalSubnet)
		switch selector := source.ExternalSubnet.GetSelector().(type) {
		case *backendv1.ExternalSubnetSource_Pool:
			words = append(words, "pool", selector.Pool)
		case *backendv1.ExternalSubnetSource_Existing:
			words = append(words, "existing", selector.Existing)
		}
	}
	return strings.Join(words, " ")
}

func texts(addresses []*backendv1.DesiredAddress) (all []string) {
	for _, address := range addresses {
		all = append(all, text(address))
	}
	return all
}

func TestAServiceGetsTheAddressesThatItAsksFor(t *testing.T) {
	for _, tt := range []struct {
		name string
		asks asks
		want []string
	}{
		// Which IP families.
		{"nothing said", asks{}, []string{"IPv4 floating-ip"}},
		{"IPv6", v6, []string{"IPv6 floating-ip"}},
		{"both required", requires, []string{"IPv4 floating-ip", "IPv6 floating-ip"}},
		{"both preferred", v6First, []string{"optional IPv6 floating-ip", "optional IPv4 floating-ip"}},
		{"both preferred, of which there is one", asks{"families": "IPv6", "policy": "PreferDualStack"},
			[]string{"IPv6 floating-ip"}},
		{"both preferred, of which an annotation names one",
			prefers.with(asks{"floating-ip-version": "v6"}), []string{"IPv6 floating-ip"}},
		{"a version holds for external subnets, too",
			prefers.with(asks{"floating-ip-version": "v6", "address-source": "external-subnet"}),
			[]string{"IPv6 external-subnet"}},

		// How many.
		{"one of each family, said so", v4.with(asks{"addresses-per-family": "1"}),
			[]string{"IPv4 floating-ip"}},
		{"eight", v4.with(asks{"addresses-per-family": " 8 "}), times(8, "IPv4 floating-ip")},
		{"two of each family, those of one together", requires.with(asks{"addresses-per-family": "2"}),
			append(times(2, "IPv4 floating-ip"), times(2, "IPv6 floating-ip")...)},
		{"two of each family that can be had, from one pool each",
			prefers.with(asks{"addresses-per-family": "2", "floating-ip-pool": "four,six"}),
			append(times(2, "optional IPv4 floating-ip pool four"),
				times(2, "optional IPv6 floating-ip pool six")...)},

		// From where.
		{"external subnets", v4.with(asks{"address-source": "external-subnet"}),
			[]string{"IPv4 external-subnet"}},
		{"external subnets of both families", requires.with(asks{"address-source": "external-subnet"}),
			[]string{"IPv4 external-subnet", "IPv6 external-subnet"}},
		{"external subnets, by the class", v6.with(asks{"class": ClassExternalSubnet, "subnet-pool": "six"}),
			[]string{"IPv6 external-subnet pool six"}},
		{"a source for each family", requires.with(asks{"address-source": "floating-ip, external-subnet"}),
			[]string{"IPv4 floating-ip", "IPv6 external-subnet"}},
		{"a source for each family, of which one is wanted",
			prefers.with(asks{"address-source": "floating-ip,external-subnet", "floating-ip-version": "v6"}),
			[]string{"IPv6 external-subnet"}},

		// From which pool.
		{"a pool", v4.with(asks{"floating-ip-pool": "edge"}), []string{"IPv4 floating-ip pool edge"}},
		{"a subnet pool", v4.with(asks{"address-source": "external-subnet", "subnet-pool": "edge"}),
			[]string{"IPv4 external-subnet pool edge"}},
		{"a pool for each family", requires.with(asks{"floating-ip-pool": "four, six"}),
			[]string{"IPv4 floating-ip pool four", "IPv6 floating-ip pool six"}},
		{"a pool for the second family alone", requires.with(asks{"floating-ip-pool": ",six"}),
			[]string{"IPv4 floating-ip", "IPv6 floating-ip pool six"}},
		{"a pool for the first family alone", requires.with(asks{"floating-ip-pool": "four,"}),
			[]string{"IPv4 floating-ip pool four", "IPv6 floating-ip"}},
		{"a pool for a family that is not there is empty", v4.with(asks{"floating-ip-pool": "four,"}),
			[]string{"IPv4 floating-ip pool four"}},
		{"a pool for each family, of which one is wanted",
			prefers.with(asks{"floating-ip-pool": "four,six", "floating-ip-version": "v6"}),
			[]string{"IPv6 floating-ip pool six"}},
		{"one pool, where one family is wanted", prefers.with(
			asks{"floating-ip-pool": "six", "floating-ip-version": "v6"}), []string{"IPv6 floating-ip pool six"}},
		{"one pool, where either family will do", prefers.with(asks{"floating-ip-pool": "edge"}),
			[]string{"optional IPv4 floating-ip pool edge", "optional IPv6 floating-ip pool edge"}},
		{"a pool for each source", requires.with(asks{
			"address-source": "floating-ip,external-subnet", "floating-ip-pool": "four", "subnet-pool": "six",
		}), []string{"IPv4 floating-ip pool four", "IPv6 external-subnet pool six"}},
		{"a pool for each source, by position", requires.with(asks{
			"address-source": "floating-ip,external-subnet", "floating-ip-pool": "four,", "subnet-pool": ",six",
		}), []string{"IPv4 floating-ip pool four", "IPv6 external-subnet pool six"}},
		{"a list with nothing in it", v4.with(asks{"floating-ip-pool": ",", "subnet-pool": " , "}),
			[]string{"IPv4 floating-ip"}},

		// This very address.
		{"an address, in the field", v4.with(asks{"loadBalancerIP": "198.51.100.9"}),
			[]string{"IPv4 floating-ip 198.51.100.9"}},
		{"an address of each family, in any order",
			requires.with(asks{"floating-ip": "2001:DB8::9,198.51.100.9"}),
			[]string{"IPv4 floating-ip 198.51.100.9", "IPv6 floating-ip 2001:db8::9"}},
		{"an address of each family, in the field", requires.with(
			asks{"loadBalancerIP": "2001:DB8::9, 198.51.100.9"}),
			[]string{"IPv4 floating-ip 198.51.100.9", "IPv6 floating-ip 2001:db8::9"}},
		{"an address of one of two families: the other is allocated",
			requires.with(asks{"floating-ip": "198.51.100.9"}),
			[]string{"IPv4 floating-ip 198.51.100.9", "IPv6 floating-ip"}},
		{"an address, and a pool for the other family",
			requires.with(asks{"floating-ip": "198.51.100.9", "floating-ip-pool": ",six"}),
			[]string{"IPv4 floating-ip 198.51.100.9", "IPv6 floating-ip pool six"}},
		{"an address, where both families are preferred: it is not the one that may be missing",
			v6First.with(asks{"loadBalancerIP": "198.51.100.9"}),
			[]string{"optional IPv6 floating-ip", "IPv4 floating-ip 198.51.100.9"}},
		{"an address of each family, where both are preferred",
			prefers.with(asks{"floating-ip": "198.51.100.9,2001:db8::9"}),
			[]string{"optional IPv4 floating-ip 198.51.100.9", "optional IPv6 floating-ip 2001:db8::9"}},
		{"an address of each family, of which one is wanted",
			prefers.with(asks{"floating-ip": "198.51.100.9,2001:db8::9", "floating-ip-version": "v6"}),
			[]string{"IPv6 floating-ip 2001:db8::9"}},
		{"two addresses", v4.with(asks{"addresses-per-family": "2",
			"floating-ip": "198.51.100.9, 198.51.100.8"}),
			[]string{"IPv4 floating-ip 198.51.100.9", "IPv4 floating-ip 198.51.100.8"}},
		{"two addresses of each family, mixed", requires.with(asks{
			"addresses-per-family": "2", "floating-ip": "2001:db8::9,198.51.100.9,198.51.100.8,2001:db8::8",
		}), []string{"IPv4 floating-ip 198.51.100.9", "IPv4 floating-ip 198.51.100.8",
			"IPv6 floating-ip 2001:db8::9", "IPv6 floating-ip 2001:db8::8"}},
		{"the same addresses in both places, in another order", v4.with(asks{
			"addresses-per-family": "2", "floating-ip": "198.51.100.9,198.51.100.8",
			"loadBalancerIP": "198.51.100.8,198.51.100.9",
		}), []string{"IPv4 floating-ip 198.51.100.9", "IPv4 floating-ip 198.51.100.8"}},
		{"an address of one family in each place", requires.with(
			asks{"floating-ip": "198.51.100.9", "loadBalancerIP": "2001:db8::9"}),
			[]string{"IPv4 floating-ip 198.51.100.9", "IPv6 floating-ip 2001:db8::9"}},

		// One's own.
		{"one's own", v4.with(asks{"existing-floating-ip": "mine"}),
			[]string{"IPv4 floating-ip existing mine"}},
		{"one's own subnet",
			v6.with(asks{"address-source": "external-subnet", "existing-external-subnet": "mine"}),
			[]string{"IPv6 external-subnet existing mine"}},
		{"one's own of each family, by position", requires.with(asks{"existing-floating-ip": "four,six"}),
			[]string{"IPv4 floating-ip existing four", "IPv6 floating-ip existing six"}},
		{"one's own of the second family alone", requires.with(asks{"existing-floating-ip": ",six"}),
			[]string{"IPv4 floating-ip", "IPv6 floating-ip existing six"}},
		{"one's own, and a pool for the other family",
			requires.with(asks{"existing-floating-ip": ",six", "floating-ip-pool": "four,"}),
			[]string{"IPv4 floating-ip pool four", "IPv6 floating-ip existing six"}},
		{"one's own, where either family will do", prefers.with(asks{"existing-floating-ip": "mine"}),
			[]string{"optional IPv4 floating-ip existing mine", "optional IPv6 floating-ip existing mine"}},
		{"one's own of one family, where both are preferred: it is not the one that may be missing",
			prefers.with(asks{"existing-floating-ip": "mine,"}),
			[]string{"IPv4 floating-ip existing mine", "optional IPv6 floating-ip"}},
		{"two of each family, the first two of the first", requires.with(asks{
			"addresses-per-family": "2", "address-source": "external-subnet",
			"existing-external-subnet": "a,b,c,d",
		}), []string{"IPv4 external-subnet existing a", "IPv4 external-subnet existing b",
			"IPv6 external-subnet existing c", "IPv6 external-subnet existing d"}},
		{"two of the second family alone", requires.with(
			asks{"addresses-per-family": "2", "existing-floating-ip": ",,c,d"}),
			append(times(2, "IPv4 floating-ip"), "IPv6 floating-ip existing c", "IPv6 floating-ip existing d")},
		{"two of the one family that has the source", requires.with(asks{
			"addresses-per-family": "2", "address-source": "floating-ip,external-subnet",
			"existing-external-subnet": "c,d",
		}), append(times(2, "IPv4 floating-ip"), "IPv6 external-subnet existing c",
			"IPv6 external-subnet existing d")},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := Addresses(tt.asks.service())
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, texts(got)); diff != "" {
				t.Errorf("addresses (-want +got):\n%s", diff)
			}
		})
	}
}

func times(n int, text string) (all []string) {
	for range n {
		all = append(all, text)
	}
	return all
}
