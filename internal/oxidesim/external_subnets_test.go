// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package oxidesim_test

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
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

// OXIDE_API.md §13: a rack of the releases 20 to 20.2 gives no single address once it has given the
// lowest of a pool, and answers the next one with 400 ObjectAlreadyExists, as if the name were taken.
// From release 21 on all addresses of a pool can be had, one by one.
func TestSingleAddressesSideBySideTakeRelease21(t *testing.T) {
	const pools = `
subnet_pools:
- name: two
  members: [{subnet: 203.0.113.0/30}, {subnet: 203.0.113.8/30}]
  silos: [{silo: demo}]
- {name: one, members: [{subnet: 203.0.113.16/32}], silos: [{silo: demo}]}
- {name: six, ip_version: v6, members: [{subnet: "2001:db8:99::/126"}], silos: [{silo: demo}]}
`
	const taken, bad = "ObjectAlreadyExists", "InvalidRequest"
	auto := func(pool string, bits int) obj {
		return autoSubnet(bits, obj{"type": "explicit", "pool": pool})
	}
	explicit := func(net string) obj { return obj{"type": "explicit", "subnet": net} }
	type want struct {
		subnet string // or:
		code   string // of a 400
	}
	steps := []struct {
		name      string
		allocator obj
		in20      want
		in21      want
	}{
		{"the first", auto("two", 32), want{subnet: "203.0.113.0/32"}, want{subnet: "203.0.113.0/32"}},
		{"the next", auto("two", 32), want{code: taken}, want{subnet: "203.0.113.1/32"}},
		{"again", auto("two", 32), want{code: taken}, want{subnet: "203.0.113.2/32"}},
		{"a given one beside it", explicit("203.0.113.9/32"),
			want{subnet: "203.0.113.9/32"}, want{subnet: "203.0.113.9/32"}},
		{"the last of a member", auto("two", 32), want{code: taken}, want{subnet: "203.0.113.3/32"}},
		{"of another member", auto("two", 32), want{code: taken}, want{subnet: "203.0.113.8/32"}},
		{"of several addresses", auto("two", 31), want{subnet: "203.0.113.0/31"},
			want{subnet: "203.0.113.10/31"}},
		{"of a member of one address", auto("one", 32), want{code: bad}, want{subnet: "203.0.113.16/32"}},
		{"the first of IPv6", auto("six", 128), want{subnet: "2001:db8:99::/128"},
			want{subnet: "2001:db8:99::/128"}},
		{"the next of IPv6", auto("six", 128), want{code: taken}, want{subnet: "2001:db8:99::1/128"}},
	}
	for release, cfg := range map[string]oxidesim.Config{
		"20": {APIVersion: oxidesim.Release20APIVersion}, "21": {},
	} {
		t.Run("release "+release, func(t *testing.T) {
			r := startRack(t, cfg)
			seed, err := oxidesim.ParseSeed([]byte(pools))
			must(t, err)
			must(t, r.Apply(seed))
			for n, step := range steps {
				want := step.in21
				if release == "20" {
					want = step.in20
				}
				a := r.post("/v1/external-subnets?project=demo", obj{
					"name": fmt.Sprintf("s%d", n), "description": "", "allocator": step.allocator,
				})
				if want.code != "" {
					a.want(400, want.code)
				} else if got := a.ok(201).str("subnet"); got != want.subnet {
					t.Errorf("%s: %s, want %s", step.name, got, want.subnet)
				}
			}
		})
	}
}

// An update of the rack ends what release 20 could not do, and brings what clients may ask for.
func TestAnUpdateBringsRelease21(t *testing.T) {
	r := startRack(t, oxidesim.Config{APIVersion: oxidesim.Release20APIVersion})
	r.externalSubnet("a")
	body := obj{"name": "b", "description": "", "allocator": autoSubnet(32, nil)}
	r.post("/v1/external-subnets?project=demo", body).want(400, "ObjectAlreadyExists")
	newer := *r
	newer.header = http.Header{"Api-Version": {oxidesim.DefaultAPIVersion}}
	newer.get("/v1/ping").want(400, "")
	must(t, r.Play("set-api-version", oxidesim.StoryArgs{APIVersion: oxidesim.DefaultAPIVersion}))
	newer.get("/v1/ping").ok(200)
	r.post("/v1/external-subnets?project=demo", body).ok(201)
	if v := r.State().APIVersion; v != oxidesim.DefaultAPIVersion {
		t.Errorf("the state says %s", v)
	}
	if err := r.Play("set-api-version", oxidesim.StoryArgs{APIVersion: "v22"}); err == nil {
		t.Error("v22 was taken for a version")
	}
}

// OXIDE_API.md §13: lack of room is answered before a taken name is, so that the same request again
// after a lost answer may be told that the pool is exhausted.
func TestLackOfRoomIsAnsweredBeforeATakenName(t *testing.T) {
	r := startRack(t, oxidesim.Config{})
	r.externalSubnet("vips")
	again := obj{"name": "vips", "description": "", "allocator": autoSubnet(32, nil)}
	const path = "/v1/external-subnets?project=demo"
	r.post(path, again).want(400, "ObjectAlreadyExists")
	must(t, r.Play("fill-pool", oxidesim.StoryArgs{SubnetPool: "subnets"}))
	r.post(path, again).want(400, "InvalidRequest")
	must(t, r.Play("drain-pool", oxidesim.StoryArgs{SubnetPool: "subnets"}))
	r.post(path, again).want(400, "ObjectAlreadyExists")
	again["allocator"] = obj{"type": "explicit", "subnet": "198.18.0.0/32"}
	r.post(path, again).want(400, "InvalidRequest")
}

// OXIDE_API.md §4, §13: names and descriptions are those of floating IPs.
func TestExternalSubnetNames(t *testing.T) {
	r := startRack(t, oxidesim.Config{})
	a := "/v1/external-subnets/" + r.externalSubnet("a")
	r.externalSubnet("b")
	long := strings.Repeat("x", 513)
	r.put(a, obj{"name": "b"}).want(500, "Internal")
	r.put(a, obj{"description": long}).want(500, "Internal")
	r.put(a, obj{"description": strings.Repeat("é", 512)}).ok(200)
	if got := r.put(a, obj{}).ok(200); got.str("name") != "a" || got.str("description") == "" {
		t.Errorf("an update of nothing changed it: %v", got)
	}
	r.post("/v1/external-subnets?project=demo", obj{
		"name": "c", "description": long, "allocator": autoSubnet(32, nil),
	}).want(500, "Internal")
	r.get(a+"?project=demo").want(400, "InvalidRequest")
	r.get("/v1/external-subnets/a").want(400, "InvalidRequest")
	r.get("/v1/external-subnets/a.b?project=demo").want(400, "")
	r.get("/v1/external-subnets/a?project=nope").want(404, "ObjectNotFound")
	r.del("/v1/external-subnets/a?project=demo").ok(204)
	if again := r.externalSubnet("a"); strings.HasSuffix(a, again) {
		t.Error("the same id again")
	}
}

// OXIDE_API.md §13, §16: with a role on the project alone one lists no pools, but reads one, and does
// everything with external subnets from the limited collaborator on.
func TestRolesForExternalSubnets(t *testing.T) {
	r := startRack(t, oxidesim.Config{})
	seed, err := oxidesim.ParseSeed([]byte(`
silos:
- name: demo
  users:
  - {name: limited, tokens: [{secret: limited}]}
  - {name: looks, tokens: [{secret: looks}]}
  - {name: nobody, tokens: [{secret: nobody}]}
  projects: [{name: demo, roles: {limited: limited_collaborator, looks: viewer}}]
`))
	must(t, err)
	must(t, r.Apply(seed))
	path := "/v1/external-subnets/" + r.as("limited").externalSubnet("vips")
	to := obj{"instance": r.instance("node-1")}
	for who, status := range map[string]int{"looks": 403, "nobody": 404} {
		code := map[int]string{403: "Forbidden", 404: "ObjectNotFound"}[status]
		as := r.as(who)
		as.post("/v1/external-subnets?project=demo", obj{
			"name": "mine", "description": "", "allocator": autoSubnet(32, nil),
		}).want(status, code)
		as.post(path+"/attach", to).want(status, code)
		as.post(path+"/detach", nil).want(status, code)
		as.put(path, obj{"description": "mine"}).want(status, code)
		as.del(path).want(status, code)
	}
	limited := r.as("limited")
	limited.get("/v1/subnet-pools").want(403, "Forbidden")
	limited.get("/v1/subnet-pools/subnets").ok(200)
	limited.post(path+"/attach", to).ok(202)
	limited.post(path+"/detach", nil).ok(202)
	limited.put(path, obj{"description": "ours"}).ok(200)
	limited.del(path).ok(204)
}

// Faults go by the names of the operations, and lists are cut and miss rows as those of floating IPs do.
func TestFaultsOfExternalSubnets(t *testing.T) {
	r := startRack(t, oxidesim.Config{})
	const all = "/v1/external-subnets?project=demo"
	path := "/v1/external-subnets/" + r.externalSubnet("s0")
	create := func(name string) obj {
		return obj{"name": name, "description": "", "allocator": autoSubnet(32, nil)}
	}
	r.ResetCounters()
	for operation, send := range map[string]func() *answer{
		"external_subnet_list":   func() *answer { return r.get(all) },
		"external_subnet_create": func() *answer { return r.post(all, create("x")) },
		"external_subnet_view":   func() *answer { return r.get(path) },
		"external_subnet_update": func() *answer { return r.put(path, obj{}) },
		"external_subnet_delete": func() *answer { return r.del(path) },
		"external_subnet_attach": func() *answer { return r.post(path+"/attach", obj{}) },
		"external_subnet_detach": func() *answer { return r.post(path+"/detach", nil) },
	} {
		for _, pattern := range []string{operation, "external_subnet_*"} {
			id := r.fault(oxidesim.Fault{Operation: pattern, Status: 418})
			send().want(418, "")
			r.RemoveFault(id)
		}
		if n := r.Count(operation); n != 2 {
			t.Errorf("%s: %d counted, want 2", operation, n)
		}
	}
	id := r.fault(oxidesim.Fault{Operation: "external_subnet_create", Reset: true, Execute: true})
	if a, err := r.try("POST", all, create("s1")); err == nil {
		t.Errorf("an answer came: %d", a.status)
	}
	r.RemoveFault(id)
	for n := 2; n < 7; n++ {
		r.externalSubnet(fmt.Sprintf("s%d", n))
	}
	r.fault(oxidesim.Fault{Operation: "external_subnet_list", PageCap: 3})
	if names, requests := r.scan(all+"&limit=100", "limit=100"); len(names) != 7 || requests != 4 {
		t.Errorf("%v in %d requests", names, requests)
	}
	r.ClearFaults()
	r.fault(oxidesim.Fault{Operation: "external_subnet_list", Omit: 1})
	if page := r.get(all).ok(200); len(page.items()) != 0 || page.str("next_page") == "" {
		t.Errorf("a page whose items are all left out: %v", page)
	}
}

// A seed has external subnets: from the default pool, from another, of a given network, and attached.
func TestASeedHasExternalSubnets(t *testing.T) {
	r := startRack(t, oxidesim.Config{})
	const text = `
silos:
- name: demo
  projects:
  - name: demo
    instances: [{name: node-1}]
    external_subnets:
    - {name: web, instance: node-1, description: mine}
    - {name: block, prefix_length: 28}
    - {name: six, pool: subnets-v6}
    - {name: given, subnet: 198.18.0.77/32}
`
	seed, err := oxidesim.ParseSeed([]byte(text))
	must(t, err)
	for range 2 { // what is there already stays
		must(t, r.Apply(seed))
	}
	got := map[string]string{}
	for _, e := range r.ExternalSubnets() {
		got[e.Name] = e.Subnet + " " + e.Pool + " " + e.AttachState + " " + e.Instance
	}
	want := map[string]string{
		"web":   "198.18.0.0/32 subnets attached node-1",
		"block": "198.18.0.16/28 subnets detached ",
		"six":   "2001:db8:18::/128 subnets-v6 detached ",
		"given": "198.18.0.77/32 subnets detached ",
	}
	if !maps.Equal(got, want) {
		t.Errorf("got %v\nwant %v", got, want)
	}
	for _, bad := range []oxidesim.ExternalSubnetSeed{
		{Name: "x", Subnet: "198.18.0.77"}, {Name: "x", Subnet: "198.18.0.77/32"},
		{Name: "x", Pool: "none"}, {Name: "X"}, {Name: "x", Instance: "none"},
	} {
		if _, err := r.AddExternalSubnet("demo", bad); err == nil {
			t.Errorf("%+v was taken", bad)
		}
	}
}

// One pool is the silo's default per IP version: a seed that makes another one it takes the place.
func TestASeedsDefaultSubnetPoolTakesThePlaceOfAnother(t *testing.T) {
	r := withSubnetPools(t)
	defaults := []string{}
	for _, p := range r.get("/v1/subnet-pools").ok(200).items() {
		if p["is_default"] == true {
			defaults = append(defaults, p.str("name"))
		}
	}
	if !slices.Equal(defaults, []string{"routed"}) {
		t.Errorf("default pools %v", defaults)
	}
}
