// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package loadbalancers

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/instances"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/oxide"
)

type (
	rule  = oxide.FirewallRule
	match = oxide.FirewallMatch
)

// inbound makes a rule that is in force for what comes in.
func inbound(name string, allow bool, priority int, change ...func(*rule)) rule {
	r := rule{Name: name, Enabled: true, Inbound: true, Allow: allow, Priority: priority}
	for _, c := range change {
		c(&r)
	}
	return r
}

func ports(first, last int) func(*rule) {
	return func(r *rule) { r.Ports = append(r.Ports, oxide.PortRange{First: first, Last: last}) }
}

func protocols(names ...string) func(*rule) {
	return func(r *rule) { r.Protocols = append(r.Protocols, names...) }
}

func targets(kind, value string) func(*rule) {
	return func(r *rule) { r.Targets = append(r.Targets, match{Type: kind, Value: value}) }
}

func hosts(kind, value string) func(*rule) {
	return func(r *rule) { r.Hosts = append(r.Hosts, match{Type: kind, Value: value}) }
}

func node() instances.Endpoint {
	return instances.Endpoint{
		InstanceID: "n1", Name: "node-1", VPCID: "vpc-id", VPCName: "default", SubnetName: "nodes",
		Addrs: []netip.Addr{netip.MustParseAddr("172.30.0.5"), netip.MustParseAddr("fd00::5")},
	}
}

// defaultRules are those of a new VPC.
func defaultRules() []rule {
	return []rule{
		inbound("allow-icmp", true, 65534, targets("vpc", "default"), protocols("icmp")),
		inbound("allow-internal-inbound", true, 65534, targets("vpc", "default"),
			hosts("vpc", "default")),
		inbound("allow-ssh", true, 65534, targets("vpc", "default"), protocols("tcp"), ports(22, 22)),
	}
}

func TestClosedPorts(t *testing.T) {
	tcp80 := []func(*rule){protocols("tcp"), ports(80, 80)}
	with := func(more ...func(*rule)) []func(*rule) {
		return append(append([]func(*rule){}, tcp80...), more...)
	}
	for _, tc := range []struct {
		name  string
		rules []rule
		// closed is whether TCP 80 of the node's IPv4 address is, and by which rule.
		closed bool
		by     string
	}{
		{name: "no rule at all", closed: true},
		{name: "the default rules", rules: defaultRules(), closed: true},
		{name: "a rule for the port", rules: []rule{inbound("a", true, 9, tcp80...)}},
		{name: "a range with it", rules: []rule{inbound("a", true, 9, protocols("tcp"), ports(1, 90))}},
		{name: "a range beside it", closed: true,
			rules: []rule{inbound("a", true, 9, protocols("tcp"), ports(81, 90))}},
		{name: "another protocol", closed: true,
			rules: []rule{inbound("a", true, 9, protocols("udp"), ports(80, 80))}},
		{name: "the protocol, all ports", rules: []rule{inbound("a", true, 9, protocols("tcp"))}},
		{name: "ports without protocols open everything",
			rules: []rule{inbound("a", true, 9, ports(1234, 1234))}},
		{name: "ports with ICMP alone open no TCP", closed: true,
			rules: []rule{inbound("a", true, 9, protocols("icmp"), ports(80, 80))}},
		{name: "disabled", closed: true, rules: []rule{
			inbound("a", true, 9, with(func(r *rule) { r.Enabled = false })...)}},
		{name: "outbound", closed: true, rules: []rule{
			inbound("a", true, 9, with(func(r *rule) { r.Inbound = false })...)}},
		{name: "the target is the VPC", rules: []rule{
			inbound("a", true, 9, with(targets("vpc", "default"))...)}},
		{name: "the target is another VPC", closed: true, rules: []rule{
			inbound("a", true, 9, with(targets("vpc", "other"))...)}},
		{name: "the target is the subnet", rules: []rule{
			inbound("a", true, 9, with(targets("subnet", "nodes"))...)}},
		{name: "the target is another subnet", closed: true, rules: []rule{
			inbound("a", true, 9, with(targets("subnet", "default"))...)}},
		{name: "the target is the instance", rules: []rule{
			inbound("a", true, 9, with(targets("instance", "node-1"))...)}},
		{name: "the target is another instance", closed: true, rules: []rule{
			inbound("a", true, 9, with(targets("instance", "node-2"))...)}},
		{name: "the target is the address", rules: []rule{
			inbound("a", true, 9, with(targets("ip", "172.30.0.5"))...)}},
		{name: "the target is the address of the other family", closed: true, rules: []rule{
			inbound("a", true, 9, with(targets("ip", "fd00::5"))...)}},
		{name: "the target is a network with it", rules: []rule{
			inbound("a", true, 9, with(targets("ip_net", "172.30.0.0/22"))...)}},
		{name: "the target is a network without it", closed: true, rules: []rule{
			inbound("a", true, 9, with(targets("ip_net", "172.31.0.0/22"))...)}},
		{name: "one of several targets", rules: []rule{
			inbound("a", true, 9, with(targets("vpc", "other"), targets("instance", "node-1"))...)}},
		{name: "a target of a kind that is not known", closed: true, rules: []rule{
			inbound("a", true, 9, with(targets("rack", "r"))...)}},
		{name: "hosts inside alone", closed: true, rules: []rule{
			inbound("a", true, 9, with(hosts("vpc", "default"), hosts("subnet", "nodes"),
				hosts("instance", "node-2"))...)}},
		{name: "some hosts outside", rules: []rule{
			inbound("a", true, 9, with(hosts("vpc", "default"), hosts("ip", "203.0.113.9"))...)}},
		{name: "a network outside", rules: []rule{
			inbound("a", true, 9, with(hosts("ip_net", "203.0.113.0/24"))...)}},
		{name: "hosts of the other family", closed: true, rules: []rule{
			inbound("a", true, 9, with(hosts("ip_net", "::/0"))...)}},
		{name: "denied by a lower number", closed: true, by: "b", rules: []rule{
			inbound("a", true, 9, tcp80...), inbound("b", false, 8, tcp80...)}},
		{name: "denied by a higher number", rules: []rule{
			inbound("a", true, 9, tcp80...), inbound("b", false, 10, tcp80...)}},
		{name: "of one priority the denying one wins", closed: true, by: "b", rules: []rule{
			inbound("a", true, 9, tcp80...), inbound("b", false, 9, tcp80...)}},
		{name: "the same, in the other order", closed: true, by: "a", rules: []rule{
			inbound("a", false, 9, tcp80...), inbound("b", true, 9, tcp80...)}},
		{name: "denied to some hosts alone", rules: []rule{
			inbound("a", true, 9, tcp80...),
			inbound("b", false, 8, with(hosts("ip_net", "203.0.113.0/24"))...)}},
		{name: "denied to hosts inside alone", rules: []rule{
			inbound("a", true, 9, tcp80...), inbound("b", false, 8, with(hosts("vpc", "default"))...)}},
		{name: "denied to every host of the family", closed: true, by: "b", rules: []rule{
			inbound("a", true, 9, tcp80...), inbound("b", false, 8, with(hosts("ip_net", "0.0.0.0/0"))...)}},
		{name: "denied to every host of the other family", rules: []rule{
			inbound("a", true, 9, tcp80...), inbound("b", false, 8, with(hosts("ip_net", "::/0"))...)}},
		{name: "denied on other targets", rules: []rule{
			inbound("a", true, 9, tcp80...), inbound("b", false, 8, with(targets("instance", "x"))...)}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var want []ClosedPort
			if tc.closed {
				want = []ClosedPort{{Port: Port{TCP, 80}, DeniedBy: tc.by}}
			}
			for i := range want {
				for _, r := range tc.rules {
					if r.Name == tc.by {
						want[i].DenyPriority = r.Priority
					}
				}
			}
			got := ClosedPorts(tc.rules, node(), IPv4, []Port{{TCP, 80}})
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestClosedPortsOfIPv6AndOtherProtocols(t *testing.T) {
	rules := []rule{
		inbound("a", true, 9, protocols("tcp"), ports(80, 80), targets("ip_net", "fd00::/64"),
			hosts("ip_net", "2000::/3")),
	}
	if got := ClosedPorts(rules, node(), IPv6, []Port{{TCP, 80}}); len(got) != 0 {
		t.Errorf("IPv6: %+v", got)
	}
	if got := ClosedPorts(rules, node(), IPv4, []Port{{TCP, 80}}); len(got) != 1 {
		t.Errorf("IPv4: %+v", got)
	}
	if got := ClosedPorts(rules, node(), IPv6, []Port{{SCTP, 80}}); len(got) != 0 {
		t.Errorf("of SCTP the firewall knows nothing: %+v", got)
	}
}

// parseRule reads a recommended rule back.
func parseRule(t *testing.T, text string) rule {
	t.Helper()
	var v struct {
		Name, Status, Direction, Action string
		Priority                        int
		Targets                         []match
		Filters                         struct {
			Ports     []string
			Protocols []struct{ Type string }
		}
	}
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Fatal(err)
	}
	r := rule{
		Name: v.Name, Enabled: v.Status == "enabled", Inbound: v.Direction == "inbound",
		Allow: v.Action == "allow", Priority: v.Priority, Targets: v.Targets,
	}
	for _, p := range v.Filters.Protocols {
		protocols(p.Type)(&r)
	}
	for _, p := range v.Filters.Ports {
		first, last, isRange := strings.Cut(p, "-")
		if !isRange {
			last = first
		}
		from, err1 := strconv.Atoi(first)
		to, err2 := strconv.Atoi(last)
		if err1 != nil || err2 != nil {
			t.Fatalf("not a range: %q", p)
		}
		ports(from, to)(&r)
	}
	return r
}

// The recommended rules, added to those that there are, open exactly the ports.
func TestTheRecommendedRulesOpenExactlyThePorts(t *testing.T) {
	var many []Port
	for i := range 300 {
		many = append(many, Port{TCP, 1000 + 2*i})
	}
	denying := append(defaultRules(), inbound("no", false, 500, protocols("tcp", "udp")))
	for _, tc := range []struct {
		name  string
		rules []rule
		ports []Port
		made  int
	}{
		{name: "one", rules: defaultRules(), ports: []Port{{TCP, 80}}, made: 1},
		{name: "neighbours", rules: defaultRules(), ports: []Port{{TCP, 81}, {TCP, 80}}, made: 1},
		{name: "two protocols", rules: defaultRules(), ports: []Port{{TCP, 53}, {UDP, 53}}, made: 2},
		{name: "none but one is closed", rules: defaultRules(), ports: []Port{{TCP, 22}, {TCP, 80}},
			made: 1},
		{name: "more than a rule holds", rules: defaultRules(), ports: many, made: 2},
		{name: "a rule denies it", rules: denying, ports: []Port{{TCP, 80}}, made: 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			closed := ClosedPorts(tc.rules, node(), IPv4, tc.ports)
			recommended := OpeningRules("lb-x", "default", closed)
			if len(recommended) != tc.made {
				t.Errorf("got %d rules, want %d", len(recommended), tc.made)
			}
			after, names := tc.rules, make(map[string]bool)
			for _, text := range recommended {
				r := parseRule(t, text)
				if names[r.Name] || !oxide.ValidName(r.Name) || len(r.Ports) > maxRuleEntries {
					t.Errorf("Oxide refuses the rule %s", text)
				}
				names[r.Name] = true
				after = append(after, r)
			}
			if still := ClosedPorts(after, node(), IPv4, tc.ports); len(still) != 0 {
				t.Errorf("still closed: %v", still)
			}
			beside := []Port{{TCP, 79}, {TCP, 82}, {TCP, 1001}, {UDP, 80}, {TCP, 65535}}
			if left := ClosedPorts(after, node(), IPv4, beside); len(left) != len(beside) {
				t.Errorf("more is open than was asked for: closed are %v", left)
			}
		})
	}
}

// What is told of closed ports fits into an event, however many there are.
func TestAClosedFirewallIsToldInOneShortLine(t *testing.T) {
	var many []Port
	for i := range 200 {
		many = append(many, Port{TCP, 10000 + 3*i}, Port{UDP, 10000 + 3*i})
	}
	for _, tc := range []struct {
		name  string
		rules []rule
		ports []Port
		says  string
	}{
		{"one", defaultRules(), []Port{{TCP, 80}}, `"ports":["80"]`},
		{"two protocols", defaultRules(), []Port{{TCP, 53}, {UDP, 53}}, `"name":"lb-default-web-udp"`},
		{"200 of two protocols", defaultRules(), many, "and 192 more"},
		{
			"a rule that nothing goes before", []rule{inbound("no", false, 0)}, []Port{{TCP, 80}},
			"give the rule no a priority above 0",
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c, closed := firewallCondition(webKey, tc.rules, node(), IPv4, tc.ports)
			if !closed || c.Type != FirewallClosed || !strings.Contains(c.Message, tc.says) {
				t.Errorf("got %v, %+v, want one that says %q", closed, c, tc.says)
			}
			if len(c.Message) > 1000 || strings.ContainsAny(c.Message, "\n\r") {
				t.Errorf("%d characters: %q", len(c.Message), c.Message)
			}
		})
	}
}

// A firewall that could not be read, or an interface whose VPC has no known name, tells nothing.
func TestNothingIsToldOfAnUnknownFirewall(t *testing.T) {
	unnamed := node()
	unnamed.VPCName = ""
	if c, closed := firewallCondition(webKey, defaultRules(), unnamed, IPv4, []Port{{TCP, 80}}); closed {
		t.Errorf("told %+v", c)
	}
	for name, rules := range map[string][]rule{"not read": nil, "read, and empty": {}} {
		p := planned(nil, cluster("n1"), []Desired{web()}, func(p *planner) {
			e := node()
			e.InstanceID, e.Name = "n1", "n1"
			p.facts.endpoints["n1"] = e
			p.facts.firewalls = map[string][]rule{"vpc-id": rules}
		})
		if got := fmt.Sprint(conditionsOf(p.balancers[0])); (got == "[]") != (rules == nil) {
			t.Errorf("%s: %s", name, got)
		}
	}
}

// Two families behind one firewall make one condition.
func TestOneConditionForBothFamilies(t *testing.T) {
	both := web(func(d *Desired) { d.Wanted = append(d.Wanted, Wanted{Family: IPv6}) })
	p := planned(nil, cluster("n1"), []Desired{both}, func(p *planner) {
		e := node()
		e.InstanceID = "n1"
		p.facts.endpoints["n1"] = e
		p.facts.firewalls = map[string][]rule{"vpc-id": defaultRules()}
	})
	if diff := cmp.Diff([]ConditionType{FirewallClosed}, conditionsOf(p.balancers[0])); diff != "" {
		t.Error(diff)
	}
}
