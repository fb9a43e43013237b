// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package services

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/timestamppb"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	servicehelpers "k8s.io/cloud-provider/service/helpers"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/shim/annotations"
	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

var created = time.Date(2026, 11, 23, 6, 0, 0, 0, time.UTC)

// service returns a Service of type LoadBalancer with one port, changed by the given functions.
func service(change ...func(*v1.Service)) *v1.Service {
	s := &v1.Service{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "shop", Name: "web", UID: "uid-1",
			CreationTimestamp: metav1.NewTime(created),
		},
		Spec: v1.ServiceSpec{
			Type:       v1.ServiceTypeLoadBalancer,
			IPFamilies: []v1.IPFamily{v1.IPv4Protocol},
			Ports:      []v1.ServicePort{{Port: 80, Protocol: v1.ProtocolTCP, NodePort: 30080}},
		},
	}
	for _, c := range change {
		c(s)
	}
	return s
}

// annotated sets an annotation.
func annotated(name, value string) func(*v1.Service) {
	return func(s *v1.Service) { metav1.SetMetaDataAnnotation(&s.ObjectMeta, name, value) }
}

func families(f ...v1.IPFamily) func(*v1.Service) {
	return func(s *v1.Service) { s.Spec.IPFamilies = f }
}

func policy(p v1.IPFamilyPolicy) func(*v1.Service) {
	return func(s *v1.Service) { s.Spec.IPFamilyPolicy = &p }
}

// named gives a Service another name, and the UID that goes with it.
func named(namespace, name string) func(*v1.Service) {
	return func(s *v1.Service) {
		s.Namespace, s.Name, s.UID = namespace, name, types.UID("uid-of-"+name)
	}
}

func local(s *v1.Service) { s.Spec.ExternalTrafficPolicy = v1.ServiceExternalTrafficPolicyLocal }

func port(numbers ...int32) func(*v1.Service) {
	return func(s *v1.Service) {
		s.Spec.Ports = nil
		for _, number := range numbers {
			s.Spec.Ports = append(s.Spec.Ports, v1.ServicePort{Port: number})
		}
	}
}

// desiredLB is what the plain service asks for, changed by the given functions.
func desiredLB(change ...func(*backendv1.DesiredLoadBalancer)) *backendv1.DesiredLoadBalancer {
	d := &backendv1.DesiredLoadBalancer{
		Key:        &backendv1.LoadBalancerKey{Scope: scope, Name: "shop/web"},
		OwnerUid:   "uid-1",
		CreateTime: timestamppb.New(created),
		Addresses: []*backendv1.DesiredAddress{{
			Family: backendv1.IpFamily_IP_FAMILY_IPV4,
			Source: &backendv1.DesiredAddress_FloatingIp{FloatingIp: &backendv1.FloatingIpSource{}},
		}},
		Ports:        []*backendv1.Port{{Protocol: backendv1.Protocol_PROTOCOL_TCP, Port: 80}},
		OpenFirewall: true,
	}
	for _, c := range change {
		c(d)
	}
	return d
}

func ipv6(d *backendv1.DesiredLoadBalancer) {
	d.Addresses[0].Family = backendv1.IpFamily_IP_FAMILY_IPV6
}

// orOptional adds an address of the other family, and makes both optional.
func orOptional(family backendv1.IpFamily) func(*backendv1.DesiredLoadBalancer) {
	return func(d *backendv1.DesiredLoadBalancer) {
		second := proto.CloneOf(d.GetAddresses()[0])
		second.Family = family
		d.Addresses = append(d.Addresses, second)
		for _, address := range d.GetAddresses() {
			address.Optional = true
		}
	}
}

// andIPv6 adds an IPv6 address that is required.
func andIPv6(d *backendv1.DesiredLoadBalancer) {
	d.Addresses = append(d.Addresses, desiredLB(ipv6).GetAddresses()...)
}

func withAddress(ip string) func(*backendv1.DesiredLoadBalancer) {
	return func(d *backendv1.DesiredLoadBalancer) {
		d.Addresses[0].GetFloatingIp().Selector = &backendv1.FloatingIpSource_Address{Address: ip}
	}
}

// finalized is what the framework in this program has put its finalizer on.
func finalized(s *v1.Service) { finalizedBy("ccm-shim")(s) }

// finalizedBy is what a program has put the framework's finalizer on.
func finalizedBy(manager string) func(*v1.Service) {
	return func(s *v1.Service) {
		s.Finalizers = append(s.Finalizers, servicehelpers.LoadBalancerCleanupFinalizer)
		s.ManagedFields = append(s.ManagedFields, metav1.ManagedFieldsEntry{
			Manager: manager, Operation: metav1.ManagedFieldsOperationUpdate, Subresource: "status",
			APIVersion: "v1", FieldsType: "FieldsV1", FieldsV1: metav1.NewFieldsV1(
				`{"f:metadata":{"f:finalizers":{".":{},"v:\"` + servicehelpers.LoadBalancerCleanupFinalizer + `\"":{}}}}`),
		})
	}
}

// classFinalized is what the controller of classes has put its finalizer on.
func classFinalized(s *v1.Service) { s.Finalizers = append(s.Finalizers, Finalizer) }

// ofClass gives a Service a class.
func ofClass(class string) func(*v1.Service) {
	return func(s *v1.Service) { s.Spec.LoadBalancerClass = &class }
}

// desiredOf translates a Service, and returns its mistakes, or why it is preserved.
func desiredOf(c *Controller, service *v1.Service) (*backendv1.DesiredLoadBalancer, error) {
	got := c.desired(service)
	switch {
	case got.mistakes != nil:
		return nil, got.mistakes
	case got.PreserveReason != "":
		return nil, errors.New(got.PreserveReason)
	}
	return got.DesiredLoadBalancer, nil
}

func TestFieldsOfAServiceBecomeDesiredState(t *testing.T) {
	address := func(ip string) func(*v1.Service) {
		return func(s *v1.Service) { s.Spec.LoadBalancerIP = ip }
	}
	for _, tt := range []struct {
		name    string
		service *v1.Service
		want    *backendv1.DesiredLoadBalancer
		// wantErr are parts of the error.
		wantErr []string
	}{
		{name: "plain", service: service(), want: desiredLB()},
		{name: "several ports and protocols", service: service(func(s *v1.Service) {
			s.Spec.Ports = []v1.ServicePort{
				{Port: 443, Protocol: v1.ProtocolTCP}, {Port: 443, Protocol: v1.ProtocolUDP},
				{Port: 36412, Protocol: v1.ProtocolSCTP}, {Port: 8080},
			}
		}), want: desiredLB(func(d *backendv1.DesiredLoadBalancer) {
			d.Ports = []*backendv1.Port{
				{Protocol: backendv1.Protocol_PROTOCOL_TCP, Port: 443},
				{Protocol: backendv1.Protocol_PROTOCOL_UDP, Port: 443},
				{Protocol: backendv1.Protocol_PROTOCOL_SCTP, Port: 36412},
				{Protocol: backendv1.Protocol_PROTOCOL_TCP, Port: 8080},
			}
		})},
		{name: "IPv6", service: service(families(v1.IPv6Protocol)), want: desiredLB(ipv6)},
		{name: "PreferDualStack: each of both that can be had, in its order", service: service(
			policy(v1.IPFamilyPolicyPreferDualStack), families(v1.IPv6Protocol, v1.IPv4Protocol)),
			want: desiredLB(ipv6, orOptional(backendv1.IpFamily_IP_FAMILY_IPV4))},
		{name: "PreferDualStack with a pool: of whichever family that is", service: service(
			policy(v1.IPFamilyPolicyPreferDualStack), families(v1.IPv4Protocol, v1.IPv6Protocol),
			annotated(annotations.FloatingIPPool, "edge")),
			want: desiredLB(fromPool("edge"), orOptional(backendv1.IpFamily_IP_FAMILY_IPV6))},
		{name: "PreferDualStack with an address: its family, and the other if that can be had",
			service: service(policy(v1.IPFamilyPolicyPreferDualStack),
				families(v1.IPv4Protocol, v1.IPv6Protocol), address("198.51.100.9")),
			want: desiredLB(andIPv6, withAddress("198.51.100.9"), func(d *backendv1.DesiredLoadBalancer) {
				d.Addresses[1].Optional = true
			})},
		{name: "RequireDualStack: both", service: service(policy(v1.IPFamilyPolicyRequireDualStack),
			families(v1.IPv4Protocol, v1.IPv6Protocol)), want: desiredLB(andIPv6)},
		{name: "PreferDualStack with a version: that one", service: service(
			policy(v1.IPFamilyPolicyPreferDualStack), families(v1.IPv4Protocol, v1.IPv6Protocol),
			annotated(annotations.FloatingIPVersion, "v6")), want: desiredLB(ipv6)},
		{name: "PreferDualStack in a cluster of one family", service: service(
			policy(v1.IPFamilyPolicyPreferDualStack), families(v1.IPv6Protocol)), want: desiredLB(ipv6)},
		{name: "no family named", service: service(families()), want: desiredLB()},
		{name: "an address of its own", service: service(address("198.51.100.9")),
			want: desiredLB(withAddress("198.51.100.9"))},
		{name: "an address in another spelling",
			service: service(families(v1.IPv6Protocol), address("2001:DB8:0::1")),
			want:    desiredLB(ipv6, withAddress("2001:db8::1"))},
		{name: "an IPv4 address written as IPv6", service: service(address("::ffff:198.51.100.9")),
			want: desiredLB(withAddress("198.51.100.9"))},
		{name: "what it publishes", service: service(func(s *v1.Service) {
			s.Status.LoadBalancer.Ingress = []v1.LoadBalancerIngress{
				{IP: "198.51.100.9"}, {Hostname: "web.example.com"}, {IP: "172.30.0.11"},
				{IP: "2001:DB8::0:9"}, {IP: "::ffff:198.51.100.8"}, {IP: "fe80::1%eth0"},
				{IP: "no address"},
			}
		}), want: desiredLB(func(d *backendv1.DesiredLoadBalancer) {
			d.PublishedAddresses = []string{
				"198.51.100.9", "172.30.0.11", "2001:db8::9", "198.51.100.8",
			}
		})},
		{name: "RequireDualStack, where there is one family",
			service: service(policy(v1.IPFamilyPolicyRequireDualStack)),
			wantErr: []string{"spec.ipFamilyPolicy", "spec.ipFamilies"}},
		{name: "an address that is none", service: service(address("web.example.com")),
			wantErr: []string{"spec.loadBalancerIP", "web.example.com"}},
		{name: "an address with a zone", service: service(address("fe80::1%eth0")),
			wantErr: []string{"spec.loadBalancerIP"}},
		{name: "an address of the other family", service: service(address("2001:db8::1")),
			wantErr: []string{"spec.loadBalancerIP", "spec.ipFamilies"}},
		{name: "traffic policy Local, while endpoints are not known", service: service(local),
			wantErr: []string{"spec.externalTrafficPolicy", "not known yet"}},
		{name: "no ports", service: service(func(s *v1.Service) { s.Spec.Ports = nil }),
			wantErr: []string{"spec.ports"}},
		{name: "a protocol that nobody knows", service: service(func(s *v1.Service) {
			s.Spec.Ports[0].Protocol = "QUIC"
		}), wantErr: []string{"spec.ports", "QUIC"}},
		{name: "several mistakes are reported together", service: service(address("x"),
			policy(v1.IPFamilyPolicyRequireDualStack), port()),
			wantErr: []string{"spec.ipFamilyPolicy", "spec.loadBalancerIP", "spec.ports"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			before := tt.service.DeepCopy()
			got, err := desiredOf(bare(t), tt.service)
			for _, part := range tt.wantErr {
				if err == nil || !strings.Contains(err.Error(), part) {
					t.Errorf("the error is %v, want %q in it", err, part)
				}
			}
			if err != nil && strings.Contains(err.Error(), "\n") {
				t.Errorf("more than one line: %q", err)
			}
			if len(tt.wantErr) == 0 && err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got, protocmp.Transform()); diff != "" {
				t.Errorf("desired (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(before, tt.service); diff != "" {
				t.Errorf("the Service was changed:\n%s", diff)
			}
		})
	}
}

func TestTwoHundredPorts(t *testing.T) {
	s := service()
	s.Spec.Ports = nil
	for i := range int32(200) {
		s.Spec.Ports = append(s.Spec.Ports, v1.ServicePort{Port: 10000 + i})
	}
	got, err := desiredOf(bare(t), s)
	if err != nil {
		t.Fatal(err)
	}
	for i, port := range got.GetPorts() {
		if port.GetPort() != 10000+int32(i) || port.GetProtocol() != backendv1.Protocol_PROTOCOL_TCP {
			t.Errorf("port %d is %v", i, port)
		}
	}
	if len(got.GetPorts()) != 200 {
		t.Errorf("%d ports are sent", len(got.GetPorts()))
	}
}
