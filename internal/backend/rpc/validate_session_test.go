// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package rpc

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

const tcp, sctp = backendv1.Protocol_PROTOCOL_TCP, backendv1.Protocol_PROTOCOL_SCTP

func goodOpen() *backendv1.OpenSession {
	return &backendv1.OpenSession{
		Scope: "c1", AdoptedScopes: []string{"c0"}, LegacyName: "kubernetes",
	}
}

func goodCandidate() *backendv1.Candidate {
	return &backendv1.Candidate{
		InstanceId: someID, DisplayName: "node-1",
		Readiness:         backendv1.Readiness_READINESS_NOT_READY,
		ReadinessDuration: durationpb.New(7 * time.Second),
		Reachability:      backendv1.Reachability_REACHABILITY_UNREACHABLE,
		UsedPorts: []*backendv1.UsedPort{{
			Protocol: sctp, Port: 80, Holder: "pod a/b", Serves: []string{"default/web"},
		}},
	}
}

func goodDesired() *backendv1.DesiredLoadBalancer {
	return &backendv1.DesiredLoadBalancer{
		Key:      &backendv1.LoadBalancerKey{Scope: "c1", Name: "default/web"},
		OwnerUid: "u1", Generation: 3,
		CreateTime: timestamppb.New(time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)),
		Addresses: []*backendv1.DesiredAddress{{
			Family: backendv1.IpFamily_IP_FAMILY_IPV4,
			Source: fromFloatingIP(&backendv1.FloatingIpSource{}),
		}},
		Ports: []*backendv1.Port{{Protocol: tcp, Port: 80}},
		EligibleInstances: &backendv1.EligibleInstances{
			Instances: []*backendv1.EligibleInstance{{
				InstanceId: someID, State: backendv1.ServingState_SERVING_STATE_LEAVING,
			}},
			Description: "has a ready endpoint", FollowsServing: true,
		},
		PublishedAddresses: []string{"192.0.2.1", "fd00::1"},
	}
}

func fromFloatingIP(source *backendv1.FloatingIpSource) *backendv1.DesiredAddress_FloatingIp {
	return &backendv1.DesiredAddress_FloatingIp{FloatingIp: source}
}

func goodPlan() *backendv1.PlanLoadBalancersRequest {
	return &backendv1.PlanLoadBalancersRequest{
		Input: &backendv1.PlanLoadBalancersRequest_Set{Set: &backendv1.LoadBalancerSet{
			Open: goodOpen(), Candidates: []*backendv1.Candidate{goodCandidate()},
			ReservedPorts: []*backendv1.ReservedPorts{{FirstPort: 22}},
			LoadBalancers: []*backendv1.DesiredLoadBalancer{goodDesired()},
		}},
		WithoutInstanceIds: []string{someID}, CordonInstanceIds: []string{someID},
		ExplainNames: []string{"default/web"},
	}
}

func repeated[T any](n int, element T) []T {
	all := make([]T, n)
	for i := range all {
		all[i] = element
	}
	return all
}

func TestValidateOpen(t *testing.T) {
	for _, tc := range []struct {
		name   string
		change func(o *backendv1.OpenSession)
		field  string
	}{
		{"good", func(*backendv1.OpenSession) {}, ""},
		{"a scope alone", func(o *backendv1.OpenSession) { *o = backendv1.OpenSession{Scope: "c"} }, ""},
		{"no scope", func(o *backendv1.OpenSession) { o.Scope = "" }, "open.scope"},
		{"an adopted scope with a line feed", func(o *backendv1.OpenSession) {
			o.AdoptedScopes = []string{"c0", "a\n"}
		}, "open.adopted_scopes[1]"},
		{"16 adopted scopes", func(o *backendv1.OpenSession) { o.AdoptedScopes = repeated(16, "c") }, ""},
		{"17 adopted scopes", func(o *backendv1.OpenSession) { o.AdoptedScopes = repeated(17, "c") },
			"open.adopted_scopes"},
		{"a legacy name in upper case", func(o *backendv1.OpenSession) { o.LegacyName = "K" },
			"open.legacy_name"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			open := goodOpen()
			tc.change(open)
			checkField(t, validateOpen("open", open), tc.field)
		})
	}
	checkField(t, validateOpen("open", nil), "open")
}

func TestValidateCandidate(t *testing.T) {
	type candidate = backendv1.Candidate
	for _, tc := range []struct {
		name   string
		change func(c *candidate)
		field  string
	}{
		{"good", func(*candidate) {}, ""},
		{"an instance alone", func(c *candidate) { *c = candidate{InstanceId: someID} }, ""},
		{"nothing", func(c *candidate) { *c = candidate{} }, "instance_id"},
		{"an instance in upper case", func(c *candidate) { c.InstanceId = strings.ToUpper(someID) },
			"instance_id"},
		{"a long name", func(c *candidate) { c.DisplayName = strings.Repeat("n", 254) },
			"display_name"},
		{"a long reason to exclude it", func(c *candidate) {
			c.ExclusionReason = strings.Repeat("n", 257)
		}, "exclusion_reason"},
		{"a long reason to take it out of service", func(c *candidate) {
			c.OutOfServiceReason = strings.Repeat("n", 257)
		}, "out_of_service_reason"},
		{"an unknown readiness", func(c *candidate) { c.Readiness = 9 }, "readiness"},
		{"an unknown reachability", func(c *candidate) { c.Reachability = -1 }, "reachability"},
		{"a negative duration", func(c *candidate) {
			c.ReadinessDuration = durationpb.New(-time.Second)
		}, "readiness_duration"},
		{"no duration", func(c *candidate) {
			c.ReachabilityDuration = &durationpb.Duration{Seconds: 1, Nanos: -1}
		}, "reachability_duration"},
		{"a used port without a protocol", func(c *candidate) { c.UsedPorts[0].Protocol = 0 },
			"used_ports[0].protocol"},
		{"a used port on an address", func(c *candidate) { c.UsedPorts[0].Address = "0.0.0.0" }, ""},
		{"a used port on what is no address", func(c *candidate) { c.UsedPorts[0].Address = "fe80::1%a" },
			"used_ports[0].address"},
		{"a used port 0", func(c *candidate) { c.UsedPorts[0].Port = 0 }, "used_ports[0].port"},
		{"a long holder", func(c *candidate) { c.UsedPorts[0].Holder = strings.Repeat("n", 513) },
			"used_ports[0].holder"},
		{"one that serves what is no name", func(c *candidate) {
			c.UsedPorts[0].Serves = []string{"a b"}
		}, "used_ports[0].serves[0]"},
		{"one that serves too many", func(c *candidate) {
			c.UsedPorts[0].Serves = repeated(1001, "a")
		}, "used_ports[0].serves"},
		{"1,001 used ports", func(c *candidate) {
			c.UsedPorts = repeated(1001, c.UsedPorts[0])
		}, "used_ports"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := goodCandidate()
			tc.change(c)
			if tc.field != "" {
				tc.field = "candidate." + tc.field
			}
			checkField(t, validateCandidate("candidate", c), tc.field)
		})
	}
}

func TestValidateReservedPorts(t *testing.T) {
	for _, tc := range []struct {
		name  string
		ports *backendv1.ReservedPorts
		field string
	}{
		{"a port", &backendv1.ReservedPorts{FirstPort: 22}, ""},
		{"a range", &backendv1.ReservedPorts{Protocol: tcp, FirstPort: 1, LastPort: 65535}, ""},
		{"on an address", &backendv1.ReservedPorts{FirstPort: 22, Address: "fd00::1"}, ""},
		{"on what is no address", &backendv1.ReservedPorts{FirstPort: 22, Address: "x"}, "p[0].address"},
		{"no first port", &backendv1.ReservedPorts{LastPort: 9}, "p[0].first_port"},
		{"a first port too high", &backendv1.ReservedPorts{FirstPort: 65536}, "p[0].first_port"},
		{"a last port below the first", &backendv1.ReservedPorts{FirstPort: 9, LastPort: 8},
			"p[0].last_port"},
		{"a last port too high", &backendv1.ReservedPorts{FirstPort: 9, LastPort: 65536},
			"p[0].last_port"},
		{"an unknown protocol", &backendv1.ReservedPorts{FirstPort: 9, Protocol: 99}, "p[0].protocol"},
		{"a long purpose", &backendv1.ReservedPorts{FirstPort: 9, Purpose: strings.Repeat("x", 513)},
			"p[0].purpose"},
		{"for what is no name", &backendv1.ReservedPorts{FirstPort: 9, Serves: []string{""}},
			"p[0].serves[0]"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			checkField(t, validateReservedPorts("p", []*backendv1.ReservedPorts{tc.ports}), tc.field)
		})
	}
	many := repeated(10_001, &backendv1.ReservedPorts{FirstPort: 22})
	checkField(t, validateReservedPorts("p", many[:10_000]), "")
	checkField(t, validateReservedPorts("p", many), "p")
}

// twoKinds makes a load balancer desire a floating IP and an external subnet of one family.
func twoKinds(lb *backendv1.DesiredLoadBalancer) {
	lb.Addresses = append(lb.Addresses, &backendv1.DesiredAddress{
		Family: lb.Addresses[0].Family,
		Source: &backendv1.DesiredAddress_ExternalSubnet{ExternalSubnet: &backendv1.ExternalSubnetSource{}},
	})
}

// ofEachFamily are so many floating IPs of IPv4, and so many external subnets of IPv6.
func ofEachFamily(lb *backendv1.DesiredLoadBalancer, n int) []*backendv1.DesiredAddress {
	return append(repeated(n, lb.Addresses[0]), repeated(n, &backendv1.DesiredAddress{
		Family: backendv1.IpFamily_IP_FAMILY_IPV6,
		Source: &backendv1.DesiredAddress_ExternalSubnet{ExternalSubnet: &backendv1.ExternalSubnetSource{}},
	})...)
}

// What an operator names is a kind, and a name or an id as Oxide has them.
func TestValidateWhatAnOperatorNames(t *testing.T) {
	const subnet = backendv1.AddressSource_ADDRESS_SOURCE_EXTERNAL_SUBNET
	key := &backendv1.LoadBalancerKey{Scope: "c1", Name: "default/web"}
	for _, tc := range []struct {
		source          backendv1.AddressSource
		resource, field string
	}{
		{subnet, "edge-1", ""},
		{subnet, "11111111-2222-4333-8444-555555555555", ""},
		{0, "edge-1", "source"},
		{9, "edge-1", "source"},
		{subnet, "", "resource"},
		{subnet, "198.51.100.7/32", "resource"},
		{subnet, "198.51.100.7", "resource"},
		{subnet, "Edge", "resource"},
		{subnet, "edge\n1", "resource"},
		{subnet, "11111111-2222-4333-8444-55555555555", "resource"},
		{subnet, strings.Repeat("a", 64), "resource"},
	} {
		checkField(t, validateResource(tc.source, tc.resource), tc.field)
		checkField(t, validateAdopt(&backendv1.AdoptAddressRequest{
			Source: tc.source, Resource: tc.resource, Key: key, OwnerUid: "uid-1",
		}), tc.field)
	}
	checkField(t, validateAdopt(&backendv1.AdoptAddressRequest{Source: subnet, Resource: "a", Key: key}),
		"owner_uid")
	checkField(t, validateAdopt(&backendv1.AdoptAddressRequest{
		Source: subnet, Resource: "a", OwnerUid: "u",
	}), "key")
}

func TestValidateLoadBalancer(t *testing.T) {
	type balancer = backendv1.DesiredLoadBalancer
	for _, tc := range []struct {
		name   string
		change func(lb *balancer)
		field  string
	}{
		{"good", func(*balancer) {}, ""},
		{"nothing", func(lb *balancer) { proto.Reset(lb) }, "key"},
		{"no name", func(lb *balancer) { lb.Key.Name = "" }, "key.name"},
		{"another scope", func(lb *balancer) { lb.Key.Scope = "c2" }, "key.scope"},
		{"no owner", func(lb *balancer) { lb.OwnerUid = "" }, "owner_uid"},
		{"generation 0", func(lb *balancer) { lb.Generation = 0 }, "generation"},
		{"an unknown ending", func(lb *balancer) { lb.Ending = 9 }, "ending"},
		{"no time of creation", func(lb *balancer) { lb.CreateTime = nil }, ""},
		{"a time that is none", func(lb *balancer) {
			lb.CreateTime = &timestamppb.Timestamp{Nanos: -1}
		}, "create_time"},
		{"a time that no counter holds", func(lb *balancer) {
			lb.CreateTime = timestamppb.New(time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC))
		}, "create_time"},
		{"no address", func(lb *balancer) { lb.Addresses = nil }, "addresses"},
		{"no address, and it is not known which", func(lb *balancer) {
			lb.Addresses, lb.PreserveReason = nil, "it contradicts itself"
		}, ""},
		{"no family", func(lb *balancer) { lb.Addresses[0].Family = 0 }, "addresses[0].family"},
		{"eight of a family", func(lb *balancer) { lb.Addresses = repeated(8, lb.Addresses[0]) }, ""},
		{"nine of a family", func(lb *balancer) { lb.Addresses = repeated(9, lb.Addresses[0]) },
			"addresses[8]"},
		{"two kinds in a family", twoKinds, "addresses[1].source"},
		{"eight of each family, of a kind each", func(lb *balancer) {
			lb.Addresses = ofEachFamily(lb, 8)
		}, ""},
		{"eight of one family and nine of the other", func(lb *balancer) {
			lb.Addresses = ofEachFamily(lb, 9)[1:]
		}, "addresses[16]"},
		{"seven of a kind and one of another", func(lb *balancer) {
			one := lb.Addresses[0]
			twoKinds(lb)
			lb.Addresses = append(repeated(7, one), lb.Addresses[1])
		}, "addresses[7].source"},
		{"two kinds in a family at the end", func(lb *balancer) {
			twoKinds(lb)
			lb.Ending = backendv1.Ending_ENDING_RELEASE
		}, ""},
		{"one of a family is optional", func(lb *balancer) {
			lb.Addresses = append(lb.Addresses, proto.CloneOf(lb.Addresses[0]))
			lb.Addresses[1].Optional = true
		}, "addresses[1].optional"},
		{"no source", func(lb *balancer) { lb.Addresses[0].Source = nil }, "addresses[0].source"},
		{"no port", func(lb *balancer) { lb.Ports = nil }, "ports"},
		{"port 65536", func(lb *balancer) { lb.Ports[0].Port = 65536 }, "ports[0].port"},
		{"no protocol", func(lb *balancer) { lb.Ports[0].Protocol = 0 }, "ports[0].protocol"},
		{"1,001 ports", func(lb *balancer) { lb.Ports = repeated(1001, lb.Ports[0]) }, "ports"},
		{"all instances", func(lb *balancer) { lb.EligibleInstances = nil }, ""},
		{"an instance that is no UUID", func(lb *balancer) {
			lb.EligibleInstances.Instances[0].InstanceId = "n"
		}, "eligible_instances.instances[0].instance_id"},
		{"an instance twice", func(lb *balancer) {
			lb.EligibleInstances.Instances = repeated(2, lb.EligibleInstances.Instances[0])
		}, "eligible_instances.instances[1].instance_id"},
		{"an unknown state", func(lb *balancer) { lb.EligibleInstances.Instances[0].State = 9 },
			"eligible_instances.instances[0].state"},
		{"a long description", func(lb *balancer) {
			lb.EligibleInstances.Description = strings.Repeat("x", 401)
		}, "eligible_instances.description"},
		{"no published address", func(lb *balancer) { lb.PublishedAddresses = nil }, ""},
		{"a published name", func(lb *balancer) { lb.PublishedAddresses[1] = "web.example.com" },
			"published_addresses[1]"},
		{"a published address with a zone", func(lb *balancer) {
			lb.PublishedAddresses[0] = "fe80::1%eth0"
		}, "published_addresses[0]"},
		{"65 published addresses", func(lb *balancer) {
			lb.PublishedAddresses = repeated(65, "192.0.2.1")
		}, "published_addresses"},
		{"a long reason to preserve it", func(lb *balancer) {
			lb.PreserveReason = strings.Repeat("x", 401)
		}, "preserve_reason"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			lb := goodDesired()
			tc.change(lb)
			if tc.field != "" {
				tc.field = "load_balancer." + tc.field
			}
			checkField(t, validateLoadBalancer("load_balancer", "c1", lb), tc.field)
		})
	}
}

func TestValidatePlan(t *testing.T) {
	type request = backendv1.PlanLoadBalancersRequest
	for _, tc := range []struct {
		name   string
		change func(r *request)
		field  string
	}{
		{"good", func(*request) {}, ""},
		{"a running session", func(r *request) {
			r.Input = &backendv1.PlanLoadBalancersRequest_Scope{Scope: "c1"}
		}, ""},
		{"nothing", func(r *request) { proto.Reset(r) }, "input"},
		{"no scope", func(r *request) {
			r.Input = &backendv1.PlanLoadBalancersRequest_Scope{}
		}, "scope"},
		{"a set of nobody", func(r *request) { r.GetSet().Open = nil }, "set.open"},
		{"a candidate twice", func(r *request) {
			r.GetSet().Candidates = repeated(2, goodCandidate())
		}, "set.candidates[1].instance_id"},
		{"a bad reserved port", func(r *request) { r.GetSet().ReservedPorts[0].FirstPort = 0 },
			"set.reserved_ports[0].first_port"},
		{"a load balancer twice", func(r *request) {
			r.GetSet().LoadBalancers = repeated(2, goodDesired())
		}, "set.load_balancers[1].key"},
		{"a load balancer of another scope", func(r *request) {
			r.GetSet().LoadBalancers[0].Key.Scope = "c2"
		}, "set.load_balancers[0].key.scope"},
		{"10,001 load balancers", func(r *request) {
			r.GetSet().LoadBalancers = repeated(10_001, goodDesired())
		}, "set.load_balancers"},
		{"without what is no instance", func(r *request) { r.WithoutInstanceIds = []string{"n"} },
			"without_instance_ids[0]"},
		{"a cordon of what is no instance", func(r *request) { r.CordonInstanceIds = []string{"n"} },
			"cordon_instance_ids[0]"},
		{"101 to explain", func(r *request) { r.ExplainNames = repeated(101, "a/b") },
			"explain_names"},
		{"what is no name to explain", func(r *request) { r.ExplainNames = []string{"a b"} },
			"explain_names[0]"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			req := goodPlan()
			tc.change(req)
			checkField(t, validatePlan(req), tc.field)
		})
	}
}

// No client can make a session hold ever more.
func TestASessionHoldsABoundedNumberOfItems(t *testing.T) {
	r := &receiver{scope: "c1", items: newLedger()}
	send := func(name, owner string) error {
		lb := goodDesired()
		lb.Key.Name, lb.OwnerUid = name, owner
		_, err := r.loadBalancer(lb, 1)
		return err
	}
	for i := range maxLoadBalancers {
		checkField(t, send(fmt.Sprint("svc-", i), "u1"), "")
	}
	checkField(t, send("svc-0", "u2"), "")
	checkField(t, send("another", "u1"), "load_balancer")
	// Of another owner, so it is not removed.
	r.items.remove(keyOf(&backendv1.LoadBalancerKey{Scope: "c1", Name: "svc-0"}), "u1")
	checkField(t, send("another", "u1"), "load_balancer")
	r.items.remove(keyOf(&backendv1.LoadBalancerKey{Scope: "c1", Name: "svc-1"}), "u1")
	checkField(t, send("another", "u1"), "")
	for i := range maxCandidates {
		checkField(t, r.items.addCandidate(strconv.Itoa(i), 1), "")
	}
	checkField(t, r.items.addCandidate("another", 1), "candidate")
	r.items.removeCandidate("0")
	checkField(t, r.items.addCandidate("another", 1), "")
}

func TestASessionHoldsABoundedNumberOfBytes(t *testing.T) {
	l := newLedger()
	checkField(t, l.addCandidate("a", maxSessionBytes/2), "")
	checkField(t, l.setReserved(maxSessionBytes/2), "")
	checkField(t, l.setReserved(10), "")
	checkField(t, l.addCandidate("a", maxSessionBytes-10), "")
	checkField(t, l.add(keyOf(nil), "u", 1), "load_balancer")
	l.remove(keyOf(nil), "u")
	l.removeCandidate("a")
	if l.bytes != 10 {
		t.Errorf("%d bytes are left", l.bytes)
	}
}

// Two bytes on the wire take many times that in memory.
func TestWhatASessionHoldsIsBoundedAsItIsInMemory(t *testing.T) {
	serves := make([]string, maxServes)
	for i := range serves {
		serves[i] = "s"
	}
	c := &backendv1.Candidate{Readiness: backendv1.Readiness_READINESS_READY}
	for i := range maxUsedPorts {
		c.UsedPorts = append(c.UsedPorts, &backendv1.UsedPort{
			Protocol: backendv1.Protocol_PROTOCOL_TCP, Port: int32(i + 1), Serves: serves,
		})
	}
	r := &receiver{scope: "c1", items: newLedger()}
	held := 0
	for ; held < 100; held++ {
		c.InstanceId = fmt.Sprintf("00000000-0000-4000-8000-%012d", held)
		_, err := r.item(&backendv1.SyncLoadBalancersRequest{
			Item: &backendv1.SyncLoadBalancersRequest_Candidate{Candidate: c},
		})
		if err != nil {
			checkField(t, err, "candidate")
			break
		}
	}
	if want := maxSessionBytes / (weightOfString * maxServes * maxUsedPorts); held > want {
		t.Errorf("%d candidates with a million names each were accepted, want at most %d", held, want)
	}
}
