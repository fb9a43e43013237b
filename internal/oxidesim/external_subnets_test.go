// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package oxidesim_test

import (
	"fmt"
	"testing"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/oxidesim"
)

const subnetPools = `
silos: [{name: other}]
subnet_pools:
- name: routed
  ip_version: v4
  members: [{subnet: 203.0.113.0/28, min_prefix_length: 29, max_prefix_length: 32}]
  silos: [{silo: demo, default: true}]
- {name: six, ip_version: v6, members: [{subnet: "2001:db8:99::/64"}], silos: [{silo: demo}]}
- {name: theirs, ip_version: v4, members: [{subnet: 192.0.2.0/24}], silos: [{silo: other}]}
`

func withSubnetPools(t *testing.T) *rack {
	t.Helper()
	r := startRack(t, oxidesim.Config{})
	seed, err := oxidesim.ParseSeed([]byte(subnetPools))
	if err == nil {
		err = r.Apply(seed)
	}
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func autoSubnet(bits int, selector obj) obj {
	a := obj{"type": "auto", "prefix_length": bits}
	if selector != nil {
		a["pool_selector"] = selector
	}
	return a
}

// OXIDE_API.md §13: allocation. All lack of room is a 400.
func TestExternalSubnetAllocators(t *testing.T) {
	r := withSubnetPools(t)
	explicit := func(net string) obj { return obj{"type": "explicit", "subnet": net} }
	pool := func(name string) obj { return obj{"type": "explicit", "pool": name} }
	for n, tc := range []struct {
		name      string
		allocator obj
		status    int
		code      string
		subnet    string
	}{
		{"a single address", autoSubnet(32, nil), 201, "", "203.0.113.0/32"},
		{"the next one", autoSubnet(32, nil), 201, "", "203.0.113.1/32"},
		{"a greater one, aligned", autoSubnet(29, nil), 201, "", "203.0.113.8/29"},
		{"no room", autoSubnet(29, nil), 400, "InvalidRequest", ""},
		{"too great for the member", autoSubnet(28, nil), 400, "InvalidRequest", ""},
		{"explicit", explicit("203.0.113.4/30"), 201, "", "203.0.113.4/30"},
		{"explicit, overlapping", explicit("203.0.113.4/32"), 400, "InvalidRequest", ""},
		{"explicit, host bits", explicit("203.0.113.3/31"), 400, "InvalidRequest", ""},
		{"explicit, in no pool", explicit("10.0.0.0/30"), 400, "InvalidRequest", ""},
		{"explicit, unlinked pool", explicit("192.0.2.0/30"), 400, "InvalidRequest", ""},
		{"unlinked pool", autoSubnet(30, pool("theirs")), 404, "ObjectNotFound", ""},
		{"a pool by name", autoSubnet(128, pool("six")), 201, "", "2001:db8:99::/128"},
		{"no default of the version", autoSubnet(128, obj{"type": "auto", "ip_version": "v6"}),
			400, "InvalidRequest", ""},
		{"no prefix length", obj{"type": "auto"}, 400, "", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got := r.post("/v1/external-subnets?project=demo", obj{
				"name": fmt.Sprintf("s%d", n), "description": "", "allocator": tc.allocator,
			}).want(tc.status, tc.code)
			if tc.status == 201 && got.str("subnet") != tc.subnet {
				t.Errorf("subnet %s, want %s", got.str("subnet"), tc.subnet)
			}
		})
	}
}

// OXIDE_API.md §13: attach and detach, and how they differ from a floating IP's.
func TestExternalSubnetAttach(t *testing.T) {
	r := withSubnetPools(t)
	i := r.instance("node-1")
	id := r.post("/v1/external-subnets?project=demo", obj{
		"name": "vips", "description": "", "allocator": autoSubnet(32, nil),
	}).ok(201).str("id")
	path := "/v1/external-subnets/" + id
	r.post(path+"/detach", nil).want(400, "InvalidRequest") // not a 202
	target := obj{"instance": i}
	if got := r.post(path+"/attach", target).ok(202); got.str("instance_id") != i {
		t.Errorf("attach answered %v", got)
	}
	r.post(path+"/attach", target).ok(202)
	r.post(path+"/attach", obj{"instance": r.instance("node-2")}).want(400, "InvalidRequest")
	if n := len(r.get("/v1/instances/" + i + "/external-subnets").ok(200).items()); n != 1 {
		t.Errorf("%d listed", n)
	}
	r.del(path).want(400, "InvalidRequest")
	if got := r.post(path+"/detach", nil).ok(202); got["instance_id"] != nil {
		t.Errorf("detach answered %v, want it fresh", got)
	}
	for _, tc := range []struct {
		state  string
		status int
		code   string
	}{
		{"failed", 400, "InvalidRequest"},
		{"starting", 503, "ServiceNotAvailable"},
		{"stopped", 202, ""},
	} {
		if err := r.SetRunState(i, tc.state); err != nil {
			t.Fatal(err)
		}
		r.post(path+"/attach", target).want(tc.status, tc.code)
	}
	r.del("/v1/instances/" + i).ok(204)
	if got := r.get(path).ok(200); got["instance_id"] != nil {
		t.Errorf("kept a deleted instance: %v", got)
	}
	r.del(path).ok(204)
}

// OXIDE_API.md §13: 32 per instance.
func TestExternalSubnetLimit(t *testing.T) {
	r := withSubnetPools(t)
	i := r.instance("node-1")
	for n := range 33 {
		id := r.post("/v1/external-subnets?project=demo", obj{
			"name": fmt.Sprintf("s%d", n), "description": "",
			"allocator": autoSubnet(128, obj{"type": "explicit", "pool": "six"}),
		}).ok(201).str("id")
		status, code := 202, ""
		if n == 32 {
			status, code = 400, "InvalidRequest"
		}
		r.post("/v1/external-subnets/"+id+"/attach", obj{"instance": i}).want(status, code)
	}
}
