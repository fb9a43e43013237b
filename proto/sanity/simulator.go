// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package sanity

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

// recoveryTimeout is how soon a backend works again after its rack does.
const recoveryTimeout = 30 * time.Second

// simulator is the API by which a simulated rack is made to fail.
type simulator struct {
	url    string
	client *http.Client
}

// fault is a rule that spoils requests of the rack.
type fault struct {
	ID        string `json:"id"`
	Operation string `json:"operation,omitempty"`
	Nth       []int  `json:"nth,omitempty"`
	Times     int    `json:"times,omitempty"`
	Status    int    `json:"status,omitempty"`
	ErrorCode string `json:"error_code,omitempty"`
	Execute   bool   `json:"execute,omitempty"`
	LatencyMS int    `json:"latency_ms,omitempty"`
	Reset     bool   `json:"reset,omitempty"`
	Body      string `json:"body,omitempty"`
}

// story are the arguments of a story.
type story struct {
	Instance   string `json:"instance,omitempty"`
	State      string `json:"state,omitempty"`
	Pool       string `json:"pool,omitempty"`
	APIVersion string `json:"api_version,omitempty"`
}

func newSimulator(url string) *simulator {
	return &simulator{
		url:    strings.TrimRight(url, "/"),
		client: &http.Client{Timeout: firstAnswer, Transport: &http.Transport{DisableKeepAlives: true}},
	}
}

// do makes a request of the simulator's own API. It is not broken off, since a fault that comes
// after its end was asked for would stay; the client's timeout bounds it.
func (s *simulator) do(ctx context.Context, method, path string, body, answer any) error {
	var content io.Reader
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			return err
		}
		content = bytes.NewReader(text)
	}
	request, err := http.NewRequestWithContext(context.WithoutCancel(ctx), method, s.url+"/_sim/"+path,
		content)
	if err != nil {
		return err
	}
	return s.send(request, answer)
}

// send makes a request, and decodes the answer if there is anything to decode it into.
func (s *simulator) send(request *http.Request, answer any) error {
	response, err := s.client.Do(request)
	if err != nil {
		return fmt.Errorf("the simulated rack: %w", err)
	}
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return fmt.Errorf("the simulated rack: %w", err)
	}
	if response.StatusCode >= http.StatusMultipleChoices {
		return fmt.Errorf("the simulated rack answers %s to %s %s: %s", response.Status, request.Method,
			request.URL.Path, bounded(string(text)))
	}
	if answer == nil {
		return nil
	}
	if err := json.Unmarshal(text, answer); err != nil {
		return errors.New("the answer of the simulated rack is no JSON: is it one?")
	}
	return nil
}

// spoil adds a rule. The returned function removes it and waits until the backend works again; it
// is called at the end of the case at the latest.
func (c *checker) spoil(ctx context.Context, rule fault) (restore func(context.Context)) {
	rule.ID = c.name("fault")
	done := false
	restore = func(ctx context.Context) {
		if done {
			return
		}
		done = true
		// There is none if the request to add it was interrupted, or was no good.
		_ = c.rack.do(ctx, http.MethodDelete, "faults/"+rule.ID, nil, nil)
		c.recovered(ctx)
	}
	c.cleanup(restore)
	if err := c.rack.do(ctx, http.MethodPost, "faults", rule, nil); err != nil {
		c.fatal("a fault of the rack", "OK", err.Error())
	}
	return restore
}

// recovered waits until the backend works again.
func (c *checker) recovered(ctx context.Context) {
	c.await(ctx, "the backend after the fault", "an answer", recoveryTimeout, func() (string, bool) {
		_, err := c.instances.GetInstance(ctx, &backendv1.GetInstanceRequest{
			Instance:  &backendv1.GetInstanceRequest_Id{Id: absentID},
			Freshness: backendv1.Freshness_FRESHNESS_DIRECT,
		})
		return describe(err), reasonOf(err) == backendv1.ErrorReason_ERROR_REASON_INSTANCE_NOT_FOUND
	})
}

// play plays a story.
func (c *checker) play(ctx context.Context, name string, arguments story) {
	if err := c.rack.do(ctx, http.MethodPost, "stories/"+name, arguments, nil); err != nil {
		c.fatal("the story "+name, "OK", err.Error())
	}
}

// The types below are the part of a simulated rack's seed that is used here.
type (
	seedSilo struct {
		Name     string        `json:"name"`
		Users    []seedUser    `json:"users,omitempty"`
		Projects []seedProject `json:"projects,omitempty"`
	}
	seedUser struct {
		Name   string      `json:"name"`
		Role   string      `json:"silo_role"`
		Tokens []seedToken `json:"tokens"`
	}
	seedToken struct {
		Secret string `json:"secret"`
	}
	seedProject struct {
		Name      string         `json:"name"`
		Instances []seedInstance `json:"instances,omitempty"`
		Addresses []seedAddress  `json:"floating_ips,omitempty"`
	}
	seedInstance struct {
		Name     string `json:"name"`
		Hostname string `json:"hostname,omitempty"`
	}
	seedAddress struct {
		Name string `json:"name"`
	}
)

// seed adds instances to the backend's project.
func (w *world) seed(ctx context.Context, instances ...seedInstance) error {
	return w.seedProject(ctx, seedProject{Instances: instances})
}

// seedProject adds what is in a project to that of the backend.
func (w *world) seedProject(ctx context.Context, project seedProject) error {
	project.Name = w.info.GetProject().GetName()
	return w.seedSilo(ctx, seedSilo{Projects: []seedProject{project}})
}

func (w *world) seedSilo(ctx context.Context, silo seedSilo) error {
	silo.Name = w.info.GetSilo().GetName()
	return w.rack.do(ctx, http.MethodPost, "seed", map[string][]seedSilo{"silos": {silo}}, nil)
}

// rackToken is the token of a user whom the suite adds to the simulated rack.
const rackToken = "oxide-token-5a9174de5a9174de5a9174de5a9174de5a9174de"

// readRack reads something by the API of the simulated rack itself.
func (c *checker) readRack(ctx context.Context, path string, answer any) error {
	err := c.seedSilo(ctx, seedSilo{Users: []seedUser{{
		Name: c.options.Scope, Role: "admin", Tokens: []seedToken{{rackToken}},
	}}})
	if err != nil {
		return err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, c.rack.url+path, nil)
	if err != nil {
		return err
	}
	request.Header.Set("Authorization", "Bearer "+rackToken)
	return c.rack.send(request, answer)
}

// addInstance adds an instance for a case, and returns it as the backend has it.
func (c *checker) addInstance(ctx context.Context, one seedInstance) *backendv1.Instance {
	if one.Name == "" {
		one.Name = c.name("vm")
	}
	c.cleanup(func(ctx context.Context) { c.removeInstance(ctx, one.Name) })
	if err := c.seed(ctx, one); err != nil {
		c.fatal("to add an instance to the rack", "OK", err.Error())
	}
	return c.find(ctx, one.Name)
}
