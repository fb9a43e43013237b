// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package oxidesim_test

import (
	"strings"
	"testing"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/oxidesim"
)

// OXIDE_API.md §9: an operator gives a silo a pool; the silo uses it; then it cannot be taken
// away.
func TestSystemIPPools(t *testing.T) {
	r := startRack(t, oxidesim.Config{})
	op := r.as(oxidesim.DefaultOperatorToken)
	const all, one = "/v1/system/ip-pools", "/v1/system/ip-pools/extra"
	op.post(all, obj{"name": "extra", "description": ""}).ok(201)
	op.post(all, obj{"name": "extra", "description": ""}).want(400, "ObjectAlreadyExists")
	span := obj{"first": "192.0.2.1", "last": "192.0.2.4"}
	op.post(one+"/ranges/add", span).ok(201)
	op.post(one+"/ranges/add", obj{"first": "192.0.2.4", "last": "192.0.2.9"}).
		want(400, "InvalidRequest")
	op.post(one+"/ranges/add", obj{"first": "2001:db8::1", "last": "2001:db8::2"}).
		want(400, "InvalidRequest")
	op.post(one+"/ranges/add", obj{"first": "192.0.2.9", "last": "192.0.2.5"}).want(400, "")

	r.get("/v1/ip-pools/extra").want(404, "ObjectNotFound")
	link := obj{"silo": "demo", "is_default": true}
	op.post(one+"/silos", link).want(400, "ObjectAlreadyExists") // there is a default one
	link["is_default"] = false
	op.post(one+"/silos", link).ok(201)
	op.post(one+"/silos", link).want(400, "ObjectAlreadyExists")
	if got := r.get("/v1/ip-pools/extra").ok(200); got["is_default"] != false {
		t.Errorf("linked: %v", got)
	}
	op.put(one+"/silos/demo", obj{"is_default": true}).ok(200)
	if got := r.get("/v1/ip-pools/default").ok(200); got["is_default"] != false {
		t.Errorf("the old default is still one: %v", got)
	}
	if ip := r.get("/v1/floating-ips/" + r.fip("web")).ok(200).str("ip"); ip != "192.0.2.1" {
		t.Errorf("from the new default: %s", ip)
	}
	if got := op.get(one + "/utilization").ok(200); got["capacity"] != 4.0 || got["remaining"] != 3.0 {
		t.Errorf("utilization %v", got)
	}
	op.del(one+"/silos/demo").want(400, "InvalidRequest")
	op.post(one+"/ranges/remove", span).want(400, "InvalidRequest")
	op.del(one).want(400, "InvalidRequest")
	r.del("/v1/floating-ips/web?project=demo").ok(204)
	op.del(one + "/silos/demo").ok(204)
	op.post(one+"/ranges/remove", span).ok(204)
	op.del(one).ok(204)
	r.get("/v1/ip-pools/extra").want(404, "ObjectNotFound")
}

// OXIDE_API.md §9, §13: the same for subnet pools.
func TestSystemSubnetPools(t *testing.T) {
	r := startRack(t, oxidesim.Config{})
	op := r.as(oxidesim.DefaultOperatorToken)
	const all, one = "/v1/system/subnet-pools", "/v1/system/subnet-pools/routed"
	op.post(all, obj{"name": "routed", "description": "", "ip_version": "v4"}).ok(201)
	member := op.post(one+"/members/add", obj{"subnet": "203.0.113.0/28"}).ok(201)
	if member["min_prefix_length"] != 28.0 || member["max_prefix_length"] != 32.0 {
		t.Errorf("member %v", member)
	}
	op.post(one+"/members/add", obj{"subnet": "203.0.113.8/29"}).want(400, "InvalidRequest")
	op.post(one+"/members/add", obj{"subnet": "192.0.2.1/24"}).want(400, "InvalidRequest")
	link := obj{"silo": "demo", "is_default": true}
	op.post(one+"/silos", link).want(400, "ObjectAlreadyExists") // there is another default
	op.del(all + "/subnets/silos/demo").ok(204)
	op.post(one+"/silos", link).ok(201)
	r.post("/v1/external-subnets?project=demo", obj{
		"name": "vips", "description": "", "allocator": autoSubnet(30, nil),
	}).ok(201)
	if got := op.get(one + "/utilization").ok(200); got["capacity"] != 16.0 ||
		got["remaining"] != 12.0 {
		t.Errorf("utilization %v", got)
	}
	op.del(one+"/silos/demo").want(400, "InvalidRequest")
	op.post(one+"/members/remove", obj{"subnet": "203.0.113.0/28"}).want(400, "InvalidRequest")
	r.del("/v1/external-subnets/vips?project=demo").ok(204)
	op.del(one + "/silos/demo").ok(204)
	op.post(one+"/members/remove", obj{"subnet": "203.0.113.0/28"}).ok(204)
	op.del(one).ok(204)
}

// Silos, their users and policies.
func TestSystemSilos(t *testing.T) {
	r := startRack(t, oxidesim.Config{})
	op := r.as(oxidesim.DefaultOperatorToken)
	op.post("/v1/system/silos", obj{
		"name": "second", "description": "", "discoverable": true, "identity_mode": "local_only",
		"quotas":           obj{"cpus": 1, "memory": gib, "storage": gib},
		"tls_certificates": []obj{}, "mapped_fleet_roles": obj{"admin": []string{"viewer"}},
	}).ok(201)
	user := op.post("/v1/system/identity-providers/local/users?silo=second", obj{
		"external_id": "ann", "password": obj{"mode": "login_disallowed"},
	}).ok(201)
	op.put("/v1/system/silos/second/policy", obj{"role_assignments": []obj{{
		"identity_type": "silo_user", "identity_id": user.str("id"), "role_name": "admin",
	}}}).ok(200)
	secret, err := r.AddToken("second/ann", "")
	must(t, err)
	ann := r.as(secret)
	if me := ann.get("/v1/me").ok(200); me.str("silo_name") != "second" || me["silo_admin"] != true {
		t.Errorf("ann: %v", me)
	}
	ann.post("/v1/projects", obj{"name": "hers", "description": ""}).ok(201)
	ann.get("/v1/ip-pools/default").want(404, "ObjectNotFound")
	op.del("/v1/system/silos/second").want(400, "InvalidRequest")
	ann.del("/v1/vpc-subnets/default?project=hers&vpc=default").ok(204)
	ann.del("/v1/vpcs/default?project=hers").ok(204)
	ann.del("/v1/projects/hers").ok(204)
	op.del("/v1/system/silos/second").ok(204)
	ann.get("/v1/me").want(401, "Unauthorized")
	r.get("/v1/system/silos").want(403, "Forbidden")
}

// OXIDE_API.md §1 Auth: null is no limit to a token's life, and must be said.
func TestAuthSettings(t *testing.T) {
	r := startRack(t, oxidesim.Config{})
	op := r.as(oxidesim.DefaultOperatorToken)
	before := r.get("/v1/auth-settings").ok(200)
	if got, ok := before["device_token_max_ttl_seconds"]; got != nil || !ok {
		t.Errorf("default %v, present %v", got, ok)
	}
	op.put("/v1/auth-settings", obj{}).want(400, "")
	op.put("/v1/auth-settings", obj{"device_token_max_ttl_seconds": 3600}).ok(200)
	r.put("/v1/auth-settings", obj{"device_token_max_ttl_seconds": nil}).want(403, "Forbidden")
	if got := r.get("/v1/auth-settings").ok(200)["device_token_max_ttl_seconds"]; got != 3600.0 {
		t.Errorf("set to %v", got)
	}
}

// OXIDE_API.md §15: hardware is for the fleet's viewers.
func TestHardware(t *testing.T) {
	r := startRack(t, oxidesim.Config{})
	id := r.instance("node-1")
	op := r.as(oxidesim.DefaultOperatorToken)
	r.get("/v1/system/hardware/sleds").want(403, "Forbidden")
	use, _ := r.get("/v1/utilization").ok(200)["provisioned"].(map[string]any)
	if use["cpus"] != 2.0 || use["memory"] != float64(4*gib) {
		t.Errorf("provisioned: %v", use)
	}
	racks := op.get("/v1/system/hardware/racks").ok(200).items()
	if len(racks) != 1 || racks[0].str("id") != r.State().RackID {
		t.Errorf("racks: %v", racks)
	}
	found := 0
	for _, sled := range op.get("/v1/system/hardware/sleds").ok(200).items() {
		path := "/v1/system/hardware/sleds/" + sled.str("id")
		found += len(op.get(path + "/instances").ok(200).items())
	}
	if found != 1 {
		t.Errorf("%d instances on all sleds", found)
	}
	sled := r.Instances()[0].SledID
	must(t, r.ExpungeSled("instance:"+id))
	if got := op.get("/v1/system/hardware/sleds/" + sled).ok(200); got.str("state") !=
		"decommissioned" {
		t.Errorf("expunged: %v", got)
	}
}

// Clients look for these words: Oxide's Terraform provider takes them for a removal that is done.
func TestRemovingWhatAPoolDoesNotHaveSaysThatItDoesNotExist(t *testing.T) {
	r := startRack(t, oxidesim.Config{})
	op := r.as(oxidesim.DefaultOperatorToken)
	op.post("/v1/system/subnet-pools", obj{
		"name": "routed", "description": "", "ip_version": "v4",
	}).ok(201)
	for path, body := range map[string]obj{
		"/v1/system/subnet-pools/routed/members/remove": {"subnet": "203.0.113.0/28"},
		"/v1/system/ip-pools/default/ranges/remove":     {"first": "192.0.2.1", "last": "192.0.2.9"},
	} {
		got := op.post(path, body).want(400, "InvalidRequest").str("message")
		if !strings.Contains(got, "does not exist") {
			t.Errorf("%s: message %q", path, got)
		}
	}
}

// OXIDE_API.md §5: an instance can be given jumbo frames once the operator's setting allows it.
func TestJumboFramesNeedTheOperatorsSetting(t *testing.T) {
	const settings = "/v1/system/networking/settings"
	r := startRack(t, oxidesim.Config{})
	op := r.as(oxidesim.DefaultOperatorToken)
	allow := func(yes bool) {
		t.Helper()
		body := obj{"external_jumbo_frames_opt_in_enabled": yes}
		op.put(settings, body).ok(200)
		if got := op.get(settings).ok(200)["external_jumbo_frames_opt_in_enabled"]; got != yes {
			t.Errorf("the setting is %v, want %v", got, yes)
		}
	}
	r.put(settings, obj{"external_jumbo_frames_opt_in_enabled": true}).want(403, "Forbidden")
	jumbo := obj{"enable_jumbo_frames": true, "start": false}
	create := func() *answer {
		return r.post("/v1/instances?project=demo", newInstanceBody("node-1", jumbo))
	}
	update := func(yes bool) *answer {
		return r.put("/v1/instances/node-1?project=demo", obj{
			"ncpus": 2, "memory": gib, "enable_jumbo_frames": yes, "boot_disk": nil,
			"cpu_platform": nil, "auto_restart_policy": nil,
		})
	}
	create().want(400, "InvalidRequest")
	allow(true)
	create().ok(201)
	update(false).ok(200)
	op.put(settings, obj{}).ok(200) // what is left out is off
	update(true).want(400, "InvalidRequest")
	update(false).ok(200)
	allow(true)
	if got := update(true).ok(200); got["enable_jumbo_frames"] != true {
		t.Errorf("updated: %v", got)
	}
}
