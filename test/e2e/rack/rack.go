// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package rack

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/process"
)

// Rack is a running simulated rack.
type Rack struct {
	// URL is the address of its Oxide API.
	URL string
	// CAFile is the path of the certificate, in PEM, by whose key its own is signed; empty unless it
	// serves TLS.
	CAFile string

	client *http.Client
	// log is the file with the log of requests.
	log string
}

// Options say what to start.
type Options struct {
	// Program is the path of oxide-sim.
	Program string
	// Dir is an existing folder for the seed file.
	Dir string
	// Machines are the instances on the rack.
	Machines []Machine
	// Sleds is how many sleds it has, over which the instances are spread; 0 means four.
	Sleds int
	// Latency is added to every request.
	Latency time.Duration
	// TimeScale is how long things take on it, compared with a real one; 0 means the simulator's
	// own, which is short.
	TimeScale float64
	// Name distinguishes the log files of several racks; empty for the first.
	Name string
	// TLS serves HTTPS, with a certificate by an authority that nobody else trusts.
	TLS bool
	// FleetViewer lets the programs' user see what operators see.
	FleetViewer bool
	// TokenExpires is when the programs' token does; zero: never.
	TokenExpires time.Time
	// APIVersion is the newest version of the API that it speaks; empty for the simulator's own.
	APIVersion string
}

// Start runs a rack as a member of group and waits until it answers.
func Start(ctx context.Context, group *process.Group, options Options) (*Rack, error) {
	file, err := writeSeed(options)
	if err != nil {
		return nil, err
	}
	r := &Rack{client: &http.Client{Timeout: 30 * time.Second}}
	scheme := "http://"
	args := []string{
		"--seed=" + file, "--request-log=-", "--latency=" + options.Latency.String(),
	}
	if options.TimeScale != 0 {
		args = append(args, fmt.Sprintf("--time-scale=%g", options.TimeScale))
	}
	if options.APIVersion != "" {
		args = append(args, "--api-version="+options.APIVersion)
	}
	if options.TLS {
		scheme = "https://"
		r.CAFile = filepath.Join(options.Dir, "rack"+options.Name+"-ca.pem")
		args = append(args, "--tls", "--tls-ca-out="+r.CAFile)
	}
	err = process.WithFreePorts(1, func(_ int, ports []int) error {
		address := net.JoinHostPort("127.0.0.1", strconv.Itoa(ports[0]))
		r.URL = scheme + address
		sim, err := group.Run(ctx, process.Spec{
			Name: "oxide-sim" + options.Name, Path: options.Program,
			Args: append([]string{"--listen=" + address}, args...),
		}, r.ready)
		if err == nil {
			r.log = sim.LogFile()
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return r, nil
}

func writeSeed(options Options) (file string, err error) {
	text, err := seed(options)
	if err != nil {
		return "", err
	}
	file = filepath.Join(options.Dir, "rack"+options.Name+".yaml")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		return "", fmt.Errorf("cannot write the rack's seed: %w", err)
	}
	return file, nil
}

// Command returns how a rack with these machines is started by somebody else, at a port of
// loopback, and its URL. It is not started; its seed is written.
func Command(options Options, port int) (spec process.Spec, url string, err error) {
	file, err := writeSeed(options)
	address := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	return process.Spec{
		Name: "oxide-sim", Path: options.Program,
		Args: []string{"--listen=" + address, "--seed=" + file, "--request-log=-"},
	}, "http://" + address, err
}

// ready returns nil once the rack answers. Until then its authority may change.
func (r *Rack) ready(ctx context.Context) error {
	if r.CAFile != "" {
		text, err := os.ReadFile(r.CAFile)
		if err != nil {
			return err
		}
		pool := x509.NewCertPool()
		pool.AppendCertsFromPEM(text)
		r.client.Transport = &http.Transport{
			TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12},
		}
	}
	return process.HTTPGet(r.client, r.URL+"/v1/ping")(ctx)
}

// State is what is on the rack at one moment.
type State struct {
	RackID      string       `json:"rack_id"`
	Instances   []Instance   `json:"instances"`
	FloatingIPs []FloatingIP `json:"floating_ips"`

	ExternalSubnets []ExternalSubnet `json:"external_subnets"`
}

// Instance is a virtual machine; PrivateIPs are those of its primary NIC, by "v4" and "v6".
type Instance struct {
	ID         string            `json:"id"`
	Name       string            `json:"name"`
	RunState   string            `json:"run_state"`
	PrivateIPs map[string]string `json:"private_ips"`
}

// FloatingIP is a floating IP with what Oxide itself hides: whether it is detached, attaching,
// attached or detaching. Instance is the name of the instance in all states but the first.
type FloatingIP struct {
	ID          string `json:"id"`
	Name        string `json:"name"`
	Description string `json:"description"`
	IP          string `json:"ip"`
	Pool        string `json:"pool"`
	AttachState string `json:"attach_state"`
	Instance    string `json:"instance"`
}

// ExternalSubnet is an external subnet; its states are those of a floating IP.
type ExternalSubnet struct {
	ID          string `json:"id"`
	Name        string `json:"name"`
	Description string `json:"description"`
	// Subnet is in the form 203.0.113.7/32.
	Subnet      string `json:"subnet"`
	Pool        string `json:"pool"`
	AttachState string `json:"attach_state"`
	Instance    string `json:"instance"`
}

// The AttachStates of a floating IP that receives traffic, and of one that is nowhere.
const (
	Attached = "attached"
	Detached = "detached"
)

// Instance returns the instance of that name, false if there is none.
func (s State) Instance(name string) (Instance, bool) {
	for _, instance := range s.Instances {
		if instance.Name == name {
			return instance, true
		}
	}
	return Instance{}, false
}

// FloatingIP returns the floating IP with that address, false if there is none.
func (s State) FloatingIP(address string) (FloatingIP, bool) {
	for _, ip := range s.FloatingIPs {
		if ip.IP == address {
			return ip, true
		}
	}
	return FloatingIP{}, false
}

// State returns what is on the rack.
func (r *Rack) State(ctx context.Context) (State, error) {
	var state State
	err := r.call(ctx, http.MethodGet, "/_sim/state", nil, &state)
	return state, err
}

// IDs returns the ids of the silo and of the project.
func (r *Rack) IDs(ctx context.Context) (silo, project string, err error) {
	var me struct {
		SiloID string `json:"silo_id"`
	}
	if err := r.call(ctx, http.MethodGet, "/v1/me", nil, &me); err != nil {
		return "", "", err
	}
	var p struct {
		ID string `json:"id"`
	}
	err = r.call(ctx, http.MethodGet, "/v1/projects/"+Project, nil, &p)
	return me.SiloID, p.ID, err
}

// Requests returns how often each operation of the Oxide API was asked for, by Oxide's operation
// ids such as floating_ip_attach.
func (r *Rack) Requests(ctx context.Context) (map[string]int, error) {
	var byStatus map[string]map[string]int
	if err := r.call(ctx, http.MethodGet, "/_sim/counters", nil, &byStatus); err != nil {
		return nil, err
	}
	requests := make(map[string]int, len(byStatus))
	for operation, counts := range byStatus {
		for _, count := range counts {
			requests[operation] += count
		}
	}
	return requests, nil
}

// StopInstance asks an instance to stop and waits until it has.
func (r *Rack) StopInstance(ctx context.Context, name string) error {
	path := "/v1/instances/" + name + "/stop?project=" + Project
	if err := r.call(ctx, http.MethodPost, path, nil, nil); err != nil {
		return err
	}
	return process.Await(ctx, func(ctx context.Context) (bool, error) {
		state, err := r.State(ctx)
		instance, _ := state.Instance(name)
		return instance.RunState == "stopped", err
	})
}

// StartInstance asks an instance to start and waits until it runs.
func (r *Rack) StartInstance(ctx context.Context, name string) error {
	path := "/v1/instances/" + name + "/start?project=" + Project
	if err := r.call(ctx, http.MethodPost, path, nil, nil); err != nil {
		return err
	}
	return process.Await(ctx, func(ctx context.Context) (bool, error) {
		state, err := r.State(ctx)
		instance, _ := state.Instance(name)
		return instance.RunState == "running", err
	})
}

// DeleteInstance stops an instance, deletes it and waits until the rack knows it no more.
func (r *Rack) DeleteInstance(ctx context.Context, name string) error {
	if err := r.StopInstance(ctx, name); err != nil {
		return err
	}
	path := "/v1/instances/" + name + "?project=" + Project
	if err := r.call(ctx, http.MethodDelete, path, nil, nil); err != nil {
		return err
	}
	return process.Await(ctx, func(ctx context.Context) (bool, error) {
		state, err := r.State(ctx)
		_, found := state.Instance(name)
		return !found, err
	})
}

// Roles on the project. With none the project and all in it look deleted to the programs: 404.
const (
	roleWriter = "limited_collaborator"
	roleKeeper = "collaborator"
	roleNone   = "none"
)

// RevokeRole takes the programs' user off the project.
func (r *Rack) RevokeRole(ctx context.Context) error { return r.setRole(ctx, roleNone) }

// GrantRole gives the programs' user back the role that it had at the start.
func (r *Rack) GrantRole(ctx context.Context) error { return r.setRole(ctx, roleWriter) }

// GrantFirewall gives the programs' user the role that it takes to write firewall rules.
func (r *Rack) GrantFirewall(ctx context.Context) error { return r.setRole(ctx, roleKeeper) }

func (r *Rack) setRole(ctx context.Context, role string) error {
	// By id: another silo may have a project of that name.
	_, project, err := r.IDs(ctx)
	if err != nil {
		return err
	}
	return r.story(ctx, "set-project-role", map[string]string{
		"project": project, "user": userName, "role": role,
	})
}

// RevokeToken ends the programs' credential, as its expiry does.
func (r *Rack) RevokeToken(ctx context.Context) error {
	return r.story(ctx, "revoke-token", map[string]string{"token": Token})
}

// RestoreToken makes the credential valid again.
func (r *Rack) RestoreToken(ctx context.Context) error { return r.AddToken(ctx, Token) }

// AddToken gives the programs' user a further credential.
func (r *Rack) AddToken(ctx context.Context, token string) error {
	return r.story(ctx, "add-token", map[string]string{"user": userName, "token": token})
}

// Accepts tells whether a credential is valid.
func (r *Rack) Accepts(ctx context.Context, token string) (bool, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, r.URL+"/v1/me", nil)
	if err != nil {
		return false, err
	}
	request.Header.Set("Authorization", "Bearer "+token)
	response, err := r.client.Do(request)
	if err != nil {
		return false, fmt.Errorf("the rack does not answer: %w", err)
	}
	response.Body.Close()
	return response.StatusCode == http.StatusOK, nil
}

// RenameProject gives the project another name. It keeps its id.
func (r *Rack) RenameProject(ctx context.Context, name string) error {
	body, err := json.Marshal(map[string]string{"name": name})
	if err != nil {
		return err
	}
	return r.call(ctx, http.MethodPut, "/v1/projects/"+Project, body, nil)
}

// RemoveInstances lets instances vanish at once, as if they had been stopped and deleted.
func (r *Rack) RemoveInstances(ctx context.Context, names ...string) error {
	for _, name := range names {
		err := r.story(ctx, "remove-instance", map[string]string{"instance": name})
		if err != nil {
			return err
		}
	}
	return nil
}

func (r *Rack) story(ctx context.Context, name string, arguments map[string]string) error {
	body, err := json.Marshal(arguments)
	if err != nil {
		return err
	}
	return r.call(ctx, http.MethodPost, "/_sim/stories/"+name, body, nil)
}

// Fault spoils some requests to the rack.
type Fault struct {
	// Operation is one of Oxide's operation ids or a pattern such as floating_ip_*.
	Operation string `json:"operation"`
	// Times is how many requests are spoiled; 0 means all from now on.
	Times int `json:"times,omitempty"`
	// Status and ErrorCode are answered.
	Status    int    `json:"status,omitempty"`
	ErrorCode string `json:"error_code,omitempty"`
	// Body and ContentType replace what is answered.
	Body        string `json:"body,omitempty"`
	ContentType string `json:"content_type,omitempty"`
	// Reset drops the connection instead of answering.
	Reset bool `json:"reset,omitempty"`
	// Execute does the work all the same: only the answer is spoiled.
	Execute bool `json:"execute,omitempty"`
	// LatencyMS is waited before the request is carried out, in milliseconds.
	LatencyMS int `json:"latency_ms,omitempty"`
	// PageCap is how many items a page of a list has at most.
	PageCap int `json:"page_cap,omitempty"`
	// Truncate sends only so many bytes of the body, and with Reset announces all of them.
	Truncate int `json:"truncate,omitempty"`
	// Probability spoils a request by chance, the same ones for the same Seed; 0 means every one.
	Probability float64 `json:"probability,omitempty"`
	Seed        uint64  `json:"seed,omitempty"`
	// Omit is the probability with which an item of a page is left out.
	Omit float64 `json:"omit,omitempty"`
}

// AddFault adds a fault to those that are there.
func (r *Rack) AddFault(ctx context.Context, fault Fault) error {
	body, err := json.Marshal(fault)
	if err != nil {
		return err
	}
	return r.call(ctx, http.MethodPost, "/_sim/faults", body, nil)
}

// ClearFaults ends all faults.
func (r *Rack) ClearFaults(ctx context.Context) error {
	return r.call(ctx, http.MethodDelete, "/_sim/faults", nil, nil)
}

// call sends one request with the operator's credential.
func (r *Rack) call(ctx context.Context, method, path string, body []byte, into any) error {
	request, err := http.NewRequestWithContext(ctx, method, r.URL+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	request.Header.Set("Authorization", "Bearer "+operatorToken)
	response, err := r.client.Do(request)
	if err != nil {
		return fmt.Errorf("the rack does not answer: %w", err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return fmt.Errorf("the rack's answer to %s %s breaks off: %w", method, path, err)
	}
	if response.StatusCode >= http.StatusBadRequest {
		return fmt.Errorf("the rack answers %s %s with %s: %s", method, path, response.Status,
			bytes.TrimSpace(text))
	}
	if into == nil {
		return nil
	}
	if err := json.Unmarshal(text, into); err != nil {
		return fmt.Errorf("the rack's answer to %s %s is no JSON: %w", method, path, err)
	}
	return nil
}
