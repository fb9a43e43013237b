// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package oxidesim_test

import (
	"fmt"
	"testing"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/oxidesim"
)

func nicBody(name, subnet string, config obj) obj {
	body := obj{"name": name, "description": "", "vpc_name": "default", "subnet_name": subnet}
	if config != nil {
		body["ip_config"] = config
	}
	return body
}

func v4Config(ip string, transit ...string) obj {
	assignment := obj{"type": "auto"}
	if ip != "" {
		assignment = obj{"type": "explicit", "value": ip}
	}
	value := obj{"ip": assignment}
	if len(transit) > 0 {
		value["transit_ips"] = transit
	}
	return obj{"type": "v4", "value": value}
}

func (r *rack) subnet(name, block string) {
	r.t.Helper()
	body := obj{"name": name, "description": "", "ipv4_block": block}
	r.post("/v1/vpc-subnets?project=demo&vpc=default", body).ok(201)
}

// OXIDE_API.md §6: stacks, and the order of a list.
func TestNICStacks(t *testing.T) {
	r := startRack(t, oxidesim.Config{})
	r.subnet("a", "10.1.0.0/24")
	id := r.create("node-1", obj{"network_interfaces": obj{"type": "create", "params": []obj{
		nicBody("zeta", "default", obj{"type": "dual_stack", "value": obj{
			"v4": obj{"ip": obj{"type": "auto"}, "transit_ips": []string{"10.244.0.0/16"}},
			"v6": obj{"ip": obj{"type": "auto"}},
		}}),
		nicBody("alpha", "a", v4Config("10.1.0.77")),
	}}})
	list := r.get("/v1/network-interfaces?instance=" + id).ok(200).items()
	if len(list) != 2 || list[0].str("name") != "alpha" || list[0]["primary"] != false ||
		list[1]["primary"] != true {
		t.Fatalf("want name order, the primary one not first: %v", list)
	}
	want := `map[type:v4 value:map[ip:10.1.0.77 transit_ips:[]]]`
	if got := fmt.Sprint(list[0]["ip_stack"]); got != want {
		t.Errorf("v4 stack %s, want %s", got, want)
	}
	dual, _ := list[1]["ip_stack"].(map[string]any)
	value, _ := dual["value"].(map[string]any)
	if got := fmt.Sprint(value["v4"]); dual["type"] != "dual_stack" ||
		got != "map[ip:172.30.0.5 transit_ips:[10.244.0.0/16]]" {
		t.Errorf("dual stack %v", dual)
	}
	for kind, count := range map[string]int{
		"default_ipv4": 1, "default_ipv6": 1, "default_dual_stack": 1, "none": 0,
	} {
		other := r.create("i-"+kind[len(kind)-4:], obj{
			"network_interfaces": obj{"type": kind}, "start": false,
		})
		nics := r.get("/v1/network-interfaces?instance=" + other).ok(200).items()
		if len(nics) != count || count > 0 && nics[0].str("name") != "net0" {
			t.Errorf("%s: %v", kind, nics)
		}
	}
}

// OXIDE_API.md §6: every PUT needs a stopped instance, and clears what it does not repeat.
func TestNICUpdate(t *testing.T) {
	r := startRack(t, oxidesim.Config{})
	r.subnet("a", "10.1.0.0/24")
	id := r.create("node-1", obj{
		"start": false, "network_interfaces": obj{"type": "create", "params": []obj{
			nicBody("one", "default", v4Config("", "10.244.0.0/16")),
		}},
	})
	path := "/v1/network-interfaces/one?project=demo&instance=node-1"
	transit := func() string {
		t.Helper()
		stack, _ := r.get(path).ok(200)["ip_stack"].(map[string]any)
		value, _ := stack["value"].(map[string]any)
		return fmt.Sprint(value["transit_ips"])
	}
	r.put(path, obj{"transit_ips": []string{"10.9.0.0/16"}}).ok(200)
	if got := transit(); got != "[10.9.0.0/16]" {
		t.Errorf("set: %s", got)
	}
	r.put(path, obj{"description": "new"}).ok(200)
	if got := transit(); got != "[]" {
		t.Errorf("left out: %s, want cleared", got)
	}
	for name, bad := range map[string][]string{
		"host bits": {"10.0.0.1/16"}, "multicast": {"224.0.0.0/8"}, "loopback": {"127.0.0.0/8"},
		"overlap": {"10.0.0.0/8", "10.1.0.0/16"}, "other family": {"fd00::/64"},
	} {
		t.Run("transit IPs with "+name, func(t *testing.T) {
			r.put(path, obj{"transit_ips": bad}).want(400, "InvalidRequest")
		})
	}
	if err := r.SetRunState(id, "running"); err != nil {
		t.Fatal(err)
	}
	r.put(path, obj{"name": "two"}).want(400, "InvalidRequest")
	more := nicBody("b", "a", nil)
	r.post("/v1/network-interfaces?instance="+id, more).want(400, "InvalidRequest")
	r.del(path).want(400, "InvalidRequest")
	if err := r.SetRunState(id, "stopped"); err != nil {
		t.Fatal(err)
	}
	r.post("/v1/network-interfaces?instance="+id, more).ok(201)
	r.post("/v1/network-interfaces?instance="+id, nicBody("c", "a", nil)).
		want(400, "InvalidRequest")
	r.del(path).want(400, "InvalidRequest") // the primary one goes last
	r.put("/v1/network-interfaces/b?project=demo&instance=node-1", obj{"primary": true}).ok(200)
	r.del(path).ok(204)
	r.get(path).want(404, "ObjectNotFound")
}

// OXIDE_API.md §6: what can be changed in which state of the instance. Failed is not stopped.
func TestNICStates(t *testing.T) {
	r := startRack(t, oxidesim.Config{})
	r.subnet("a", "10.1.0.0/24")
	id := r.instance("node-1")
	const one = "/v1/network-interfaces/net0?project=demo&instance=node-1"
	for _, state := range []string{
		"creating", "starting", "running", "rebooting", "stopping", "migrating", "failed",
	} {
		t.Run(state, func(t *testing.T) {
			must(t, r.SetRunState(id, state))
			r.put(one, obj{"description": "d"}).want(400, "InvalidRequest")
			r.post("/v1/network-interfaces?instance="+id, nicBody("more", "a", nil)).
				want(400, "InvalidRequest")
			if state != "failed" {
				r.del(one).want(400, "InvalidRequest")
			}
		})
	}
	must(t, r.SetRunState(id, "stopped"))
	r.put(one, obj{"description": "d"}).ok(200)
	must(t, r.SetRunState(id, "failed"))
	r.del(one).ok(204)
}

// OXIDE_API.md §6: a PUT without transit_ips clears those of both families.
func TestNICUpdateClearsBothFamilies(t *testing.T) {
	r := startRack(t, oxidesim.Config{})
	r.create("node-1", obj{
		"start": false, "network_interfaces": obj{"type": "default_dual_stack"},
	})
	const path = "/v1/network-interfaces/net0?project=demo&instance=node-1"
	transit := func(nic obj) string {
		stack, _ := nic["ip_stack"].(map[string]any)
		value, _ := stack["value"].(map[string]any)
		four, _ := value["v4"].(map[string]any)
		six, _ := value["v6"].(map[string]any)
		return fmt.Sprint(four["transit_ips"], six["transit_ips"])
	}
	both := []string{"10.244.0.0/16", "fd00:244::/48"}
	if got := transit(r.put(path, obj{"transit_ips": both}).ok(200)); got !=
		"[10.244.0.0/16] [fd00:244::/48]" {
		t.Errorf("set: %s", got)
	}
	if got := transit(r.put(path, obj{"primary": true}).ok(200)); got != "[] []" {
		t.Errorf("left out: %s, want both cleared", got)
	}
}

// OXIDE_API.md §6: eight to an instance, each in a subnet of its own.
func TestNICLimit(t *testing.T) {
	r := startRack(t, oxidesim.Config{})
	id := r.create("node-1", obj{"start": false})
	for n := range 8 {
		name := fmt.Sprintf("s%d", n)
		r.subnet(name, fmt.Sprintf("10.1.%d.0/24", n))
		got := r.post("/v1/network-interfaces?instance="+id, nicBody(name, name, nil))
		if n < 7 { // one came with the instance
			got.ok(201)
		} else {
			got.want(400, "InvalidRequest")
		}
	}
}

// OXIDE_API.md §6: addresses of a subnet.
func TestNICAddresses(t *testing.T) {
	r := startRack(t, oxidesim.Config{})
	with := func(ip string) obj {
		return newInstanceBody("x", obj{
			"start": false, "network_interfaces": obj{"type": "create", "params": []obj{
				nicBody("n", "default", v4Config(ip)),
			}},
		})
	}
	for name, ip := range map[string]string{
		"reserved": "172.30.0.4", "broadcast": "172.30.3.255", "outside": "10.0.0.9",
	} {
		t.Run(name, func(t *testing.T) {
			r.post("/v1/instances?project=demo", with(ip)).want(400, "InvalidRequest")
		})
	}
	r.post("/v1/instances?project=demo", with("172.30.0.9")).ok(201)
	taken := with("172.30.0.9")
	taken["name"] = "y"
	r.post("/v1/instances?project=demo", taken).want(400, "InvalidRequest")
	r.post("/v1/instances?project=demo", with("fd00::1")).want(400, "")
	r.del("/v1/instances/x?project=demo").ok(204)
	r.post("/v1/instances?project=demo", taken).ok(201)
}
