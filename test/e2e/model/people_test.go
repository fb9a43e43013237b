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

// pathOf is where Oxide has an address.
func pathOf(ip rack.Carried) string {
	if ip.Subnet {
		return "/v1/external-subnets/" + ip.ID
	}
	return "/v1/floating-ips/" + ip.ID
}

func (p *people) attach(ctx context.Context, ip rack.Carried, instance string) error {
	body := map[string]string{"kind": "instance", "parent": instance}
	if ip.Subnet {
		body = map[string]string{"instance": instance}
	}
	return p.call(ctx, http.MethodPost, pathOf(ip)+"/attach", body, nil)
}

func (p *people) detach(ctx context.Context, ip rack.Carried) error {
	return p.call(ctx, http.MethodPost, pathOf(ip)+"/detach", nil, nil)
}

// update gives an address another name or description.
func (p *people) update(ctx context.Context, ip rack.Carried, changes map[string]string) error {
	return p.call(ctx, http.MethodPut, pathOf(ip), changes, nil)
}

// remove deletes an address that is attached nowhere, and reports whether it is gone.
func (p *people) remove(ctx context.Context, ip rack.Carried) (bool, error) {
	err := p.call(ctx, http.MethodDelete, pathOf(ip), nil, nil)
	if !errors.Is(err, errRefused) {
		return err == nil, err
	}
	state, err := p.rack.State(ctx)
	for _, each := range state.Carried() {
		if each.ID == ip.ID {
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

// lists returns how often floating IPs and how often external subnets were listed.
func (p *people) lists(ctx context.Context) ([2]int, error) {
	requests, err := p.rack.Requests(ctx)
	return [2]int{requests["floating_ip_list"], requests["external_subnet_list"]}, err
}
