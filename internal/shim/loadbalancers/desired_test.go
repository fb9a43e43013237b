// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package loadbalancers

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/timestamppb"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

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

// wantedLB is what the plain service asks for, changed by the given functions.
func wantedLB(change ...func(*backendv1.DesiredLoadBalancer)) *backendv1.DesiredLoadBalancer {
	d := &backendv1.DesiredLoadBalancer{
		Key:        &backendv1.LoadBalancerKey{Scope: scope, Name: "shop/web"},
		OwnerUid:   "uid-1",
		CreateTime: timestamppb.New(created),
		Addresses: []*backendv1.WantedAddress{{
			Family: backendv1.IpFamily_IP_FAMILY_IPV4,
			Source: &backendv1.WantedAddress_FloatingIp{FloatingIp: &backendv1.FloatingIpSource{}},
		}},
		Ports: []*backendv1.Port{{Protocol: backendv1.Protocol_PROTOCOL_TCP, Port: 80}},
	}
	for _, c := range change {
		c(d)
	}
	return d
}

func TestDesiredLoadBalancer(t *testing.T) {
	policy := func(p v1.IPFamilyPolicy) func(*v1.Service) {
		return func(s *v1.Service) { s.Spec.IPFamilyPolicy = &p }
	}
	families := func(f ...v1.IPFamily) func(*v1.Service) {
		return func(s *v1.Service) { s.Spec.IPFamilies = f }
	}
	address := func(ip string) func(*v1.Service) {
		return func(s *v1.Service) { s.Spec.LoadBalancerIP = ip }
	}
	ipv6 := func(d *backendv1.DesiredLoadBalancer) {
		d.Addresses[0].Family = backendv1.IpFamily_IP_FAMILY_IPV6
	}
	wantAddress := func(ip string) func(*backendv1.DesiredLoadBalancer) {
		return func(d *backendv1.DesiredLoadBalancer) {
			d.Addresses[0].GetFloatingIp().Selector = &backendv1.FloatingIpSource_Address{
				Address: ip,
			}
		}
	}
	for _, tt := range []struct {
		name    string
		service *v1.Service
		want    *backendv1.DesiredLoadBalancer
		// wantErr are parts of the error.
		wantErr []string
	}{
		{name: "plain", service: service(), want: wantedLB()},
		{name: "several ports and protocols", service: service(func(s *v1.Service) {
			s.Spec.Ports = []v1.ServicePort{
				{Port: 443, Protocol: v1.ProtocolTCP}, {Port: 443, Protocol: v1.ProtocolUDP},
				{Port: 36412, Protocol: v1.ProtocolSCTP}, {Port: 8080},
			}
		}), want: wantedLB(func(d *backendv1.DesiredLoadBalancer) {
			d.Ports = []*backendv1.Port{
				{Protocol: backendv1.Protocol_PROTOCOL_TCP, Port: 443},
				{Protocol: backendv1.Protocol_PROTOCOL_UDP, Port: 443},
				{Protocol: backendv1.Protocol_PROTOCOL_SCTP, Port: 36412},
				{Protocol: backendv1.Protocol_PROTOCOL_TCP, Port: 8080},
			}
		})},
		{name: "IPv6", service: service(families(v1.IPv6Protocol)), want: wantedLB(ipv6)},
		{name: "PreferDualStack gets its first family", service: service(
			policy(v1.IPFamilyPolicyPreferDualStack), families(v1.IPv6Protocol, v1.IPv4Protocol)),
			want: wantedLB(ipv6)},
		{name: "no family named", service: service(families()), want: wantedLB()},
		{name: "an address of its own", service: service(address("198.51.100.9")),
			want: wantedLB(wantAddress("198.51.100.9"))},
		{name: "an address in another spelling",
			service: service(families(v1.IPv6Protocol), address("2001:DB8:0::1")),
			want:    wantedLB(ipv6, wantAddress("2001:db8::1"))},
		{name: "an IPv4 address written as IPv6", service: service(address("::ffff:198.51.100.9")),
			want: wantedLB(wantAddress("198.51.100.9"))},
		{name: "what it publishes", service: service(func(s *v1.Service) {
			s.Status.LoadBalancer.Ingress = []v1.LoadBalancerIngress{
				{IP: "198.51.100.9"}, {Hostname: "web.example.com"}, {IP: "172.30.0.11"},
			}
		}), want: wantedLB(func(d *backendv1.DesiredLoadBalancer) {
			d.PublishedAddresses = []string{"198.51.100.9", "172.30.0.11"}
		})},
		{name: "RequireDualStack", service: service(policy(v1.IPFamilyPolicyRequireDualStack)),
			wantErr: []string{"spec.ipFamilyPolicy"}},
		{name: "an address that is none", service: service(address("web.example.com")),
			wantErr: []string{"spec.loadBalancerIP", "web.example.com"}},
		{name: "an address with a zone", service: service(address("fe80::1%eth0")),
			wantErr: []string{"spec.loadBalancerIP"}},
		{name: "an address of the other family", service: service(address("2001:db8::1")),
			wantErr: []string{"spec.loadBalancerIP", "spec.ipFamilies"}},
		{name: "traffic policy Local", service: service(func(s *v1.Service) {
			s.Spec.ExternalTrafficPolicy = v1.ServiceExternalTrafficPolicyLocal
		}), wantErr: []string{"spec.externalTrafficPolicy", "Cluster"}},
		{name: "no ports", service: service(func(s *v1.Service) { s.Spec.Ports = nil }),
			wantErr: []string{"spec.ports"}},
		{name: "a protocol that nobody knows", service: service(func(s *v1.Service) {
			s.Spec.Ports[0].Protocol = "QUIC"
		}), wantErr: []string{"spec.ports", "QUIC"}},
		{name: "several mistakes are told together", service: service(address("x"),
			policy(v1.IPFamilyPolicyRequireDualStack), func(s *v1.Service) {
				s.Spec.Ports = nil
				s.Spec.ExternalTrafficPolicy = v1.ServiceExternalTrafficPolicyLocal
			}),
			wantErr: []string{"spec.ipFamilyPolicy", "spec.loadBalancerIP", "spec.ports",
				"spec.externalTrafficPolicy"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			before := tt.service.DeepCopy()
			got, err := desiredLoadBalancer(scope, tt.service)
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

func TestCandidates(t *testing.T) {
	noCondition := node("no-condition", id3)
	noCondition.Status.Conditions = nil
	healthy := func(id string) *backendv1.Candidate {
		return &backendv1.Candidate{
			InstanceId: id, Health: backendv1.CandidateHealth_CANDIDATE_HEALTH_HEALTHY,
		}
	}
	unhealthy := func(id string) *backendv1.Candidate {
		return &backendv1.Candidate{
			InstanceId: id, Health: backendv1.CandidateHealth_CANDIDATE_HEALTH_UNHEALTHY,
		}
	}
	for _, tt := range []struct {
		name  string
		nodes []*v1.Node
		want  []*backendv1.Candidate
		// explained is how the lack of a candidate would be explained.
		explained string
	}{
		{"in the order of ids", []*v1.Node{node("a", id3), node("b", id1), node("c", id2)},
			[]*backendv1.Candidate{healthy(id1), healthy(id2), healthy(id3)}, "there is none"},
		{"a node that is not ready is unhealthy", []*v1.Node{
			notReady(node("a", id1)), noCondition,
		}, []*backendv1.Candidate{unhealthy(id1), unhealthy(id3)},
			"a is not Ready, no-condition is not Ready"},
		{"a node without an instance of ours is none", []*v1.Node{
			node("b", ""), foreignNode("a"), node("c", "nonsense"),
		}, nil, "a is of another cloud provider, b has no provider ID yet, " +
			"c has a malformed provider ID"},
		{"two nodes of one instance", []*v1.Node{node("a", id1), notReady(node("b", id1))},
			[]*backendv1.Candidate{healthy(id1)}, "b is not Ready"},
		{"two nodes of one instance, in the other order",
			[]*v1.Node{notReady(node("b", id1)), node("a", id1)},
			[]*backendv1.Candidate{healthy(id1)}, "b is not Ready"},
		{"none at all", nil, nil, "there is none"},
		{"many", []*v1.Node{node("a", ""), node("b", ""), node("c", ""), node("d", ""),
			node("e", ""), node("f", ""), node("g", "")}, nil,
			"e has no provider ID yet, and 2 more"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, excluded := candidates(tt.nodes)
			if diff := cmp.Diff(tt.want, got, protocmp.Transform()); diff != "" {
				t.Errorf("candidates (-want +got):\n%s", diff)
			}
			if text := explainNoCandidate(excluded); !strings.Contains(text, tt.explained) {
				t.Errorf("explained as %q, want %q in it", text, tt.explained)
			}
		})
	}
}

func TestProviderIDs(t *testing.T) {
	for _, tt := range []struct {
		in      string
		id      string
		kind    idKind
		wantErr bool
	}{
		{"", "", idAbsent, false},
		{"oxide://" + id1, id1, idOxide, false},
		{"oxide://" + strings.ToUpper("abcdef01-1111-4111-8111-111111111111"),
			"abcdef01-1111-4111-8111-111111111111", idOxide, false},
		{"aws:///zone/i-1", "", idForeign, false},
		{"oxidefs://" + id1, "", idForeign, false},
		{"OXIDE://" + id1, "", idForeign, false},
		{"oxide://", "", idOxide, true},
		{"oxide:///" + id1, "", idOxide, true},
		{"oxide://" + id1 + "/", "", idOxide, true},
		{"oxide://" + id1 + " ", "", idOxide, true},
		{"oxide://" + strings.ReplaceAll(id1, "-", ""), "", idOxide, true},
		{"oxide://{" + id1 + "}", "", idOxide, true},
		{"oxide://urn:uuid:" + id1, "", idOxide, true},
		{"oxide://worker-1", "", idOxide, true},
		{"oxide://" + strings.Repeat("g", 36), "", idOxide, true},
	} {
		t.Run(tt.in, func(t *testing.T) {
			id, kind, err := parseProviderID(tt.in)
			if id != tt.id || kind != tt.kind || (err != nil) != tt.wantErr {
				t.Errorf("parseProviderID() = %q, %d, %v; want %q, %d, error: %v",
					id, kind, err, tt.id, tt.kind, tt.wantErr)
			}
		})
	}
	if got := providerID(id1); got != "oxide://"+id1 {
		t.Errorf("providerID() = %q", got)
	}
}

func TestInstanceNames(t *testing.T) {
	for name, want := range map[string]bool{
		"a": true, "worker-1": true, "a--b": true, strings.Repeat("a", 63): true,
		"": false, "-a": false, "a-": false, "1a": false, "A": false, "a.b": false, "a_b": false,
		strings.Repeat("a", 64): false, "abcdefabcdefabcdefabcdefabcdefab": false,
		"abcdefab-1111-4111-8111-111111111111": false,
	} {
		if got := isInstanceName(name); got != want {
			t.Errorf("isInstanceName(%q) = %v, want %v", name, got, want)
		}
	}
}
