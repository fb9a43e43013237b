// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package rack

import (
	"context"
	"encoding/json"
	"net/http"
)

// What happens to the rack, and what people do to floating IPs by hand.

// CrashInstance ends the virtual machine of an instance: it fails, and Oxide starts it again.
func (r *Rack) CrashInstance(ctx context.Context, name string) error {
	return r.story(ctx, "crash-vm", map[string]string{"instance": name})
}

// SetRunState puts an instance into a state, such as migrating or failed, in which it stays until
// something is asked of it.
func (r *Rack) SetRunState(ctx context.Context, name, state string) error {
	return r.story(ctx, "set-run-state", map[string]string{"instance": name, "state": state})
}

// ShowDestroyed makes lists say that an instance is destroyed at the end of its stop, as racks up to
// v20.2 do.
func (r *Rack) ShowDestroyed(ctx context.Context) error {
	return r.story(ctx, "show-destroyed", map[string]string{})
}

// LoseSled makes the sled of an instance silent: the instance stays running as far as Oxide tells,
// and nothing can be attached to it or detached from it.
func (r *Rack) LoseSled(ctx context.Context, instance string) error {
	return r.story(ctx, "lose-sled", map[string]string{"sled": "instance:" + instance})
}

// RecoverSled ends what LoseSled began.
func (r *Rack) RecoverSled(ctx context.Context, instance string) error {
	return r.story(ctx, "recover-sled", map[string]string{"sled": "instance:" + instance})
}

// Attach attaches a floating IP to an instance by hand.
func (r *Rack) Attach(ctx context.Context, ip FloatingIP, instance string) error {
	body, err := json.Marshal(map[string]string{"kind": "instance", "parent": instance})
	if err != nil {
		return err
	}
	return r.call(ctx, http.MethodPost,
		"/v1/floating-ips/"+ip.Name+"/attach?project="+Project, body, nil)
}

// Detach detaches a floating IP by hand.
func (r *Rack) Detach(ctx context.Context, ip FloatingIP) error {
	return r.call(ctx, http.MethodPost,
		"/v1/floating-ips/"+ip.Name+"/detach?project="+Project, nil, nil)
}

// Delete deletes a floating IP by hand, which is attached nowhere.
func (r *Rack) Delete(ctx context.Context, ip FloatingIP) error {
	return r.call(ctx, http.MethodDelete, "/v1/floating-ips/"+ip.Name+"?project="+Project, nil, nil)
}

// Rename gives a floating IP another name by hand.
func (r *Rack) Rename(ctx context.Context, ip FloatingIP, name string) error {
	body, err := json.Marshal(map[string]string{"name": name})
	if err != nil {
		return err
	}
	return r.call(ctx, http.MethodPut, "/v1/floating-ips/"+ip.ID, body, nil)
}
