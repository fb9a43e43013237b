// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package loadbalancers_test

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/oxide"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/oxidesim"
)

// firewall sends a request about the VPC's firewall, as a user does by hand.
func (r *rack) firewall(t *testing.T, method string, rules []json.RawMessage) []json.RawMessage {
	t.Helper()
	type set struct {
		Rules []json.RawMessage `json:"rules"`
	}
	var body io.Reader
	if method == http.MethodPut {
		text, err := json.Marshal(set{rules})
		if err != nil {
			t.Fatal(err)
		}
		body = bytes.NewReader(text)
	}
	req, err := http.NewRequestWithContext(t.Context(), method,
		r.URL+"/v1/vpc-firewall-rules?vpc=default&project=demo", body)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+oxidesim.DefaultToken)
	req.Header.Set("Api-Version", oxide.APIVersion)
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	answer, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: %d %s, %v", method, resp.StatusCode, answer, err)
	}
	var found set
	if err := json.Unmarshal(answer, &found); err != nil {
		t.Fatal(err)
	}
	http.DefaultClient.CloseIdleConnections()
	return found.Rules
}

// The rule in the condition is one that Oxide takes as it stands, and with it the condition is gone.
func TestTheRecommendedRuleMendsTheFirewall(t *testing.T) {
	r := newRack(t)
	want := web()
	want.Ports = append(want.Ports, loadbalancers.Port{Protocol: loadbalancers.UDP, Number: 53})
	closed := r.ensure(t, r.cluster(), want).LoadBalancer.Conditions
	if len(closed) != 1 || closed[0].Type != loadbalancers.FirewallClosed {
		t.Fatalf("told %+v", closed)
	}
	_, text, _ := strings.Cut(closed[0].Message, "add the rule ")
	rules := r.firewall(t, http.MethodGet, nil)
	for _, rule := range strings.Split(text, " and ") {
		rules = append(rules, json.RawMessage(rule))
	}
	if stored := r.firewall(t, http.MethodPut, rules); len(stored) != 3+2 {
		t.Errorf("%d rules are stored", len(stored))
	}
	r.manager = r.newManager(t)
	if open := r.ensure(t, r.cluster(), want).LoadBalancer.Conditions; len(open) != 0 {
		t.Errorf("with the rule, told %+v", open)
	}
}

// A user who may not read the firewall has load balancers all the same.
func TestAFirewallThatCannotBeReadHindersNothing(t *testing.T) {
	r := newRack(t)
	if _, err := r.AddFault(oxidesim.Fault{
		Operation: "vpc_firewall_rules_view", Status: 403, ErrorCode: "Forbidden",
	}); err != nil {
		t.Fatal(err)
	}
	r.manager = r.newManager(t)
	if told := r.ensure(t, r.only(0), web()).LoadBalancer.Conditions; len(told) != 0 {
		t.Errorf("told %+v", told)
	}
	r.mustBeOn(t, 0)
}

// What is a load balancer's address is no address of the instance that carries it.
func TestWhatIsALoadBalancersAddress(t *testing.T) {
	r := newRack(t)
	r.addUsersOwn(t, "mine")
	r.addUsersOwn(t, "lent")
	borrower := served("default/borrower", 81)
	borrower.Wanted[0].Source.Existing = "lent"
	r.reconcile(t, r.cluster(), []loadbalancers.Desired{web(), borrower})
	r.addUsers(t, "damaged", "oxide-ccm/v1 scope=?", "")
	r.addUsers(t, "old", legacyDescription, "")
	r.addUsers(t, "nearly", legacyDescription+" ", "")
	listed, err := r.api.FloatingIPs(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, ip := range listed {
		want := ip.Name != "mine" && ip.Name != "nearly"
		if got := r.manager.IsLoadBalancerAddress(ip); got != want {
			t.Errorf("%s, described %q: %v", ip.Name, ip.Description, got)
		}
	}
}
