// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package preflight_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"regexp"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/firewall"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/oxide"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/oxidesim"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/preflight"
)

var advised = regexp.MustCompile(`(add|replace) the rule (?:([a-z0-9-]+) by )?\{`)

// follow does exactly what an advice says: the rules that there are stay, but for one that is named as
// replaced.
func (r *rig) follow(advice string) {
	r.t.Helper()
	rules := r.rules()
	found := advised.FindAllStringSubmatchIndex(advice, -1)
	if len(found) == 0 {
		r.t.Fatalf("it advises no rule: %s", advice)
	}
	for _, at := range found {
		var rule map[string]any
		r.must(json.NewDecoder(strings.NewReader(advice[at[1]-1:])).Decode(&rule))
		if advice[at[2]:at[3]] == "replace" {
			if replaced := advice[at[4]:at[5]]; rules[replaced] == nil {
				r.t.Fatalf("there is no rule %s to replace: %s", replaced, advice)
			} else {
				delete(rules, replaced)
			}
		}
		if rules[rule["name"].(string)] != nil {
			r.t.Fatalf("the name is taken: %s", advice)
		}
		rules[rule["name"].(string)] = rule
	}
	var texts []string
	for _, rule := range rules {
		text, err := json.Marshal(rule)
		r.must(err)
		texts = append(texts, string(text))
	}
	r.firewall(strings.Join(texts, ","))
}

// rules reads the rules of the default VPC as Oxide writes them, by name.
func (r *rig) rules() map[string]map[string]any {
	r.t.Helper()
	req, err := http.NewRequestWithContext(r.t.Context(), http.MethodGet,
		r.URL+"/v1/vpc-firewall-rules?project=demo&vpc=default", nil)
	r.must(err)
	req.Header.Set("Authorization", "Bearer "+oxidesim.DefaultToken)
	resp, err := http.DefaultTransport.RoundTrip(req)
	r.must(err)
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	r.must(err)
	var body struct{ Rules []map[string]any }
	r.must(json.Unmarshal(text, &body))
	byName := make(map[string]map[string]any)
	for _, rule := range body.Rules {
		for _, field := range []string{"id", "vpc_id", "time_created", "time_modified"} {
			delete(rule, field)
		}
		byName[rule["name"].(string)] = rule
	}
	return byName
}

// remedy returns what a report advises for closed ports; empty: none is closed.
func remedy(report preflight.Report) string {
	for _, check := range report.Checks {
		if strings.HasPrefix(check.Name, "port ") && check.Result == preflight.Failed {
			return check.Remedy
		}
	}
	return ""
}

func TestTheRuleThatTheCheckAdvisesIsAcceptedAndOpensThePorts(t *testing.T) {
	const deny = `{"name": "no", "description": "", "status": "enabled", "direction": "inbound",
		"action": "deny", "priority": 50, "targets": [], "filters": {"protocols": [{"type": "tcp"}]}}`
	for name, rules := range map[string]string{
		"the rules of a new VPC": "", "a rule denies them": deny,
		"the name is that of a rule which denies": strings.Replace(deny, `"no"`, `"kubernetes-services"`, 1),
	} {
		t.Run(name, func(t *testing.T) {
			r := healthy(t)
			if rules != "" {
				r.firewall(rules)
			}
			// Each is asked for after what was advised for those before was done.
			for _, more := range [][]firewall.Port{
				{tcp80, {Protocol: firewall.TCP, Number: 443}}, {udp53}, {{Protocol: firewall.TCP, Number: 8443}},
			} {
				r.ports = more
				advice := remedy(r.run())
				if advice == "" {
					t.Fatalf("%v are open already", more)
				}
				r.follow(advice)
			}
			r.ports = []firewall.Port{
				tcp80, {Protocol: firewall.TCP, Number: 443}, udp53, {Protocol: firewall.TCP, Number: 8443},
			}
			if left := remedy(r.run()); left != "" {
				t.Errorf("after all was done it advises: %s", left)
			}
		})
	}
}

// What the event of a load balancer advises, for several ones that share a VPC.
func TestTheRuleThatAnEventAdvisesIsAcceptedAndOpensThePorts(t *testing.T) {
	r := healthy(t)
	client, err := oxide.New(r.cfg, prometheus.NewRegistry())
	r.must(err)
	t.Cleanup(client.Close)
	subnets, err := client.Subnets(t.Context())
	r.must(err)
	at := firewall.Interface{InstanceName: "node-1", VPCName: "default", SubnetName: "default"}
	explain := func(name string, addr string, ports []firewall.Port) string {
		t.Helper()
		rules, err := client.FirewallRules(t.Context(), subnets[0].VPCID)
		r.must(err)
		return firewall.Explain(name, rules, at, netip.MustParseAddr(addr), ports)
	}
	type loadBalancer struct {
		name  string
		addr  string
		ports []firewall.Port
	}
	web := []firewall.Port{tcp80, {Protocol: firewall.TCP, Number: 443}}
	all := []loadBalancer{
		{"lb-default-web", "172.30.0.5", web},
		{"lb-default-dns", "fd00::5", []firewall.Port{udp53, {Protocol: firewall.TCP, Number: 53}}},
		{"lb-default-web", "172.30.0.5", append(web, firewall.Port{Protocol: firewall.UDP, Number: 443})},
		{"lb-default-web", "172.30.0.5", []firewall.Port{{Protocol: firewall.TCP, Number: 9000}}},
	}
	for i := range 10 {
		all = append(all, loadBalancer{fmt.Sprintf("lb-%d", i), "172.30.0.5", []firewall.Port{
			{Protocol: firewall.UDP, Number: 10000 + 10*i},
		}})
	}
	for _, lb := range all {
		advice := explain(lb.name, lb.addr, lb.ports)
		if len(advice) > 400 {
			t.Errorf("%d bytes: %s", len(advice), advice)
		}
		r.follow(advice)
	}
	for _, lb := range all {
		if left := explain(lb.name, lb.addr, lb.ports); left != "" {
			t.Errorf("%s: %s", lb.name, left)
		}
	}
}
