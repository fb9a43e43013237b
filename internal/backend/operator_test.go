// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package backend_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/backend"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/oxidesim"
	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

// Scripts go by the exit codes.
func TestCommandsForOperatorsAskARunningBackend(t *testing.T) {
	rack := oxidesim.Start(t, oxidesim.Config{})
	p := start(t, rack.URL)
	p.awaitReady()
	for _, tc := range []struct {
		name string
		args []string
		code int
		says string
	}{
		{"no backend", []string{"--socket", p.socket + "x"}, 1, "there is no oxide-backend at " + p.socket + "x"},
		{"a wrong command", []string{"--socket", "x", "-o", "xml"}, 2, "--output"},
		{"a backend without a session", []string{"--socket", p.socket}, 3, "no session runs in this oxide-backend"},
		{"a session that is elsewhere", []string{"--socket", p.socket, "--scope", "c1"}, 3, "c1"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			code := backend.Main(t.Context(), append([]string{"firewall", "list"}, tc.args...), &stdout, &stderr)
			if code != tc.code || !strings.Contains(stderr.String(), tc.says) || stdout.Len() > 0 {
				t.Errorf("exit code %d: %s%s", code, stdout.String(), stderr.String())
			}
			for line := range strings.Lines(stderr.String()) {
				if !strings.HasPrefix(line, "oxide-backend: ") {
					t.Errorf("a line says not who says it: %q", line)
				}
			}
		})
	}
}

// The rules of load balancers are kept while somebody wants that, stay when nobody does, and go when an
// operator says so.
func TestFirewallRulesAreShownAndRemovedByARunningBackend(t *testing.T) {
	rack := oxidesim.Start(t, oxidesim.Config{})
	node, err := rack.AddInstance("demo", oxidesim.InstanceSeed{Name: "node-1"})
	if err != nil {
		t.Fatal(err)
	}
	set := aSet(node.ID, 3)
	for _, lb := range set.GetLoadBalancers() {
		lb.OpenFirewall, lb.NoPublication = true, true
		lb.SourceRanges = []string{"203.0.113.0/24"}
	}
	var p *process
	serve := func(args ...string) {
		p = start(t, rack.URL, args...)
		p.awaitReady()
		openSession(t, backendv1.NewLoadBalancerServiceClient(p.conn), set)
	}
	run := func(args ...string) (code int, stdout, stderr string) {
		var out, errOut bytes.Buffer
		code = backend.Main(t.Context(), append([]string{"firewall"}, append(args, "--socket", p.socket)...),
			&out, &errOut)
		return code, out.String(), errOut.String()
	}
	serve("--manage-firewall", "--firewall-priority=42")
	var stdout string
	p.await("keeping two rules", func() bool {
		_, stdout, _ = run("list")
		return strings.Count(stdout, "default/svc-") == 2
	})
	for _, part := range []string{"TCP 80", "TCP 81", "203.0.113.0/24", "1 instance", "42", "has 5 rules"} {
		if !strings.Contains(stdout, part) {
			t.Errorf("there is no %q in:\n%s", part, stdout)
		}
	}
	code, _, stderr := run("remove-rules", "--yes")
	if code != 1 || strings.Count(stderr, "\n") != 1 || !strings.Contains(stderr, "--manage-firewall") {
		t.Errorf("while a load balancer wants them: exit code %d: %s", code, stderr)
	}
	p.stop()

	serve()
	p.await("in sync", func() bool { code, _, _ := run("list"); return code == 0 })
	if _, stdout, _ = run("list"); strings.Count(stdout, "default/svc-") != 2 {
		t.Errorf("switched off, what is left is:\n%s", stdout)
	}
	code, stdout, stderr = run("remove-rules", "--yes")
	if code != 0 || !strings.HasSuffix(stdout, "Removed 2 rules.\n") {
		t.Errorf("exit code %d: %s%s", code, stdout, stderr)
	}
	if _, stdout, _ = run("list"); !strings.Contains(stdout, "There is no such rule.") ||
		!strings.Contains(stdout, "has 3 rules") {
		t.Errorf("left is:\n%s", stdout)
	}
}
