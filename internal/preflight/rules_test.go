// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package preflight_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/firewall"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/oxidesim"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/preflight"
)

func ruleText(name, action string, priority int, more string) string {
	return fmt.Sprintf(`{"name": %q, "description": "", "status": "enabled", "direction": "inbound",
		"action": %q, "priority": %d, "targets": [], "filters": {}%s}`, name, action, priority, more)
}

func TestWhetherFirewallRulesCanBeKept(t *testing.T) {
	many := make([]string, 0, firewall.MaxRules)
	for i := range firewall.MaxRules {
		many = append(many, ruleText(fmt.Sprintf("ann-%d", i), "allow", 9, ""))
	}
	tests := []struct {
		name   string
		edit   func(*rig)
		want   map[string]want
		result preflight.Result
	}{
		{
			"it can", func(*rig) {}, map[string]want{
				"role": {preflight.OK, "admin on the project: enough for all", ""},
				"firewall rules": {preflight.OK, `in the VPC default, which has 3 rules, 0 of them kept for load ` +
					`balancers: inbound, allow, priority 1000, its ports at 2 instances, from its source ranges or ` +
					`any, for example {"name":"lb-NAMESPACE-NAME-HASH"`, ""},
				"port TCP 80": {preflight.OK, "with --manage-firewall it is opened", ""},
			}, preflight.OK,
		},
		{
			"the role does not suffice", func(r *rig) { r.user("limited_collaborator", nil) }, map[string]want{
				"role": {preflight.Failed, "enough for addresses, not for the firewall rules", "the role collaborator"},
			}, preflight.Failed,
		},
		{
			"a collaborator", func(r *rig) { r.user("collaborator", nil) }, map[string]want{
				"role": {preflight.OK, "collaborator on the project: enough for all", ""},
			}, preflight.OK,
		},
		{
			"a viewer", func(r *rig) { r.user("viewer", nil) }, map[string]want{
				"role": {preflight.Warning, "viewer", "the role collaborator on the project"},
			}, preflight.Warning,
		},
		{
			"the firewall is full", func(r *rig) { r.firewall(strings.Join(many, ",")) }, map[string]want{
				"firewall rules": {preflight.Failed, "has 1024 rules", "remove some"},
			}, preflight.Failed,
		},
		{
			"a rule that would be lost", func(r *rig) {
				_, err := r.AddFault(oxidesim.Fault{
					Operation: "vpc_firewall_rules_view",
					Body:      `{"rules": [` + ruleText("ann", "allow", 9, `, "logging": true`) + `]}`,
				})
				r.must(err)
			}, map[string]want{
				"firewall rules": {preflight.Failed, "the rule ann of the VPC default has the field logging", "update"},
			}, preflight.Failed,
		},
		{
			"a rule that comes before", func(r *rig) { r.firewall(ruleText("none", "deny", 1000, "")) },
			map[string]want{
				"port TCP 80": {preflight.Failed, "denied by the rule none, which comes before", "--firewall-priority"},
			}, preflight.Failed,
		},
		{
			"a rule that comes after", func(r *rig) { r.firewall(ruleText("none", "deny", 1001, "")) },
			map[string]want{
				"port TCP 80": {preflight.OK, "denied by the rule none; with --manage-firewall it is opened", ""},
			}, preflight.OK,
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			r := healthy(t)
			r.manage, r.ports = true, []firewall.Port{tcp80}
			test.edit(r)
			report := r.run()
			r.want(report, test.want)
			wantResult(t, report, test.result)
		})
	}
}
