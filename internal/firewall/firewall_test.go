// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package firewall

import (
	"fmt"
	"net/netip"
	"regexp"
	"slices"
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

// The rule that is advised opens exactly the ports, and leaves open what is open.
func TestTheAdvisedRuleOpensExactlyThePorts(t *testing.T) {
	var many []Port
	for i := range 300 {
		many = append(many, Port{TCP, 1000 + 2*i})
	}
	with := func(more ...Rule) []Rule { return append(defaultRules(), more...) }
	own := func(priority int, change ...func(*Rule)) Rule { return inbound("lb-x", true, priority, change...) }
	web := []Port{{TCP, 80}}
	for _, tc := range []struct {
		name  string
		rules []Rule
		ports []Port
		// made are the names of the rules, and whether each replaces one.
		made map[string]bool
	}{
		{"one", with(), web, map[string]bool{"lb-x": false}},
		{"neighbours", with(), []Port{{TCP, 81}, {TCP, 80}}, map[string]bool{"lb-x": false}},
		{"two protocols", with(), []Port{{TCP, 53}, {UDP, 53}}, map[string]bool{"lb-x": false}},
		{"none but one is closed", with(), []Port{{TCP, 22}, {TCP, 80}}, map[string]bool{"lb-x": false}},
		{"more than a rule holds", with(), many, map[string]bool{"lb-x": false, "lb-x-2": false}},
		{"a rule denies it", with(inbound("no", false, 500, protocols("tcp", "udp"))), web,
			map[string]bool{"lb-x": false}},
		{"a port is added", with(own(900, protocols("tcp"), ports(443, 443), targets("vpc", "default"))),
			append(web, Port{TCP, 443}), map[string]bool{"lb-x": true}},
		{"another has the rule's name", with(own(900, protocols("udp"), ports(443, 443))), web,
			map[string]bool{"lb-x": true}},
		{"the rule is denied", with(own(900, protocols("tcp"), ports(80, 80)), inbound("no", false, 10)), web,
			map[string]bool{"lb-x": true}},
		{"the rule is disabled", with(own(900, protocols("tcp"), ports(80, 80),
			func(r *Rule) { r.Enabled = false })), web, map[string]bool{"lb-x": true}},
		{"the rule is for some hosts inside", with(own(900, protocols("tcp"), ports(80, 80),
			hosts("vpc", "default"))), web, map[string]bool{"lb-x": true}},
		{"the rule is for another instance", with(own(900, protocols("tcp"), ports(80, 80),
			targets("instance", "node-2"))), web, map[string]bool{"lb-x": true}},
		{"the rule denies", with(inbound("lb-x", false, 900, protocols("tcp"), ports(80, 80))), web,
			map[string]bool{"lb-x-2": false}},
		{"the rule is about what leaves", with(own(900, protocols("tcp"), ports(80, 80),
			func(r *Rule) { r.Inbound = false })), web, map[string]bool{"lb-x-2": false}},
		{"the rule has other protocols", with(own(900, protocols("icmp", "tcp"), ports(443, 443))), web,
			map[string]bool{"lb-x-2": false}},
		{"the rule is full", with(own(900, protocols("tcp"), func(r *Rule) {
			for i := range MaxRuleEntries {
				ports(2000+2*i, 2000+2*i)(r)
			}
		})), web, map[string]bool{"lb-x-2": false}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			places := []Place{{node(), v4}, {node(), v6}}
			changes := Open("lb-x", "default", tc.rules, places, tc.ports)
			made := make(map[string]bool)
			for _, change := range changes {
				r := change.Rule
				made[r.Name] = change.Replaces
				if !isValid(r.Name) || len(r.Ports) > MaxRuleEntries || len(r.Protocols) == 0 {
					t.Errorf("Oxide refuses the rule %s", r.JSON())
				}
			}
			if diff := cmp.Diff(tc.made, made); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
			after := Apply(tc.rules, changes)
			if added := len(after) - len(tc.rules); added < 0 || added > len(changes) {
				t.Errorf("%d rules are %d then", len(tc.rules), len(after))
			}
			for _, addr := range node().Addrs {
				if still := ClosedPorts(after, node(), addr, tc.ports); len(still) != 0 {
					t.Errorf("still closed: %v", still)
				}
				checkNothingElseChanged(t, tc.rules, after, addr, tc.ports)
			}
		})
	}
}

// checkNothingElseChanged holds that what was open is open, and what nobody asked for is not opened.
func checkNothingElseChanged(t *testing.T, before, after []Rule, addr netip.Addr, asked []Port) {
	t.Helper()
	for number := 1; number < 4000; number++ {
		for _, protocol := range []Protocol{TCP, UDP} {
			port := []Port{{protocol, number}}
			wasClosed := len(ClosedPorts(before, node(), addr, port)) > 0
			isClosed := len(ClosedPorts(after, node(), addr, port)) > 0
			shared := slices.ContainsFunc(asked, func(p Port) bool { return p.Number == number })
			ofRule := slices.ContainsFunc(after, func(r Rule) bool {
				return strings.HasPrefix(r.Name, "lb-x") && r.coversPort(port[0])
			})
			if isClosed && !wasClosed {
				t.Fatalf("%v was open", port[0])
			}
			if !isClosed && wasClosed && !shared && !ofRule {
				t.Fatalf("%v is open now", port[0])
			}
		}
	}
}

// Hosts and targets that somebody chose stay as far as they can.
func TestARuleThatIsReplacedKeepsItsHosts(t *testing.T) {
	rules := []Rule{inbound("lb-x", true, 9, protocols("tcp"), ports(80, 80),
		hosts("ip_net", "203.0.113.0/24"), targets("instance", "node-2"))}
	changes := Open("lb-x", "default", rules, []Place{{node(), v4}}, []Port{{TCP, 80}, {TCP, 443}})
	if len(changes) != 1 || !changes[0].Replaces {
		t.Fatalf("got %+v", changes)
	}
	want := inbound("lb-x", true, 9, protocols("tcp"), ports(80, 80), ports(443, 443),
		hosts("ip_net", "203.0.113.0/24"), targets("vpc", "default"))
	if diff := cmp.Diff(want, changes[0].Rule); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestAFirewallThatIsFullIsSaidToBe(t *testing.T) {
	var rules []Rule
	for i := range MaxRules {
		rules = append(rules, inbound(fmt.Sprintf("r-%d", i), false, 2000))
	}
	got := Explain("lb-x", rules, node(), v4, []Port{{TCP, 80}})
	if !strings.Contains(got, "remove one") {
		t.Errorf("got %q", got)
	}
}

// What is said of closed ports fits into an event, however many there are.
func TestAClosedFirewallIsExplainedInOneShortLine(t *testing.T) {
	var many []Port
	for i := range 200 {
		many = append(many, Port{TCP, 10000 + 3*i}, Port{UDP, 10000 + 3*i})
	}
	existing := inbound("lb-default-web", true, 1000, protocols("tcp"), ports(443, 443),
		targets("vpc", "default"))
	for _, tc := range []struct {
		name  string
		rules []Rule
		ports []Port
		says  string
	}{
		{"one", defaultRules(), []Port{{TCP, 80}}, `add the rule {"name":"lb-default-web",`},
		{"two protocols", defaultRules(), []Port{{TCP, 53}, {UDP, 53}},
			`"ports":["53"],"protocols":[{"type":"tcp"},{"type":"udp"}]`},
		{"200 of two protocols", defaultRules(), many, "and 192 more"},
		{"200 more", append(defaultRules(), existing), many, "change the rule lb-default-web, which allows"},
		{"one more", append(defaultRules(), existing), []Port{{TCP, 80}, {TCP, 443}},
			`replace the rule lb-default-web by {"name":"lb-default-web",`},
		{
			"a rule that nothing goes before", []Rule{inbound("no", false, 0)}, []Port{{TCP, 80}},
			"give the rule no a priority above 0, and add the rule",
		},
		{"more than a rule holds", defaultRules(), func() (all []Port) {
			for i := range 300 {
				all = append(all, Port{TCP, 10000 + 3*i})
			}
			return all
		}(), "oxide-backend check, with --port"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got := Explain("lb-default-web", tc.rules, node(), v4, tc.ports)
			if !strings.Contains(got, tc.says) {
				t.Errorf("got %q, want one that says %q", got, tc.says)
			}
			if len(got) > 400 || strings.ContainsAny(got, "\n\r") {
				t.Errorf("%d characters: %q", len(got), got)
			}
		})
	}
	long := node()
	long.VPCName = strings.Repeat("v", 63)
	denying := []Rule{inbound(strings.Repeat("n", 63), false, 0)}
	if got := Explain(strings.Repeat("r", 63), denying, long, v4, many); len(got) > 400 {
		t.Errorf("%d characters: %q", len(got), got)
	}
}

// What is said is exactly this: people copy the rule.
func TestTheRuleToAdd(t *testing.T) {
	const want = `the firewall of the VPC default lets nothing through to TCP 80: add the rule ` +
		`{"name":"lb-default-web","description":"","status":"enabled","direction":"inbound",` +
		`"action":"allow","priority":1000,"targets":[{"type":"vpc","value":"default"}],` +
		`"filters":{"ports":["80"],"protocols":[{"type":"tcp"}]}}, ` +
		`or start oxide-backend with --manage-firewall`
	got := Explain("lb-default-web", defaultRules(), node(), v4, []Port{{TCP, 80}})
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	// Where none would be kept all the same, nothing is said of how they are.
	got = ExplainByHand("lb-default-web", defaultRules(), node(), v4, []Port{{TCP, 80}})
	if diff := cmp.Diff(strings.TrimSuffix(want, ", or start oxide-backend with --manage-firewall"), got); diff != "" {
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

// Where rules are kept, what denies a port is named, and no priority that there is not.
func TestWhatDeniesAKeptRuleIsNamed(t *testing.T) {
	const above = "the rule bob denies it: give that a priority above that of the rules that " +
		"oxide-backend keeps"
	for priority, want := range map[int]string{
		7: above + ", or start it with a --firewall-priority below 7",
		0: above,
	} {
		rules := []Rule{
			inbound("web", true, 1000, protocols("tcp"), ports(80, 80)), inbound("bob", false, priority),
		}
		got := ExplainKept(rules, node(), v4, []Port{{Protocol: TCP, Number: 80}})
		if !strings.HasSuffix(got, want) {
			t.Errorf("with the priority %d it says %q, want %q", priority, got, want)
		}
	}
}
