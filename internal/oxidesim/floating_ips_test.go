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

func attachTo(instance string) obj { return obj{"kind": "instance", "parent": instance} }

// OXIDE_API.md §8: the whole life of a floating IP.
func TestFloatingIPLife(t *testing.T) {
	r := startRack(t, oxidesim.Config{})
	i := r.instance("node-1")
	created := r.post("/v1/floating-ips?project=demo", obj{
		"name": "web", "description": "d",
		"address_allocator": obj{"type": "explicit", "ip": "198.51.100.77"},
	}).ok(201)
	if created.str("ip") != "198.51.100.77" || created["instance_id"] != nil {
		t.Fatalf("created: %v", created)
	}
	id := created.str("id")
	path := "/v1/floating-ips/" + id

	got := r.post(path+"/attach", attachTo(i)).ok(202)
	if got.str("instance_id") != i {
		t.Fatalf("attach answered %v", got)
	}
	r.del(path).want(400, "InvalidRequest")
	// OXIDE_API.md §8: the answer to a real detach still names the old instance.
	if got := r.post(path+"/detach", nil).ok(202); got.str("instance_id") != i {
		t.Errorf("detach answered instance_id %v, want the old one", got["instance_id"])
	}
	if got := r.get(path).ok(200); got["instance_id"] != nil {
		t.Errorf("still attached: %v", got)
	}
	// OXIDE_API.md §8: detaching what is not attached is a 202 that changes nothing.
	if got := r.post(path+"/detach", nil).ok(202); got["instance_id"] != nil {
		t.Errorf("no-op detach answered %v", got)
	}
	if got := r.put(path, obj{"description": "e"}).ok(200); got.str("description") != "e" {
		t.Errorf("update answered %v", got)
	}
	r.del(path).ok(204)
	r.del(path).want(404, "ObjectNotFound")
}

// OXIDE_API.md §4, §8: names.
func TestFloatingIPNames(t *testing.T) {
	r := startRack(t, oxidesim.Config{})
	a := r.fip("a")
	r.fip("b")
	body := obj{"name": "a", "description": ""}
	t.Run("a taken name is 400 ObjectAlreadyExists", func(t *testing.T) {
		r.post("/v1/floating-ips?project=demo", body).want(400, "ObjectAlreadyExists")
	})
	t.Run("a rename to a taken name is 500", func(t *testing.T) {
		r.put("/v1/floating-ips/"+a, obj{"name": "b"}).want(500, "Internal")
	})
	t.Run("a description over 512 characters is 500", func(t *testing.T) {
		long := obj{"name": "c", "description": strings.Repeat("x", 513)}
		r.post("/v1/floating-ips?project=demo", long).want(500, "Internal")
		r.put("/v1/floating-ips/"+a, obj{"description": strings.Repeat("x", 513)}).
			want(500, "Internal")
		r.put("/v1/floating-ips/"+a, obj{"description": strings.Repeat("é", 512)}).ok(200)
	})
	t.Run("id together with project is 400 InvalidRequest", func(t *testing.T) {
		r.get("/v1/floating-ips/"+a+"?project=demo").want(400, "InvalidRequest")
	})
	t.Run("a name without project is 400 InvalidRequest", func(t *testing.T) {
		r.get("/v1/floating-ips/a").want(400, "InvalidRequest")
	})
	t.Run("a dotted name is 400 without error_code", func(t *testing.T) {
		r.get("/v1/floating-ips/a.b?project=demo").want(400, "")
	})
	t.Run("a missing project names the project", func(t *testing.T) {
		got := r.get("/v1/floating-ips/a?project=nope").want(404, "ObjectNotFound")
		if !strings.Contains(got.str("message"), `project with name "nope"`) {
			t.Errorf("message %q", got.str("message"))
		}
	})
	t.Run("a deleted name is free again and gives another id", func(t *testing.T) {
		r.del("/v1/floating-ips/a?project=demo").ok(204)
		if r.fip("a") == a {
			t.Error("the same id again")
		}
	})
}

// OXIDE_API.md §8, §13: the hidden state machine and its refusals.
func TestAttachRefusals(t *testing.T) {
	r := startRack(t, oxidesim.Config{})
	i, j := r.instance("node-1"), r.instance("node-2")
	kinds := r.attachables()
	set := func(which, state string) {
		t.Helper()
		if err := r.SetRunState(which, state); err != nil {
			t.Fatal(err)
		}
	}
	const (
		bad  = "InvalidRequest"
		busy = "ServiceNotAvailable"
	)
	for _, tc := range []struct {
		name       string
		state      string // of node-1
		before, on string // hidden state, and the instance's name unless detached
		op, target string
		status     int
		code       string
		after      string
	}{
		{
			"attach while running", "running", "detached", "",
			"attach", i, 202, "", "attached",
		},
		{
			"attach while rebooting", "rebooting", "detached", "",
			"attach", i, 202, "", "attached",
		},
		{
			"attach while stopped", "stopped", "detached", "",
			"attach", i, 202, "", "attached",
		},
		{
			"attach while creating", "creating", "detached", "",
			"attach", i, 400, bad, "detached",
		},
		{
			"attach while failed", "failed", "detached", "",
			"attach", i, 400, bad, "detached",
		},
		{
			"attach while starting", "starting", "detached", "",
			"attach", i, 503, busy, "detached",
		},
		{
			"attach while stopping", "stopping", "detached", "",
			"attach", i, 503, busy, "detached",
		},
		{
			"attach while migrating", "migrating", "detached", "",
			"attach", i, 503, busy, "detached",
		},
		{
			"attach again to the same", "running", "attached", "node-1",
			"attach", i, 202, "", "attached",
		},
		{
			"attach again runs the runtime check", "starting", "attached", "node-1",
			"attach", i, 503, busy, "attached",
		},
		{
			"attach again to a failed one", "failed", "attached", "node-1",
			"attach", i, 400, bad, "attached",
		},
		{
			"attach again while it is on its way", "running", "attaching", "node-1",
			"attach", i, 202, "", "attached",
		},
		{
			"attach again while on its way and failing", "starting", "attaching", "node-1",
			"attach", i, 503, busy, "detached",
		},
		{
			"attach while attached elsewhere", "running", "attached", "node-1",
			"attach", j, 400, bad, "attached",
		},
		{
			"attach while attaching elsewhere", "running", "attaching", "node-1",
			"attach", j, 503, busy, "attaching",
		},
		{
			"attach while detaching elsewhere", "running", "detaching", "node-1",
			"attach", j, 503, busy, "detaching",
		},
		{
			"attach while detaching from it", "running", "detaching", "node-1",
			"attach", i, 503, busy, "detaching",
		},
		{
			"detach while attaching", "running", "attaching", "node-1",
			"detach", "", 503, busy, "attaching",
		},
		{
			"detach while detaching", "running", "detaching", "node-1",
			"detach", "", 202, "", "detached",
		},
		{
			"detach while detaching and failing", "failed", "detaching", "node-1",
			"detach", "", 400, bad, "attached",
		},
		{
			"detach while failed", "failed", "attached", "node-1",
			"detach", "", 400, bad, "attached",
		},
		{
			"detach while creating", "creating", "attached", "node-1",
			"detach", "", 400, bad, "attached",
		},
		{
			"detach while stopping", "stopping", "attached", "node-1",
			"detach", "", 503, busy, "attached",
		},
		{
			"detach while rebooting", "rebooting", "attached", "node-1",
			"detach", "", 202, "", "detached",
		},
		{
			"detach while starting", "starting", "attached", "node-1",
			"detach", "", 503, busy, "attached",
		},
		{
			"detach while migrating", "migrating", "attached", "node-1",
			"detach", "", 503, busy, "attached",
		},
		{
			"detach while stopped", "stopped", "attached", "node-1",
			"detach", "", 202, "", "detached",
		},
	} {
		for _, k := range kinds {
			t.Run(k.name+"/"+tc.name, func(t *testing.T) {
				set("node-1", tc.state)
				must(t, k.set(tc.before, tc.on))
				var body any
				if tc.op == "attach" {
					body = k.to(tc.target)
				}
				got := r.post(k.path+"/"+tc.op, body)
				if tc.status == 202 {
					got.ok(202)
				} else {
					got.want(tc.status, tc.code)
				}
				if s := k.state(); s != tc.after {
					t.Errorf("hidden state %q, want %q", s, tc.after)
				}
			})
		}
	}
}

// OXIDE_API.md §8, §13: an unreachable sled makes attach and detach hang, then 503, then unwind;
// meanwhile whatever else is asked for is 503.
func TestAttachedOnALostSled(t *testing.T) {
	t.Parallel()
	r := startRack(t, oxidesim.Config{TimeScale: 0.005})
	i := r.instance("node-1")
	kinds := r.attachables()
	for _, k := range kinds {
		r.post(k.path+"/attach", k.to(i)).ok(202)
	}
	must(t, r.LoseSled("instance:node-1"))
	for _, k := range kinds {
		t.Run(k.name, func(t *testing.T) {
			began := time.Now()
			done := make(chan *answer, 1)
			go func() { done <- r.post(k.path+"/detach", nil) }()
			eventually(t, "detaching", func() bool { return k.state() == "detaching" })
			r.post(k.path+"/attach", k.to(i)).want(503, "ServiceNotAvailable")
			(<-done).want(503, "ServiceNotAvailable")
			if took := time.Since(began); took < 300*time.Millisecond {
				t.Errorf("gave up after %v, want the scaled 60 s = 300 ms", took)
			}
			if s := k.state(); s != "attached" {
				t.Errorf("not unwound: %s", s)
			}
			if s := r.runState(i); s != "running" {
				t.Errorf("instance is %s, want it running as far as anybody knows", s)
			}
		})
	}
}
