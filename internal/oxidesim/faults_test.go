// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package oxidesim_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/oxidesim"
)

func (r *rack) fault(f oxidesim.Fault) string {
	r.t.Helper()
	id, err := r.AddFault(f)
	if err != nil {
		r.t.Fatal(err)
	}
	return id
}

func TestFaultSelection(t *testing.T) {
	r := startRack(t, oxidesim.Config{})
	statuses := func(n int) (out []int) {
		for range n {
			out = append(out, r.get("/v1/me").status)
		}
		return out
	}
	t.Run("nth", func(t *testing.T) {
		r.fault(oxidesim.Fault{Operation: "current_user_view", Nth: []int{2, 4}, Status: 503})
		if got := statuses(5); !slices.Equal(got, []int{200, 503, 200, 503, 200}) {
			t.Errorf("%v", got)
		}
		r.ClearFaults()
	})
	t.Run("times", func(t *testing.T) {
		r.fault(oxidesim.Fault{Operation: "current_*_view", Times: 2, Status: 502})
		if got := statuses(4); !slices.Equal(got, []int{502, 502, 200, 200}) {
			t.Errorf("%v", got)
		}
		r.ClearFaults()
	})
	t.Run("probability is the same for the same seed", func(t *testing.T) {
		var runs [][]int
		for range 2 {
			id := r.fault(oxidesim.Fault{Probability: 0.5, Seed: 7, Status: 500})
			runs = append(runs, statuses(40))
			if !r.RemoveFault(id) {
				t.Error("the rule was gone")
			}
		}
		if !slices.Equal(runs[0], runs[1]) || !slices.Contains(runs[0], 200) ||
			!slices.Contains(runs[0], 500) {
			t.Errorf("%v", runs)
		}
	})
	t.Run("by endpoint; others are spared", func(t *testing.T) {
		r.fault(oxidesim.Fault{Operation: "GET /v1/projects/{project}", Status: 500})
		r.get("/v1/projects/demo").want(500, "")
		r.get("/v1/projects").ok(200)
		r.ClearFaults()
	})
	t.Run("mistakes are told", func(t *testing.T) {
		for _, f := range []oxidesim.Fault{
			{}, {Status: 99}, {Status: 500, Probability: 2}, {Status: 500, Nth: []int{0}},
			{Status: 500, Operation: "["},
		} {
			if _, err := r.AddFault(f); err == nil {
				t.Errorf("%+v was taken", f)
			}
		}
	})
}

func TestFaultEffects(t *testing.T) {
	const path = "/v1/floating-ips?project=demo"
	body := func(name string) obj { return obj{"name": name, "description": ""} }
	start := func(t *testing.T, f oxidesim.Fault) *rack {
		r := startRack(t, oxidesim.Config{})
		f.Operation = "floating_ip_create"
		r.fault(f)
		return r
	}
	made := func(r *rack) int { return len(r.FloatingIPs()) }

	t.Run("a status instead of the work", func(t *testing.T) {
		r := start(t, oxidesim.Fault{Status: 503, ErrorCode: "ServiceNotAvailable"})
		r.post(path, body("a")).want(503, "ServiceNotAvailable")
		if made(r) != 0 {
			t.Error("the work was done")
		}
	})
	t.Run("a status after the work", func(t *testing.T) {
		r := start(t, oxidesim.Fault{Status: 500, Execute: true})
		r.post(path, body("a")).want(500, "")
		if made(r) != 1 {
			t.Error("the work was not done")
		}
	})
	t.Run("latency", func(t *testing.T) {
		r := start(t, oxidesim.Fault{LatencyMS: 50})
		began := time.Now()
		r.post(path, body("a")).ok(201)
		if took := time.Since(began); took < 50*time.Millisecond {
			t.Errorf("took %v", took)
		}
	})
	for _, execute := range []bool{false, true} {
		t.Run("a reset without an answer", func(t *testing.T) {
			r := start(t, oxidesim.Fault{Reset: true, Execute: execute})
			if _, err := r.try("POST", path, body("a")); err == nil {
				t.Error("an answer came")
			}
			if (made(r) == 1) != execute {
				t.Errorf("execute %v, made %d", execute, made(r))
			}
			if n := r.Counters()["floating_ip_create"][0]; n != 1 {
				t.Errorf("%d counted as dropped", n)
			}
		})
	}
	t.Run("a reset in the middle of the body", func(t *testing.T) {
		r := start(t, oxidesim.Fault{Reset: true, Truncate: 10})
		if _, err := r.try("POST", path, body("a")); err == nil {
			t.Error("a whole answer came")
		}
		if made(r) != 1 {
			t.Error("the work was not done")
		}
	})
	t.Run("a truncated body", func(t *testing.T) {
		r := start(t, oxidesim.Fault{Truncate: 10})
		a := r.post(path, body("a"))
		if a.status != 201 || len(a.body) != 10 || json.Valid(a.body) {
			t.Errorf("%d %q", a.status, a.body)
		}
	})
	t.Run("a body by somebody else", func(t *testing.T) {
		r := start(t, oxidesim.Fault{
			Status: 502, Body: "<html>bad gateway</html>", ContentType: "text/html",
		})
		a := r.post(path, body("a"))
		if a.status != 502 || string(a.body) != "<html>bad gateway</html>" ||
			a.header.Get("Content-Type") != "text/html" {
			t.Errorf("%d %q %v", a.status, a.body, a.header)
		}
	})
	t.Run("a wrong content type", func(t *testing.T) {
		r := start(t, oxidesim.Fault{ContentType: "text/plain"})
		if a := r.post(path, body("a")); a.header.Get("Content-Type") != "text/plain" {
			t.Errorf("%v", a.header)
		}
	})
}

func TestFaultsOfLists(t *testing.T) {
	r := startRack(t, oxidesim.Config{})
	for n := range 7 {
		r.fip(fmt.Sprintf("f%d", n))
	}
	fault := func(f oxidesim.Fault) {
		t.Helper()
		r.ClearFaults()
		if _, err := r.AddFault(f); err != nil {
			t.Fatal(err)
		}
	}
	const path = "/v1/floating-ips?project=demo&limit=100"
	t.Run("a page holds no more than the cap, whatever is asked for", func(t *testing.T) {
		fault(oxidesim.Fault{Operation: "floating_ip_list", PageCap: 3})
		if names, requests := r.scan(path, "limit=100"); len(names) != 7 || requests != 4 {
			t.Errorf("%v in %d requests", names, requests)
		}
		if n := len(r.get("/v1/floating-ips?project=demo&limit=2").ok(200).items()); n != 2 {
			t.Errorf("%d items of 2", n)
		}
	})
	t.Run("items are left out, the same ones for the same seed", func(t *testing.T) {
		var shown []int
		for range 2 {
			fault(oxidesim.Fault{Operation: "floating_ip_list", Omit: 0.5, Seed: 3})
			for range 8 {
				shown = append(shown, len(r.get(path).ok(200).items()))
			}
		}
		if !slices.Equal(shown[:8], shown[8:]) || slices.Max(shown) == slices.Min(shown) {
			t.Errorf("items per list: %v", shown)
		}
	})
	t.Run("a page whose items are all left out still names the next one", func(t *testing.T) {
		fault(oxidesim.Fault{Operation: "floating_ip_list", Omit: 1})
		page := r.get(path).ok(200)
		if len(page.items()) != 0 || page.str("next_page") == "" {
			t.Errorf("%v", page)
		}
	})
	for _, f := range []oxidesim.Fault{{PageCap: -1}, {Omit: -0.1}, {Omit: 1.1}} {
		if _, err := r.AddFault(f); err == nil {
			t.Errorf("%+v is accepted", f)
		}
	}
}
