// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package backend_test

import (
	"bytes"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/backend"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/oxidesim"
	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

const (
	features = "address operations, external subnets, firewall operations, pools, reserved addresses, " +
		"sessions, watch instances"
	inConflict = "the address 198.51.100.12 is reserved but attached nowhere: TCP 22 is held by infra/ssh; " +
		"use another port, or add a node"
)

func TestStatusShowsProblemsFirst(t *testing.T) {
	y := newYard(t)
	y.lead()
	y.shows(`Backend VERSION
Oxide reached (API 2026060800.0.0)
Silo demo
Project demo
Mode changes Oxide where a session desires it
Features `+features+`
Session of c1
Counts 2 load balancers (1 with a problem); 3 instances (1 of them can carry no address); `+
		`5 addresses (2 of load balancers, 1 orphaned, 2 foreign)

LOAD BALANCER STATE ADDRESS ON NOTE
shop/ssh pending 198.51.100.12 nowhere `+inConflict+`
infra/ssh ready 198.51.100.11 worker-1.example.com
shop/gone orphaned 198.51.100.100 worker-1.example.com

INSTANCE STATE HEALTHY CARRIES NOTE
worker-2.example.com running no is not Ready
worker-1.example.com running yes 198.51.100.11,198.51.100.100
bastion stopped - 198.51.100.101 no node of the session
`, "status")
}

// As scripts read it: messages of the API, each complete.
func TestStatusInJSONHasTheMessagesOfTheAPI(t *testing.T) {
	y := newYard(t)
	y.lead()
	found := y.inJSON("status")
	for key, want := range map[string]int{
		"loadBalancers": 3, "instances": 3, "candidates": 2, "addresses": 5, "problems": 0,
	} {
		if list, ok := found[key].([]any); !ok || len(list) != want {
			t.Errorf("%s: %v, want a list of %d", key, found[key], want)
		}
	}
	if found["oxideReached"] != true {
		t.Errorf("oxideReached: %v", found["oxideReached"])
	}
	info, ok := found["info"].(map[string]any)
	if !ok || info["readOnly"] != false || info["project"] == nil {
		t.Errorf("info: %v", found["info"])
	}
}

// A standby has no session, and is asked first as often as not.
func TestStatusWithoutASessionShowsWhatOxideShows(t *testing.T) {
	y := newYard(t, "--read-only")
	y.shows(`Backend VERSION
Oxide reached (API 2026060800.0.0)
Silo demo
Project demo
Mode read-only: it changes nothing in Oxide
Features `+features+`
Session none here, since its client stands by or is not connected: the replica that leads knows more
Counts 1 load balancer; 3 instances; 3 addresses (1 of load balancers, 2 foreign)

LOAD BALANCER ADDRESS ON
shop/gone of c1 198.51.100.100 machine-1

INSTANCE STATE CARRIES
bastion stopped 198.51.100.101
machine-1 running 198.51.100.100
machine-2 running
`, "status")
	if _, stdout, _ := y.run("status", "--scope", "c2"); strings.Contains(stdout, "shop/gone") {
		t.Errorf("of another scope:\n%s", stdout)
	}
}

// The one that people ask about most: there is nothing in Oxide that could be listed for it.
func TestStatusShowsServicesThatHaveNoAddress(t *testing.T) {
	y := newYard(t)
	waiting := aLoadBalancer("shop/waits", 8022)
	waiting.GetAddresses()[0].GetFloatingIp().Selector = &backendv1.FloatingIpSource_Pool{Pool: "nowhere"}
	y.set.LoadBalancers = append(y.set.LoadBalancers, waiting)
	y.lead()
	const want = "\nshop/waits pending the IP pool nowhere does not exist, or is not linked to the silo\n"
	y.await("shown", func() bool { _, stdout, _ := y.run("status"); return strings.Contains(stdout, want) })
}

// As where the backend serves two clusters, or a cluster has two ids for a while.
func TestStatusOfTwoSessionsNamesTheirScopes(t *testing.T) {
	y := newYard(t)
	y.lead()
	second := aLoadBalancer("shop/ssh", 2222)
	second.Key.Scope = "c2"
	openSession(t, backendv1.NewLoadBalancerServiceClient(y.conn), &backendv1.LoadBalancerSet{
		Open: &backendv1.OpenSession{Scope: "c2"}, LoadBalancers: []*backendv1.DesiredLoadBalancer{second},
	})
	status := func(args ...string) string {
		_, stdout, _ := y.run(append([]string{"status"}, args...)...)
		return stdout
	}
	y.await("both", func() bool { return strings.Contains(status(), "shop/ssh of c2 ready ") })
	both := status()
	for _, part := range []string{"Session of c1, c2\n", "\ninfra/ssh of c1 ready "} {
		if !strings.Contains(both, part) {
			t.Errorf("there is no %q in:\n%s", part, both)
		}
	}
	if first := status("--scope", "c1"); strings.Contains(first, "c2") ||
		!strings.Contains(first, "\ninfra/ssh ready ") {
		t.Errorf("of the first:\n%s", first)
	}
	if other := status("--scope", "c3"); !strings.Contains(other, "Session none of c3 here, but of c1, c2\n") {
		t.Errorf("of another one:\n%s", other)
	}
	code, _, stderr := y.run("orphans")
	if code != 2 || !strings.Contains(stderr, "--scope: this oxide-backend has sessions of 2 scopes") {
		t.Errorf("orphans: exit code %d: %s", code, stderr)
	}
	y.shows("There is no orphaned address.\n", "orphans", "--scope", "c2")
}

func TestStatusOfAnEmptyProject(t *testing.T) {
	rack := oxidesim.Start(t, oxidesim.Config{})
	y := &yard{process: start(t, rack.URL)}
	y.awaitReady()
	if _, stdout, _ := y.run("status"); !strings.HasSuffix(stdout,
		"\nCounts 0 load balancers; 0 instances; 0 addresses\n") {
		t.Errorf("it ends otherwise:\n%s", stdout)
	}
	found := y.inJSON("status")
	for _, key := range []string{"problems", "loadBalancers", "instances", "candidates", "addresses"} {
		if list, ok := found[key].([]any); !ok || len(list) > 0 {
			t.Errorf("%s is no empty list: %v", key, found[key])
		}
	}
	y.shows("There is no such address.\n", "addresses")
	y.shows("There is no such instance.\n", "instances")
	if list, ok := y.inJSON("addresses")["addresses"].([]any); !ok || len(list) > 0 {
		t.Error("addresses is no empty list")
	}
}

// What can be said is said, what cannot comes first, and scripts see it by the exit code.
func TestStatusSaysWhyOxideIsNotReached(t *testing.T) {
	y := newYard(t)
	y.lead()
	y.rack.RevokeToken(oxidesim.DefaultToken)
	y.await("not ready", func() bool {
		_, stdout, _ := y.run("status")
		return strings.Contains(stdout, "NOT REACHED")
	})
	code, stdout, stderr := y.run("status")
	first, rest, _ := strings.Cut(stdout, "\n")
	if code != 1 || stderr != "" || !strings.HasPrefix(first, "Problem: ") ||
		!strings.Contains(first, "token") {
		t.Errorf("exit code %d, and it begins with %q; %s", code, first, stderr)
	}
	for _, part := range []string{"Project demo", "Session of c1"} {
		if !strings.Contains(rest, part) {
			t.Errorf("there is no %q in:\n%s", part, rest)
		}
	}
	checkNothingIsMadeUp(t, rest)
	if code, stdout, _ := y.run("status", "-o", "json"); code != 1 ||
		!strings.Contains(stdout, `"oxideReached": false`) {
		t.Errorf("in JSON: exit code %d: %s", code, stdout)
	}
}

// checkNothingIsMadeUp checks what is said of instances and load balancers that could not be listed.
func checkNothingIsMadeUp(t *testing.T, stdout string) {
	t.Helper()
	if made := regexp.MustCompile(`(?m)^(worker-\S+ gone|infra/ssh pending).*$`).FindString(stdout); made != "" {
		t.Errorf("nobody has said that: %s", made)
	}
	if !strings.Contains(stdout, "\nCounts at least 2 load balancers ") {
		t.Errorf("the numbers are said to be all:\n%s", stdout)
	}
}

// A status is wanted most while Oxide hangs, and it is not for the reader to find out who does.
func TestStatusAnswersWithinSecondsWhileOxideHangs(t *testing.T) {
	t.Parallel()
	y := newYard(t)
	y.lead()
	for _, operation := range []string{"instance_list", "floating_ip_list", "external_subnet_list"} {
		if _, err := y.rack.AddFault(oxidesim.Fault{Operation: operation, LatencyMS: 60_000}); err != nil {
			t.Fatal(err)
		}
	}
	defer y.rack.ClearFaults()
	begun := time.Now()
	code, stdout, stderr := y.run("status")
	if took := time.Since(begun); code != 1 || stderr != "" || took > 15*time.Second {
		t.Errorf("exit code %d after %s: %s", code, took, stderr)
	}
	for _, part := range []string{
		"Problem: the load balancers could not be read within 10s: Oxide does not answer, or is slow",
		"Oxide NOT REACHED", "Session of c1",
	} {
		if !strings.Contains(stdout, part) {
			t.Errorf("there is no %q in:\n%s", part, stdout)
		}
	}
	checkNothingIsMadeUp(t, stdout)
}

// A long note would fill the screen; whole it is in JSON.
func TestLongNotesAreCutShort(t *testing.T) {
	y := newYard(t)
	web := aLoadBalancer("shop/web", 80)
	web.GetAddresses()[0].GetFloatingIp().Selector = &backendv1.FloatingIpSource_Address{
		Address: "198.51.100.13",
	}
	y.set.LoadBalancers = append(y.set.LoadBalancers, web)
	y.lead()
	note := func() string {
		_, stdout, _ := y.run("status")
		for line := range strings.Lines(stdout) {
			if strings.HasPrefix(line, "shop/web") && strings.Contains(line, "firewall") {
				return line
			}
		}
		return ""
	}
	y.await("closed by the firewall", func() bool { return note() != "" })
	if line := note(); !strings.HasSuffix(line, "…\n") || len(line) > 300 {
		t.Errorf("the line is %q", line)
	}
	if _, stdout, _ := y.run("status", "-o", "json"); !strings.Contains(stdout, `{\"type\":\"tcp\"}]}}`) {
		t.Errorf("JSON has not all of it: %s", stdout)
	}
}

func TestWrongCommandsAreOneLineEach(t *testing.T) {
	y := newYard(t)
	for _, tc := range []struct {
		args []string
		code int
		says string
	}{
		{[]string{"status", "now"}, 2, `no argument "now"; see oxide-backend status --help`},
		{[]string{"status", "-o", "xml"}, 2, `--output: "xml" is none of table, json, yaml`},
		{[]string{"status", "--scope", "a b"}, 2, `--scope: "a b"`},
		{[]string{"status", "--nonsense"}, 2, "unknown flag: --nonsense; see oxide-backend status --help"},
		{[]string{"addresses", "198.51.100.1"}, 2, `no argument "198.51.100.1"`},
		{[]string{"addresses", "--instance", "machine-11"}, 2,
			`there is no instance "machine-11": do you mean machine-1 or machine-2?`},
		{[]string{"addresses", "--attached=perhaps"}, 2, "--attached"},
		{[]string{"addresses", "--scope", "ü"}, 2, "--scope"},
		{[]string{"instances", "basion"}, 2, `there is no instance "basion": do you mean bastion?`},
		{[]string{"instances", "bastion", "machine-1", "\x1b[31m\n"}, 2, `there is no instance "\x1b[31m\n"`},
		{[]string{"instances", "--group", "No Group"}, 1, "anti_affinity_groups"},
		{[]string{"instances", "--group", ""}, 2, "--group: it is empty"},
		{[]string{"addresses", "--instance", ""}, 2, "--instance: it is empty"},
		{[]string{"plan", "--cordon", ""}, 2, "--cordon: it is empty"},
		{[]string{"plan", "--without="}, 2, "--without: it is empty"},
		{[]string{"orphans", "remove"}, 2, `"remove" is no subcommand: give delete, or nothing`},
		{[]string{"orphans", "delete"}, 2, "by id, name or address, or --all"},
		{[]string{"orphans", "delete", "--all", "lb-gone"}, 2, "leave one of them out"},
		{[]string{"orphans"}, 3, "no session runs in this oxide-backend"},
		{[]string{"orphans", "--scope", "c1"}, 3, "c1"},
		{[]string{"orphans", "delete", "--all", "--yes"}, 3, "no session runs in this oxide-backend"},
		{[]string{"watch", "instances"}, 2, `no argument "instances"`},
	} {
		code, stdout, stderr := y.run(tc.args...)
		if code != tc.code || stdout != "" || !strings.Contains(stderr, tc.says) ||
			strings.Count(stderr, "\n") != 1 {
			t.Errorf("%q: exit code %d, want %d and %q: %s%s", tc.args, code, tc.code, tc.says, stdout, stderr)
		}
	}
}

func TestTheNearestCommandIsOffered(t *testing.T) {
	for arg, want := range map[string]string{
		"statsu": `it takes no argument "statsu": do you mean status?; see oxide-backend --help`,
		"xyzzy":  `it takes no argument "xyzzy"; see oxide-backend --help`,
	} {
		var stdout, stderr bytes.Buffer
		code := backend.Main(t.Context(), []string{arg}, &stdout, &stderr)
		if code != 2 || stderr.String() != "oxide-backend: "+want+"\n" {
			t.Errorf("%q: exit code %d: %s", arg, code, stderr.String())
		}
	}
}

// What only asks changes nothing.
func TestCommandsThatAskWriteNothing(t *testing.T) {
	y := newYard(t)
	y.lead()
	y.await("still", func() bool { return len(changesOf(y.rack)) > 0 })
	before := changesOf(y.rack)
	for _, args := range [][]string{{"status"}, {"addresses"}, {"instances"}, {"orphans"}} {
		if code, _, stderr := y.run(args...); code != 0 {
			t.Errorf("%q: exit code %d: %s", args, code, stderr)
		}
	}
	if after := changesOf(y.rack); !slices.Equal(before, after) {
		t.Errorf("changes of the rack: %q before, %q after", before, after)
	}
	info, err := backendv1.NewBackendServiceClient(y.conn).GetInfo(t.Context(),
		new(backendv1.GetInfoRequest))
	if err != nil || !slices.Equal(info.GetActingScopes(), []string{"c1"}) {
		t.Errorf("the session: %v, %v", info, err)
	}
}
