// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package rpc

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/oxidesim"
	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

// keptRules writes so many rules into the firewall that are marked as the scope's own.
func (r *rig) keptRules(scope string, n int) {
	r.Helper()
	rules := make([]string, 0, n)
	for i := range n {
		rules = append(rules, fmt.Sprintf(`{"name": "lb-%d", "description": "oxide-ccm/v1 scope=%s `+
			`name=default/web-%d uid=u family=v6 source=firewall-rule", "status": "enabled", `+
			`"direction": "inbound", "action": "allow", "priority": 1000, "targets": [`+
			`{"type": "instance", "value": "node-1"}, {"type": "subnet", "value": "default"}], "filters": {`+
			`"hosts": [{"type": "ip_net", "value": "fd00::/8"}], "ports": ["80-90", "443"], `+
			`"protocols": [{"type": "tcp"}, {"type": "udp"}]}}`, i, scope, i))
	}
	req, err := http.NewRequestWithContext(r.Context(), http.MethodPut,
		r.rack.URL+"/v1/vpc-firewall-rules?project=demo&vpc=default",
		strings.NewReader(`{"rules": [`+strings.Join(rules, ",")+`]}`))
	r.must(err)
	req.Header.Set("Authorization", "Bearer "+oxidesim.DefaultToken)
	resp, err := http.DefaultTransport.RoundTrip(req)
	r.must(err)
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		r.Fatalf("write the firewall: HTTP %d", resp.StatusCode)
	}
}

// inSync opens an acting session, and waits until it is in sync.
func (r *rig) inSync(scope string) {
	r.Helper()
	items := append([]*backendv1.SyncLoadBalancersRequest{itemOpen(&backendv1.OpenSession{Scope: scope})},
		r.ready()[0])
	stream := r.stream(append(items, itemInSync())...)
	for {
		event, err := stream.Recv()
		r.must(err)
		if event.GetInSync() != nil {
			return
		}
	}
}

func TestFirewallRulesAreListedAPageAtATime(t *testing.T) {
	r := newRig(t)
	r.keptRules("c1", 25)
	r.inSync("c1")
	service := NewFirewallService(r.manager)
	var names []string
	token := ""
	for pages := 1; ; pages++ {
		answer, err := service.ListFirewallRules(t.Context(), &backendv1.ListFirewallRulesRequest{
			Scope: "c1", PageSize: 10, PageToken: token, OrphanedOnly: true,
		})
		r.must(err)
		for _, rule := range answer.GetRules() {
			names = append(names, rule.GetName())
		}
		if f := answer.GetFirewalls(); len(f) != 1 || f[0].GetRuleCount() != 25 || f[0].GetVpcName() != "default" {
			t.Errorf("firewalls: %v", f)
		}
		if token = answer.GetNextPageToken(); token == "" {
			if pages != 3 {
				t.Errorf("%d pages", pages)
			}
			break
		}
	}
	if len(names) != 25 || !slices.IsSorted(names) || len(slices.Compact(names)) != 25 {
		t.Errorf("names: %v", names)
	}
	answer, err := service.ListFirewallRules(t.Context(), &backendv1.ListFirewallRulesRequest{
		Scope: "c1", PageSize: 1,
	})
	r.must(err)
	rule := answer.GetRules()[0]
	if rule.GetKey().GetName() != "default/web-0" || rule.GetOwnerUid() != "u" || !rule.GetOrphaned() ||
		rule.GetFamily() != backendv1.IpFamily_IP_FAMILY_IPV6 || rule.GetPriority() != 1000 ||
		len(rule.GetProtocols()) != 2 || rule.GetPorts()[0].GetLastPort() != 90 ||
		rule.GetPorts()[1].GetLastPort() != 443 || rule.GetSourceRanges()[0] != "fd00::/8" ||
		rule.GetInstanceNames()[0] != "node-1" || rule.GetSubnetNames()[0] != "default" {
		t.Errorf("the first rule: %v", rule)
	}
}

func TestFirewallRulesAreRemovedByNameOrAll(t *testing.T) {
	r := newRig(t)
	r.keptRules("c1", 5)
	r.inSync("c1")
	service := NewFirewallService(r.manager)
	remove := func(req *backendv1.RemoveFirewallRulesRequest) int {
		t.Helper()
		req.Scope = "c1"
		answer, err := service.RemoveFirewallRules(t.Context(), req)
		r.must(err)
		return len(answer.GetRules())
	}
	named := &backendv1.RemoveFirewallRulesRequest_Named{
		Named: &backendv1.FirewallRuleNames{Names: []string{"lb-1", "lb-3", "none"}},
	}
	all := &backendv1.RemoveFirewallRulesRequest_All{All: &backendv1.AllFirewallRules{}}
	for _, step := range []struct {
		req           *backendv1.RemoveFirewallRulesRequest
		removed, left int
	}{
		{&backendv1.RemoveFirewallRulesRequest{Selection: named, DryRun: true}, 2, 5},
		{&backendv1.RemoveFirewallRulesRequest{Selection: named}, 2, 3},
		{&backendv1.RemoveFirewallRulesRequest{Selection: all, DryRun: true}, 3, 3},
		{&backendv1.RemoveFirewallRulesRequest{Selection: named}, 0, 3},
	} {
		removed, left := remove(step.req), len(r.rack.FirewallRules("default"))
		if removed != step.removed || left != step.left {
			t.Errorf("%v: %d removed, %d left, want %d and %d", step.req, removed, left, step.removed, step.left)
		}
	}
}

func TestMalformedRequestsAboutFirewallRules(t *testing.T) {
	r := newRig(t)
	service := NewFirewallService(r.manager)
	ofC1 := &backendv1.ListFirewallRulesRequest{Scope: "c1"}
	for token, field := range map[string]string{
		"x": "page_token", encodePageToken(ofC1, "default"): "page_token",
		encodePageToken(ofC1, "default", "no-id", "lb-1"): "page_token",
	} {
		_, err := service.ListFirewallRules(t.Context(), &backendv1.ListFirewallRulesRequest{
			Scope: "c1", PageToken: token,
		})
		checkField(t, err, field)
	}
	_, err := service.ListFirewallRules(t.Context(), &backendv1.ListFirewallRulesRequest{})
	checkField(t, err, "scope")
	_, err = service.ListFirewallRules(t.Context(), &backendv1.ListFirewallRulesRequest{Scope: "c1"})
	wantEnd(t, toStatus(err).Err(), codes.FailedPrecondition, "SESSION_REQUIRED", "c1")
	names := func(names ...string) *backendv1.RemoveFirewallRulesRequest {
		return &backendv1.RemoveFirewallRulesRequest{
			Scope: "c1", Selection: &backendv1.RemoveFirewallRulesRequest_Named{
				Named: &backendv1.FirewallRuleNames{Names: names},
			},
		}
	}
	for _, tc := range []struct {
		req   *backendv1.RemoveFirewallRulesRequest
		field string
	}{
		{&backendv1.RemoveFirewallRulesRequest{}, "scope"},
		{&backendv1.RemoveFirewallRulesRequest{Scope: "c1"}, "selection"},
		{names(), "named.names"},
		{names("lb-1", "a/b"), "named.names[1]"},
		{names(slices.Repeat([]string{"a"}, 1025)...), "named.names"},
	} {
		_, err := service.RemoveFirewallRules(t.Context(), tc.req)
		checkField(t, err, tc.field)
	}
}

// Source ranges that a user wrote wrongly never end a session; too many are the load balancer's own problem.
func TestSourceRangesAreTakenOver(t *testing.T) {
	lb := goodDesired()
	lb.OpenFirewall, lb.SourceRanges = true, []string{"10.0.0.0/8", "10.1.0.0/16", "everybody"}
	if err := validateLoadBalancer("lb", "c1", lb); err != nil {
		t.Fatal(err)
	}
	d := desiredOf(lb)
	if !d.OpenFirewall || !d.Sources.Restricted || len(d.Sources.Ranges) != 1 || len(d.Sources.Wrong) != 1 ||
		d.PreserveReason != lb.GetPreserveReason() {
		t.Errorf("%+v", d)
	}
	lb.SourceRanges = slices.Repeat([]string{"10.0.0.0/8"}, 1001)
	if d := desiredOf(lb); validateLoadBalancer("lb", "c1", lb) != nil ||
		!strings.Contains(d.PreserveReason, "source_ranges") {
		t.Errorf("of too many: %q", d.PreserveReason)
	}
}
