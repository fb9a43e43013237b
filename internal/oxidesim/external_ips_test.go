// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package oxidesim_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/oxidesim"
)

func (r *rack) externalIPs(instance string) (kinds []string, items []obj) {
	r.t.Helper()
	page := r.get("/v1/instances/" + instance + "/external-ips").ok(200)
	if page["next_page"] != nil {
		r.t.Errorf("external IPs have a next page")
	}
	for _, i := range page.items() {
		kinds = append(kinds, i.str("kind"))
	}
	return kinds, page.items()
}

// dualDefault is a rack on which both IP versions have a default pool.
func dualDefault() *oxidesim.Seed {
	seed := oxidesim.DefaultSeed()
	seed.Pools[1].Silos[0].Default = true
	return &seed
}

// OXIDE_API.md §7: what is listed, and that the order means nothing.
func TestExternalIPs(t *testing.T) {
	r := startRack(t, oxidesim.Config{Seed: dualDefault()})
	id := r.instance("node-1")
	for n := range 4 {
		_, err := r.AddFloatingIP("demo/demo", oxidesim.FloatingIPSeed{
			Name: fmt.Sprintf("f%d", n), Pool: "default", Instance: "node-1",
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	orders := map[string]bool{}
	for range 40 {
		_, items := r.externalIPs(id)
		orders[fmt.Sprint(items)] = true
	}
	if len(orders) < 2 {
		t.Error("the order never changed")
	}
	kinds, items := r.externalIPs(id)
	slices.Sort(kinds)
	if got := strings.Join(kinds, " "); got != "floating floating floating floating snat" {
		t.Errorf("kinds: %s", got)
	}
	for _, i := range items {
		if i.str("kind") == "snat" && (i["first_port"] != 0.0 || i["last_port"] != 16383.0) {
			t.Errorf("snat of the first instance: %v", i)
		}
	}
	if err := r.SetAttachState("f0", "detaching", id); err != nil {
		t.Fatal(err)
	}
	if kinds, _ := r.externalIPs(id); len(kinds) != 4 {
		t.Errorf("one in transition is listed: %v", kinds)
	}
}

// OXIDE_API.md §7: four instances share one SNAT address, in blocks of 16384 ports.
func TestSNATBlocks(t *testing.T) {
	r := startRack(t, oxidesim.Config{})
	seen := map[string][]float64{}
	for n := range 5 {
		_, items := r.externalIPs(r.instance(fmt.Sprintf("node-%d", n)))
		for _, i := range items {
			first, _ := i["first_port"].(float64)
			seen[i.str("ip")] = append(seen[i.str("ip")], first)
		}
	}
	for ip, firsts := range seen {
		if len(firsts) == 4 && !slices.Equal(firsts, []float64{0, 16384, 32768, 49152}) {
			t.Errorf("%s: %v", ip, firsts)
		}
	}
	if len(seen) != 2 {
		t.Errorf("5 instances on %d addresses, want 2", len(seen))
	}
}

// OXIDE_API.md §7: ephemeral addresses, one per IP version.
func TestEphemeralIPs(t *testing.T) {
	r := startRack(t, oxidesim.Config{Seed: dualDefault()})
	id := r.instance("node-1")
	path := "/v1/instances/" + id + "/external-ips/ephemeral"
	auto := func(version any) obj {
		return obj{"pool_selector": obj{"type": "auto", "ip_version": version}}
	}
	r.del(path).want(400, "InvalidRequest")
	r.post(path, obj{}).want(400, "InvalidRequest") // defaults of both versions
	if got := r.post(path, auto("v4")).ok(202); got.str("kind") != "ephemeral" || len(got) != 3 {
		t.Errorf("attached: %v", got)
	}
	r.post(path, auto("v6")).ok(202)
	r.del(path).want(400, "InvalidRequest") // which one?
	r.del(path + "?ip_version=v4").ok(204)
	r.del(path+"?ip_version=v4").want(400, "InvalidRequest")
	r.del(path).ok(204)
	r.post(path, auto("v4")).ok(202)
	if err := r.SetRunState(id, "stopped"); err != nil {
		t.Fatal(err)
	}
	if kinds, _ := r.externalIPs(id); !slices.Contains(kinds, "ephemeral") {
		t.Error("a stop detached it")
	}
	if err := r.SetRunState(id, "failed"); err != nil {
		t.Fatal(err)
	}
	r.del(path).want(400, "InvalidRequest")
}

// OXIDE_API.md §7: SNAT exists for IPv4 only, and comes from the silo's default IPv4 pool.
func TestSNATIsForIPv4Only(t *testing.T) {
	r := startRack(t, oxidesim.Config{Seed: dualDefault()})
	for nic, want := range map[string]int{"v4": 1, "dual": 1, "v6": 0, "none": 0} {
		i, err := r.AddInstance("demo", oxidesim.InstanceSeed{Name: nic, NIC: nic})
		must(t, err)
		kinds, items := r.externalIPs(i.ID)
		if len(kinds) != want {
			t.Errorf("%s: %v, want %d entries", nic, kinds, want)
		}
		for _, item := range items {
			if !strings.HasPrefix(item.str("ip"), "198.51.100.") {
				t.Errorf("%s: not from the default IPv4 pool: %v", nic, item)
			}
		}
	}
}

// OXIDE_API.md §7: without a default IPv4 pool only what has no IPv4 stack can be created; another pool
// of that version does not do.
func TestAnIPv4InstanceNeedsADefaultIPv4Pool(t *testing.T) {
	seed := dualDefault()
	seed.Pools[0].Silos[0].Default = false
	r := startRack(t, oxidesim.Config{Seed: seed})
	for _, kind := range []string{"default_ipv4", "default_dual_stack"} {
		r.post("/v1/instances?project=demo", newInstanceBody("node-1", obj{
			"network_interfaces": obj{"type": kind},
		})).want(404, "ObjectNotFound")
	}
	for _, kind := range []string{"default_ipv6", "none"} {
		r.post("/v1/instances?project=demo", newInstanceBody(strings.ReplaceAll(kind, "_", "-"), obj{
			"network_interfaces": obj{"type": kind},
		})).ok(201)
	}
}

// OXIDE_API.md §7: attaching an ephemeral IP again answers with the same one, also when the pool has no
// other.
func TestAttachingAnEphemeralIPAgainChangesNothing(t *testing.T) {
	r := startRack(t, oxidesim.Config{Seed: dualDefault()})
	id := r.instance("node-1")
	path := "/v1/instances/" + id + "/external-ips/ephemeral"
	for _, version := range []string{"v4", "v6"} {
		body := obj{"pool_selector": obj{"type": "auto", "ip_version": version}}
		first := r.post(path, body).ok(202).str("ip")
		for _, pool := range []string{"default", "default-v6"} {
			must(t, r.FillPool(pool))
		}
		if again := r.post(path, body).ok(202).str("ip"); again != first {
			t.Errorf("%s: first %s, then %s", version, first, again)
		}
		for _, pool := range []string{"default", "default-v6"} {
			must(t, r.DrainPool(pool))
		}
	}
	if kinds, _ := r.externalIPs(id); len(kinds) != 3 {
		t.Errorf("then there are %v, want SNAT and one ephemeral IP of each version", kinds)
	}
	must(t, r.SetRunState(id, "failed"))
	r.post(path, obj{"pool_selector": obj{"type": "auto", "ip_version": "v4"}}).
		want(400, "InvalidRequest")
}

// OXIDE_API.md §7: 32 addresses besides SNAT on an instance with an IPv4 stack, 33 on one without,
// ephemeral ones counted.
func TestExternalIPLimit(t *testing.T) {
	for _, tc := range []struct {
		nic, pool string
		ephemeral bool
		floating  int
	}{
		{"v4", "default", false, 32},
		{"dual", "default", false, 32},
		{"v6", "default-v6", false, 33},
		{"v4", "default", true, 31},
		{"dual", "default", true, 31},
		{"v6", "default-v6", true, 32},
	} {
		t.Run(fmt.Sprintf("%s, ephemeral %v", tc.nic, tc.ephemeral), func(t *testing.T) {
			r := startRack(t, oxidesim.Config{Seed: dualDefault()})
			i, err := r.AddInstance("demo", oxidesim.InstanceSeed{Name: "node-1", NIC: tc.nic})
			must(t, err)
			pool := obj{"pool_selector": obj{"type": "explicit", "pool": tc.pool}}
			ephemeral := "/v1/instances/" + i.ID + "/external-ips/ephemeral"
			if tc.ephemeral {
				r.post(ephemeral, pool).ok(202)
			}
			for n := range tc.floating {
				_, err := r.AddFloatingIP("demo", oxidesim.FloatingIPSeed{
					Name: fmt.Sprintf("f%d", n), Pool: tc.pool, Instance: "node-1",
				})
				if err != nil {
					t.Fatalf("number %d: %v", n+1, err)
				}
			}
			allocator := obj{"type": "auto", "pool_selector": pool["pool_selector"]}
			over := r.post("/v1/floating-ips?project=demo", obj{
				"name": "over", "description": "", "address_allocator": allocator,
			}).ok(201).str("id")
			r.post("/v1/floating-ips/"+over+"/attach", attachTo(i.ID)).want(400, "InvalidRequest")
			if !tc.ephemeral {
				r.post(ephemeral, pool).want(400, "InvalidRequest")
			}
			r.post("/v1/floating-ips/f0/detach?project=demo", nil).ok(202)
			r.post("/v1/floating-ips/"+over+"/attach", attachTo(i.ID)).ok(202)
		})
	}
}

// OXIDE_API.md §8 Attach 5: the primary NIC must have the address's family.
func TestAttachNeedsFamily(t *testing.T) {
	r := startRack(t, oxidesim.Config{Seed: dualDefault()})
	for _, nic := range []string{"v4", "none"} {
		i, err := r.AddInstance("demo", oxidesim.InstanceSeed{Name: nic, NIC: nic})
		if err != nil {
			t.Fatal(err)
		}
		fip := r.post("/v1/floating-ips?project=demo", obj{
			"name": "six-" + nic, "description": "", "address_allocator": obj{
				"type": "auto", "pool_selector": obj{"type": "auto", "ip_version": "v6"},
			},
		}).ok(201)
		if !strings.HasPrefix(fip.str("ip"), "2001:db8:") {
			t.Errorf("v6 address %s", fip.str("ip"))
		}
		r.post("/v1/floating-ips/"+fip.str("id")+"/attach", attachTo(i.ID)).
			want(400, "InvalidRequest")
	}
}
