// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package oxidesim_test

import (
	"compress/gzip"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/oxidesim"
)

// OXIDE_API.md §1: the API-Version header decides before anything else does.
func TestAPIVersion(t *testing.T) {
	r := startRack(t, oxidesim.Config{})
	for _, tc := range []struct {
		name, version, path string
		status              int
	}{
		{"absent is the newest", "", "/v1/me", 200},
		{"the newest", "2026061000.0.0", "/v1/me", 200},
		{"an older one", "2026021301.0.0", "/v1/me", 200},
		{"a newer one", "2026061001.0.0", "/v1/me", 400},
		{"a newer one, on a path without login", "2026073100.0.0", "/v1/ping", 400},
		{"a newer one, on an unknown path", "2026073100.0.0", "/v1/nothing", 400},
		{"unparsable", "newest", "/v1/me", 400},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := *r
			c.header = http.Header{}
			if tc.version != "" {
				c.header.Set("API-Version", tc.version)
			}
			c.get(tc.path).want(tc.status, "")
		})
	}
	t.Run("an older rack refuses a client of today on every path", func(t *testing.T) {
		old := startRack(t, oxidesim.Config{APIVersion: "2026032500.0.0"})
		old.header.Set("API-Version", oxidesim.DefaultAPIVersion)
		old.get("/v1/projects/demo").want(400, "")
	})
}

// OXIDE_API.md §2, §4: what the framework refuses carries no error_code; so do names that no
// object can have, such as a node name with dots.
func TestFrameworkErrors(t *testing.T) {
	r := startRack(t, oxidesim.Config{})
	const fips = "/v1/floating-ips?project=demo"
	for _, tc := range []struct {
		name, method, path string
		body               any
		status             int
	}{
		{"unknown route", "GET", "/v2/me", nil, 404},
		{"wrong method", "PATCH", "/v1/me", nil, 405},
		{"HEAD is a method of its own", "HEAD", "/v1/me/", nil, 405},
		{"no body", "POST", fips, "", 400},
		{"broken JSON", "POST", fips, `{"name":`, 400},
		{"two JSON values", "POST", fips, `{"name":"a","description":""} {}`, 400},
		{"an array", "POST", fips, `[]`, 400},
		{"null", "POST", fips, `null`, 400},
		{"description missing", "POST", fips, obj{"name": "a"}, 400},
		{"description null", "POST", fips, obj{"name": "a", "description": nil}, 400},
		{"field names are case-sensitive", "POST", fips, obj{"Name": "a", "description": ""}, 400},
		{"name of the wrong type", "POST", fips, obj{"name": 1, "description": ""}, 400},
		{"upper case name", "POST", fips, obj{"name": "A", "description": ""}, 400},
		{"name with a dot", "POST", fips, obj{"name": "a.b", "description": ""}, 400},
		{"name with - last", "POST", fips, obj{"name": "a-", "description": ""}, 400},
		{"name that is a UUID", "POST", fips, obj{
			"name": "aaaaaaaabbbbccccddddeeeeeeeeeeee", "description": "",
		}, 400},
		{"name of 64", "POST", fips, obj{"name": strings.Repeat("a", 64), "description": ""}, 400},
		{"null where a default is", "POST", fips, obj{
			"name": "a", "description": "", "address_allocator": nil,
		}, 400},
		{"unknown variant", "POST", fips, obj{
			"name": "a", "description": "", "address_allocator": obj{"type": "magic"},
		}, 400},
		{"project missing in a list", "GET", "/v1/floating-ips", nil, 400},
		{"an instance by a name with dots", "GET", "/v1/instances/a.b?project=demo", nil, 400},
		{"dot segments", "GET", "/v1/%2e%2e/me", nil, 400},
	} {
		t.Run(tc.name, func(t *testing.T) {
			a := r.do(tc.method, tc.path, tc.body)
			if tc.method == "HEAD" {
				if a.status != tc.status {
					t.Fatalf("status %d, want %d", a.status, tc.status)
				}
				return
			}
			a.want(tc.status, "")
		})
	}
	t.Run("a wrong method is told the right ones", func(t *testing.T) {
		a := r.do("PATCH", "/v1/projects", nil)
		if got := a.header.Get("Allow"); a.status != 405 || got != "GET, POST" {
			t.Errorf("status %d, Allow %q", a.status, got)
		}
	})
	t.Run("another content type", func(t *testing.T) {
		c := *r
		c.header = http.Header{"Content-Type": {"text/plain"}}
		c.post(fips, obj{"name": "a", "description": ""}).want(400, "")
	})
	t.Run("more than 1 MiB", func(t *testing.T) {
		big := obj{"name": "a", "description": strings.Repeat("x", 1<<20)}
		r.post(fips, big).want(400, "")
	})
	t.Run("a name may contain a UUID", func(t *testing.T) {
		name := "a1b4e28ba-2fa1-11d2-883f-0016d3cca427b"
		r.post(fips, obj{"name": name, "description": ""}).ok(201)
		r.get("/v1/floating-ips/" + name + "?project=demo").ok(200)
	})
	t.Run("where no body is wanted, none is looked at", func(t *testing.T) {
		c := *r
		c.header = http.Header{"Content-Type": {"text/plain"}}
		c.post("/v1/floating-ips/"+r.fip("any")+"/detach", "hello").ok(202)
	})
	t.Run("unknown fields and query parameters are ignored", func(t *testing.T) {
		r.post(fips+"&colour=red", obj{"name": "a", "description": "", "colour": 1}).ok(201)
	})
	t.Run("repeated and trailing slashes do not count", func(t *testing.T) {
		r.get("//v1///me/").ok(200)
	})
}

// OXIDE_API.md §2: a 500 and a 503 have one message each, whatever their cause: neither the
// name that is taken nor the state that is in the way can be read out of them.
func TestOpaqueErrors(t *testing.T) {
	r := startRack(t, oxidesim.Config{})
	i, id := r.instance("node-1"), r.fip("web")
	r.fip("taken")
	path := "/v1/floating-ips/" + id
	for _, tc := range []struct {
		name          string
		make          func() *answer
		status        int
		code, message string
	}{
		{"a rename to a taken name", func() *answer {
			return r.put(path, obj{"name": "taken"})
		}, 500, "Internal", "Internal Server Error"},
		{"a description that is too long", func() *answer {
			return r.put(path, obj{"description": strings.Repeat("x", 513)})
		}, 500, "Internal", "Internal Server Error"},
		{"an instance that is starting", func() *answer {
			must(t, r.SetRunState(i, "starting"))
			return r.post(path+"/attach", attachTo(i))
		}, 503, "ServiceNotAvailable", "Service Unavailable"},
		{"an instance that is migrating", func() *answer {
			must(t, r.SetRunState(i, "migrating"))
			return r.post(path+"/attach", attachTo(i))
		}, 503, "ServiceNotAvailable", "Service Unavailable"},
		{"an address in transition", func() *answer {
			must(t, r.SetRunState(i, "running"))
			must(t, r.SetAttachState(id, "detaching", i))
			return r.post(path+"/attach", attachTo(i))
		}, 503, "ServiceNotAvailable", "Service Unavailable"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got := tc.make().want(tc.status, tc.code)
			if got.str("message") != tc.message || len(got) != 3 {
				t.Errorf("body %v, want the message %q and nothing more", got, tc.message)
			}
		})
	}
}

// OXIDE_API.md §1: bodies are compressed for those who ask.
func TestGzip(t *testing.T) {
	r := startRack(t, oxidesim.Config{})
	for _, name := range []string{"a", "b", "c", "d"} {
		r.fip(name)
	}
	r.header.Set("Accept-Encoding", "gzip")
	a := r.get("/v1/floating-ips?project=demo")
	if got := a.header.Get("Content-Encoding"); got != "gzip" {
		t.Fatalf("Content-Encoding %q", got)
	}
	z, err := gzip.NewReader(strings.NewReader(string(a.body)))
	if err != nil {
		t.Fatal(err)
	}
	if a.body, err = io.ReadAll(z); err != nil {
		t.Fatal(err)
	}
	if n := len(a.ok(200).items()); n != 4 {
		t.Errorf("%d items", n)
	}
}

// OXIDE_API.md §1 Auth, §2: every way to fail is the same 401.
func TestAuthentication(t *testing.T) {
	r := startRack(t, oxidesim.Config{})
	t.Run("ping needs none", func(t *testing.T) { r.as("").get("/v1/ping").ok(200) })
	t.Run("no token", func(t *testing.T) { r.as("").get("/v1/me").want(401, "Unauthorized") })
	t.Run("unknown token", func(t *testing.T) {
		r.as("oxide-token-00").get("/v1/me").want(401, "Unauthorized")
	})
	t.Run("an unknown route is 404 even so", func(t *testing.T) {
		r.as("").get("/v1/x").want(404, "")
	})
	t.Run("rotated: the new one works until the old one is revoked, and after", func(t *testing.T) {
		secret, err := r.AddToken("demo", "")
		if err != nil {
			t.Fatal(err)
		}
		r.as(secret).get("/v1/me").ok(200)
		if !r.RevokeToken(oxidesim.DefaultToken) {
			t.Fatal("the default token is not known")
		}
		r.get("/v1/me").want(401, "Unauthorized")
		list := r.as(secret).get("/v1/me/access-tokens").ok(200).items()
		if len(list) != 1 || list[0]["time_expires"] != nil {
			t.Fatalf("tokens: %v", list)
		}
		r.as(secret).del("/v1/me/access-tokens/" + list[0].str("id")).ok(204)
		r.as(secret).get("/v1/me").want(401, "Unauthorized")
	})
	t.Run("expired", func(t *testing.T) {
		seed, err := oxidesim.ParseSeed([]byte(`
silos:
- name: demo
  users:
  - {name: old, tokens: [{secret: oxide-token-01, expires: 2026-01-01T00:00:00Z}]}
  - {name: new, tokens: [{secret: oxide-token-02, expires: 2226-01-01T00:00:00Z}]}`))
		if err != nil {
			t.Fatal(err)
		}
		if err := r.Apply(seed); err != nil {
			t.Fatal(err)
		}
		r.as("oxide-token-01").get("/v1/me").want(401, "Unauthorized")
		list := r.as("oxide-token-02").get("/v1/me/access-tokens").ok(200).items()
		if list[0].str("time_expires") != "2226-01-01T00:00:00.000000Z" {
			t.Errorf("tokens: %v", list)
		}
	})
}

// OXIDE_API.md §4: times are in UTC with microseconds, absent optionals are null.
func TestInstanceShape(t *testing.T) {
	r := startRack(t, oxidesim.Config{})
	got := r.get("/v1/instances/" + r.instance("node-1")).ok(200)
	for _, key := range []string{"time_created", "time_modified", "time_run_state_updated"} {
		if s := got.str(key); len(s) != len("2026-01-02T03:04:05.678901Z") || s[len(s)-1] != 'Z' {
			t.Errorf("%s: %q", key, s)
		}
	}
	for _, key := range []string{
		"boot_disk_id", "cpu_platform", "auto_restart_policy", "time_last_auto_restarted",
		"auto_restart_cooldown_expiration",
	} {
		if v, ok := got[key]; !ok || v != nil {
			t.Errorf("%s: %v, present %v; want null", key, v, ok)
		}
	}
	if len(got) != 18 {
		t.Errorf("%d fields, want 18: %v", len(got), got)
	}
}
