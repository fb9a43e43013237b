// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package oxidesim_test

import (
	"strings"
	"testing"
	"time"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/oxidesim"
)

const gib = 1 << 30

func newInstanceBody(name string, more obj) obj {
	body := obj{
		"name": name, "description": "", "hostname": name, "ncpus": 2, "memory": gib,
	}
	for k, v := range more {
		body[k] = v
	}
	return body
}

// create makes an instance by the API and gives its id.
func (r *rack) create(name string, more obj) string {
	r.t.Helper()
	return r.post("/v1/instances?project=demo", newInstanceBody(name, more)).ok(201).str("id")
}

func (r *rack) awaitState(id, state string) {
	r.t.Helper()
	eventually(r.t, id+" "+state, func() bool { return r.runState(id) == state })
}

// OXIDE_API.md §5 Transitions: the ordinary life of an instance.
func TestInstanceLife(t *testing.T) {
	r := startRack(t, oxidesim.Config{})
	made := r.post("/v1/instances?project=demo", newInstanceBody("node-1", nil)).ok(201)
	if s := made.str("run_state"); s != "starting" {
		t.Errorf("created in state %s", s)
	}
	id := made.str("id")
	path := "/v1/instances/" + id
	r.awaitState(id, "running")
	r.post(path+"/start", nil).ok(202)
	r.del(path).want(400, "InvalidRequest")
	if s := r.post(path+"/reboot", nil).ok(202).str("run_state"); s != "rebooting" {
		t.Errorf("reboot answered %s", s)
	}
	r.awaitState(id, "running")
	if s := r.post(path+"/stop", nil).ok(202).str("run_state"); s != "stopping" {
		t.Errorf("stop answered %s", s)
	}
	r.awaitState(id, "stopped")
	r.post(path+"/reboot", nil).want(400, "InvalidRequest")
	if s := r.post(path+"/stop", nil).ok(202).str("run_state"); s != "stopped" {
		t.Errorf("stop of a stopped one answered %s", s)
	}
	r.post(path+"/start", nil).ok(202)
	r.awaitState(id, "running")
	r.post(path+"/stop", nil).ok(202)
	r.awaitState(id, "stopped")
	r.del(path).ok(204)
	r.get(path).want(404, "ObjectNotFound")
	if again := r.create("node-1", obj{"start": false}); again == id {
		t.Error("the name gave the same id again")
	}
}

// OXIDE_API.md §5: what is refused in which state.
func TestInstanceStateRefusals(t *testing.T) {
	r := startRack(t, oxidesim.Config{})
	id := r.instance("node-1")
	path := "/v1/instances/" + id
	for _, tc := range []struct {
		state, op string
		status    int
		code      string
		after     string
	}{
		{"creating", "start", 409, "Conflict", "creating"},
		{"stopping", "start", 409, "Conflict", "stopping"},
		{"migrating", "start", 202, "", "migrating"},
		{"rebooting", "start", 202, "", "rebooting"},
		{"creating", "stop", 400, "InvalidRequest", "creating"},
		{"failed", "stop", 202, "", "stopped"},
		{"failed", "reboot", 400, "InvalidRequest", "failed"},
		{"starting", "reboot", 400, "InvalidRequest", "starting"},
	} {
		t.Run(tc.op+" while "+tc.state, func(t *testing.T) {
			if err := r.SetRunState(id, tc.state); err != nil {
				t.Fatal(err)
			}
			r.post(path+"/"+tc.op, nil).want(tc.status, tc.code)
			if s := r.runState(id); s != tc.after {
				t.Errorf("then %s, want %s", s, tc.after)
			}
		})
	}
}

// OXIDE_API.md §5: time_modified follows requests, time_run_state_updated the state.
func TestInstanceTimes(t *testing.T) {
	r := startRack(t, oxidesim.Config{})
	id := r.instanceNeverRestarted("node-1")
	before := r.get("/v1/instances/" + id).ok(200)
	if err := r.CrashVM(id); err != nil {
		t.Fatal(err)
	}
	after := r.get("/v1/instances/" + id).ok(200)
	if before.str("time_modified") != after.str("time_modified") {
		t.Error("time_modified moved with the run state")
	}
	if before.str("time_run_state_updated") == after.str("time_run_state_updated") {
		t.Error("time_run_state_updated did not move with the run state")
	}
	r.awaitState(id, "failed")
	r.post("/v1/instances/"+id+"/stop", nil).ok(202)
	if r.get("/v1/instances/"+id).ok(200).str("time_modified") == after.str("time_modified") {
		t.Error("time_modified did not move with a request")
	}
}

// OXIDE_API.md §5 Limits.
func TestInstanceLimits(t *testing.T) {
	r := startRack(t, oxidesim.Config{})
	for _, tc := range []struct {
		name string
		with obj
		code string
	}{
		{"no CPU", obj{"ncpus": 0}, "InvalidValue"},
		{"too many CPUs", obj{"ncpus": 255}, "InvalidValue"},
		{"less than a GiB", obj{"memory": gib / 2}, "InvalidValue"},
		{"no whole GiB", obj{"memory": gib + 1}, "InvalidValue"},
		{"more than 1536 GiB", obj{"memory": 1537 * gib}, "InvalidValue"},
		{"negative CPUs", obj{"ncpus": -1}, ""},
		{"hostname with an empty label", obj{"hostname": "a..b"}, ""},
		{"hostname of 254", obj{"hostname": strings.Repeat("a.", 126) + "ab"}, ""},
		{"unknown policy", obj{"auto_restart_policy": "always"}, ""},
		{"null for start", obj{"start": nil}, ""},
		{"user data that is no base64", obj{"user_data": "%"}, ""},
		{"nine NICs", obj{"network_interfaces": obj{"type": "create", "params": nineNICs()}},
			"InvalidRequest"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			body := newInstanceBody("x", tc.with)
			r.post("/v1/instances?project=demo", body).want(400, tc.code)
		})
	}
	t.Run("dots and the greatest sizes are fine", func(t *testing.T) {
		r.create("big", obj{"ncpus": 254, "memory": 1536 * gib, "hostname": "a.example.com"})
	})
	t.Run("a failed create leaves nothing behind", func(t *testing.T) {
		free := r.as(oxidesim.DefaultOperatorToken).
			get("/v1/system/ip-pools/default/utilization").ok(200)
		r.post("/v1/instances?project=demo", newInstanceBody("y", obj{
			"external_ips": []obj{
				{"type": "ephemeral"}, {"type": "floating", "floating_ip": "nope"},
			},
			"disks": []obj{newDiskBody("scratch", obj{"type": "create"})},
		})).want(404, "ObjectNotFound")
		after := r.as(oxidesim.DefaultOperatorToken).
			get("/v1/system/ip-pools/default/utilization").ok(200)
		if free["remaining"] != after["remaining"] {
			t.Errorf("free before %v, after %v", free, after)
		}
		if n := len(r.get("/v1/disks?project=demo").ok(200).items()); n != 0 {
			t.Errorf("%d disks", n)
		}
		r.create("y", obj{"start": false})
	})
}

func nineNICs() []obj {
	var out []obj
	for range 9 {
		out = append(out, obj{
			"name": "n", "description": "", "vpc_name": "default", "subnet_name": "default",
		})
	}
	return out
}

// OXIDE_API.md §5: sizes change while there is no VMM; every field of the PUT is needed.
func TestInstanceUpdate(t *testing.T) {
	r := startRack(t, oxidesim.Config{})
	id := r.instance("node-1")
	path := "/v1/instances/" + id
	body := obj{
		"ncpus": 2, "memory": 4 * gib, "boot_disk": nil, "cpu_platform": nil,
		"auto_restart_policy": "never", "enable_jumbo_frames": false,
	}
	got := r.put(path, body).ok(200)
	if got["auto_restart_enabled"] != false || got.str("auto_restart_policy") != "never" {
		t.Errorf("updated: %v", got)
	}
	body["ncpus"] = 8
	r.put(path, body).want(409, "Conflict")
	r.post(path+"/stop", nil).ok(202)
	r.awaitState(id, "stopped")
	if got := r.put(path, body).ok(200); got["ncpus"] != 8.0 {
		t.Errorf("updated: %v", got)
	}
	for _, field := range []string{"boot_disk", "auto_restart_policy", "memory"} {
		less := obj{}
		for k, v := range body {
			if k != field {
				less[k] = v
			}
		}
		r.put(path, less).want(400, "")
	}
}

// OXIDE_API.md §5 Failure and auto-restart.
func TestAutoRestart(t *testing.T) {
	t.Parallel()
	r := startRack(t, oxidesim.Config{
		Timings: oxidesim.Timings{Cooldown: 10 * time.Minute},
	})
	id := r.instance("node-1")
	path := "/v1/instances/" + id
	ip := r.get("/v1/network-interfaces?instance=" + id).ok(200).items()[0]
	if err := r.CrashVM(id); err != nil {
		t.Fatal(err)
	}
	if s := r.runState(id); s != "stopping" {
		t.Errorf("crashed: %s, want stopping first", s)
	}
	r.awaitState(id, "running")
	got := r.get(path).ok(200)
	if got["time_last_auto_restarted"] == nil || got["auto_restart_cooldown_expiration"] == nil {
		t.Errorf("restarted: %v", got)
	}
	if now := r.get("/v1/network-interfaces/" + ip.str("id")).ok(200); !same(now, ip) {
		t.Errorf("NIC before %v, after %v", ip, now)
	}

	t.Run("not before the cooldown has passed", func(t *testing.T) {
		if err := r.CrashVM(id); err != nil {
			t.Fatal(err)
		}
		r.awaitState(id, "running")
		expires := got.str("auto_restart_cooldown_expiration")
		if again := r.get(path).ok(200).str("time_last_auto_restarted"); again < expires {
			t.Errorf("restarted at %s, cooldown until %s", again, expires)
		}
	})
	t.Run("never by policy", func(t *testing.T) {
		other := r.create("node-2", obj{"auto_restart_policy": "never"})
		r.awaitState(other, "running")
		if err := r.CrashVM(other); err != nil {
			t.Fatal(err)
		}
		r.awaitState(other, "failed")
		if err := r.CrashVM(id); err != nil {
			t.Fatal(err)
		}
		r.awaitState(id, "running") // well after a restart of the other would have been
		if s := r.runState(other); s != "failed" {
			t.Errorf("node-2 is %s", s)
		}
	})
	t.Run("a stop disables it", func(t *testing.T) {
		if err := r.CrashVM(id); err != nil {
			t.Fatal(err)
		}
		r.awaitState(id, "failed")
		if s := r.post(path+"/stop", nil).ok(202).str("run_state"); s != "stopped" {
			t.Errorf("stop of a failed one answered %s, want stopped at once", s)
		}
	})
}

func same(a, b obj) bool {
	for _, key := range []string{"id", "mac", "subnet_id"} {
		if a[key] != b[key] {
			return false
		}
	}
	return true
}

// OXIDE_API.md §5, §8: the window in a delete in which a floating IP names an instance that
// is not there: detaching it is a 404 of type instance.
func TestInstanceDeleteWindow(t *testing.T) {
	t.Parallel()
	r := startRack(t, oxidesim.Config{TimeScale: 1})
	id, fip := r.instance("node-1"), r.fip("web")
	r.post("/v1/floating-ips/"+fip+"/attach", attachTo(id)).ok(202)
	if err := r.SetRunState(id, "stopped"); err != nil {
		t.Fatal(err)
	}
	done := make(chan *answer, 1)
	go func() { done <- r.del("/v1/instances/" + id) }()
	eventually(t, "gone", func() bool { return r.runState(id) == "gone" })
	got := r.post("/v1/floating-ips/"+fip+"/detach", nil).want(404, "ObjectNotFound")
	if !strings.Contains(got.str("message"), "instance with id") {
		t.Errorf("message %q", got.str("message"))
	}
	(<-done).ok(204)
	if got := r.get("/v1/floating-ips/" + fip).ok(200); got["instance_id"] != nil {
		t.Errorf("floating IP kept its instance: %v", got)
	}
}

// OXIDE_API.md §5, §8: a start that fails for want of room, or because an address is in
// transition, shows as failed; but then addresses can be attached and detached.
func TestUnwoundStart(t *testing.T) {
	r := startRack(t, oxidesim.Config{})
	id, fip := r.instance("node-1"), r.fip("web")
	if err := r.SetRunState(id, "stopped"); err != nil {
		t.Fatal(err)
	}
	if err := r.SetAttachState(fip, "detaching", id); err != nil {
		t.Fatal(err)
	}
	r.post("/v1/instances/"+id+"/start", nil).want(503, "ServiceNotAvailable")
	if s := r.runState(id); s != "failed" {
		t.Errorf("then %s", s)
	}
	if err := r.SetAttachState(fip, "attached", id); err != nil {
		t.Fatal(err)
	}
	r.post("/v1/floating-ips/"+fip+"/detach", nil).ok(202)
	for n := range 4 {
		if err := r.LoseSled(string(rune('0' + n))); err != nil {
			t.Fatal(err)
		}
	}
	r.post("/v1/instances/"+id+"/start", nil).want(507, "InsufficientCapacity")
}
