// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package oxidesim_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/oxidesim"
)

// What the simulator can do from Go it can do by HTTP, below a path that no rack has.
func TestAdminAPI(t *testing.T) {
	r := startRack(t, oxidesim.Config{}).as("")
	ok := func(a *answer) {
		t.Helper()
		if a.status != http.StatusNoContent && a.status != http.StatusOK {
			t.Fatalf("%s: %d %s", a.what, a.status, a.body)
		}
	}
	ok(r.post("/_sim/seed", `
silos:
- name: demo
  projects:
  - name: demo
    instances:
    - {name: node-1, nic: v4, transit_ips: [10.244.0.0/16]}
    - {name: node-2, run_state: stopped}
    floating_ips: [{name: web, ip: 198.51.100.50, instance: node-1}]
`))
	var state oxidesim.State
	if err := json.Unmarshal(r.get("/_sim/state").body, &state); err != nil {
		t.Fatal(err)
	}
	if len(state.Instances) != 2 || state.FloatingIPs[0].AttachState != "attached" ||
		state.Instances[0].Floating[0] != "198.51.100.50" ||
		state.Instances[0].PrivateIPs["v4"] == "" {
		t.Errorf("state: %+v", state)
	}
	ok(r.post("/_sim/stories/set-run-state", obj{"instance": "node-1", "state": "migrating"}))
	if got := r.State().Instances[0].RunState; got != "migrating" {
		t.Errorf("node-1 is %s", got)
	}
	ok(r.post("/_sim/faults", obj{"id": "mine", "operation": "ping", "status": 503}))
	r.get("/v1/ping").want(503, "")
	if !strings.Contains(string(r.get("/_sim/faults").body), `"mine"`) {
		t.Error("the fault is not listed")
	}
	ok(r.del("/_sim/faults/mine"))
	r.get("/v1/ping").ok(200)
	if got := strings.TrimSpace(string(r.get("/_sim/counters").body)); got !=
		`{"ping":{"200":1,"503":1}}` {
		t.Errorf("counters %s", got)
	}
	ok(r.del("/_sim/counters"))
	if n := r.Count("ping"); n != 0 {
		t.Errorf("%d after the reset", n)
	}
	for path, body := range map[string]any{
		"/_sim/seed":                    "silos: [{colour: red}]",
		"/_sim/faults":                  obj{"status": 5},
		"/_sim/stories/end-of-world":    obj{},
		"/_sim/stories/crash-vm":        obj{"instance": "nobody"},
		"/_sim/stories/revoke-token":    obj{"token": "x"},
		"/_sim/stories/power-off-sled":  obj{"sled": "99"},
		"/_sim/stories/set-run-state":   obj{"instance": "node-1", "state": "happy"},
		"/_sim/stories/stop-listening":  obj{"address": "127.0.0.1:1"},
		"/_sim/stories/set-silo-role":   obj{"user": "demo", "role": "king"},
		"/_sim/stories/add-token":       obj{"user": "demo"},
		"/_sim/stories/fill-pool":       obj{"pools": "default"},
		"/_sim/stories/remove-instance": obj{"instance": "demo/nobody"},
	} {
		a := r.post(path, body)
		if a.status != 400 || strings.Count(strings.TrimSpace(string(a.body)), "\n") != 0 {
			t.Errorf("%s: %d %s, want 400 with one line", path, a.status, a.body)
		}
	}
	for _, story := range oxidesim.Stories() {
		if a := r.post("/_sim/stories/"+story, `{"nothing": 1}`); a.status != 400 {
			t.Errorf("%s took an unknown argument: %d", story, a.status)
		}
	}
}
