// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package oxidesim_test

import (
	"encoding/base64"
	"testing"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/oxidesim"
)

func newDiskBody(name string, more obj) obj {
	body := obj{
		"name": name, "description": "", "size": gib, "disk_backend": obj{
			"type": "distributed", "disk_source": obj{"type": "blank", "block_size": 512},
		},
	}
	for k, v := range more {
		body[k] = v
	}
	return body
}

// Disks, snapshots and images, as far as clients need them to make an instance.
func TestInstanceWithDisks(t *testing.T) {
	r := startRack(t, oxidesim.Config{})
	made := r.post("/v1/disks?project=demo", newDiskBody("data", nil)).ok(201)
	if state, _ := made["state"].(map[string]any); state["state"] != "creating" {
		t.Errorf("answered %v", made)
	}
	snap := r.post("/v1/snapshots?project=demo", obj{
		"name": "snap", "description": "", "disk": "data",
	}).ok(201)
	image := r.post("/v1/images?project=demo", obj{
		"name": "debian", "description": "", "os": "debian", "version": "13",
		"source": obj{"type": "snapshot", "id": snap.str("id")},
	}).ok(201)
	fromImage := obj{"type": "distributed", "disk_source": obj{
		"type": "image", "image_id": image.str("id"),
	}}
	id := r.create("node-1", obj{
		"boot_disk": newDiskBody("boot", obj{"type": "create", "disk_backend": fromImage}),
		"disks":     []obj{{"type": "attach", "name": "data"}},
	})
	boot := r.get("/v1/disks/boot?project=demo").ok(200)
	if got := r.get("/v1/instances/" + id).ok(200); got.str("boot_disk_id") != boot.str("id") {
		t.Errorf("boot disk %v, want %s", got["boot_disk_id"], boot.str("id"))
	}
	if n := len(r.get("/v1/instances/" + id + "/disks").ok(200).items()); n != 2 {
		t.Errorf("%d disks", n)
	}
	r.del("/v1/disks/data?project=demo").want(400, "InvalidRequest")
	r.awaitState(id, "running")
	detach := "/v1/instances/" + id + "/disks/detach"
	r.post(detach, obj{"disk": "data"}).want(400, "InvalidRequest")
	r.post("/v1/instances/"+id+"/stop", nil).ok(202)
	r.awaitState(id, "stopped")
	r.post(detach, obj{"disk": "boot"}).want(409, "Conflict")
	r.post(detach, obj{"disk": "data"}).ok(202)
	r.del("/v1/instances/" + id).ok(204)
	state, _ := r.get("/v1/disks/boot?project=demo").ok(200)["state"].(map[string]any)
	if state["state"] != "detached" {
		t.Errorf("boot disk after the instance: %v", state)
	}
}

// The built-in rack has an image, visible in every project, that an instance can boot from.
func TestSeededImage(t *testing.T) {
	r := startRack(t, oxidesim.Config{})
	images := r.get("/v1/images").ok(200).items()
	if len(images) != 1 || images[0]["project_id"] != nil {
		t.Fatalf("images: %v", images)
	}
	boot := func(size int) obj {
		return obj{"boot_disk": newDiskBody("boot", obj{
			"type": "create", "size": size, "disk_backend": obj{
				"type": "distributed", "disk_source": obj{
					"type": "image", "image_id": images[0].str("id"),
				},
			},
		})}
	}
	small := newInstanceBody("x", boot(gib)) // the image has 2 GiB
	r.post("/v1/instances?project=demo", small).want(400, "InvalidRequest")
	r.create("x", boot(2*gib))
}

// A disk whose content is imported, as the CLI's and Terraform's image imports do.
func TestDiskImport(t *testing.T) {
	r := startRack(t, oxidesim.Config{})
	r.post("/v1/disks?project=demo", newDiskBody("img", obj{"disk_backend": obj{
		"type": "distributed", "disk_source": obj{"type": "importing_blocks", "block_size": 512},
	}})).ok(201)
	step := func(name string, body any) *answer {
		t.Helper()
		return r.post("/v1/disks/img/"+name+"?project=demo", body)
	}
	block := base64.StdEncoding.EncodeToString(make([]byte, 512))
	write := obj{"offset": 0, "base64_encoded_data": block}
	step("bulk-write", write).want(400, "InvalidRequest")
	step("bulk-write-start", nil).ok(204)
	step("bulk-write", write).ok(204)
	step("bulk-write", obj{"offset": 1, "base64_encoded_data": block}).want(400, "InvalidRequest")
	step("bulk-write", obj{"offset": 0, "base64_encoded_data": "?"}).want(400, "InvalidRequest")
	step("finalize", obj{}).want(400, "InvalidRequest")
	step("bulk-write-stop", nil).ok(204)
	step("finalize", obj{"snapshot_name": "snap"}).ok(204)
	r.get("/v1/snapshots/snap?project=demo").ok(200)
}

// An instance has the keys it is made with: those named, or all of the user.
func TestSSHKeys(t *testing.T) {
	r := startRack(t, oxidesim.Config{})
	for _, name := range []string{"a", "b"} {
		body := obj{"name": name, "description": "", "public_key": "ssh-ed25519 AAAA"}
		r.post("/v1/me/ssh-keys", body).ok(201)
	}
	for name, tc := range map[string]struct {
		with obj
		want int
	}{
		"all":  {obj{}, 2},
		"one":  {obj{"ssh_public_keys": []string{"a"}}, 1},
		"none": {obj{"ssh_public_keys": []string{}}, 0},
	} {
		id := r.create(name, tc.with)
		keys := r.get("/v1/instances/" + id + "/ssh-public-keys").ok(200).items()
		if len(keys) != tc.want {
			t.Errorf("%s: %d keys, want %d", name, len(keys), tc.want)
		}
	}
	r.post("/v1/instances?project=demo",
		newInstanceBody("x", obj{"ssh_public_keys": []string{"zz"}})).want(404, "ObjectNotFound")
}

// A disk that is attached nowhere is detached already, whatever the state of the instance is.
func TestDetachingADetachedDiskChangesNothing(t *testing.T) {
	r := startRack(t, oxidesim.Config{})
	id := r.instance("node-1")
	r.post("/v1/disks?project=demo", newDiskBody("data", nil)).ok(201)
	detach := func(instance string) *answer {
		return r.post("/v1/instances/"+instance+"/disks/detach", obj{"disk": "data"})
	}
	got := detach(id).ok(202)
	if state, _ := got["state"].(map[string]any); state["state"] != "detached" {
		t.Errorf("answered %v", got)
	}
	must(t, r.SetRunState(id, "stopped"))
	r.post("/v1/instances/"+id+"/disks/attach", obj{"disk": "data"}).ok(202)
	detach(r.instance("node-2")).want(400, "InvalidRequest") // attached to another one
	detach(id).ok(202)
	detach(id).ok(202)
}
