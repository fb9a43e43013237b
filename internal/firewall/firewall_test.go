// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package firewall

import (
	"encoding/json"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var v4, v6 = netip.MustParseAddr("172.30.0.5"), netip.MustParseAddr("fd00::5")

// isValid is what Oxide takes as a name.
func isValid(name string) bool {
	return len(name) <= 63 && regexp.MustCompile(`^[a-z]([a-z0-9-]*[a-z0-9])?$`).MatchString(name)
}

// inbound makes a rule that is in force for what comes in.
func inbound(name string, allow bool, priority int, change ...func(*Rule)) Rule {
	r := Rule{Name: name, Enabled: true, Inbound: true, Allow: allow, Priority: priority}
	for _, c := range change {
		c(&r)
	}
	return r
}

func ports(first, last int) func(*Rule) {
	return func(r *Rule) { r.Ports = append(r.Ports, PortRange{First: first, Last: last}) }
}

func protocols(names ...string) func(*Rule) {
	return func(r *Rule) { r.Protocols = append(r.Protocols, names...) }
}

func targets(kind, value string) func(*Rule) {
	return func(r *Rule) { r.Targets = append(r.Targets, Match{Type: kind, Value: value}) }
}

func hosts(kind, value string) func(*Rule) {
	return func(r *Rule) { r.Hosts = append(r.Hosts, Match{Type: kind, Value: value}) }
}

func node() Interface {
	return Interface{
		InstanceName: "node-1", VPCID: "vpc-id", VPCName: "default", SubnetName: "nodes",
		Addrs: []netip.Addr{netip.MustParseAddr("172.30.0.5"), netip.MustParseAddr("fd00::5")},
	}
}

// defaultRules are those of a new VPC.
func defaultRules() []Rule {
	return []Rule{
		inbound("allow-icmp", true, 65534, targets("vpc", "default"), protocols("icmp")),
		inbound("allow-internal-inbound", true, 65534, targets("vpc", "default"),
			hosts("vpc", "default")),
		inbound("allow-ssh", true, 65534, targets("vpc", "default"), protocols("tcp"), ports(22, 22)),
	}
}

func TestClosedPorts(t *testing.T) {
	tcp80 := []func(*Rule){protocols("tcp"), ports(80, 80)}
	with := func(more ...func(*Rule)) []func(*Rule) {
		return append(append([]func(*Rule){}, tcp80...), more...)
	}
	for _, tc := range []struct {
		name  string
		rules []Rule
		// closed is whether TCP 80 of the node's IPv4 address is, and by which rule.
		closed bool
		by     string
	}{
		{name: "no rule at all", closed: true},
		{name: "the default rules", rules: defaultRules(), closed: true},
		{name: "a rule for the port", rules: []Rule{inbound("a", true, 9, tcp80...)}},
		{name: "a range with it", rules: []Rule{inbound("a", true, 9, protocols("tcp"), ports(1, 90))}},
		{name: "a range beside it", closed: true,
			rules: []Rule{inbound("a", true, 9, protocols("tcp"), ports(81, 90))}},
		{name: "another protocol", closed: true,
			rules: []Rule{inbound("a", true, 9, protocols("udp"), ports(80, 80))}},
		{name: "the protocol, all ports", rules: []Rule{inbound("a", true, 9, protocols("tcp"))}},
		{name: "ports without protocols open everything",
			rules: []Rule{inbound("a", true, 9, ports(1234, 1234))}},
		{name: "ports with ICMP alone open no TCP", closed: true,
			rules: []Rule{inbound("a", true, 9, protocols("icmp"), ports(80, 80))}},
		{name: "disabled", closed: true, rules: []Rule{
			inbound("a", true, 9, with(func(r *Rule) { r.Enabled = false })...)}},
		{name: "outbound", closed: true, rules: []Rule{
			inbound("a", true, 9, with(func(r *Rule) { r.Inbound = false })...)}},
		{name: "the target is the VPC", rules: []Rule{
			inbound("a", true, 9, with(targets("vpc", "default"))...)}},
		{name: "the target is another VPC", closed: true, rules: []Rule{
			inbound("a", true, 9, with(targets("vpc", "other"))...)}},
		{name: "the target is the subnet", rules: []Rule{
			inbound("a", true, 9, with(targets("subnet", "nodes"))...)}},
		{name: "the target is another subnet", closed: true, rules: []Rule{
			inbound("a", true, 9, with(targets("subnet", "default"))...)}},
		{name: "the target is the instance", rules: []Rule{
			inbound("a", true, 9, with(targets("instance", "node-1"))...)}},
		{name: "the target is another instance", closed: true, rules: []Rule{
			inbound("a", true, 9, with(targets("instance", "node-2"))...)}},
		{name: "the target is the address", rules: []Rule{
			inbound("a", true, 9, with(targets("ip", "172.30.0.5"))...)}},
		{name: "the target is the address of the other family", closed: true, rules: []Rule{
			inbound("a", true, 9, with(targets("ip", "fd00::5"))...)}},
		{name: "the target is a network with it", rules: []Rule{
			inbound("a", true, 9, with(targets("ip_net", "172.30.0.0/22"))...)}},
		{name: "the target is a network without it", closed: true, rules: []Rule{
			inbound("a", true, 9, with(targets("ip_net", "172.31.0.0/22"))...)}},
		{name: "one of several targets", rules: []Rule{
			inbound("a", true, 9, with(targets("vpc", "other"), targets("instance", "node-1"))...)}},
		{name: "a target of a kind that is not known", closed: true, rules: []Rule{
			inbound("a", true, 9, with(targets("rack", "r"))...)}},
		{name: "hosts inside alone", closed: true, rules: []Rule{
			inbound("a", true, 9, with(hosts("vpc", "default"), hosts("subnet", "nodes"),
				hosts("instance", "node-2"))...)}},
		{name: "some hosts outside", rules: []Rule{
			inbound("a", true, 9, with(hosts("vpc", "default"), hosts("ip", "203.0.113.9"))...)}},
		{name: "a network outside", rules: []Rule{
			inbound("a", true, 9, with(hosts("ip_net", "203.0.113.0/24"))...)}},
		{name: "hosts of the other family", closed: true, rules: []Rule{
			inbound("a", true, 9, with(hosts("ip_net", "::/0"))...)}},
		{name: "denied by a lower number", closed: true, by: "b", rules: []Rule{
			inbound("a", true, 9, tcp80...), inbound("b", false, 8, tcp80...)}},
		{name: "denied by a higher number", rules: []Rule{
			inbound("a", true, 9, tcp80...), inbound("b", false, 10, tcp80...)}},
		{name: "of one priority the denying one wins", closed: true, by: "b", rules: []Rule{
			inbound("a", true, 9, tcp80...), inbound("b", false, 9, tcp80...)}},
		{name: "the same, in the other order", closed: true, by: "a", rules: []Rule{
			inbound("a", false, 9, tcp80...), inbound("b", true, 9, tcp80...)}},
		{name: "denied to some hosts alone", rules: []Rule{
			inbound("a", true, 9, tcp80...),
			inbound("b", false, 8, with(hosts("ip_net", "203.0.113.0/24"))...)}},
		{name: "denied to hosts inside alone", rules: []Rule{
			inbound("a", true, 9, tcp80...), inbound("b", false, 8, with(hosts("vpc", "default"))...)}},
		{name: "denied to every host of the family", closed: true, by: "b", rules: []Rule{
			inbound("a", true, 9, tcp80...), inbound("b", false, 8, with(hosts("ip_net", "0.0.0.0/0"))...)}},
		{name: "denied to every host of the other family", rules: []Rule{
			inbound("a", true, 9, tcp80...), inbound("b", false, 8, with(hosts("ip_net", "::/0"))...)}},
		{name: "denied on other targets", rules: []Rule{
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
			got := ClosedPorts(tc.rules, node(), v4, []Port{{TCP, 80}})
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestClosedPortsOfIPv6AndOtherProtocols(t *testing.T) {
	rules := []Rule{
		inbound("a", true, 9, protocols("tcp"), ports(80, 80), targets("ip_net", "fd00::/64"),
			hosts("ip_net", "2000::/3")),
	}
	if got := ClosedPorts(rules, node(), v6, []Port{{TCP, 80}}); len(got) != 0 {
		t.Errorf("IPv6: %+v", got)
	}
	if got := ClosedPorts(rules, node(), v4, []Port{{TCP, 80}}); len(got) != 1 {
		t.Errorf("IPv4: %+v", got)
	}
	if got := ClosedPorts(rules, node(), v6, []Port{{SCTP, 80}}); len(got) != 0 {
		t.Errorf("of SCTP the firewall knows nothing: %+v", got)
	}
}

// parseRule reads a recommended rule back.
func parseRule(t *testing.T, text string) Rule {
	t.Helper()
	var v struct {
		Name, Status, Direction, Action string
		Priority                        int
		Targets                         []Match
		Filters                         struct {
			Ports     []string
			Protocols []struct{ Type string }
		}
	}
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Fatal(err)
	}
	r := Rule{
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
		rules []Rule
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
			closed := ClosedPorts(tc.rules, node(), v4, tc.ports)
			recommended := OpeningRules("lb-x", "default", closed)
			if len(recommended) != tc.made {
				t.Errorf("got %d rules, want %d", len(recommended), tc.made)
			}
			after, names := tc.rules, make(map[string]bool)
			for _, text := range recommended {
				r := parseRule(t, text)
				if names[r.Name] || !isValid(r.Name) || len(r.Ports) > maxRuleEntries {
					t.Errorf("Oxide refuses the rule %s", text)
				}
				names[r.Name] = true
				after = append(after, r)
			}
			if still := ClosedPorts(after, node(), v4, tc.ports); len(still) != 0 {
				t.Errorf("still closed: %v", still)
			}
			beside := []Port{{TCP, 79}, {TCP, 82}, {TCP, 1001}, {UDP, 80}, {TCP, 65535}}
			if left := ClosedPorts(after, node(), v4, beside); len(left) != len(beside) {
				t.Errorf("more is open than was asked for: closed are %v", left)
			}
		})
	}
}

// What is said of closed ports fits into an event, however many there are.
func TestAClosedFirewallIsExplainedInOneShortLine(t *testing.T) {
	var many []Port
	for i := range 200 {
		many = append(many, Port{TCP, 10000 + 3*i}, Port{UDP, 10000 + 3*i})
	}
	for _, tc := range []struct {
		name  string
		rules []Rule
		ports []Port
		says  string
	}{
		{"one", defaultRules(), []Port{{TCP, 80}}, `"ports":["80"]`},
		{"two protocols", defaultRules(), []Port{{TCP, 53}, {UDP, 53}}, `"name":"lb-default-web-udp"`},
		{"200 of two protocols", defaultRules(), many, "and 192 more"},
		{
			"a rule that nothing goes before", []Rule{inbound("no", false, 0)}, []Port{{TCP, 80}},
			"give the rule no a priority above 0",
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got := Explain("lb-default-web", tc.rules, node(), v4, tc.ports)
			if !strings.Contains(got, tc.says) {
				t.Errorf("got %q, want one that says %q", got, tc.says)
			}
			if len(got) > 1000 || strings.ContainsAny(got, "\n\r") {
				t.Errorf("%d characters: %q", len(got), got)
			}
		})
	}
}

// What is said is exactly this: people copy the rule.
func TestTheRuleToAdd(t *testing.T) {
	const want = `the firewall of the VPC default lets nothing through to TCP 80: add the rule ` +
		`{"name":"lb-default-web-tcp","description":"","status":"enabled","direction":"inbound",` +
		`"action":"allow","priority":1000,"targets":[{"type":"vpc","value":"default"}],` +
		`"filters":{"ports":["80"],"protocols":[{"type":"tcp"}]}}`
	got := Explain("lb-default-web", defaultRules(), node(), v4, []Port{{TCP, 80}})
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// Nothing is said of open ports, nor about an interface whose VPC has no known name.
func TestNothingIsSaidOfWhatIsOpenOrUnknown(t *testing.T) {
	unnamed := node()
	unnamed.VPCName = ""
	if got := Explain("x", defaultRules(), unnamed, v4, []Port{{TCP, 80}}); got != "" {
		t.Errorf("of an unknown VPC it says %q", got)
	}
	if got := Explain("x", defaultRules(), node(), v4, []Port{{TCP, 22}}); got != "" {
		t.Errorf("of an open port it says %q", got)
	}
}

// Rules that are in order are not copied.
func TestRulesAreOrderedOnce(t *testing.T) {
	rules := InOrder([]Rule{inbound("a", true, 9), inbound("b", false, 9), inbound("c", true, 1)})
	if rules[0].Name != "c" || rules[1].Name != "b" || rules[2].Name != "a" {
		t.Errorf("the order is %v", rules)
	}
	if again := InOrder(rules); &again[0] != &rules[0] {
		t.Error("they are copied")
	}
}
