// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package oxidesim_test

import (
	"fmt"
	"testing"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/oxidesim"
)

// with is a copy of a body with one field set.
func with(body obj, key string, value any) obj {
	out := obj{}
	for k, v := range body {
		out[k] = v
	}
	out[key] = value
	return out
}

// OXIDE_API.md §2: a body that does not fit its schema is a 400 without error_code. Fields with
// a default may be left out, but null is no value of theirs; numbers of bytes have 63 bits.
func TestBodiesOutOfSchema(t *testing.T) {
	r := startRack(t, oxidesim.Config{})
	const (
		instances, node = "/v1/instances?project=demo", "/v1/instances/node-1?project=demo"
		pools, silos    = "/v1/system/ip-pools", "/v1/system/silos"
		users           = "/v1/system/identity-providers/local/users?silo=demo"
	)
	inst := obj{"name": "a", "description": "", "hostname": "a", "ncpus": 1, "memory": 1 << 30}
	pool := obj{"name": "a", "description": ""}
	quotas := obj{"cpus": 1, "memory": 1, "storage": 1}
	silo := obj{
		"name": "a", "description": "", "discoverable": true, "identity_mode": "local_only",
		"quotas": quotas, "tls_certificates": []obj{},
	}
	user := obj{"external_id": "a", "password": obj{"mode": "login_disallowed"}}
	update := obj{
		"ncpus": 1, "memory": 1 << 30, "boot_disk": nil, "cpu_platform": nil,
		"auto_restart_policy": nil, "enable_jumbo_frames": false,
	}
	disk := obj{"name": "a", "description": "", "disk_backend": obj{"type": "local"}}
	const tooMany = uint64(1) << 63
	for _, tc := range []struct {
		name, path string
		put        bool
		body       obj
	}{
		{"user data null", instances, false, with(inst, "user_data", nil)},
		{"user data a list", instances, false, with(inst, "user_data", []int{1})},
		{"user data no base64", instances, false, with(inst, "user_data", "?")},
		{"memory of 64 bits", instances, false, with(inst, "memory", tooMany)},
		{"new memory of 64 bits", node, true, with(update, "memory", tooMany)},
		{"disk of 64 bits", "/v1/disks?project=demo", false, with(disk, "size", tooMany)},
		{"version null", pools, false, with(pool, "ip_version", nil)},
		{"type null", pools, false, with(pool, "pool_type", nil)},
		{"fleet roles null", silos, false, with(silo, "mapped_fleet_roles", nil)},
		{"fleet roles of no role", silos, false, with(silo, "mapped_fleet_roles", obj{"x": "y"})},
		{
			"no fleet roles", silos, false,
			with(silo, "mapped_fleet_roles", obj{"admin": []string{"king"}}),
		},
		{"quota of 64 bits", silos, false, with(silo, "quotas", with(quotas, "memory", tooMany))},
		{"user id no name", users, false, with(user, "external_id", "A.B")},
		{"no password", users, false, with(user, "password", obj{"mode": "password"})},
	} {
		t.Run(tc.name, func(t *testing.T) {
			as := r.as(oxidesim.DefaultOperatorToken)
			as.t = t
			if tc.put {
				as.put(tc.path, tc.body).want(400, "")
			} else {
				as.post(tc.path, tc.body).want(400, "")
			}
		})
	}
	op := r.as(oxidesim.DefaultOperatorToken)
	made := op.post(silos, with(silo, "mapped_fleet_roles", obj{"admin": []string{"viewer"}})).ok(201)
	if got := fmt.Sprint(made["mapped_fleet_roles"]); got != "map[admin:[viewer]]" {
		t.Errorf("mapped fleet roles: %s", got)
	}
	if got := op.post(pools, pool).ok(201); got.str("ip_version") != "v4" {
		t.Errorf("pool by default: %v", got)
	}
}

// OXIDE_API.md §11: ports and codes are numbers or ranges; the rack writes them in one way.
func TestFirewallRanges(t *testing.T) {
	r := startRack(t, oxidesim.Config{})
	const path = "/v1/vpc-firewall-rules" + inDefaultVPC
	icmp := func(code any) []obj {
		return []obj{rule("a", obj{"filters": obj{"protocols": []obj{
			{"type": "icmp", "value": obj{"icmp_type": 3, "code": code}},
		}}})}
	}
	ports := func(p ...string) []obj { return []obj{rule("a", obj{"filters": obj{"ports": p}})} }
	for _, tc := range []struct {
		name string
		set  []obj
		want string // the filters that are read back, or empty for a 400
	}{
		{"one code", icmp("3"), "protocols:[map[type:icmp value:map[code:3 icmp_type:3]]]"},
		{"codes", icmp("00-255"), "protocols:[map[type:icmp value:map[code:0-255 icmp_type:3]]]"},
		{"any code", icmp(nil), "protocols:[map[type:icmp value:map[code:<nil> icmp_type:3]]]"},
		{"codes upside down", icmp("5-1"), ""},
		{"code beyond u8", icmp("256"), ""},
		{"code no number", icmp("x"), ""},
		{"ports", ports("080", "22-22", "1-65535"), "ports:[80 22 1-65535] protocols:<nil>"},
		{"port zero", ports("0-80"), ""},
		{"port beyond u16", ports("65536"), ""},
		{"open range", ports("80-"), ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if tc.want == "" {
				r.put(path, obj{"rules": tc.set}).want(400, "")
				return
			}
			r.put(path, obj{"rules": tc.set}).ok(200)
			got := fmt.Sprint(r.rules()[0]["filters"])
			if want := "map[hosts:<nil> " + tc.want + "]"; got != want &&
				got != "map[hosts:<nil> ports:<nil> "+tc.want+"]" {
				t.Errorf("filters %s, want %s", got, want)
			}
		})
	}
	t.Run("a description of 513 characters is a 500 and stores nothing", func(t *testing.T) {
		before := fmt.Sprint(r.rules())
		long := rule("a", obj{"description": fmt.Sprintf("%513s", "")})
		r.put(path, obj{"rules": []obj{long}}).want(500, "Internal")
		if after := fmt.Sprint(r.rules()); after != before {
			t.Errorf("rules: %s, before: %s", after, before)
		}
	})
}

// OXIDE_API.md §12: the API description calls default routes modifiable: their targets are,
// nothing else is, and they cannot be deleted.
func TestDefaultRoute(t *testing.T) {
	r := startRack(t, oxidesim.Config{})
	const in = "?project=demo&vpc=default&router=system"
	const path = "/v1/vpc-router-routes/default-v4" + in
	drop := obj{
		"destination": obj{"type": "ip_net", "value": "0.0.0.0/0"},
		"target":      obj{"type": "drop"},
	}
	if got := r.put(path, drop).ok(200); fmt.Sprint(got["target"]) != "map[type:drop]" {
		t.Errorf("target: %v", got["target"])
	}
	r.put(path, with(drop, "name", "other")).want(400, "InvalidRequest")
	r.put(path, with(drop, "description", "other")).want(400, "InvalidRequest")
	elsewhere := obj{"type": "ip_net", "value": "10.0.0.0/8"}
	r.put(path, with(drop, "destination", elsewhere)).want(400, "InvalidRequest")
	r.del(path).want(400, "InvalidRequest")
	r.put("/v1/vpc-router-routes/default"+in, drop).want(400, "InvalidRequest") // a subnet's
}
