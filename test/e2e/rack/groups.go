// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package rack

import (
	"context"
	"encoding/json"
	"net/http"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/process"
)

// AddGroup makes an anti-affinity group, and a new instance in it for each name, and waits until they
// run.
func (r *Rack) AddGroup(ctx context.Context, name string, instances ...string) error {
	post := func(path string, body object) error {
		text, err := json.Marshal(body)
		if err != nil {
			return err
		}
		return r.call(ctx, http.MethodPost, path+"?project="+Project, text, nil)
	}
	if err := post("/v1/anti-affinity-groups", object{
		"name": name, "description": "", "policy": "allow", "failure_domain": "sled",
	}); err != nil {
		return err
	}
	for _, instance := range instances {
		if err := post("/v1/instances", object{
			"name": instance, "description": "", "hostname": instance, "ncpus": 2, "memory": 4 << 30,
			"anti_affinity_groups": []string{name},
		}); err != nil {
			return err
		}
	}
	return process.Await(ctx, func(ctx context.Context) (bool, error) {
		state, err := r.State(ctx)
		for _, instance := range instances {
			if found, _ := state.Instance(instance); found.RunState != "running" {
				return false, err
			}
		}
		return true, err
	})
}
