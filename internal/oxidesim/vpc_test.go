// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package oxidesim_test

import (
	"fmt"
	"testing"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/oxidesim"
)

const inDefaultVPC = "?project=demo&vpc=default"

func rule(name string, more obj) obj {
	r := obj{
		"name": name, "description": "", "status": "enabled", "direction": "inbound",
		"targets": []obj{{"type": "vpc", "value": "default"}}, "action": "allow",
		"priority": 100, "filters": obj{},
	}
	for k, v := range more {
		r[k] = v
	}
	return r
}

func (r *rack) rules() []obj {
	r.t.Helper()
	got := r.get("/v1/vpc-firewall-rules" + inDefaultVPC).ok(200)
	list, _ := got["rules"].([]any)
	var out []obj
	for _, v := range list {
		m, _ := v.(map[string]any)
		out = append(out, m)
	}
	return out
}

// OXIDE_API.md §11: the default rules, and that a PUT replaces the whole set with new ids.
func TestFirewall(t *testing.T) {
	r := startRack(t, oxidesim.Config{})
	const path = "/v1/vpc-firewall-rules" + inDefaultVPC
	before := r.rules()
	var names []string
	again := []obj{}
	for _, b := range before {
		names = append(names, b.str("name"))
		if b["priority"] != 65534.0 || b.str("direction") != "inbound" {
			t.Errorf("default rule %v", b)
		}
		copied := obj{}
		for k, v := range b {
			copied[k] = v
		}
		again = append(again, copied)
	}
	if got := fmt.Sprint(names); got != "[allow-icmp allow-internal-inbound allow-ssh]" {
		t.Fatalf("default rules %s", got)
	}
	r.put(path, obj{"rules": again}).ok(200)
	for i, after := range r.rules() {
		if after["id"] == before[i]["id"] || after["time_created"] == before[i]["time_created"] {
			t.Errorf("%s kept its id or time", after.str("name"))
		}
		if fmt.Sprint(after["filters"]) != fmt.Sprint(before[i]["filters"]) {
			t.Errorf("%s changed its filters", after.str("name"))
		}
	}
	t.Run("ports without protocols, and filters that match anything, are kept", func(t *testing.T) {
		r.put(path, obj{"rules": []obj{rule("web", obj{"filters": obj{
			"ports": []string{"80", "8000-8080"}, "hosts": []obj{},
		}})}}).ok(200)
		got := fmt.Sprint(r.rules()[0]["filters"])
		if got != "map[hosts:[] ports:[80 8000-8080] protocols:<nil>]" {
			t.Errorf("filters %s", got)
		}
	})
	t.Run("absent rules close the VPC", func(t *testing.T) {
		r.put(path, obj{}).ok(200)
		if left := r.rules(); len(left) != 0 {
			t.Errorf("left: %v", left)
		}
	})
	many := []obj{}
	for n := range 1025 {
		many = append(many, rule(fmt.Sprintf("r%d", n), nil))
	}
	hosts := []obj{}
	for range 257 {
		hosts = append(hosts, obj{"type": "ip", "value": "192.0.2.1"})
	}
	for _, tc := range []struct {
		name  string
		rules any
		code  string
	}{
		{"duplicate names", []obj{rule("a", nil), rule("a", nil)}, "InvalidValue"},
		{"1025 rules", many, "InvalidValue"},
		{"257 hosts", []obj{rule("a", obj{"filters": obj{"hosts": hosts}})}, "InvalidValue"},
		{"another VPC", []obj{rule("a", obj{
			"targets": []obj{{"type": "vpc", "value": "elsewhere"}},
		})}, "InvalidRequest"},
		{"null", nil, ""},
		{"ports upside down", []obj{rule("a", obj{"filters": obj{"ports": []string{"9-8"}}})}, ""},
		{"unknown protocol", []obj{rule("a", obj{
			"filters": obj{"protocols": []obj{{"type": "sctp"}}},
		})}, ""},
		{"priority beyond u16", []obj{rule("a", obj{"priority": 65536})}, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r.put(path, obj{"rules": tc.rules}).want(400, tc.code)
		})
	}
	t.Run("names of instances and subnets are not resolved", func(t *testing.T) {
		r.put(path, obj{"rules": []obj{rule("a", obj{"targets": []obj{
			{"type": "instance", "value": "nobody"}, {"type": "subnet", "value": "nowhere"},
		}})}}).ok(200)
	})
}

// OXIDE_API.md §11: a push that fails is a 500, although the rules are stored.
func TestFirewallPushFails(t *testing.T) {
	r := startRack(t, oxidesim.Config{})
	r.instance("node-1")
	if err := r.LoseSled("instance:node-1"); err != nil {
		t.Fatal(err)
	}
	r.put("/v1/vpc-firewall-rules"+inDefaultVPC, obj{"rules": []obj{rule("web", nil)}}).
		want(500, "Internal")
	if got := r.rules(); len(got) != 1 || got[0].str("name") != "web" {
		t.Errorf("stored: %v", got)
	}
}

// OXIDE_API.md §12: subnets and their custom router.
func TestSubnetRouter(t *testing.T) {
	r := startRack(t, oxidesim.Config{})
	router := r.post("/v1/vpc-routers"+inDefaultVPC, obj{"name": "pods", "description": ""}).ok(201)
	const path = "/v1/vpc-subnets/default" + inDefaultVPC
	r.put(path, obj{"custom_router": "pods"}).ok(200)
	if got := r.get(path).ok(200); got["custom_router_id"] != router["id"] {
		t.Errorf("attached: %v", got)
	}
	t.Run("a PUT without it detaches it", func(t *testing.T) {
		if got := r.put(path, obj{"description": "d"}).ok(200); got["custom_router_id"] != nil {
			t.Errorf("still %v", got["custom_router_id"])
		}
	})
	t.Run("the system router cannot be attached", func(t *testing.T) {
		r.put(path, obj{"custom_router": "system"}).want(400, "InvalidRequest")
	})
	t.Run("deleting the router detaches it", func(t *testing.T) {
		r.put(path, obj{"custom_router": router["id"]}).ok(200)
		r.del("/v1/vpc-routers/" + router.str("id")).ok(204)
		if got := r.get(path).ok(200); got["custom_router_id"] != nil {
			t.Errorf("still %v", got["custom_router_id"])
		}
	})
	t.Run("the system router stays", func(t *testing.T) {
		r.del("/v1/vpc-routers/system"+inDefaultVPC).want(400, "InvalidRequest")
	})
	t.Run("blocks must not overlap", func(t *testing.T) {
		body := obj{"name": "x", "description": "", "ipv4_block": "172.30.1.0/24"}
		r.post("/v1/vpc-subnets"+inDefaultVPC, body).want(400, "InvalidRequest")
	})
	t.Run("a subnet in use stays", func(t *testing.T) {
		r.instance("node-1")
		r.del(path).want(400, "InvalidRequest")
	})
}

// OXIDE_API.md §12: routes.
func TestRoutes(t *testing.T) {
	r := startRack(t, oxidesim.Config{})
	r.post("/v1/vpc-routers"+inDefaultVPC, obj{"name": "pods", "description": ""}).ok(201)
	const routes = "/v1/vpc-router-routes" + inDefaultVPC + "&router="
	route := func(name, dtype, dvalue, ttype, tvalue string) obj {
		target := obj{"type": ttype}
		if tvalue != "" {
			target["value"] = tvalue
		}
		return obj{
			"name": name, "description": "", "target": target,
			"destination": obj{"type": dtype, "value": dvalue},
		}
	}
	for _, tc := range []struct {
		name   string
		body   obj
		status int
		code   string
	}{
		{"to an IP", route("a", "ip_net", "10.244.0.0/24", "ip", "172.30.0.5"), 201, ""},
		{"name taken", route("a", "ip_net", "10.1.0.0/24", "drop", ""), 400, "ObjectAlreadyExists"},
		{"the same destination twice", route("b", "ip_net", "10.244.0.0/24", "drop", ""), 201, ""},
		{"to an instance that is not there", route("c", "ip", "10.9.9.9", "instance", "x"), 201, ""},
		{"destination VPC", route("d", "vpc", "default", "drop", ""), 400, "InvalidRequest"},
		{"target VPC", route("d", "ip", "10.9.9.9", "vpc", "default"), 400, "InvalidRequest"},
		{"target subnet", route("d", "ip", "10.9.9.9", "subnet", "default"), 400, "InvalidRequest"},
		{"two versions", route("d", "ip_net", "fd00::/64", "ip", "10.0.0.1"), 400, "InvalidRequest"},
		{"no network", route("d", "ip_net", "10.244.0.0", "drop", ""), 400, ""},
		{"no target", obj{"name": "d", "description": ""}, 400, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r.post(routes+"pods", tc.body).want(tc.status, tc.code)
		})
	}
	t.Run("not on the system router", func(t *testing.T) {
		body := route("z", "ip", "10.9.9.9", "drop", "")
		r.post(routes+"system", body).want(400, "InvalidRequest")
	})
	one := "/v1/vpc-router-routes/a" + inDefaultVPC + "&router=pods"
	t.Run("an update needs both ends", func(t *testing.T) {
		r.put(one, obj{"description": "d"}).want(400, "")
	})
	t.Run("a rename to a taken name is 500", func(t *testing.T) {
		r.put(one, route("b", "ip", "10.9.9.9", "drop", "")).want(500, "Internal")
	})
	t.Run("an update replaces", func(t *testing.T) {
		got := r.put(one, route("a", "ip", "10.9.9.9", "drop", "")).ok(200)
		if fmt.Sprint(got["target"]) != "map[type:drop]" || got.str("kind") != "custom" {
			t.Errorf("updated: %v", got)
		}
	})
	t.Run("the system router's own", func(t *testing.T) {
		kinds := map[string]string{}
		for _, i := range r.get(routes + "system").ok(200).items() {
			kinds[i.str("name")] = i.str("kind")
		}
		if kinds["default-v4"] != "default" || kinds["default"] != "vpc_subnet" || len(kinds) != 3 {
			t.Errorf("kinds: %v", kinds)
		}
		r.del("/v1/vpc-router-routes/default"+inDefaultVPC+"&router=system").
			want(400, "InvalidRequest")
	})
	r.del(one).ok(204)
	r.get(one).want(404, "ObjectNotFound")
}

// OXIDE_API.md §4, §12: what a VPC comes with, and what keeps it.
func TestVPC(t *testing.T) {
	r := startRack(t, oxidesim.Config{})
	made := r.post("/v1/vpcs?project=demo", obj{
		"name": "second", "description": "", "dns_name": "second",
	}).ok(201)
	router := r.get("/v1/vpc-routers/" + made.str("system_router_id")).ok(200)
	if router.str("kind") != "system" {
		t.Errorf("system router %v", router)
	}
	const in = "?project=demo&vpc=second"
	gateways := r.get("/v1/internet-gateways" + in).ok(200).items()
	if len(gateways) != 1 {
		t.Fatalf("gateways %v", gateways)
	}
	pools := r.get("/v1/internet-gateway-ip-pools?gateway=" + gateways[0].str("id")).ok(200).items()
	if len(pools) != 1 {
		t.Errorf("pools of the default gateway: %v", pools)
	}
	r.del("/v1/vpcs/second?project=demo").want(400, "InvalidRequest")
	r.del("/v1/vpc-subnets/default" + in).ok(204)
	r.del("/v1/vpcs/second?project=demo").ok(204)
	r.get("/v1/vpc-routers/"+made.str("system_router_id")).want(404, "ObjectNotFound")
	r.put("/v1/vpcs/default?project=demo", obj{"dns_name": "other"}).ok(200)
	r.del("/v1/projects/demo").want(400, "InvalidRequest") // it has a VPC
}
