// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package oxidesim_test

import (
	"fmt"
	"testing"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/oxidesim"
)

func explicitIP(ip string) obj { return obj{"type": "explicit", "ip": ip} }

func fromPool(pool string) obj {
	return obj{"type": "auto", "pool_selector": obj{"type": "explicit", "pool": pool}}
}

// OXIDE_API.md §8 Create: allocators and their refusals.
func TestFloatingIPAllocators(t *testing.T) {
	r := startRack(t, oxidesim.Config{})
	seed, err := oxidesim.ParseSeed([]byte(`
silos: [{name: other}]
ip_pools:
- {name: more, ranges: [{first: 192.0.2.1, last: 192.0.2.2}], silos: [{silo: demo}]}
- {name: theirs, ranges: [{first: 203.0.113.1, last: 203.0.113.9}], silos: [{silo: other}]}
- name: many
  pool_type: multicast
  ranges: [{first: 239.1.1.1, last: 239.1.1.9}]
  silos: [{silo: demo, default: true}]
`))
	if err == nil {
		err = r.Apply(seed)
	}
	if err != nil {
		t.Fatal(err)
	}
	for n, tc := range []struct {
		name      string
		allocator obj
		status    int
		code      string
	}{
		{"absent is the default pool", nil, 201, ""},
		{"explicit in the default pool", explicitIP("198.51.100.99"), 201, ""},
		{"explicit in a pool that is not the default", explicitIP("192.0.2.2"), 201, ""},
		{"explicit and taken", explicitIP("192.0.2.2"), 400, "InvalidRequest"},
		{"explicit in no pool", explicitIP("10.0.0.1"), 400, "InvalidRequest"},
		{"explicit in an unlinked pool", explicitIP("203.0.113.1"), 400, "InvalidRequest"},
		{"explicit multicast", explicitIP("239.1.1.1"), 400, "InvalidRequest"},
		{"no address", explicitIP("300.0.0.1"), 400, ""},
		{"of a pool by name", fromPool("more"), 201, ""},
		{"of an empty pool", fromPool("more"), 507, "InsufficientCapacity"},
		{"of an unknown pool", fromPool("nope"), 404, "ObjectNotFound"},
		{"of an unlinked pool", fromPool("theirs"), 404, "ObjectNotFound"},
		{"of a multicast pool", fromPool("many"), 400, "InvalidRequest"},
		{"of a version without default", obj{
			"type": "auto", "pool_selector": obj{"type": "auto", "ip_version": "v6"},
		}, 404, "ObjectNotFound"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			body := obj{"name": fmt.Sprintf("f%d", n), "description": ""}
			if tc.allocator != nil {
				body["address_allocator"] = tc.allocator
			}
			r.post("/v1/floating-ips?project=demo", body).want(tc.status, tc.code)
		})
	}
	t.Run("defaults of both versions: the version must be said", func(t *testing.T) {
		r := startRack(t, oxidesim.Config{Seed: dualDefault()})
		body := obj{"name": "a", "description": ""}
		r.post("/v1/floating-ips?project=demo", body).want(400, "InvalidRequest")
	})
	t.Run("no default at all", func(t *testing.T) {
		seed := oxidesim.DefaultSeed()
		seed.Pools[0].Silos[0].Default = false
		r := startRack(t, oxidesim.Config{Seed: &seed})
		body := obj{"name": "a", "description": ""}
		r.post("/v1/floating-ips?project=demo", body).want(404, "ObjectNotFound")
	})
}

// OXIDE_API.md §8: a full pool is a 507 until something is free again.
func TestFullPool(t *testing.T) {
	r := startRack(t, oxidesim.Config{})
	if err := r.FillPool("default"); err != nil {
		t.Fatal(err)
	}
	body := obj{"name": "a", "description": ""}
	r.post("/v1/floating-ips?project=demo", body).want(507, "InsufficientCapacity")
	if err := r.DrainPool("default"); err != nil {
		t.Fatal(err)
	}
	r.post("/v1/floating-ips?project=demo", body).ok(201)
}

// OXIDE_API.md §8 Attach 1: selectors of the target.
func TestFloatingIPAttachTargets(t *testing.T) {
	r := startRack(t, oxidesim.Config{})
	r.instance("node-1")
	id := r.fip("web")
	r.post("/v1/projects", obj{"name": "second", "description": ""}).ok(201)
	other, err := r.AddInstance("second", oxidesim.InstanceSeed{Name: "far"})
	if err != nil {
		t.Fatal(err)
	}
	path := "/v1/floating-ips/" + id + "/attach"
	for _, tc := range []struct {
		name   string
		body   obj
		status int
		code   string
	}{
		{"by name, in the same project", attachTo("node-1"), 202, ""},
		{"by name, not there", attachTo("far"), 404, "ObjectNotFound"},
		{"by id, in another project", attachTo(other.ID), 400, "InvalidRequest"},
		{"by id, not there", attachTo("1b4e28ba-2fa1-11d2-883f-0016d3cca427"), 404, "ObjectNotFound"},
		{"no kind", obj{"parent": "node-1"}, 400, ""},
		{"another kind", obj{"kind": "vpc", "parent": "node-1"}, 400, ""},
		{"bad name", attachTo("a.b"), 400, ""},
	} {
		t.Run(tc.name, func(t *testing.T) { r.post(path, tc.body).want(tc.status, tc.code) })
	}
}

// OXIDE_API.md §8, §13: time_modified moves with each step, and with an update.
func TestAttachAndDetachMoveTimeModified(t *testing.T) {
	r := startRack(t, oxidesim.Config{})
	i := r.instance("node-1")
	for _, k := range r.attachables() {
		last := r.get(k.path).ok(200).str("time_modified")
		for _, step := range []func(){
			func() { r.post(k.path+"/attach", k.to(i)).ok(202) },
			func() { r.post(k.path+"/detach", nil).ok(202) },
			func() { r.put(k.path, obj{"description": "x"}).ok(200) },
		} {
			step()
			now := r.get(k.path).ok(200).str("time_modified")
			if now <= last {
				t.Errorf("%s: time_modified %s after %s", k.name, now, last)
			}
			last = now
		}
	}
}

// OXIDE_API.md §8: at the creation of an instance, a floating IP by id is looked up wherever the caller
// sees it, and refused outside of the instance's project.
func TestAFloatingIPOfAnotherProjectIsRefusedAtCreation(t *testing.T) {
	r := startRack(t, oxidesim.Config{})
	seed, err := oxidesim.ParseSeed([]byte(`
silos:
- name: demo
  users: [{name: elsewhere, tokens: [{secret: elsewhere}]}]
  projects:
  - name: demo
    roles: {elsewhere: limited_collaborator}
  - {name: second, floating_ips: [{name: theirs}]}
`))
	must(t, err)
	must(t, r.Apply(seed))
	theirs := r.get("/v1/floating-ips/theirs?project=second").ok(200).str("id")
	create := func(r *rack, which string) *answer {
		return r.post("/v1/instances?project=demo", newInstanceBody("node-1", obj{
			"external_ips": []obj{{"type": "floating", "floating_ip": which}},
		}))
	}
	create(r, theirs).want(400, "InvalidRequest")
	create(r, "theirs").want(404, "ObjectNotFound")               // a name is one of the own project
	create(r.as("elsewhere"), theirs).want(404, "ObjectNotFound") // who does not see it
	create(r, r.fip("ours")).ok(201)
	if s := r.attachState(theirs); s != "detached" {
		t.Errorf("it is %s", s)
	}
}
