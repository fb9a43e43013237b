// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package model

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/rack"
)

// people are those who have a credential for the rack and use it by hand. Their requests fail as often
// as any; they repeat them.
type people struct {
	rack   *rack.Rack
	client *http.Client
}

// errRefused: the rack does not do it, or not soon.
var errRefused = errors.New("refused")

// attempts is how often a request is made that the rack does not answer as it should.
const attempts = 100

// call makes a request until it is answered by something else than a fault.
func (p *people) call(ctx context.Context, method, path string, body, into any) error {
	text, err := json.Marshal(body)
	if err != nil {
		return err
	}
	for range attempts {
		err = p.once(ctx, method, path, text, into)
		if err == nil || errors.Is(err, errRefused) || ctx.Err() != nil {
			return err
		}
		time.Sleep(10 * time.Millisecond)
	}
	return fmt.Errorf("%w: %w", errRefused, err)
}

func (p *people) once(ctx context.Context, method, path string, body []byte, into any) error {
	request, err := http.NewRequestWithContext(ctx, method, p.rack.URL+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	request.Header.Set("Authorization", "Bearer "+rack.Token)
	request.Header.Set("Content-Type", "application/json")
	response, err := p.client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	switch {
	case err != nil:
		return err
	case response.StatusCode >= http.StatusInternalServerError:
		return fmt.Errorf("%s %s: %s", method, path, response.Status)
	case response.StatusCode >= http.StatusBadRequest:
		return fmt.Errorf("%w: %s %s: %s: %s", errRefused, method, path, response.Status, text)
	case into == nil:
		return nil
	}
	return json.Unmarshal(text, into)
}

const inProject = "?project=" + rack.Project

// createIP makes a floating IP of the user's own, of the default pool.
func (p *people) createIP(ctx context.Context, name, description string) error {
	err := p.call(ctx, http.MethodPost, "/v1/floating-ips"+inProject,
		map[string]any{"name": name, "description": description}, nil)
	if errors.Is(err, errRefused) { // it was made, and the answer lost
		return p.call(ctx, http.MethodGet, "/v1/floating-ips/"+name+inProject, nil, nil)
	}
	return err
}

func (p *people) attach(ctx context.Context, ip, instance string) error {
	return p.call(ctx, http.MethodPost, "/v1/floating-ips/"+ip+"/attach",
		map[string]string{"kind": "instance", "parent": instance}, nil)
}

func (p *people) detach(ctx context.Context, ip string) error {
	return p.call(ctx, http.MethodPost, "/v1/floating-ips/"+ip+"/detach", nil, nil)
}

// update gives a floating IP another name or description.
func (p *people) update(ctx context.Context, ip string, changes map[string]string) error {
	return p.call(ctx, http.MethodPut, "/v1/floating-ips/"+ip, changes, nil)
}

// remove deletes a floating IP that is attached nowhere, and reports whether it is gone.
func (p *people) remove(ctx context.Context, ip string) (bool, error) {
	err := p.call(ctx, http.MethodDelete, "/v1/floating-ips/"+ip, nil, nil)
	if !errors.Is(err, errRefused) {
		return err == nil, err
	}
	state, err := p.rack.State(ctx)
	for _, each := range state.FloatingIPs {
		if each.ID == ip {
			return false, err
		}
	}
	return err == nil, err
}

// story plays one of the simulator's stories.
func (p *people) story(ctx context.Context, name string, arguments map[string]string) error {
	return p.call(ctx, http.MethodPost, "/_sim/stories/"+name, arguments, nil)
}

// spoil lets a fifth of all requests fail from now on: not done, done without an answer, not done and
// with an error that says nothing.
func (p *people) spoil(ctx context.Context, seed uint64) error {
	for _, fault := range []map[string]any{
		{"probability": 0.08, "status": 503, "error_code": "ServiceNotAvailable"},
		{"probability": 0.06 / 0.92, "reset": true, "execute": true},
		{"probability": 0.06 / 0.86, "status": 500, "error_code": "Internal"},
	} {
		fault["seed"] = seed
		if err := p.call(ctx, http.MethodPost, "/_sim/faults", fault, nil); err != nil {
			return err
		}
		seed++
	}
	return nil
}

// lists returns how often the floating IPs were listed.
func (p *people) lists(ctx context.Context) (int, error) {
	requests, err := p.rack.Requests(ctx)
	return requests["floating_ip_list"], err
}
