// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package rpc

import (
	"errors"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

const someID = "9b9c6c1e-6d0e-4f61-a1a7-3c1de84e0c59"

func goodEnsure() *backendv1.EnsureLoadBalancerRequest {
	return &backendv1.EnsureLoadBalancerRequest{
		Cluster: &backendv1.Cluster{
			Scope: "c1",
			Candidates: []*backendv1.Candidate{{
				InstanceId: someID, Health: backendv1.CandidateHealth_CANDIDATE_HEALTH_HEALTHY,
			}},
		},
		LoadBalancer: &backendv1.DesiredLoadBalancer{
			Key:      &backendv1.LoadBalancerKey{Scope: "c1", Name: "default/web"},
			OwnerUid: "u1",
			Addresses: []*backendv1.WantedAddress{{
				Family: backendv1.IpFamily_IP_FAMILY_IPV4, Source: floatingIP(nil),
			}},
			Ports: []*backendv1.Port{{Protocol: backendv1.Protocol_PROTOCOL_TCP, Port: 80}},
		},
	}
}

func floatingIP(source *backendv1.FloatingIpSource) *backendv1.WantedAddress_FloatingIp {
	return &backendv1.WantedAddress_FloatingIp{FloatingIp: source}
}

func TestValidateEnsure(t *testing.T) {
	type request = backendv1.EnsureLoadBalancerRequest
	address := func(r *request) *backendv1.WantedAddress { return r.LoadBalancer.Addresses[0] }
	byAddress := func(text string) func(r *request) {
		return func(r *request) {
			address(r).Source = floatingIP(&backendv1.FloatingIpSource{
				Selector: &backendv1.FloatingIpSource_Address{Address: text},
			})
		}
	}
	byPool := func(text string) func(r *request) {
		return func(r *request) {
			address(r).Source = floatingIP(&backendv1.FloatingIpSource{
				Selector: &backendv1.FloatingIpSource_Pool{Pool: text},
			})
		}
	}
	for _, tc := range []struct {
		name   string
		change func(r *request)
		// field is the one that the error names; empty: the request is good.
		field string
	}{
		{"good", func(*request) {}, ""},
		{"no candidates", func(r *request) { r.Cluster.Candidates = nil }, ""},
		{"an address", byAddress("192.0.2.1"), ""},
		{"an address mapped into IPv6", byAddress("::ffff:192.0.2.1"), ""},
		{"a pool by name", byPool("public"), ""},
		{"a pool by id", byPool(someID), ""},
		{"no cluster", func(r *request) { r.Cluster = nil }, "cluster"},
		{"no scope", func(r *request) { r.Cluster.Scope = "" }, "cluster.scope"},
		{"a scope with a space", func(r *request) { r.Cluster.Scope = "a b" }, "cluster.scope"},
		{"an instance that is no UUID", func(r *request) { r.Cluster.Candidates[0].InstanceId = "n" },
			"cluster.candidates[0].instance_id"},
		{"an instance in upper case", func(r *request) {
			r.Cluster.Candidates[0].InstanceId = strings.ToUpper(someID)
		}, "cluster.candidates[0].instance_id"},
		{"an eligible instance that is no UUID", func(r *request) {
			r.LoadBalancer.EligibleInstances = &backendv1.InstanceSet{InstanceIds: []string{"n"}}
		}, "load_balancer.eligible_instances.instance_ids[0]"},
		{"an instance twice", func(r *request) {
			r.Cluster.Candidates = append(r.Cluster.Candidates, r.Cluster.Candidates[0])
		}, "cluster.candidates[1].instance_id"},
		{"no health", func(r *request) { r.Cluster.Candidates[0].Health = 0 },
			"cluster.candidates[0].health"},
		{"an unknown health", func(r *request) { r.Cluster.Candidates[0].Health = 99 },
			"cluster.candidates[0].health"},
		{"no load balancer", func(r *request) { r.LoadBalancer = nil }, "load_balancer.key"},
		{"no key", func(r *request) { r.LoadBalancer.Key = nil }, "load_balancer.key"},
		{"no name", func(r *request) { r.LoadBalancer.Key.Name = "" }, "load_balancer.key.name"},
		{"a name with a newline", func(r *request) { r.LoadBalancer.Key.Name = "a\nb" },
			"load_balancer.key.name"},
		{"another scope", func(r *request) { r.LoadBalancer.Key.Scope = "c2" },
			"load_balancer.key.scope"},
		{"no owner", func(r *request) { r.LoadBalancer.OwnerUid = "" }, "load_balancer.owner_uid"},
		{"no address", func(r *request) { r.LoadBalancer.Addresses = nil },
			"load_balancer.addresses"},
		{"a family twice", func(r *request) {
			r.LoadBalancer.Addresses = append(r.LoadBalancer.Addresses, address(r))
		}, "load_balancer.addresses[1].family"},
		{"no family", func(r *request) { address(r).Family = 0 },
			"load_balancer.addresses[0].family"},
		{"no source", func(r *request) { address(r).Source = nil },
			"load_balancer.addresses[0].source"},
		{"not an address", byAddress("1.2.3"), "load_balancer.addresses[0].floating_ip.address"},
		{"an address with a zone", byAddress("fe80::1%eth0"),
			"load_balancer.addresses[0].floating_ip.address"},
		{"an address of the other family", byAddress("2001:db8::1"),
			"load_balancer.addresses[0].floating_ip.address"},
		{"not a pool", byPool("Public Pool"), "load_balancer.addresses[0].floating_ip.pool"},
		{"no port", func(r *request) { r.LoadBalancer.Ports = nil }, "load_balancer.ports"},
		{"port 0", func(r *request) { r.LoadBalancer.Ports[0].Port = 0 },
			"load_balancer.ports[0].port"},
		{"port 65536", func(r *request) { r.LoadBalancer.Ports[0].Port = 65536 },
			"load_balancer.ports[0].port"},
		{"no protocol", func(r *request) { r.LoadBalancer.Ports[0].Protocol = 0 },
			"load_balancer.ports[0].protocol"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			req := goodEnsure()
			tc.change(req)
			checkField(t, validateEnsure(req), tc.field)
		})
	}
}

func TestWhatIsNotOfferedIsSaid(t *testing.T) {
	for name, source := range map[string]*backendv1.WantedAddress{
		"external subnet": {
			Source: &backendv1.WantedAddress_ExternalSubnet{},
		},
	} {
		t.Run(name, func(t *testing.T) {
			req := goodEnsure()
			req.LoadBalancer.Addresses[0].Source = source.GetSource()
			var unoffered *unofferedError
			if err := validateEnsure(req); !errors.As(err, &unoffered) {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestValidateGetInstance(t *testing.T) {
	byID := func(id string) *backendv1.GetInstanceRequest {
		return &backendv1.GetInstanceRequest{Instance: &backendv1.GetInstanceRequest_Id{Id: id}}
	}
	byName := func(name string) *backendv1.GetInstanceRequest {
		return &backendv1.GetInstanceRequest{
			Instance: &backendv1.GetInstanceRequest_Name{Name: name},
		}
	}
	byHostname := func(name string) *backendv1.GetInstanceRequest {
		return &backendv1.GetInstanceRequest{
			Instance: &backendv1.GetInstanceRequest_Hostname{Hostname: name},
		}
	}
	proof := func(
		req *backendv1.GetInstanceRequest, proof *backendv1.AbsenceProof,
	) *backendv1.GetInstanceRequest {
		req.AbsenceProof = proof
		return req
	}
	for _, tc := range []struct {
		name  string
		req   *backendv1.GetInstanceRequest
		field string
	}{
		{"an id", byID(someID), ""},
		{"a name", byName("node-1"), ""},
		{"a hostname", byHostname("Node-1.example.com"), ""},
		{"a proof", proof(byID(someID), &backendv1.AbsenceProof{
			SiloId: someID, ProjectId: someID, WitnessInstanceIds: []string{someID},
		}), ""},
		{"nothing", &backendv1.GetInstanceRequest{}, "instance"},
		{"an empty id", byID(""), "id"},
		{"an id that leaves the path", byID("../projects"), "id"},
		{"a dotted name", byName("node-1.example.com"), "name"},
		{"a name that is a UUID", byName(someID), "name"},
		{"a hostname with a slash", byHostname("a/b"), "hostname"},
		{"a hostname that is too long", byHostname(strings.Repeat("a.", 127) + "a"), "hostname"},
		{"a proof for a name", proof(byName("node-1"), &backendv1.AbsenceProof{
			SiloId: someID, ProjectId: someID,
		}), "absence_proof"},
		{"a proof without a silo", proof(byID(someID), &backendv1.AbsenceProof{
			ProjectId: someID,
		}), "absence_proof.silo_id"},
		{"a proof without a project", proof(byID(someID), &backendv1.AbsenceProof{
			SiloId: someID,
		}), "absence_proof.project_id"},
		{"a witness that is no UUID", proof(byID(someID), &backendv1.AbsenceProof{
			SiloId: someID, ProjectId: someID, WitnessInstanceIds: []string{someID, "x"},
		}), "absence_proof.witness_instance_ids[1]"},
		{"an unknown freshness", &backendv1.GetInstanceRequest{
			Instance: &backendv1.GetInstanceRequest_Id{Id: someID}, Freshness: 99,
		}, "freshness"},
	} {
		t.Run(tc.name, func(t *testing.T) { checkField(t, validateGetInstance(tc.req), tc.field) })
	}
}

func TestPageTokens(t *testing.T) {
	for _, key := range [][]string{{"a", "b/c"}, {"", ""}, {"x y", "\n"}} {
		got, err := decodePageToken(encodePageToken(key...), 2)
		if err != nil || got[0] != key[0] || got[1] != key[1] {
			t.Errorf("%q became %q, %v", key, got, err)
		}
	}
	for _, token := range []string{"!", encodePageToken("one"), encodePageToken("a", "b", "c")} {
		_, err := decodePageToken(token, 2)
		checkField(t, err, "page_token")
	}
	_, err := pageSize(-1)
	checkField(t, err, "page_size")
	for requested, want := range map[int32]int{0: 100, 1: 1, 1000: 1000, 1001: 1000} {
		if got, err := pageSize(requested); got != want || err != nil {
			t.Errorf("page_size %d gives %d, %v", requested, got, err)
		}
	}
}

func checkField(t *testing.T, err error, field string) {
	t.Helper()
	if field == "" {
		if err != nil {
			t.Errorf("refused: %v", err)
		}
		return
	}
	var invalid *invalidError
	if !errors.As(err, &invalid) || invalid.field != field {
		t.Errorf("got %v, want an error about %s", err, field)
	}
	if err != nil && strings.ContainsAny(err.Error(), "\n\r") {
		t.Errorf("more than one line: %q", err)
	}
}

// Whatever arrives is refused or converted, and nothing panics.
func FuzzEnsure(f *testing.F) {
	seed, err := proto.Marshal(goodEnsure())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(seed)
	f.Add([]byte{})
	f.Fuzz(func(_ *testing.T, wire []byte) {
		var req backendv1.EnsureLoadBalancerRequest
		if proto.Unmarshal(wire, &req) != nil {
			return
		}
		if validateEnsure(&req) == nil {
			toCluster(req.GetCluster())
			toDesired(req.GetLoadBalancer())
		}
	})
}
