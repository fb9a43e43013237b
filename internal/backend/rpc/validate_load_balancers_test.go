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

func goodReconcile() *backendv1.ReconcileLoadBalancersRequest {
	one, other := goodEnsure(), goodEnsure()
	other.LoadBalancer.Key.Name = "default/other"
	return &backendv1.ReconcileLoadBalancersRequest{
		Cluster:       one.Cluster,
		LoadBalancers: []*backendv1.DesiredLoadBalancer{one.LoadBalancer, other.LoadBalancer},
	}
}

func goodDelete() *backendv1.DeleteLoadBalancerRequest {
	return &backendv1.DeleteLoadBalancerRequest{
		Key: &backendv1.LoadBalancerKey{Scope: "c1", Name: "default/web"}, OwnerUid: "u1",
		Cluster: goodEnsure().Cluster, PublishedAddresses: []string{"192.0.2.1", "fd00::1"},
		Addresses: goodEnsure().LoadBalancer.Addresses,
	}
}

func goodAdopt() *backendv1.AdoptAddressRequest {
	return &backendv1.AdoptAddressRequest{
		Source:   backendv1.AddressSource_ADDRESS_SOURCE_FLOATING_IP,
		Resource: "mine", Key: &backendv1.LoadBalancerKey{Scope: "c1", Name: "default/web"},
		OwnerUid: "u1",
	}
}

func TestValidateCluster(t *testing.T) {
	type cluster = backendv1.Cluster
	reserve := func(r *backendv1.ReservedPorts) func(c *cluster) {
		return func(c *cluster) { c.ReservedPorts = append(c.ReservedPorts, r) }
	}
	use := func(u *backendv1.UsedPort) func(c *cluster) {
		return func(c *cluster) { c.Candidates[0].UsedPorts = append(c.Candidates[0].UsedPorts, u) }
	}
	const tcp, sctp = backendv1.Protocol_PROTOCOL_TCP, backendv1.Protocol_PROTOCOL_SCTP
	for _, tc := range []struct {
		name   string
		change func(c *cluster)
		field  string
	}{
		{"good", func(*cluster) {}, ""},
		{"adopted scopes", func(c *cluster) { c.AdoptedScopes = []string{"c0", "c-1.x_y"} }, ""},
		{"an adopted scope that is empty", func(c *cluster) { c.AdoptedScopes = []string{"c0", ""} },
			"adopted_scopes[1]"},
		{"an adopted scope that is too long", func(c *cluster) {
			c.AdoptedScopes = []string{strings.Repeat("x", 64)}
		}, "adopted_scopes[0]"},
		{"an adopted scope with a line feed", func(c *cluster) { c.AdoptedScopes = []string{"a\n"} },
			"adopted_scopes[0]"},
		{"a legacy name", func(c *cluster) { c.LegacyName = "kubernetes" }, ""},
		{"a legacy name that ends with a dash", func(c *cluster) { c.LegacyName = "a-" }, ""},
		{"a legacy name in upper case", func(c *cluster) { c.LegacyName = "K" }, "legacy_name"},
		{"a legacy name that is too long", func(c *cluster) {
			c.LegacyName = strings.Repeat("x", 64)
		}, "legacy_name"},
		{"a legacy name with a line feed", func(c *cluster) { c.LegacyName = "a\n" }, "legacy_name"},
		{"a reserved port", reserve(&backendv1.ReservedPorts{FirstPort: 22}), ""},
		{"a reserved range", reserve(&backendv1.ReservedPorts{
			Protocol: tcp, FirstPort: 1, LastPort: 65535,
		}), ""},
		{"no first port", reserve(&backendv1.ReservedPorts{LastPort: 9}),
			"reserved_ports[0].first_port"},
		{"a first port below 1", reserve(&backendv1.ReservedPorts{FirstPort: -1}),
			"reserved_ports[0].first_port"},
		{"a first port too high", reserve(&backendv1.ReservedPorts{FirstPort: 65536}),
			"reserved_ports[0].first_port"},
		{"a last port below the first", reserve(&backendv1.ReservedPorts{FirstPort: 9, LastPort: 8}),
			"reserved_ports[0].last_port"},
		{"a last port too high", reserve(&backendv1.ReservedPorts{FirstPort: 9, LastPort: 65536}),
			"reserved_ports[0].last_port"},
		{"a reserved port of an unknown protocol", reserve(&backendv1.ReservedPorts{
			FirstPort: 9, Protocol: 99,
		}), "reserved_ports[0].protocol"},
		{"a used port", use(&backendv1.UsedPort{Protocol: sctp, Port: 80, Holder: "pod a/b"}), ""},
		{"a used port without a protocol", use(&backendv1.UsedPort{Port: 80}),
			"candidates[0].used_ports[0].protocol"},
		{"a used port 0", use(&backendv1.UsedPort{Protocol: tcp}), "candidates[0].used_ports[0].port"},
		{"a candidate that is nothing", func(c *cluster) {
			c.Candidates = append(c.Candidates, &backendv1.Candidate{})
		}, "candidates[1].instance_id"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := goodEnsure().Cluster
			tc.change(c)
			field := tc.field
			if field != "" {
				field = "cluster." + field
			}
			checkField(t, validateCluster(c), field)
		})
	}
}

func TestValidateReconcile(t *testing.T) {
	type request = backendv1.ReconcileLoadBalancersRequest
	second := func(r *request) *backendv1.DesiredLoadBalancer { return r.LoadBalancers[1] }
	for _, tc := range []struct {
		name   string
		change func(r *request)
		field  string
	}{
		{"good", func(*request) {}, ""},
		{"no load balancer", func(r *request) { r.LoadBalancers = nil }, ""},
		{"no cluster", func(r *request) { r.Cluster = nil }, "cluster"},
		{"a key twice", func(r *request) { second(r).Key.Name = "default/web" },
			"load_balancers[1].key"},
		{"another scope", func(r *request) { second(r).Key.Scope = "c2" },
			"load_balancers[1].key.scope"},
		{"one that is nothing", func(r *request) { r.LoadBalancers[1] = nil }, "load_balancers[1].key"},
		{"a published address", func(r *request) {
			second(r).PublishedAddresses = []string{"192.0.2.1", "::ffff:192.0.2.1", "2001:db8:0::1"}
		}, ""},
		{"a published host name", func(r *request) { second(r).PublishedAddresses = []string{"a.b"} },
			"load_balancers[1].published_addresses[0]"},
		{"a published address with a zone", func(r *request) {
			second(r).PublishedAddresses = []string{"192.0.2.1", "fe80::1%eth0"}
		}, "load_balancers[1].published_addresses[1]"},
		{"an existing address by name", func(r *request) { existing(second(r), "mine") }, ""},
		{"an existing address by id", func(r *request) { existing(second(r), someID) }, ""},
		{"an existing address by neither", func(r *request) { existing(second(r), "Mine!") },
			"load_balancers[1].addresses[0].floating_ip.existing"},
		{"an existing address by an empty name", func(r *request) { existing(second(r), "") },
			"load_balancers[1].addresses[0].floating_ip.existing"},
		{"one that is yet to be deleted", func(r *request) {
			r.Terminating, r.LoadBalancers = r.LoadBalancers[1:], r.LoadBalancers[:1]
		}, ""},
		{"one that is yet to be deleted, and desired", func(r *request) {
			r.Terminating = r.LoadBalancers[1:]
		}, "terminating[0].key"},
		{"one that is yet to be deleted, and nothing", func(r *request) {
			r.Terminating = []*backendv1.DesiredLoadBalancer{nil}
		}, "terminating[0].key"},
		{"some only", func(r *request) {
			r.Only = &backendv1.LoadBalancerNames{Names: []string{"default/web"}}
		}, ""},
		{"none only", func(r *request) { r.Only = &backendv1.LoadBalancerNames{} }, ""},
		{"one only that is none", func(r *request) {
			r.Only = &backendv1.LoadBalancerNames{Names: []string{"default/web", "a b"}}
		}, "only.names[1]"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			req := goodReconcile()
			tc.change(req)
			checkField(t, validateReconcile(req), tc.field)
		})
	}
}

func existing(want *backendv1.DesiredLoadBalancer, nameOrID string) {
	want.Addresses[0].Source = floatingIP(&backendv1.FloatingIpSource{
		Selector: &backendv1.FloatingIpSource_Existing{Existing: nameOrID},
	})
}

func TestValidateDelete(t *testing.T) {
	type request = backendv1.DeleteLoadBalancerRequest
	for _, tc := range []struct {
		name   string
		change func(r *request)
		field  string
	}{
		{"good", func(*request) {}, ""},
		{"whoever's it is", func(r *request) { r.OwnerUid = "" }, ""},
		{"no cluster", func(r *request) { r.Cluster = nil }, ""},
		{"no key", func(r *request) { r.Key = nil }, "key"},
		{"no name", func(r *request) { r.Key.Name = "" }, "key.name"},
		{"an owner with a space", func(r *request) { r.OwnerUid = "a b" }, "owner_uid"},
		{"a cluster without a scope", func(r *request) { r.Cluster.Scope = "" }, "cluster.scope"},
		{"a cluster of another scope", func(r *request) { r.Cluster.Scope = "c2" }, "cluster.scope"},
		{"no published address", func(r *request) { r.PublishedAddresses = nil }, ""},
		{"a published address that is none", func(r *request) { r.PublishedAddresses[1] = "x" },
			"published_addresses[1]"},
		{"no wanted address", func(r *request) { r.Addresses = nil }, ""},
		{"a wanted address of no family", func(r *request) { r.Addresses[0].Family = 0 },
			"addresses[0].family"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			req := goodDelete()
			tc.change(req)
			checkField(t, validateDelete(req), tc.field)
		})
	}
}

func TestValidateAdopt(t *testing.T) {
	type request = backendv1.AdoptAddressRequest
	for _, tc := range []struct {
		name   string
		change func(r *request)
		field  string
	}{
		{"by name", func(*request) {}, ""},
		{"by id", func(r *request) { r.Resource = someID }, ""},
		{"no source", func(r *request) { r.Source = 0 }, "source"},
		{"an unknown source", func(r *request) { r.Source = 99 }, "source"},
		{"nothing", func(r *request) { r.Resource = "" }, "resource"},
		{"a path", func(r *request) { r.Resource = "a/b" }, "resource"},
		{"no key", func(r *request) { r.Key = nil }, "key"},
		{"no owner", func(r *request) { r.OwnerUid = "" }, "owner_uid"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			req := goodAdopt()
			tc.change(req)
			checkField(t, validateAdopt(req), tc.field)
		})
	}
	req := goodAdopt()
	req.Source = backendv1.AddressSource_ADDRESS_SOURCE_EXTERNAL_SUBNET
	var unoffered *unofferedError
	if err := validateAdopt(req); !errors.As(err, &unoffered) {
		t.Errorf("an external subnet: %v", err)
	}
}

// fuzz holds that whatever arrives is refused or converted, and nothing panics.
func fuzz[M proto.Message](f *testing.F, good M, handle func(M)) {
	f.Helper()
	seed, err := proto.Marshal(good)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(seed)
	f.Add([]byte{})
	f.Fuzz(func(_ *testing.T, wire []byte) {
		req := good.ProtoReflect().New().Interface()
		if proto.Unmarshal(wire, req) == nil {
			handle(req.(M))
		}
	})
}

func FuzzReconcile(f *testing.F) {
	fuzz(f, goodReconcile(), func(req *backendv1.ReconcileLoadBalancersRequest) {
		if validateReconcile(req) == nil {
			toCluster(req.GetCluster())
			toSet(req.GetLoadBalancers())
			toSetOptions(req)
		}
	})
}

func FuzzDelete(f *testing.F) {
	fuzz(f, goodDelete(), func(req *backendv1.DeleteLoadBalancerRequest) {
		if validateDelete(req) == nil {
			toKey(req.GetKey())
			toCluster(req.GetCluster())
			toAddrs(req.GetPublishedAddresses())
			toWanted(req.GetAddresses())
		}
	})
}

func FuzzAdopt(f *testing.F) {
	fuzz(f, goodAdopt(), func(req *backendv1.AdoptAddressRequest) {
		if validateAdopt(req) == nil {
			toNameOrID(req.GetResource())
			toKey(req.GetKey())
		}
	})
}
