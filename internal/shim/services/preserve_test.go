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

func publishing(addresses ...string) func(*v1.Service) {
	return func(s *v1.Service) { s.Status.LoadBalancer = *statusOf(addresses) }
}

func publishes(addresses ...string) func(*backendv1.DesiredLoadBalancer) {
	return func(d *backendv1.DesiredLoadBalancer) { d.PublishedAddresses = addresses }
}

// A Service with a mistake is preserved, not left out: what it has must not be taken for an orphan,
// nor its ports for free.
func TestAServiceWithAMistakeIsPreserved(t *testing.T) {
	nodes := []metav1.Object{node("a", id1, labelled("pool", "edge")), node("b", id2)}
	noAddress := func(d *backendv1.DesiredLoadBalancer) { d.Addresses = nil }
	for _, tt := range []struct {
		name    string
		service *v1.Service
		want    *backendv1.DesiredLoadBalancer
		reason  string
	}{
		{"in where its address comes from", service(annotated(annotations.AddressSource, "nonsense")),
			desiredLB(noAddress), annotations.AddressSource},
		{"in a field", service(policy(v1.IPFamilyPolicyRequireDualStack)), desiredLB(noAddress),
			"spec.ipFamilyPolicy"},
		{"in what is kept: its address is known", service(annotated(annotations.RetainAddress, "yes")),
			desiredLB(retained), annotations.RetainAddress},
		{"in its selector", service(annotated(annotations.NodeSelector, "!!")), desiredLB(),
			annotations.NodeSelector},
		{"where its endpoints are is not known", service(local), desiredLB(),
			"spec.externalTrafficPolicy Local"},
		{"in a port: the others are sent", service(func(s *v1.Service) {
			s.Spec.Ports = append(s.Spec.Ports, v1.ServicePort{Port: 443, Protocol: "QUIC"})
		}), desiredLB(), "QUIC"},
		{"longer than an item may hold", service(annotated(annotations.FloatingIPVersion,
			strings.Repeat("ä", 3000)), annotated(annotations.AddressSource, strings.Repeat("b", 3000))),
			desiredLB(noAddress), annotations.FloatingIPVersion},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := bare(t, nodes...).desired(tt.service)
			if !strings.Contains(got.GetPreserveReason(), tt.reason) ||
				len(got.GetPreserveReason()) > maxText {
				t.Errorf("it is preserved for the reason %q", got.GetPreserveReason())
			}
			got.PreserveReason = ""
			if diff := cmp.Diff(tt.want, got.DesiredLoadBalancer, protocmp.Transform()); diff != "" {
				t.Errorf("item (-want +got):\n%s", diff)
			}
		})
	}
}

// Until everything is released, the item of a Service that is going says whose it is and what it
// publishes.
func TestAServiceThatIsEndingIsSentWhole(t *testing.T) {
	now := metav1.NewTime(created)
	going := func(s *v1.Service) { s.DeletionTimestamp = &now }
	ending := func(how backendv1.Ending) func(*backendv1.DesiredLoadBalancer) {
		return func(d *backendv1.DesiredLoadBalancer) { d.Ending = how }
	}
	release := ending(backendv1.Ending_ENDING_RELEASE)
	retain := ending(backendv1.Ending_ENDING_RETAIN)
	subnet := fromSubnet(&backendv1.ExternalSubnetSource{})
	whatever := func(d *backendv1.DesiredLoadBalancer) {
		d.Addresses = nil
		for _, each := range []*backendv1.DesiredLoadBalancer{
			desiredLB(), desiredLB(subnet), desiredLB(ipv6), desiredLB(ipv6, subnet),
		} {
			d.Addresses = append(d.Addresses, each.GetAddresses()...)
		}
	}
	for _, tt := range []struct {
		name    string
		service *v1.Service
		want    *backendv1.DesiredLoadBalancer
	}{
		{"deleted", service(finalized, going, publishing("198.51.100.9", "172.30.0.11")),
			desiredLB(release, publishes("198.51.100.9", "172.30.0.11"))},
		{"another type", service(finalized, func(s *v1.Service) { s.Spec.Type = v1.ServiceTypeClusterIP }),
			desiredLB(release)},
		{"kept", service(finalized, going, annotated(annotations.RetainAddress, "true")), desiredLB(retain)},
		{"kept perhaps", service(finalized, going, annotated(annotations.RetainAddress, "x")),
			desiredLB(retain)},
		{"a user's own address", service(finalized, going, annotated(annotations.ExistingFloatingIP, "mine")),
			desiredLB(release, existing("mine"))},
		{"what it asked for cannot be", service(finalized, going,
			annotated(annotations.FloatingIP, "nonsense")), desiredLB(release, whatever)},
		{"an external subnet", service(finalized, going,
			annotated(annotations.AddressSource, "external-subnet")), desiredLB(release, subnet)},
		{"an external subnet by its class", service(classFinalized, going,
			ofClass(annotations.ClassExternalSubnet)), desiredLB(release, subnet)},
		{"its class is gone with its type", service(classFinalized, func(s *v1.Service) {
			s.Spec.Type = v1.ServiceTypeClusterIP
		}), desiredLB(release, whatever)},
		{"another class, and what it had by the old one is named", service(classFinalized,
			ofClass("example.com/other"), annotated(annotations.ExistingFloatingIP, "mine")),
			desiredLB(release, existing("mine"))},
		{"where its endpoints are does not matter", service(finalized, going, local), desiredLB(release)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if !(selection{}).isEnding(tt.service) {
				t.Error("it is not ending")
			}
			got := bare(t).ending(tt.service).DesiredLoadBalancer
			if diff := cmp.Diff(tt.want, got, protocmp.Transform()); diff != "" {
				t.Errorf("item (-want +got):\n%s", diff)
			}
		})
	}
}

func TestNoMoreThanTheAPIAllowsIsSent(t *testing.T) {
	s := service(publishing(slicesOf(100, func(i int) string { return "10.0.0." + string(rune('0'+i%10)) })...))
	for i := range int32(1500) {
		s.Spec.Ports = append(s.Spec.Ports, v1.ServicePort{Port: 10000 + i})
	}
	got := bare(t).desired(s)
	if n := len(got.GetPublishedAddresses()); n != maxPublished {
		t.Errorf("%d published addresses are sent", n)
	}
	if n := len(got.GetPorts()); n != maxPorts || !strings.Contains(got.GetPreserveReason(), "spec.ports") {
		t.Errorf("%d ports are sent, and the reason is %q", n, got.GetPreserveReason())
	}
}

func slicesOf[T any](n int, of func(int) T) (all []T) {
	for i := range n {
		all = append(all, of(i))
	}
	return all
}
