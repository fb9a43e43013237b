// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package oxidesim_test

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/oxidesim"
)

func sledOf(r *rack, instance string) string {
	for _, i := range r.Instances() {
		if i.ID == instance {
			return i.Sled
		}
	}
	return ""
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// OXIDE_API.md §5: a sled without power: its instances fail and run again elsewhere, with
// their ids and addresses; until that is noticed they are running.
func TestPowerOffSled(t *testing.T) {
	t.Parallel()
	r := startRack(t, oxidesim.Config{
		TimeScale: 0.005, Timings: oxidesim.Timings{AutoRestart: 3 * time.Minute},
	})
	id, fip := r.instance("node-1"), r.fip("web")
	r.post("/v1/floating-ips/"+fip+"/attach", attachTo(id)).ok(202)
	before := sledOf(r, id)
	must(t, r.PowerOffSled("instance:node-1"))
	if s := r.runState(id); s != "running" {
		t.Errorf("at once %s, want running until it is noticed", s)
	}
	r.awaitState(id, "failed")
	r.post("/v1/floating-ips/"+fip+"/detach", nil).want(400, "InvalidRequest")
	r.awaitState(id, "running")
	if after := sledOf(r, id); after == before {
		t.Errorf("runs on the dead sled %s", after)
	}
	if s := r.attachState(fip); s != "attached" {
		t.Errorf("floating IP %s", s)
	}
	r.post("/v1/floating-ips/"+fip+"/detach", nil).ok(202)
}

// OXIDE_API.md §5: a sled that is powered but silent leaves its instances running for good;
// what must ask it hangs; an operator who expunges it ends that.
func TestLostSled(t *testing.T) {
	r := startRack(t, oxidesim.Config{TimeScale: 0.002})
	id := r.instanceNeverRestarted("node-1")
	path := "/v1/instances/" + id
	must(t, r.LoseSled("instance:node-1"))
	began := time.Now()
	r.post(path+"/stop", nil).want(504, "Internal")
	if took := time.Since(began); took < 120*time.Millisecond {
		t.Errorf("gave up after %v, want the scaled 60 s = 120 ms", took)
	}
	if s := r.runState(id); s != "running" {
		t.Errorf("is %s", s)
	}
	r.post(path+"/start", nil).ok(202) // wants to run again
	must(t, r.ExpungeSled("instance:node-1"))
	r.awaitState(id, "failed")
}

// A sled that comes back in time lets what hangs go on.
func TestRecoveredSled(t *testing.T) {
	r := startRack(t, oxidesim.Config{TimeScale: 0.1})
	id, fip := r.instance("node-1"), r.fip("web")
	must(t, r.LoseSled("instance:node-1"))
	done := make(chan *answer, 1)
	go func() { done <- r.post("/v1/floating-ips/"+fip+"/attach", attachTo(id)) }()
	eventually(t, "attaching", func() bool { return r.attachState(fip) == "attaching" })
	must(t, r.RecoverSled("instance:node-1"))
	(<-done).ok(202)
}

// OXIDE_API.md §8: a Nexus that restarts in the middle of a detach leaves the state stuck,
// with 503 for the opposite, until saga recovery.
func TestNexusRestartMidDetach(t *testing.T) {
	t.Parallel()
	r := startRack(t, oxidesim.Config{TimeScale: 0.004})
	id, fip := r.instance("node-1"), r.fip("web")
	path := "/v1/floating-ips/" + fip
	r.post(path+"/attach", attachTo(id)).ok(202)
	r.RestartNexusDuringNextTransition()
	if a, err := r.try("POST", path+"/detach", nil); err == nil {
		t.Fatalf("an answer came: %d %s", a.status, a.body)
	}
	eventually(t, "Nexus back", func() bool {
		_, err := r.try("GET", "/v1/ping", nil)
		return err == nil
	})
	if got := r.get(path).ok(200); got.str("instance_id") != id {
		t.Errorf("meanwhile: %v", got)
	}
	r.post(path+"/attach", attachTo(id)).want(503, "ServiceNotAvailable")
	r.del(path).want(400, "InvalidRequest")
	eventually(t, "recovery", func() bool { return r.attachState(fip) == "detached" })
	r.post(path+"/attach", attachTo(id)).ok(202)
}

// A restart drops connections for a while and forgets nothing.
func TestNexusRestart(t *testing.T) {
	t.Parallel()
	r := startRack(t, oxidesim.Config{TimeScale: 0.1})
	id := r.fip("web")
	r.RestartNexus()
	if _, err := r.try("GET", "/v1/ping", nil); err == nil {
		t.Error("answered while restarting")
	}
	eventually(t, "Nexus back", func() bool {
		_, err := r.try("GET", "/v1/ping", nil)
		return err == nil
	})
	r.get("/v1/floating-ips/" + id).ok(200)
}

// OXIDE_API.md §1: handlers run detached: a client that gives up stops nothing.
func TestClientCancellation(t *testing.T) {
	t.Parallel()
	r := startRack(t, oxidesim.Config{TimeScale: 0.5}) // an attach takes 500 ms
	id, fip := r.instance("node-1"), r.fip("web")
	ctx, cancel := context.WithCancel(t.Context())
	body := strings.NewReader(`{"kind": "instance", "parent": "` + id + `"}`)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost,
		r.URL+"/v1/floating-ips/"+fip+"/attach", body)
	must(t, err)
	req.Header.Set("Authorization", "Bearer "+r.token)
	gaveUp := make(chan error, 1)
	go func() {
		resp, err := r.client.Do(req)
		if err == nil {
			resp.Body.Close()
		}
		gaveUp <- err
	}()
	eventually(t, "attaching", func() bool { return r.attachState(fip) == "attaching" })
	cancel()
	if err := <-gaveUp; err == nil {
		t.Fatal("an answer came in time")
	}
	eventually(t, "attached", func() bool { return r.attachState(fip) == "attached" })
}

// OXIDE_API.md §15: groups, and what they mean for placement.
func TestAntiAffinity(t *testing.T) {
	seed := oxidesim.DefaultSeed()
	seed.Sleds = 2
	r := startRack(t, oxidesim.Config{Seed: &seed})
	for name, policy := range map[string]string{"strict": "fail", "loose": "allow"} {
		r.post("/v1/anti-affinity-groups?project=demo", obj{
			"name": name, "description": "", "policy": policy, "failure_domain": "sled",
		}).ok(201)
	}
	in := obj{"anti_affinity_groups": []string{"strict"}}
	a, b, c := r.create("a", in), r.create("b", in), r.create("c", in)
	r.awaitState(a, "running")
	r.awaitState(b, "running")
	if sledOf(r, a) == sledOf(r, b) {
		t.Error("two members on one sled")
	}
	if s := r.runState(c); s != "failed" {
		t.Errorf("the third on two sleds is %s", s)
	}
	r.post("/v1/instances/"+c+"/start", nil).want(507, "InsufficientCapacity")
	groups := r.get("/v1/instances/" + a + "/anti-affinity-groups").ok(200).items()
	if len(groups) != 1 || groups[0].str("failure_domain") != "sled" {
		t.Errorf("groups of a: %v", groups)
	}
	const members = "/v1/anti-affinity-groups/strict/members"
	if n := len(r.get(members + "?project=demo").ok(200).items()); n != 3 {
		t.Errorf("%d members", n)
	}
	r.del(members + "/instance/c?project=demo").ok(204)
	r.post("/v1/anti-affinity-groups/loose/members/instance/c?project=demo", nil).ok(201)
	r.post("/v1/instances/"+c+"/start", nil).ok(202)
	r.post("/v1/anti-affinity-groups/loose/members/instance/a?project=demo", nil).
		want(400, "InvalidRequest") // it runs
}

// OXIDE_API.md §15: metrics tell a project's viewer where an instance runs.
func TestTimeseriesTellsSled(t *testing.T) {
	r := withUsers(t)
	id := r.instance("node-1")
	r.instance("node-2")
	ask := func(query string) []any {
		t.Helper()
		got := r.as("viewer").post("/v1/timeseries/query?project=demo", obj{"query": query}).ok(200)
		tables, _ := got["tables"].([]any)
		if len(tables) != 1 {
			t.Fatalf("tables: %v", got)
		}
		table, _ := tables[0].(map[string]any)
		series, _ := table["timeseries"].([]any)
		return series
	}
	value := func(series any, field string) any {
		one, _ := series.(map[string]any)
		fields, _ := one["fields"].(map[string]any)
		f, _ := fields[field].(map[string]any)
		return f["value"]
	}
	const only = ` | filter instance_id == "`
	got := ask("get virtual_machine:check" + only + id + `" && timestamp > @now() - 5m | last 1`)
	if len(got) != 1 || value(got[0], "rack_id") != r.State().RackID {
		t.Fatalf("check: %v", got)
	}
	usage := ask("get virtual_machine:vcpu_usage" + only + id + `"`)
	if len(usage) != 1 || value(usage[0], "sled_serial") != sledOf(r, id) {
		t.Errorf("usage: %v", usage)
	}
	if n := len(ask("get virtual_machine:check")); n != 2 {
		t.Errorf("%d series without a filter", n)
	}
	must(t, r.LoseSled("instance:node-1"))
	lost := ask("get virtual_machine:incomplete_check" + only + id + `"`)
	if len(lost) != 1 || value(lost[0], "failure_reason") != "unreachable" {
		t.Errorf("lost: %v", lost)
	}
	const check, usages = "get virtual_machine:check", "get virtual_machine:vcpu_usage"
	must(t, r.RecoverSled("instance:node-1"))
	mine, other := `instance_id == "`+id+`"`, `instance_id == "`+uuid.NewString()+`"`
	for _, tc := range []struct {
		query string
		want  int
	}{
		{check + " | filter " + mine + " || " + other, 1},
		{check + " | filter " + mine + " && " + other, 0},
		{check + " | filter !(" + mine + " || " + other + ") | last 1", 1},
		{check + " | filter " + other + " || " + mine + ` && state == "running"`, 1},
		{check + ` | filter timestamp > @now() - 5m && state != "a | b" | last 2`, 2},
		{check + " | filter sled_agent_port == 12345 && timestamp >= @2026-01-01T00:00:00", 2},
		{usages + " | filter vcpu_id == 0", 2},
		{usages + " | filter vcpu_id == 1", 0},
	} {
		if n := len(ask(tc.query)); n != tc.want {
			t.Errorf("%s: %d series, want %d", tc.query, n, tc.want)
		}
	}
	for _, bad := range []string{
		"", "get", "get nothing:here", check + " | sum", check + " | filter",
		check + " | filter nothing == 1", check + " | filter (state == \"a\"",
		check + " | filter state == \"a\" &&", check + " | filter state < 1",
		check + " | filter timestamp == 1", check + " | filter state == a",
	} {
		r.post("/v1/timeseries/query?project=demo/demo", obj{"query": bad}).want(400, "")
		r.as("viewer").post("/v1/timeseries/query?project=demo", obj{"query": bad}).
			want(400, "InvalidRequest")
	}
}
