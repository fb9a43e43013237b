// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package ruleset

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/firewall"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/ownership"
)

const scope = "cluster-1"

var v4, v6 = ownership.IPv4, ownership.IPv6

func keyOf(name string) ownership.Key { return ownership.Key{Scope: scope, Name: name} }

func tcp(numbers ...int) []firewall.Port {
	var ports []firewall.Port
	for _, n := range numbers {
		ports = append(ports, firewall.Port{Protocol: firewall.TCP, Number: n})
	}
	return ports
}

func udp(numbers ...int) []firewall.Port {
	ports := tcp(numbers...)
	for i := range ports {
		ports[i].Protocol = firewall.UDP
	}
	return ports
}

// need returns the rules of a load balancer with one node.
func need(name string, ports []firewall.Port, families ...ownership.Family) []firewall.Rule {
	n := Need{Key: keyOf(name), OwnerUID: "uid", Families: families, Ports: ports}
	return n.Rules([]firewall.Match{{Type: "instance", Value: "node-1"}}, 1000)
}

// stored returns rules as a rack shows them.
func stored(t *testing.T, texts ...string) []Stored {
	t.Helper()
	var all []firewall.Stored
	for _, text := range texts {
		one, err := firewall.ParseStored(json.RawMessage(text))
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, one)
	}
	slices.SortFunc(all, func(a, b firewall.Stored) int { return strings.Compare(a.Name, b.Name) })
	return Read(all)
}

// written returns what a rack shows after a write.
func written(t *testing.T, m Merged) []Stored {
	t.Helper()
	var texts []string
	for _, text := range m.Body() {
		texts = append(texts, string(text))
	}
	return stored(t, texts...)
}

func foreign(name string, more ...string) string {
	return fmt.Sprintf(`{"name":%q,"description":"Ann's","status":"enabled","direction":"inbound",`+
		`"action":"allow","priority":7,"targets":[],"filters":{"hosts":null,"ports":["22"],`+
		`"protocols":[{"type":"tcp"}]}%s}`, name, strings.Join(more, ""))
}

func desired(rules map[string][]firewall.Rule) Desired {
	return Desired{Scopes: []string{scope}, Rules: rules}
}

func TestSources(t *testing.T) {
	for _, tc := range []struct {
		name  string
		texts []string
		want  []string
		wrong int
	}{
		{"none", nil, nil, 0},
		{"one", []string{"192.0.2.0/24"}, []string{"192.0.2.0/24"}, 0},
		{"an address", []string{"192.0.2.7", "2001:db8::1"}, []string{"192.0.2.7/32", "2001:db8::1/128"}, 0},
		{"host bits", []string{"192.0.2.7/24"}, []string{"192.0.2.0/24"}, 0},
		{"twice", []string{"192.0.2.0/24", "192.0.2.0/24"}, []string{"192.0.2.0/24"}, 0},
		{"one within another", []string{"10.1.0.0/16", "10.0.0.0/8"}, []string{"10.0.0.0/8"}, 0},
		{"halves", []string{"10.128.0.0/9", "10.0.0.0/9"}, []string{"10.0.0.0/8"}, 0},
		{"quarters", []string{"10.0.0.0/10", "10.64.0.0/10", "10.192.0.0/10", "10.128.0.0/10"}, []string{"10.0.0.0/8"}, 0},
		{"neighbours that are no halves", []string{"10.64.0.0/10", "10.128.0.0/10"},
			[]string{"10.64.0.0/10", "10.128.0.0/10"}, 0},
		{"everybody in halves", []string{"0.0.0.0/1", "128.0.0.0/1"}, []string{"0.0.0.0/0"}, 0},
		{"both families", []string{"::/0", "0.0.0.0/0"}, []string{"0.0.0.0/0", "::/0"}, 0},
		{"mapped", []string{"::ffff:10.0.0.0/104"}, []string{"10.0.0.0/8"}, 0},
		{"wrong", []string{"everybody", "", "10.0.0.0/33", "fe80::1%eth0", "10.0.0.0/8"}, []string{"10.0.0.0/8"}, 4},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := ParseSources(tc.texts)
			var got []string
			for _, network := range s.Ranges {
				got = append(got, network.String())
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Error(diff)
			}
			if len(s.Wrong) != tc.wrong || s.Restricted != (len(tc.texts) > 0) {
				t.Errorf("%+v", s)
			}
		})
	}
}

// Merged networks contain what the given ones do, and nothing else.
func TestSourcesContainWhatWasGiven(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		var texts []string
		var given []netip.Prefix
		for range 1 + random.IntN(30) {
			addr := netip.AddrFrom4([4]byte{10, 0, 0, byte(random.IntN(256))})
			network := netip.PrefixFrom(addr, 24+random.IntN(9)).Masked()
			given, texts = append(given, network), append(texts, network.String())
		}
		s := ParseSources(texts)
		in := func(networks []netip.Prefix, addr netip.Addr) bool {
			return slices.ContainsFunc(networks, func(n netip.Prefix) bool { return n.Contains(addr) })
		}
		for last := range 256 {
			addr := netip.AddrFrom4([4]byte{10, 0, 0, byte(last)})
			if in(given, addr) != in(s.Ranges, addr) {
				t.Fatalf("%s of %v in %v", addr, texts, s.Ranges)
			}
		}
		for i := 1; i < len(s.Ranges); i++ {
			if s.Ranges[i-1].Overlaps(s.Ranges[i]) {
				t.Fatalf("%v overlap", s.Ranges)
			}
		}
	}
}

func TestProblemsOfSourcesAreOneLine(t *testing.T) {
	for _, tc := range []struct {
		name     string
		texts    []string
		families []ownership.Family
		says     string
	}{
		{"anybody", nil, []ownership.Family{v4, v6}, ""},
		{"of both families", []string{"10.0.0.0/8", "fd00::/8"}, []ownership.Family{v4, v6}, ""},
		{"of no use", []string{"10.0.0.0/8", "fd00::/8"}, []ownership.Family{v4}, "fd00::/8 is of no use"},
		{"one family without", []string{"10.0.0.0/8"}, []ownership.Family{v4, v6}, "no source range is of IPv6"},
		{"no network", []string{"a\nb"}, []ownership.Family{v4}, `"a\nb" is no network`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got := ParseSources(tc.texts).Problem(tc.families)
			if !strings.Contains(got, tc.says) || tc.says == "" && got != "" || strings.Contains(got, "\n") {
				t.Errorf("it says %q, want %q", got, tc.says)
			}
		})
	}
}

func TestRulesOfALoadBalancer(t *testing.T) {
	many := make([]int, 300)
	for i := range many {
		many[i] = 10_000 + 2*i
	}
	var ranges []string
	for i := range 300 {
		ranges = append(ranges, fmt.Sprintf("10.%d.%d.0/24", i/128, i%128*2))
	}
	both := []ownership.Family{v4, v6}
	for _, tc := range []struct {
		name     string
		ports    []firewall.Port
		sources  []string
		families []ownership.Family
		// want says for each rule the family, the protocols, how many ranges of ports and how many hosts.
		want []string
	}{
		{"one port", tcp(80), nil, []ownership.Family{v4}, []string{"v4 tcp 1 0"}},
		{"no address", tcp(80), nil, nil, nil},
		{"both families", tcp(80), nil, both, []string{"v4 tcp 1 0", "v6 tcp 1 0"}},
		{"both protocols, one port", append(tcp(53), udp(53)...), nil, []ownership.Family{v4},
			[]string{"v4 tcp+udp 1 0"}},
		{"both protocols, other ports", append(tcp(80, 443), udp(443)...), nil, []ownership.Family{v4},
			[]string{"v4 tcp 2 0", "v4 udp 1 0"}},
		{"300 ports", tcp(many...), nil, []ownership.Family{v4}, []string{"v4 tcp 256 0", "v4 tcp 44 0"}},
		{"300 sources", tcp(80), ranges, []ownership.Family{v4}, []string{"v4 tcp 1 256", "v4 tcp 1 44"}},
		{"sources of one family", tcp(80), []string{"10.0.0.0/8"}, both, []string{"v4 tcp 1 1"}},
		{"SCTP is not carried", []firewall.Port{{Protocol: firewall.SCTP, Number: 9}}, nil, both, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			n := Need{
				Key: keyOf("default/web"), OwnerUID: "uid", Families: tc.families, Ports: tc.ports,
				Sources: ParseSources(tc.sources),
			}
			targets := []firewall.Match{{Type: "instance", Value: "node-1"}}
			if count := n.Count(); count != len(tc.want) {
				t.Errorf("it counts %d", count)
			}
			var got []string
			names := make(map[string]bool)
			opened := make(map[firewall.Port]bool)
			for _, rule := range n.Rules(targets, 1000) {
				marker, ok := ownership.ParseMarker(rule.Description)
				if !ok || marker.Key != n.Key || marker.Source != ownership.RuleSource {
					t.Errorf("the marker of %+v", rule)
				}
				if names[rule.Name] || len(rule.Protocols) == 0 || len(rule.Ports) == 0 ||
					!rule.Allow || !rule.Inbound || !rule.Enabled || len(rule.Targets) == 0 {
					t.Errorf("the rule %+v", rule)
				}
				names[rule.Name] = true
				for _, protocol := range rule.Protocols {
					for _, r := range rule.Ports {
						for number := r.First; number <= r.Last; number++ {
							opened[firewall.Port{
								Protocol: firewall.Protocol(strings.ToUpper(protocol)), Number: number,
							}] = true
						}
					}
				}
				got = append(got, fmt.Sprintf("%s %s %d %d", marker.Family, strings.Join(rule.Protocols, "+"),
					len(rule.Ports), len(rule.Hosts)))
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Error(diff)
			}
			for port := range opened {
				if !slices.Contains(tc.ports, port) {
					t.Errorf("%s is opened besides", port)
				}
			}
		})
	}
}

func TestTargetsAreInstancesThenSubnets(t *testing.T) {
	nodes := func(n, subnets int) []firewall.Interface {
		var all []firewall.Interface
		for i := range n {
			all = append(all, firewall.Interface{
				InstanceName: fmt.Sprintf("node-%d", i), SubnetName: fmt.Sprintf("subnet-%d", i%subnets),
				VPCName: "default",
			})
		}
		return all
	}
	for _, tc := range []struct {
		name       string
		interfaces []firewall.Interface
		rules      int
		kind       string
		n          int
		says       string
	}{
		{"256", nodes(256, 3), 1, "instance", 256, ""},
		{"257", nodes(257, 1), 1, "subnet", 1, "the subnet subnet-0"},
		{"in several subnets", nodes(300, 20), 1, "subnet", 20, "and 12 more"},
		{"in very many", nodes(600, 600), 1, "vpc", 1, "all instances of the VPC"},
		{"many rules for some", nodes(10, 3), 1000, "instance", 10, ""},
		{"many rules for many", nodes(100, 3), 1000, "subnet", 3, "subnet-0"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			targets, widened := Targets(tc.interfaces, tc.rules)
			if len(targets) != tc.n || targets[0].Type != tc.kind || !strings.Contains(widened, tc.says) ||
				tc.says == "" && widened != "" {
				t.Errorf("%d targets, the first %+v; widened: %q", len(targets), targets[0], widened)
			}
		})
	}
}

func TestMerge(t *testing.T) {
	web, dns := need("default/web", tcp(80), v4), need("default/dns", udp(53), v4)
	own := web[0].JSON()
	edited := strings.Replace(own, `"80"`, `"81"`, 1)
	disabled := strings.Replace(own, `"enabled"`, `"disabled"`, 1)
	annotated := strings.Replace(own, `"description":"`, `"description":"Ann likes it.\n`, 1)
	other := strings.Replace(own, scope, "cluster-2", 1)
	unmarked := strings.Replace(own, "oxide-ccm/", "removed/", 1)
	for _, tc := range []struct {
		name    string
		stored  []string
		rules   map[string][]firewall.Rule
		changed bool
		// want are the names and first ports of what is written.
		own     int
		refused string
	}{
		{"as desired", []string{own}, map[string][]firewall.Rule{"default/web": web}, false, 1, ""},
		{"missing", nil, map[string][]firewall.Rule{"default/web": web}, true, 1, ""},
		{"two are missing", nil, map[string][]firewall.Rule{"default/web": web, "default/dns": dns}, true, 2, ""},
		{"edited", []string{edited}, map[string][]firewall.Rule{"default/web": web}, true, 1, ""},
		{"disabled", []string{disabled}, map[string][]firewall.Rule{"default/web": web}, true, 1, ""},
		{"with somebody's text", []string{annotated}, map[string][]firewall.Rule{"default/web": web}, false, 1, ""},
		{"no longer desired", []string{own}, map[string][]firewall.Rule{"default/web": nil}, true, 0, ""},
		{"of no load balancer", []string{own}, map[string][]firewall.Rule{"default/dns": dns}, true, 2, ""},
		{"of another cluster", []string{other}, map[string][]firewall.Rule{"default/dns": dns}, true, 2, ""},
		{"with our name and no marker", []string{unmarked}, map[string][]firewall.Rule{"default/web": web},
			false, 0, "without the marker"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			before := stored(t, append(tc.stored, foreign("ann"), foreign("bob"))...)
			merged := Merge(before, desired(tc.rules))
			if merged.Changed != tc.changed || merged.Blocked != "" || merged.Own != tc.own {
				t.Errorf("changed %v, blocked %q, %d of ours", merged.Changed, merged.Blocked, merged.Own)
			}
			if why := merged.Refused[keyOf("default/web")]; !strings.Contains(why, tc.refused) ||
				tc.refused == "" && why != "" {
				t.Errorf("refused: %q", why)
			}
			after := written(t, merged)
			if n := Changes(before, after, scope); n != 0 {
				t.Errorf("%d rules of others are changed", n)
			}
			if again := Merge(after, desired(tc.rules)); again.Changed {
				t.Error("a second time something is changed")
			}
			if tc.refused == "" && len(Differs(after, desired(tc.rules))) > 0 {
				t.Error("it differs still")
			}
		})
	}
}

// The text that somebody has added to the description of a rule stays when the rule is changed.
func TestSomebodysTextInOurRuleStays(t *testing.T) {
	rules := need("default/web", tcp(80), v4)
	text := strings.Replace(rules[0].JSON(), `"description":"`, `"description":"Ann likes it.\n`, 1)
	merged := Merge(stored(t, text), desired(map[string][]firewall.Rule{
		"default/web": need("default/web", tcp(81), v4),
	}))
	after := written(t, merged)
	if len(after) != 1 || !strings.HasPrefix(after[0].Description, "Ann likes it.\n") {
		t.Errorf("%+v", after)
	}
}

func TestNothingIsWrittenThatCannotBeWrittenBack(t *testing.T) {
	before := stored(t, foreign("ann", `,"logging":true`), foreign("bob"))
	merged := Merge(before, desired(map[string][]firewall.Rule{"default/web": need("default/web", tcp(80), v4)}))
	if !strings.Contains(merged.Blocked, "the rule ann has the field logging") {
		t.Errorf("blocked: %q", merged.Blocked)
	}
	if merged := Merge(before, desired(nil)); merged.Blocked == "" || merged.Changed {
		t.Errorf("where nothing has to be written: %+v", merged)
	}
}

// Names are unique in a firewall: where Oxide shows one twice, one of the two would be lost.
func TestNothingIsWrittenWhereANameIsThereTwice(t *testing.T) {
	twice := stored(t, foreign("ann"), foreign("ann"), foreign("bob"))
	for name, merged := range map[string]Merged{
		"a change":  Merge(twice, desired(map[string][]firewall.Rule{"default/web": need("default/web", tcp(80), v4)})),
		"a removal": Without(twice, func(*Stored) bool { return true }),
	} {
		if !strings.Contains(merged.Blocked, "two rules named ann") {
			t.Errorf("%s: blocked: %q", name, merged.Blocked)
		}
	}
}

// Of a full firewall what is there stays, and what fits is added.
func TestAFullFirewallTakesWhatFits(t *testing.T) {
	var texts []string
	for i := range firewall.MaxRules - 2 {
		texts = append(texts, foreign(fmt.Sprintf("ann-%d", i)))
	}
	rules := map[string][]firewall.Rule{
		"default/a": need("default/a", tcp(80), v4), "default/b": need("default/b", tcp(81), v4, v6),
		"default/c": need("default/c", tcp(82), v4), "default/d": need("default/d", tcp(83), v4),
	}
	before := stored(t, append(texts, rules["default/d"][0].JSON())...)
	merged := Merge(before, desired(rules))
	after := written(t, merged)
	if len(after) > firewall.MaxRules || merged.Own != 2 {
		t.Errorf("%d rules, %d of them ours", len(after), merged.Own)
	}
	if merged.Refused[keyOf("default/b")] == "" || merged.Refused[keyOf("default/d")] != "" {
		t.Errorf("refused: %v", merged.Refused)
	}
	if n := Changes(before, after, scope); n != 0 {
		t.Errorf("%d rules of others are changed", n)
	}
}

// What is written is never more than Oxide takes in a request.
func TestAllRulesFitInARequest(t *testing.T) {
	ranges := make([]string, 0, 256)
	for i := range 256 {
		ranges = append(ranges, fmt.Sprintf("2001:db8:%x::/48", 2*i))
	}
	rules := make(map[string][]firewall.Rule)
	for i := range 300 {
		n := Need{
			Key: keyOf(fmt.Sprintf("default/web-%d", i)), OwnerUID: "uid", Ports: tcp(8000 + i),
			Families: []ownership.Family{v6}, Sources: ParseSources(ranges),
		}
		rules[n.Key.Name] = n.Rules([]firewall.Match{{Type: "instance", Value: "node-1"}}, 1000)
	}
	merged := Merge(stored(t, foreign("ann")), desired(rules))
	body, err := json.Marshal(map[string]any{"rules": merged.Body()})
	if err != nil || len(body) > 1<<20 || len(merged.Refused) == 0 || merged.Own < 30 ||
		merged.Own+len(merged.Refused) != len(rules) {
		t.Errorf("%d bytes with %d rules, %d refused, %v", len(body), merged.Own, len(merged.Refused), err)
	}
	if again := Merge(written(t, merged), desired(rules)); again.Changed {
		t.Error("a second time something is changed")
	}
}

func TestOrphansAreOfNoLoadBalancer(t *testing.T) {
	web, dns := need("default/web", tcp(80), v4), need("default/dns", udp(53), v4)
	kept := need("default/kept", tcp(82), v4)
	all := stored(t, web[0].JSON(), dns[0].JSON(), kept[0].JSON(), foreign("ann"),
		strings.Replace(strings.Replace(web[0].JSON(), scope, "cluster-2", 1), `"lb-`, `"other-`, 1))
	d := desired(map[string][]firewall.Rule{"default/web": nil})
	d.Stay = map[string]bool{"default/kept": true}
	orphans := Orphans(all, d)
	if len(orphans) != 1 || orphans[0].Name != dns[0].Name {
		t.Errorf("%+v", orphans)
	}
	merged := Without(all, func(s *Stored) bool { return s.Name == dns[0].Name || s.Name == "ann" })
	if after := written(t, merged); len(after) != len(all)-1 || Changes(all, after) != 1 {
		t.Errorf("%d are left of %d", len(after), len(all))
	}
}

// A scope that is taken over has its rules replaced by our own.
func TestRulesOfAnAdoptedScopeAreReplaced(t *testing.T) {
	old := strings.Replace(need("default/web", tcp(80), v4)[0].JSON(), scope, "cluster-0", 1)
	old = strings.Replace(old, `"name":"lb-`, `"name":"old-`, 1)
	d := Desired{
		Scopes: []string{scope, "cluster-0"},
		Rules:  map[string][]firewall.Rule{"default/web": need("default/web", tcp(80), v4)},
	}
	after := written(t, Merge(stored(t, old), d))
	if len(after) != 1 || after[0].Marker.Key.Scope != scope {
		t.Errorf("%+v", after)
	}
}

func TestOfChangesEachRuleCountsOnce(t *testing.T) {
	a := stored(t, foreign("ann"), foreign("bob"), foreign("cyn"))
	b := stored(t, foreign("ann"), strings.Replace(foreign("bob"), "22", "23", 1), foreign("dan"))
	if n := Changes(a, b); n != 3 {
		t.Errorf("%d changes", n)
	}
}

// An empty set is written as one, and never as nothing: that would be refused, or wipe the firewall.
func TestABodyIsNeverNil(t *testing.T) {
	if m := Merge(nil); m.Body() == nil {
		t.Error("it is nil")
	}
}
