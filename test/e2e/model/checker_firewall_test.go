// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package model

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/rack"
)

// rulesFor are the rules that the Services of an expectation are to have.
func rulesFor(e *expectation) (all rack.Firewall) {
	var targets []string
	for name := range e.nodes {
		targets = append(targets, `{"type":"instance","value":"`+name+`"}`)
	}
	for _, v := range e.live() {
		for _, version := range []string{"v4", "v6"} {
			protocols := make(map[string][]string)
			for _, port := range v.ports {
				protocol := strings.ToLower(string(port.Protocol))
				protocols[protocol] = append(protocols[protocol], fmt.Sprintf(`"%d"`, port.Port))
			}
			for protocol, ports := range protocols {
				var rule rack.FirewallRule
				err := json.Unmarshal(fmt.Appendf(nil, `{"name":"lb-%s-%s-%s","description":%q,"status":"enabled",`+
					`"direction":"inbound","action":"allow","priority":1000,"targets":[%s],`+
					`"filters":{"ports":[%s],"protocols":[{"type":%q}]}}`, v.name, version, protocol,
					markerFor(v.name, ""), strings.Join(targets, ","), strings.Join(ports, ","), protocol), &rule)
				if err != nil {
					panic(err)
				}
				all = append(all, rule)
			}
		}
	}
	return all
}

// protected has the firewall be as a change of the Services asks for.
func protected(e *expectation, _ snapshot, st *step) { st.now.firewall = rulesFor(e) }

// rule changes the rules of a Service.
func rule(service string, change func(*rack.FirewallRule)) doctor {
	return func(_ *expectation, s snapshot, _ *step) {
		for i := range s.firewall {
			if s.firewall[i].Service() == namespace+"/"+service {
				change(&s.firewall[i])
			}
		}
	}
}

func withoutRules(service string) doctor {
	return func(_ *expectation, _ snapshot, st *step) {
		st.now.firewall = slices.DeleteFunc(slices.Clone(st.now.firewall), func(r rack.FirewallRule) bool {
			return r.Service() == namespace+"/"+service
		})
	}
}

// written is a rule of another client, which it wrote before the operation.
func written(text string) doctor {
	return func(e *expectation, _ snapshot, st *step) {
		e.foreign, e.foreignText = map[string]bool{"theirs-1": true}, `{"name":"","priority":7}`
		st.now.firewall = append(slices.Clone(st.now.firewall), rack.FirewallRule{Name: "theirs-1", Text: text})
	}
}

// The checker finds what is wrong with the rules of a firewall.
func TestTheCheckerFindsWhatIsBrokenOfTheFirewall(t *testing.T) {
	const whole = `{"name":"theirs-1","priority":7}`
	admits := func(e *expectation, _ snapshot, _ *step) { e.services["web"].ranges = sourceRanges[:1] }
	checkDoctored(t, settledWorld, 2, []doctored{
		{"a Service without a rule", []doctor{withoutRules("web")}, portsOpen, "TCP 80 of web"},
		{"a Service that wants none, and has one", []doctor{func(e *expectation, _ snapshot, _ *step) {
			e.services["web"].unprotected = true
		}}, portsOpen, "has 2"},
		{"a Service that wants none, and has none", []doctor{func(e *expectation, _ snapshot, _ *step) {
			e.services["web"].unprotected = true
		}, withoutRules("web")}, "", ""},
		{"a rule with a port too many", []doctor{rule("web", func(r *rack.FirewallRule) {
			r.Filters.Ports = append(r.Filters.Ports, "443")
		})}, portsOpen, "TCP 443 of web"},
		{"a rule that does not have the node", []doctor{rule("web", func(r *rack.FirewallRule) {
			r.Targets = []rack.TypedValue{{Type: "instance", Value: "node-3"}}
		})}, portsOpen, "on node-1"},
		{"a rule that lets everybody in", []doctor{admits}, portsOpen, "for 192.0.2.77 is true"},
		{"a rule that lets in whom the Service admits", []doctor{admits, rule("web", func(r *rack.FirewallRule) {
			r.Filters.Hosts = []rack.TypedValue{{Type: "ip_net", Value: sourceRanges[0]}}
		})}, "", ""},
		{"a rule of a former Service of the name", []doctor{rule("web", func(r *rack.FirewallRule) {
			r.Description = strings.Replace(r.Description, "uid-web", "uid-former", 1)
		})}, portsOpen, "of another web"},
		{"a rule that is left of a Service", []doctor{func(_ *expectation, _ snapshot, st *step) {
			st.now.firewall = append(slices.Clone(st.now.firewall), rack.FirewallRule{
				Name: "lb-old", Description: markerFor("old", ""),
			})
		}}, portsOpen, "old, which wants no address"},
		{"a rule of a Service that never was", []doctor{func(_ *expectation, _ snapshot, st *step) {
			st.now.firewall = append(slices.Clone(st.now.firewall), rack.FirewallRule{
				Name: "lb-none", Description: markerFor("none", ""),
			})
		}}, foreignRules, "is nobody's"},
		{"a rule of another client that is lost", []doctor{written(whole), func(
			_ *expectation, _ snapshot, st *step,
		) {
			st.now.firewall = st.now.firewall[:len(st.now.firewall)-1]
		}}, foreignRules, "there are 0 rules theirs-1"},
		{"a rule of another client that is changed", []doctor{written(`{"name":"theirs-1"}`)}, foreignRules,
			"was changed"},
		{"a rule of another client that is as it was", []doctor{written(whole)}, "", ""},
		{"a rule of another client that comes back", []doctor{written(whole), func(e *expectation, _ snapshot, _ *step) {
			e.foreign["theirs-1"] = false
		}}, foreignRules, "which another client removed"},
	})
}

// The checker finds an address that a cordoned node keeps without need, and lets it leave.
func TestTheCheckerFindsWhatIsNotDrained(t *testing.T) {
	cordoned := func(drains bool) doctor {
		return func(e *expectation, _ snapshot, _ *step) {
			e.nodes["node-1"].cordoned, e.nodes["node-1"].drains = true, drains
		}
	}
	others := func(e *expectation, _ snapshot, _ *step) {
		e.nodes["node-2"].cordoned, e.nodes["node-3"].excluded = true, true
	}
	checkDoctored(t, settledWorld, 2, []doctored{
		{"an address on a cordoned node", []doctor{cordoned(true)}, converges, "which is cordoned"},
		{"an address that has no other place", []doctor{cordoned(true), others}, "", ""},
		{"an address on a node that was cordoned before", []doctor{cordoned(false)}, "", ""},
		{"an address that has left a cordoned node", []doctor{cordoned(true), moved(fipWeb, "node-3"),
			status("web", "198.51.100.1", "172.30.0.3")}, "", ""},
		{"two leaders, of which one knows of no cordon", []doctor{cordoned(true),
			func(e *expectation, _ snapshot, _ *step) { e.rivals = true }}, "", ""},
	})
}
