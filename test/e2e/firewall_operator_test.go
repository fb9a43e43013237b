// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/objects"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/rack"
)

// operator runs a subcommand of oxide-backend that asks the running one, as kubectl exec does: in its
// place, and without an environment.
func (e *environment) operator(args ...string) (code int, stdout, stderr string) {
	e.Helper()
	ctx, cancel := context.WithTimeout(e.Context(), limit)
	defer cancel()
	cmd := exec.CommandContext(ctx, shared.programs.Backend, append(args, "--socket", e.ccm.Socket)...)
	var out, errOut bytes.Buffer
	cmd.Env, cmd.Stdout, cmd.Stderr = []string{}, &out, &errOut
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		e.Fatal(err)
	}
	for _, secret := range []string{rack.Token, "rpc error", "http://"} {
		if strings.Contains(out.String()+errOut.String(), secret) {
			e.Errorf("%q is in what %q prints: %s%s", secret, args, &out, &errOut)
		}
	}
	return cmd.ProcessState.ExitCode(), out.String(), errOut.String()
}

// backendFlags starts the backend again with other flags.
func (e *environment) backendFlags(flags ...string) {
	e.Helper()
	e.must(e.ccm.Backend.Stop(limit))
	e.ccm.SetBackendFlags(flags...)
	e.must(e.ccm.StartBackend(e.Context()))
}

// Switched off, it leaves everything as it is until somebody asks for more, and other people's rules for
// ever.
func TestSwitchedOffTheFirewallStaysAsItIsUntilItsRulesAreRemoved(t *testing.T) {
	e := firewallWorld(t, settings{backendFlags: []string{"--manage-firewall", "--firewall-priority=77", quick}})
	theirs := e.firewall()
	e.create("web", objects.TCP(80))
	e.create("dns", objects.UDP(53))
	node := e.nodeOf(e.served("web"))
	e.served("dns")
	e.lets(true, outside, node, "udp", 53)
	before := e.firewall()
	if rule := before.Of("default/web")[0]; rule.Priority != 77 {
		t.Errorf("the priority is %d", rule.Priority)
	}

	// While it is on, nothing that a Service wants is removed.
	code, stdout, stderr := e.operator("firewall", "list")
	if code != 0 || strings.Count(stdout, "default/") != 2 || !strings.Contains(stdout, "UDP 53") || stderr != "" {
		t.Errorf("exit code %d: %s%s", code, stdout, stderr)
	}
	code, _, stderr = e.operator("firewall", "remove-rules", "--yes")
	if code != 1 || strings.Count(stderr, "\n") != 1 || !strings.Contains(stderr, "manage-firewall") {
		t.Errorf("exit code %d: %s", code, stderr)
	}

	e.backendFlags()
	e.create("later", objects.TCP(81))
	e.served("later")
	e.warned("later", "FirewallClosed", "TCP 81", "--manage-firewall", "firewall.manage=true")
	e.remove("dns")
	if diff := cmp.Diff(before, e.firewall()); diff != "" {
		t.Errorf("switched off, it has changed rules (-before +now):\n%s", diff)
	}
	code, stdout, _ = e.operator("firewall", "list", "-o", "json")
	var list struct {
		Rules []struct {
			Key struct{ Name string }
		}
	}
	if err := json.Unmarshal([]byte(stdout), &list); err != nil || code != 0 || len(list.Rules) != 2 {
		t.Errorf("exit code %d, %v: %s", code, err, stdout)
	}
	code, stdout, stderr = e.operator("firewall", "remove-rules")
	if code != 2 || !strings.Contains(stdout, "default/dns") || !strings.Contains(stderr, "--yes") {
		t.Errorf("without a terminal: exit code %d: %s%s", code, stdout, stderr)
	}
	if diff := cmp.Diff(before, e.firewall()); diff != "" {
		t.Errorf("rules were removed without a word (-before +now):\n%s", diff)
	}
	code, stdout, stderr = e.operator("firewall", "remove-rules", "--yes")
	if code != 0 || !strings.Contains(stdout, "default/web") || !strings.HasSuffix(stdout, "Removed 2 rules.\n") {
		t.Errorf("exit code %d: %s%s", code, stdout, stderr)
	}
	if diff := cmp.Diff(theirs, e.firewall()); diff != "" {
		t.Errorf("what is left (-before the first Service +now):\n%s", diff)
	}
	code, stdout, _ = e.operator("firewall", "remove-rules", "--yes")
	if code != 0 || !strings.HasPrefix(stdout, "There is no such rule") {
		t.Errorf("once more: exit code %d: %s", code, stdout)
	}
	e.backendFlags("--manage-firewall", quick)
	e.lets(true, outside, node, "tcp", 80)
	e.lets(true, outside, node, "tcp", 81)
	e.theirs(theirs)
}

// A rule that nobody wants, because its Service went while nothing was kept, is reported and removed by
// hand only.
func TestAnOrphanedRuleIsRemovedByHandOnly(t *testing.T) {
	e := firewallWorld(t, settings{backendFlags: []string{"--manage-firewall", quick}})
	e.create("gone", objects.TCP(80))
	e.create("web", objects.TCP(81))
	e.served("gone")
	e.served("web")
	e.lets(true, outside, "node-a", "tcp", 81)
	e.backendFlags()
	e.remove("gone")
	e.backendFlags("--manage-firewall", quick)
	e.create("later", objects.TCP(82))
	e.served("later")
	e.lets(true, outside, "node-a", "tcp", 82)
	e.eventually(func(context.Context) (string, error) {
		if e.said("is kept for no Service any more", "default/gone") == 0 {
			return "a line about the orphaned rule", nil
		}
		return "", nil
	})
	e.lets(true, outside, "node-a", "tcp", 80)
	code, stdout, _ := e.operator("firewall", "list", "--orphaned")
	if code != 0 || !strings.Contains(stdout, "default/gone") || strings.Contains(stdout, "default/web") {
		t.Errorf("exit code %d: %s", code, stdout)
	}
	code, stdout, stderr := e.operator("firewall", "remove-rules", "--orphaned", "--yes")
	if code != 0 || !strings.HasSuffix(stdout, "Removed 1 rule.\n") {
		t.Errorf("exit code %d: %s%s", code, stdout, stderr)
	}
	e.lets(false, outside, "node-a", "tcp", 80)
	e.lets(true, outside, "node-a", "tcp", 81)
	e.lets(true, outside, "node-a", "tcp", 82)
}

// The backend of a replica that stands by cannot answer, and a script sees that.
func TestABackendWithoutASessionSendsOperatorsElsewhere(t *testing.T) {
	e := firewallWorld(t, settings{})
	e.must(e.ccm.Shim.Stop(limit))
	code, stdout, stderr := e.operator("firewall", "list")
	if code != 3 || stdout != "" || strings.Count(stderr, "\n") != 1 || !strings.Contains(stderr, "leads") {
		t.Errorf("exit code %d: %s%s", code, stdout, stderr)
	}
}

// Where the rules cannot be written a Service is served all the same, and says what is missing.
func TestAFirewallThatCannotBeWrittenHoldsUpNoService(t *testing.T) {
	e := firewallWorld(t, settings{prepare: func(e *environment) { e.must(e.rack.GrantRole(e.Context())) }})
	began := time.Now()
	e.create("web", objects.TCP(80))
	e.served("web")
	if took := time.Since(began); took > 8*time.Second {
		t.Errorf("the Service was served after %s, though the role is too small", took)
	}
	e.warned("web", "FirewallClosed", "TCP 80", "collaborator")
	e.waitFor("web", metav1.ConditionTrue, "FirewallClosed", "collaborator")
	e.must(e.rack.GrantFirewall(e.Context()))
	e.eventuallyWithin(2*time.Minute, func(ctx context.Context) (string, error) {
		firewall, err := e.rack.Firewall(ctx)
		if err == nil && !firewall.LetsIn(outside, e.instance("node-a"), "tcp", 80) {
			return "a rule, now that the role suffices", nil
		}
		return "", err
	})
	e.opened("web")
}

// opened waits until the condition of a Service says nothing of the firewall any more; its text is written
// once a minute at most.
func (e *environment) opened(key string) {
	e.Helper()
	e.eventuallyWithin(2*time.Minute, func(context.Context) (string, error) {
		has := meta.FindStatusCondition(e.service(key).Status.Conditions, objects.ReadyCondition)
		if has == nil || has.Status != metav1.ConditionTrue || has.Reason != "AddressAttached" {
			return fmt.Sprintf("the condition of %s, got %+v", key, has), nil
		}
		return "", nil
	})
}

// Outside the cluster the shim passes the flag on to the backend that it starts.
func TestABackendOfTheShimsOwnKeepsTheFirewall(t *testing.T) {
	e := firewallWorld(t, settings{
		child: true, shimFlags: []string{"--manage-firewall", "--firewall-priority=12"},
	})
	e.create("web", objects.TCP(80))
	e.served("web")
	e.lets(true, outside, "node-a", "tcp", 80)
	if rules := e.firewall().Of("default/web"); !slices.ContainsFunc(rules, func(r rack.FirewallRule) bool {
		return r.Priority == 12
	}) {
		t.Errorf("the rules are %+v", rules)
	}
}
