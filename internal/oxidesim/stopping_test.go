// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package oxidesim_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/oxidesim"
)

// listed is the state of an instance as the lists of the rack show it.
func (r *rack) listed(id string) string {
	r.t.Helper()
	for _, i := range r.get("/v1/instances?project=demo").ok(200).items() {
		if i.str("id") == id {
			return i.str("run_state")
		}
	}
	return "absent"
}

// OXIDE_API.md §5: a list of a rack up to v20.2 says destroyed at the end of a stop; one instance read
// by itself never does.
func TestAListMaySayDestroyedWhileAnInstanceStops(t *testing.T) {
	slow := oxidesim.Timings{Unlink: 300 * time.Second} // that is, scaled, 300 ms
	t.Run("by a seed", func(t *testing.T) {
		r := startRack(t, oxidesim.Config{Timings: slow})
		must(t, r.Apply(oxidesim.Seed{ShowDestroyed: true}))
		listedAsDestroyed(t, r)
	})
	t.Run("by the release", func(t *testing.T) {
		listedAsDestroyed(t, startRack(t, oxidesim.Config{
			Timings: slow, APIVersion: oxidesim.Release20APIVersion,
		}))
	})
}

func listedAsDestroyed(t *testing.T, r *rack) {
	t.Helper()
	id := r.instance("node-1")
	path := "/v1/instances/" + id
	r.post(path+"/stop", nil).ok(202)
	eventually(t, "listed as destroyed", func() bool {
		if s := r.get(path).ok(200).str("run_state"); s != "stopping" {
			t.Fatalf("a direct read says %s before the list says destroyed", s)
		}
		return r.listed(id) == "destroyed"
	})
	r.awaitState(id, "stopped")
	if s := r.listed(id); s != "stopped" {
		t.Errorf("then listed as %s", s)
	}
}

// The moment can be held, and is in every list; whoever does not ask for it sees a stop.
func TestTheMomentOfDestroyedCanBeHeld(t *testing.T) {
	r := startRack(t, oxidesim.Config{})
	id := r.create("node-1", obj{"start": false})
	r.post("/v1/anti-affinity-groups?project=demo", obj{
		"name": "g", "description": "", "policy": "allow", "failure_domain": "sled",
	}).ok(201)
	r.post("/v1/anti-affinity-groups/g/members/instance/node-1?project=demo", nil).ok(201)
	must(t, r.SetRunState(id, "destroyed"))
	operator := r.as(oxidesim.DefaultOperatorToken)
	sled := r.Instances()[0].SledID
	lists := func() []string {
		members := r.get("/v1/anti-affinity-groups/g/members?project=demo").ok(200).items()
		value, _ := members[0]["value"].(map[string]any)
		on := operator.get("/v1/system/hardware/sleds/" + sled + "/instances").ok(200).items()
		return []string{r.listed(id), obj(value).str("run_state"), on[0].str("state")}
	}
	for _, s := range lists() {
		if s != "stopping" {
			t.Errorf("listed as %s by a rack that does not show it", s)
		}
	}
	must(t, r.Play("show-destroyed", oxidesim.StoryArgs{}))
	for _, s := range lists() {
		if s != "destroyed" {
			t.Errorf("listed as %s", s)
		}
	}
	if s := r.get("/v1/instances/" + id).ok(200).str("run_state"); s != "stopping" {
		t.Errorf("a direct read says %s", s)
	}
	must(t, r.Play("hide-destroyed", oxidesim.StoryArgs{}))
	if s := r.listed(id); s != "stopping" {
		t.Errorf("hidden, and listed as %s", s)
	}
}

// OXIDE_API.md §5: what attaching and detaching answer while an instance is stopping says how far its
// virtual machine is.
func TestAStoppingInstanceAnswersByTheStateOfItsVirtualMachine(t *testing.T) {
	slow := oxidesim.Timings{Unlink: time.Hour}
	for _, tc := range []struct {
		name   string
		begin  func(r *rack) error
		status int
		code   string
	}{
		{"stopping", func(r *rack) error { return r.SetRunState("node-1", "stopping") },
			http.StatusServiceUnavailable, "ServiceNotAvailable"},
		{"failed", func(r *rack) error { return r.CrashVM("node-1") },
			http.StatusBadRequest, "InvalidRequest"},
		{"destroyed and still linked", func(r *rack) error { return r.SetRunState("node-1", "destroyed") },
			http.StatusInternalServerError, "Internal"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := startRack(t, oxidesim.Config{Timings: slow})
			seed, err := oxidesim.ParseSeed([]byte(subnetPools))
			must(t, err)
			must(t, r.Apply(seed))
			i := r.instance("node-1")
			tied, free := r.fip("tied"), r.fip("free")
			r.post("/v1/floating-ips/"+tied+"/attach", attachTo(i)).ok(202)
			subnets := map[string]string{}
			for _, name := range []string{"tied", "free"} {
				subnets[name] = r.post("/v1/external-subnets?project=demo", obj{
					"name": name, "description": "", "allocator": autoSubnet(32, nil),
				}).ok(201).str("id")
			}
			subnet := obj{"instance": i}
			r.post("/v1/external-subnets/"+subnets["tied"]+"/attach", subnet).ok(202)
			r.post("/v1/instances/"+i+"/external-ips/ephemeral", obj{}).ok(202)

			must(t, tc.begin(r))
			if s := r.runState(i); s != "stopping" {
				t.Fatalf("the instance is %s", s)
			}
			for _, a := range []*answer{
				r.post("/v1/floating-ips/"+free+"/attach", attachTo(i)),
				r.post("/v1/floating-ips/"+tied+"/attach", attachTo(i)),
				r.post("/v1/floating-ips/"+tied+"/detach", nil),
				r.post("/v1/external-subnets/"+subnets["free"]+"/attach", subnet),
				r.post("/v1/external-subnets/"+subnets["tied"]+"/detach", nil),
				r.del("/v1/instances/" + i + "/external-ips/ephemeral"),
			} {
				a.want(tc.status, tc.code)
			}
			if s := r.attachState(free) + ", " + r.attachState(tied); s != "detached, attached" {
				t.Errorf("the states are %s", s)
			}
		})
	}
}
