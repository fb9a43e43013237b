// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package backend_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/backend"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/oxidesim"
	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

// yard is a rack with addresses and instances of all kinds, and a running backend. Two Services are
// to be served at the same port by one node that can: infra/ssh has it, shop/ssh waits.
type yard struct {
	*process
	rack *oxidesim.Simulator
	set  *backendv1.LoadBalancerSet
}

// newYard starts a backend without a session.
func newYard(t *testing.T, args ...string) *yard {
	t.Helper()
	rack := oxidesim.Start(t, oxidesim.Config{})
	y := &yard{rack: rack.Simulator, set: &backendv1.LoadBalancerSet{
		Open: &backendv1.OpenSession{Scope: "c1"},
	}}
	add := func(what any, err error) {
		t.Helper()
		if err != nil {
			t.Fatalf("%v: %v", what, err)
		}
	}
	for i, state := range []string{"running", "running", "stopped"} {
		name := []string{"machine-1", "machine-2", "bastion"}[i]
		instance, err := rack.AddInstance("demo", oxidesim.InstanceSeed{Name: name, State: state, NIC: "v4"})
		add(instance, err)
		if i == 2 {
			continue
		}
		y.set.Candidates = append(y.set.Candidates, &backendv1.Candidate{
			InstanceId: instance.ID, DisplayName: nodeNamed(i + 1),
			Readiness: []backendv1.Readiness{
				backendv1.Readiness_READINESS_READY, backendv1.Readiness_READINESS_NOT_READY,
			}[i],
		})
	}
	const marker = "oxide-ccm/v1 scope=c1 name=shop/gone uid=uid family=v4 source=floating-ip"
	add(rack.AddFloatingIP("demo", oxidesim.FloatingIPSeed{
		Name: "lb-gone", IP: "198.51.100.100", Instance: "machine-1", Description: marker,
	}))
	add(rack.AddFloatingIP("demo", oxidesim.FloatingIPSeed{
		Name: "by-hand", IP: "198.51.100.101", Instance: "bastion",
	}))
	add(rack.AddExternalSubnet("demo", oxidesim.ExternalSubnetSeed{Name: "pods", Subnet: "198.18.0.8/29"}))
	for i, name := range []string{"infra/ssh", "shop/ssh"} {
		lb := aLoadBalancer(name, 22)
		lb.GetAddresses()[0].GetFloatingIp().Selector = &backendv1.FloatingIpSource_Address{
			Address: fmt.Sprintf("198.51.100.%d", 11+i),
		}
		y.set.LoadBalancers = append(y.set.LoadBalancers, lb)
	}
	y.process = start(t, rack.URL, args...)
	y.awaitReady()
	return y
}

// lead opens the session of the cluster, and awaits what it makes.
func (y *yard) lead() {
	y.t.Helper()
	openSession(y.t, backendv1.NewLoadBalancerServiceClient(y.conn), y.set)
	y.await("settled", func() bool {
		_, stdout, _ := y.run("status")
		return strings.Contains(stdout, "infra/ssh ready ") && strings.Contains(stdout, "shop/ssh pending ")
	})
}

// raw runs a command, and returns what it prints.
func (y *yard) raw(args ...string) (code int, stdout, stderr string) {
	var out, errOut bytes.Buffer
	code = backend.Main(y.t.Context(), append(args, "--socket", y.socket), &out, &errOut)
	return code, out.String(), errOut.String()
}

// run runs a command, and returns what it prints for people, made plain by columns.
func (y *yard) run(args ...string) (code int, stdout, stderr string) {
	code, stdout, stderr = y.raw(args...)
	return code, columns(stdout), stderr
}

// columns sets columns apart by a single space, and names what is another each time.
func columns(text string) string {
	for _, change := range [][2]string{
		{` {2,}`, " "},
		{`v[0-9.]+, API revision [0-9]+`, "VERSION"},
		{`[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}`, "ID"},
		{`\b(running|stopped) [0-9]+s`, "$1 SINCE"},
		{`(lb-[a-z-]+-)[0-9a-z]{16}\b`, "${1}HASH"},
	} {
		text = regexp.MustCompile(change[0]).ReplaceAllString(text, change[1])
	}
	return text
}

// shows checks what a command prints.
func (y *yard) shows(want string, args ...string) {
	y.t.Helper()
	code, stdout, stderr := y.run(args...)
	if code != 0 || stderr != "" {
		y.t.Errorf("%q: exit code %d: %s", args, code, stderr)
	}
	if diff := cmp.Diff(strings.Split(want, "\n"), strings.Split(stdout, "\n")); diff != "" {
		y.t.Errorf("%q (-want +got):\n%s", args, diff)
	}
}

// inJSON returns what a command prints in JSON, which is the same as in YAML.
func (y *yard) inJSON(args ...string) (found map[string]any) {
	y.t.Helper()
	code, stdout, stderr := y.raw(append(args, "--output", "json")...)
	if err := json.Unmarshal([]byte(stdout), &found); err != nil || code != 0 {
		y.t.Fatalf("%q: exit code %d, %v: %s%s", args, code, err, stdout, stderr)
	}
	_, stdout, _ = y.raw(append(args, "--output", "yaml")...)
	var same map[string]any
	if err := yaml.Unmarshal([]byte(stdout), &same); err != nil {
		y.t.Fatal(err)
	}
	if diff := cmp.Diff(found, same); diff != "" {
		y.t.Errorf("%q is other in YAML (-json +yaml):\n%s", args, diff)
	}
	return found
}

// changesOf returns which operations of a rack that change something were asked for, and how often.
func changesOf(rack *oxidesim.Simulator) (changes []string) {
	for operation := range rack.Counters() {
		if !strings.HasSuffix(operation, "_list") && !strings.HasSuffix(operation, "_view") {
			changes = append(changes, fmt.Sprintf("%s %d", operation, rack.Count(operation)))
		}
	}
	slices.Sort(changes)
	return changes
}
