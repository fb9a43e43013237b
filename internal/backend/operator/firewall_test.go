// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package operator

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/encoding/protojson"
	"sigs.k8s.io/yaml"

	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

// several are rules of all kinds, one of them of another cluster.
func several() []*backendv1.FirewallRule {
	return []*backendv1.FirewallRule{
		rule("lb-web"),
		rule("lb-gone", orphan),
		rule("lb-dns", func(r *backendv1.FirewallRule) {
			r.VpcId, r.VpcName, r.Family = "vpc-2", "edge", backendv1.IpFamily_IP_FAMILY_IPV6
			r.Protocols = append(r.Protocols, backendv1.Protocol_PROTOCOL_UDP)
			r.Ports = []*backendv1.PortRange{{FirstPort: 53, LastPort: 53}, {FirstPort: 8000, LastPort: 8010}}
			r.SourceRanges = []string{"2001:db8:1::/48", "2001:db8:2::/48"}
			r.InstanceNames, r.SubnetNames = nil, []string{"nodes"}
		}),
		rule("lb-busy", func(r *backendv1.FirewallRule) {
			r.Ports = nil
			for port := range int32(7) {
				r.Ports = append(r.Ports, &backendv1.PortRange{FirstPort: 1000 + 2*port, LastPort: 1000 + 2*port})
			}
			r.InstanceNames = []string{"node-1"}
		}),
		rule("lb-other", func(r *backendv1.FirewallRule) { r.Key.Scope = "c2" }),
	}
}

func TestRulesAreShownInATable(t *testing.T) {
	got := newPeer(t, several()...).run(t, nil, "list")
	if got.err != nil || got.stderr != "" {
		t.Fatalf("%v: %s", got.err, got.stderr)
	}
	fields := func(text string) (lines []string) {
		for line := range strings.Lines(text) {
			lines = append(lines, strings.Join(strings.Fields(line), " "))
		}
		return lines
	}
	want := []string{
		"RULE VPC LOAD BALANCER OPENS FROM TO PRIORITY NOTE",
		"lb-busy default shop/lb-busy TCP 1000,1002,1004,1006 and 3 more any IPv4 1 instance 1000",
		"lb-gone default shop/lb-gone TCP 80 any IPv4 2 instances 1000 orphaned",
		"lb-web default shop/lb-web TCP 80 any IPv4 2 instances 1000",
		"lb-dns edge shop/lb-dns TCP,UDP 53,8000-8010 2001:db8:1::/48,2001:db8:2::/48 all in nodes 1000",
		"",
		"The firewall of the VPC default has 5 rules of at most 1024",
		"The firewall of the VPC edge has 1 rule of at most 1024: the role is too small",
	}
	if diff := cmp.Diff(want, fields(got.stdout)); diff != "" {
		t.Errorf("the table (-want +got):\n%s", diff)
	}
	if got := newPeer(t, rule("lb-wide", func(r *backendv1.FirewallRule) { r.InstanceNames = nil })).
		run(t, nil, "list"); !strings.Contains(got.stdout, "all in the VPC") {
		t.Errorf("a rule for the whole VPC is\n%s", got.stdout)
	}
	if strings.Contains(newPeer(t, rule("lb-web")).run(t, nil, "list").stdout, "NOTE") {
		t.Error("a column without content is shown")
	}
	if got := newPeer(t).run(t, nil, "list"); got.err != nil ||
		!strings.HasPrefix(got.stdout, "There is no such rule.\n\nThe firewall of the VPC default has 0 rules") {
		t.Errorf("without rules: %v, %s", got.err, got.stdout)
	}
}

func TestOrphanedRulesAreShownAlone(t *testing.T) {
	got := newPeer(t, several()...).run(t, nil, "list", "--orphaned")
	if got.err != nil || !strings.Contains(got.stdout, "lb-gone") || strings.Contains(got.stdout, "lb-web") {
		t.Errorf("%v:\n%s", got.err, got.stdout)
	}
}

// As scripts read it: the message of the API, with every field, and always the same.
func TestRulesAreShownInJSON(t *testing.T) {
	p := newPeer(t, several()...)
	got := p.run(t, nil, "list", "-o", "json")
	var message backendv1.ListFirewallRulesResponse
	if err := protojson.Unmarshal([]byte(got.stdout), &message); err != nil || got.err != nil {
		t.Fatalf("%v, %v: %s", err, got.err, got.stdout)
	}
	if len(message.GetRules()) != 4 || message.GetRules()[3].GetSourceRanges()[1] != "2001:db8:2::/48" ||
		len(message.GetFirewalls()) != 2 {
		t.Errorf("it has %v", &message)
	}
	for range 5 {
		if again := p.run(t, nil, "list", "-o=json"); again.stdout != got.stdout {
			t.Fatalf("another time it is:\n%s", again.stdout)
		}
	}
	var plain struct {
		Rules []map[string]any `json:"rules"`
	}
	if err := json.Unmarshal([]byte(got.stdout), &plain); err != nil {
		t.Fatal(err)
	}
	if orphaned, ok := plain.Rules[0]["orphaned"]; !ok || orphaned != false {
		t.Errorf("a field that is false is left out: %v", plain.Rules[0])
	}
}

// The same as in JSON.
func TestRulesAreShownInYAML(t *testing.T) {
	p := newPeer(t, several()...)
	got := p.run(t, nil, "list", "-o", "yaml")
	text, err := yaml.YAMLToJSON([]byte(got.stdout))
	if err != nil || got.err != nil || strings.HasPrefix(got.stdout, "{") {
		t.Fatalf("%v, %v: %s", err, got.err, got.stdout)
	}
	var inYAML, inJSON any
	if err := errors.Join(json.Unmarshal(text, &inYAML),
		json.Unmarshal([]byte(p.run(t, nil, "list", "-o", "json").stdout), &inJSON)); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(inJSON, inYAML); diff != "" {
		t.Errorf("it is other than JSON (-json +yaml):\n%s", diff)
	}
}

func TestEveryPageIsRead(t *testing.T) {
	var many []*backendv1.FirewallRule
	for i := range 2500 {
		many = append(many, rule(fmt.Sprintf("lb-%04d", i)))
	}
	p := newPeer(t, many...)
	got := p.run(t, nil, "list")
	if n := strings.Count(got.stdout, "lb-"); n != 2*2500 || p.pages != 3 {
		t.Errorf("%d rules on %d pages, %v", n/2, p.pages, got.err)
	}
	got = p.run(t, nil, "remove-rules", "--yes")
	if left := p.left(); len(left) != 0 || !strings.HasSuffix(got.stdout, "\nRemoved 2500 rules.\n") {
		t.Errorf("%d are left, %v", len(left), got.err)
	}
	if p.writes != 3 {
		t.Errorf("%d requests remove them, want one for each 1,000", p.writes)
	}
}

func TestRulesAreRemovedAfterTheyWereShown(t *testing.T) {
	for _, tt := range []struct {
		name string
		args []string
		gone []string
		// left are those of the scope that are there still.
		left []string
	}{
		{"all", nil, []string{"lb-busy", "lb-dns", "lb-gone", "lb-web"}, nil},
		{"those that nobody wants", []string{"--orphaned"}, []string{"lb-gone"},
			[]string{"lb-busy", "lb-dns", "lb-web"}},
		{"by name", []string{"lb-web", "lb-busy", "lb-nowhere"}, []string{"lb-busy", "lb-web"},
			[]string{"lb-dns", "lb-gone"}},
		{"another cluster's, by name", []string{"lb-other"}, nil,
			[]string{"lb-busy", "lb-dns", "lb-gone", "lb-web"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := newPeer(t, several()...)
			got := p.run(t, nil, append([]string{"remove-rules", "--yes"}, tt.args...)...)
			if got.err != nil || got.stderr != "" {
				t.Fatalf("%v: %s", got.err, got.stderr)
			}
			for _, name := range tt.gone {
				if !strings.Contains(got.stdout, name) {
					t.Errorf("%s is not shown:\n%s", name, got.stdout)
				}
			}
			result := fmt.Sprintf("Removed %d rules.\n", len(tt.gone))
			switch len(tt.gone) {
			case 0:
				result = "There is no such rule: nothing was changed.\n"
			case 1:
				result = "Removed 1 rule.\n"
			}
			if !strings.HasSuffix(got.stdout, result) {
				t.Errorf("it does not end with %q:\n%s", result, got.stdout)
			}
			left := p.left()
			slices.Sort(left)
			want := append(slices.Clone(tt.left), "lb-other")
			slices.Sort(want)
			if diff := cmp.Diff(want, left); diff != "" {
				t.Errorf("left (-want +got):\n%s", diff)
			}
			if again := p.run(t, nil, append([]string{"remove-rules", "--yes"}, tt.args...)...); again.err != nil ||
				!strings.HasPrefix(again.stdout, "There is no such rule") {
				t.Errorf("once more: %v, %s", again.err, again.stdout)
			}
		})
	}
}

func TestWhatWasNotShownIsNotRemoved(t *testing.T) {
	p := newPeer(t, rule("lb-web"))
	p.shown = func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.rules = append(p.rules, rule("lb-new"))
	}
	if got := p.run(t, nil, "remove-rules", "--yes"); got.err != nil {
		t.Fatal(got.err)
	}
	if left := p.left(); !slices.Equal(left, []string{"lb-new"}) {
		t.Errorf("left: %q", left)
	}
}

// Whoever presses Ctrl-C while rules are removed reads that some may be gone, and how many are for
// certain.
func TestWhoInterruptsARemovalIsToldThatItMayBeDone(t *testing.T) {
	var many []*backendv1.FirewallRule
	for i := range 1500 {
		many = append(many, rule(fmt.Sprintf("lb-%04d", i)))
	}
	for removals, says := range map[int]string{1: "0 rules were removed", 2: "1000 rules were removed"} {
		p := newPeer(t, slices.Clone(many)...)
		ctx, interrupt := context.WithCancel(t.Context())
		p.removing = func() {
			if p.writes == removals {
				interrupt()
				time.Sleep(100 * time.Millisecond) // the answer is not waited for any more
			}
		}
		got := runIn(ctx, "unix://"+p.socket, nil, "remove-rules", "--yes")
		got.failed(t, 1, says, "may be as well", "firewall list")
		if strings.Contains(got.stdout, "Removed") {
			t.Errorf("it says:\n%s", got.stdout)
		}
		interrupt()
	}
}

func TestInJSONWhatWasRemovedStandsAlone(t *testing.T) {
	got := newPeer(t, several()...).run(t, nil, "remove-rules", "--orphaned", "--yes", "--output=json")
	var message backendv1.RemoveFirewallRulesResponse
	if err := protojson.Unmarshal([]byte(got.stdout), &message); err != nil || got.err != nil {
		t.Fatalf("%v, %v: %s", err, got.err, got.stdout)
	}
	if len(message.GetRules()) != 1 || message.GetRules()[0].GetName() != "lb-gone" {
		t.Errorf("it says %v", &message)
	}
	if !strings.Contains(got.stderr, "lb-gone") {
		t.Errorf("they were not shown before: %q", got.stderr)
	}
	got = newPeer(t).run(t, nil, "remove-rules", "--yes", "--output=json")
	if strings.Join(strings.Fields(got.stdout), "") != `{"rules":[]}` || got.stderr != "" {
		t.Errorf("without rules: %s, %s", got.stdout, got.stderr)
	}
}

func TestWithoutATerminalNothingIsRemovedUnlessAsked(t *testing.T) {
	null, err := os.Open(os.DevNull) // as kubectl exec without --stdin
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	for _, stdin := range []*os.File{nil, null} {
		p := newPeer(t, rule("lb-web"))
		got := p.run(t, strings.NewReader("y\n"), "remove-rules")
		if stdin != nil {
			got = p.run(t, stdin, "remove-rules")
		}
		got.failed(t, 2, "nothing was changed", "--yes", "terminal")
		if !strings.Contains(got.stdout, "lb-web") || len(p.left()) != 1 || p.writes != 0 {
			t.Errorf("%q is left after %d writes:\n%s", p.left(), p.writes, got.stdout)
		}
	}
}

func TestWrongCommandLinesAreOneLineEach(t *testing.T) {
	p := newPeer(t, rule("lb-web"))
	for _, tt := range []struct {
		args []string
		want []string
	}{
		{nil, []string{"list or remove-rules", "--help"}},
		{[]string{"lst"}, []string{`"lst" is no subcommand`, "list or remove-rules"}},
		{[]string{"list", "lb-web"}, []string{`no argument "lb-web"`, "list --help"}},
		{[]string{"list", "--output=xml"}, []string{`--output: "xml" is none of table, json, yaml`}},
		{[]string{"list", "--socket=127.0.0.1:80"}, []string{`--socket: "127.0.0.1:80"`, "unix:///"}},
		{[]string{"list", "--scope=a b"}, []string{`--scope: "a b"`, "leave it out"}},
		{[]string{"remove-rules", "--orphaned", "lb-web"}, []string{"--orphaned", "leave one of them out"}},
		{[]string{"remove-rules", "lb-web", "a b"}, []string{`"a b" is no name of a rule`, "firewall list"}},
		{[]string{"remove-rules", "--yes", ""}, []string{`"" is no name of a rule`}},
		{[]string{"remove-rules", "../x\ny"}, []string{`"../x\ny" is no name of a rule`}},
		{append([]string{"remove-rules"}, slices.Repeat([]string{"lb-web"}, 1025)...),
			[]string{"1025 rules are named, and at most 1024"}},
	} {
		p.run(t, nil, tt.args...).failed(t, 2, tt.want...)
	}
	if p.writes != 0 || len(p.left()) != 1 {
		t.Errorf("left are %q after %d writes", p.left(), p.writes)
	}
	got := p.run(t, nil, "list", "--output=xml", "--scope=", "--scope=ü")
	if got.err == nil || strings.Count(got.err.Error(), "\n") != 1 {
		t.Errorf("two mistakes: %v", got.err)
	}
}

func TestTheScopeIsThatOfTheOnlySession(t *testing.T) {
	p := newPeer(t, several()...)
	p.acting = []string{"c1", "c2"}
	p.run(t, nil, "list").failed(t, 2, "--scope", "c1, c2")
	if got := p.run(t, nil, "list", "--scope=c2"); got.err != nil || !strings.Contains(got.stdout, "lb-other") ||
		strings.Contains(got.stdout, "lb-web") {
		t.Errorf("of c2: %v\n%s", got.err, got.stdout)
	}
	p.acting = []string{"c2"}
	if got := p.run(t, nil, "list"); got.err != nil || !strings.Contains(got.stdout, "lb-other") {
		t.Errorf("of the only one: %v\n%s", got.err, got.stdout)
	}
}

// A script asks the replicas one after the other, until one answers otherwise than with 3.
func TestWhereTheSessionIsElsewhereTheExitCodeSaysSo(t *testing.T) {
	p := newPeer(t, rule("lb-web"))
	p.acting = nil
	for _, args := range [][]string{{"list"}, {"remove-rules", "--yes"}} {
		p.run(t, nil, args...).failed(t, 3, "no session runs in this oxide-backend", "the replica that leads")
	}
	p.run(t, nil, "list", "--scope=c1").failed(t, 3, "the session of c1 is not here")
}

func TestErrorsOfTheBackendAreOneLine(t *testing.T) {
	p := newPeer(t, rule("lb-web"))
	p.fails = fail(codes.PermissionDenied, "OXIDE_FORBIDDEN", "the token may not write:\nthe role collaborator is")
	p.run(t, nil, "remove-rules", "--yes", "--scope=c1").failed(t, 1,
		"the token may not write: the role collaborator is (request req-1 of Oxide)")
	p.run(t, nil, "list").failed(t, 1, "the token may not write")
	if p.writes != 0 {
		t.Errorf("it was asked to write %d times", p.writes)
	}
}

func TestWithoutABackendTheErrorSaysWhereToAsk(t *testing.T) {
	dir, err := os.MkdirTemp("", "backend")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	gone := filepath.Join(dir, "gone.sock")
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: gone, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	listener.SetUnlinkOnClose(false)
	_ = listener.Close()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for address, want := range map[string]string{
		filepath.Join(dir, "never.sock"): "there is no oxide-backend at " + dir + "/never.sock: run this where one runs",
		gone:                             "no oxide-backend listens at " + gone + " any more",
		file:                             file,
	} {
		runAt(t, address, nil, "list").failed(t, 1, want)
	}
}
