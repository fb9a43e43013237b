// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/objects"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/rack"
)

const (
	// outside and elsewhere are clients outside the rack, in different networks.
	outside, elsewhere = "203.0.113.9", "198.18.0.1"
	outsideV6          = "2001:db8:113::9"

	firewallWrite = "vpc_firewall_rules_update"

	// quick has the backend wait a fifth of the time between writes of a firewall, for tests that are
	// about what is written and not when.
	quick = "--load-balancer-time-scale=0.2"
)

// foreignRules are other people's, of kinds that load balancers have no use for.
var foreignRules = []string{
	`{"name":"theirs","description":"terraform","status":"enabled","direction":"inbound","action":"allow",` +
		`"priority":7,"targets":[{"type":"ip","value":"172.30.0.200"},{"type":"ip_net","value":"172.30.3.0/24"}],` +
		`"filters":{"hosts":[{"type":"vpc","value":"default"}],"ports":["9000-9100","9443"],` +
		`"protocols":[{"type":"udp"},{"type":"icmp","value":{"icmp_type":3,"code":"0-4"}}]}}`,
	`{"name":"off","description":"","status":"disabled","direction":"outbound","action":"deny",` +
		`"priority":65535,"targets":[{"type":"subnet","value":"default"}],"filters":{"hosts":[],"ports":[],` +
		`"protocols":[{"type":"icmp6","value":null}]}}`,
	// It looks like one of a cluster, and is not this cluster's.
	`{"name":"lb-other","description":"oxide-ccm/v1 scope=` + rack.OtherScope + ` name=default/web uid=u family=v4 source=firewall-rule",` +
		`"status":"enabled","direction":"inbound","action":"allow","priority":1000,` +
		`"targets":[{"type":"instance","value":"nobody"}],"filters":{"ports":["80"],"protocols":[{"type":"tcp"}]}}`,
}

// firewallWorld is a world whose firewall has other people's rules, and in which those of Services are
// kept, by a user who may.
func firewallWorld(t *testing.T, s settings) *environment {
	t.Helper()
	before := s.prepare
	s.prepare = func(e *environment) {
		e.Helper()
		e.must(e.rack.GrantFirewall(e.Context()))
		for _, rule := range foreignRules {
			e.must(e.rack.AddFirewallRule(e.Context(), rule))
		}
		if before != nil {
			before(e)
		}
	}
	if !s.child && s.backendFlags == nil {
		s.backendFlags = []string{"--manage-firewall"}
	}
	e := newEnvironment(t, s)
	e.join("node-a", "node-b")
	return e
}

func (e *environment) firewall() rack.Firewall {
	e.Helper()
	firewall, err := e.rack.Firewall(e.Context())
	e.must(err)
	return firewall
}

// lets waits until the firewall lets a client in to a port of a Node, or does not.
func (e *environment) lets(in bool, from, node, protocol string, port int) {
	e.Helper()
	instance, found := e.state().Instance(node)
	if !found {
		e.Fatalf("there is no instance %s", node)
	}
	e.eventually(func(ctx context.Context) (string, error) {
		firewall, err := e.rack.Firewall(ctx)
		if err == nil && firewall.LetsIn(from, instance, protocol, port) != in {
			return fmt.Sprintf("that %s %d of %s is open for %s: %t; the rules are %+v", protocol, port, node,
				from, in, firewall.Marked()), nil
		}
		return "", err
	})
}

// theirs checks that other people's rules are as they were.
func (e *environment) theirs(before rack.Firewall) {
	e.Helper()
	if diff := cmp.Diff(before.Foreign(), e.firewall().Foreign()); diff != "" {
		e.Errorf("other people's rules (-before +now):\n%s", diff)
	}
}

// firewallWrites returns the writes of the firewall that were answered so far.
func (e *environment) firewallWrites() []rack.Request {
	e.Helper()
	log, err := e.rack.Log()
	e.must(err)
	return slices.DeleteFunc(log, func(q rack.Request) bool { return q.Operation != firewallWrite })
}

// A user's first Service answers as soon as anybody can know its address, and its ports are closed once
// nobody can reach it any more. Other people's rules stay as they are.
func TestAPortOpensBeforeTheAddressIsKnownAndClosesWhenItIsGone(t *testing.T) {
	e := firewallWorld(t, settings{})
	before := e.firewall()
	e.create("web", objects.TCP(80), objects.TCP(443), objects.UDP(53))
	j := (&pool{environment: e}).journal("web")
	address := e.served("web")
	published := j.first(time.Time{}, func(published []string) bool { return len(published) > 0 })
	node := e.nodeOf(address)
	for _, node := range []string{"node-a", "node-b"} { // so that no move waits for the firewall
		e.lets(true, outside, node, "tcp", 80)
		e.lets(true, outside, node, "tcp", 443)
		e.lets(true, outside, node, "udp", 53)
		e.lets(false, outside, node, "tcp", 53)
		e.lets(false, outside, node, "tcp", 10250)
		e.lets(false, outside, node, "udp", 9000)
	}
	writes := slices.DeleteFunc(e.firewallWrites(), func(q rack.Request) bool { return q.Began.After(published) })
	opened := writes[len(writes)-1]
	if len(writes) != len(foreignRules)+1 || !opened.OK() || published.Before(opened.Ended) {
		t.Errorf("the address was published at %s, and until then the firewall was written %+v", published, writes)
	}
	e.waitFor("web", metav1.ConditionTrue, "AddressAttached", "is on "+node)
	if closed, err := e.warnings(t.Context(), e.service("web"), "FirewallClosed"); err != nil || len(closed) > 0 {
		t.Errorf("it has the events %q, %v", messages(closed), err)
	}
	if rules := e.firewall().Of("default/web"); len(rules) == 0 || rules[0].Priority != 1000 {
		t.Errorf("the rules are %+v", rules)
	}
	e.theirs(before)

	e.remove("web")
	e.lets(false, outside, "node-a", "tcp", 80)
	if rules := e.firewall().Of("default/web"); len(rules) > 0 {
		t.Errorf("the Service is gone, and left are %+v", rules)
	}
	log, err := e.rack.Log()
	e.must(err)
	detached, closed := time.Time{}, e.firewallWrites()[len(writes)]
	for _, q := range log {
		if q.Operation == "floating_ip_detach" && q.OK() {
			detached = q.Ended
		}
	}
	if detached.IsZero() || closed.Began.Before(detached.Add(-rack.LogPrecision)) {
		t.Errorf("the ports were being closed at %s, and the address was detached at %s", closed.Began, detached)
	}
	e.theirs(before)
}

// Who else writes the firewall finds everything as they left it, whatever Services do meanwhile.
func TestOtherPeoplesRulesSurviveEverything(t *testing.T) {
	e := firewallWorld(t, settings{})
	e.create("web", objects.TCP(80))
	e.served("web")
	added := `{"name":"added","description":"","status":"enabled","direction":"inbound","action":"deny",` +
		`"priority":9,"targets":[],"filters":{"hosts":[{"type":"ip","value":"192.0.2.1"}]}}`
	e.must(e.rack.AddFirewallRule(t.Context(), added))
	before := e.firewall()
	e.create("other", objects.TCP(81))
	e.served("other")
	e.theirs(before)

	// Somebody replaces the whole set by their own, as Terraform does: what is written next repairs that.
	writes := len(e.firewallWrites())
	e.must(e.rack.ChangeFirewall(t.Context(), func(rules []json.RawMessage) []json.RawMessage {
		return slices.DeleteFunc(rules, func(rule json.RawMessage) bool {
			return strings.Contains(string(rule), "name=default/") &&
				!strings.Contains(string(rule), "scope="+rack.OtherScope)
		})
	}))
	e.create("later", objects.TCP(82))
	e.served("later")
	firewall := e.firewall()
	for _, name := range []string{"web", "other", "later"} {
		if len(firewall.Of("default/"+name)) == 0 {
			t.Errorf("there is no rule of %s, but %+v", name, firewall.Marked())
		}
	}
	e.theirs(before)
	if n := len(e.firewallWrites()) - writes; n != 2 {
		t.Errorf("it took %d writes, theirs and one of ours", n)
	}
	e.removeAll("web", "other", "later")
	e.theirs(before)
}

// Nothing waits for the firewall when an address moves, because all nodes are open; one that joins is
// opened, too.
func TestAMoveFindsItsPortsOpen(t *testing.T) {
	e := firewallWorld(t, settings{machines: machines(3)})
	e.create("web", objects.TCP(80))
	address := e.served("web")
	from := e.nodeOf(address)
	writes := len(e.firewallWrites())
	e.ready(corev1.ConditionUnknown, from)
	e.eventually(func(ctx context.Context) (string, error) {
		if ip, _ := e.state().FloatingIP(address); ip.AttachState != rack.Attached || ip.Instance == from {
			return fmt.Sprintf("the move of %+v", ip), nil
		}
		return "", nil
	})
	to, _ := e.state().Instance(e.nodeOf(address))
	if !e.firewall().LetsIn(outside, to, "tcp", 80) {
		t.Errorf("%s is closed", to.Name)
	}
	if now := len(e.firewallWrites()); now != writes {
		t.Errorf("the move wrote the firewall %d times", now-writes)
	}
	e.join("node-c")
	e.lets(true, outside, "node-c", "tcp", 80)
}

// Both IP families and both kinds of addresses, and the networks from which a Service may be used.
func TestTheFirewallLetsInWhomAServiceAdmits(t *testing.T) {
	flags := []string{"--manage-firewall", quick}
	e := firewallWorld(t, settings{backendFlags: flags, machines: dualStack, prepare: func(e *environment) {
		e.Helper()
		e.must(e.rack.AddPool(e.Context(), rack.Pool{
			Name: "default-v6", Version: "v6", First: "2001:db8:51::10", Last: "2001:db8:51::ffff", Default: true,
		}))
		e.must(e.rack.AddSubnetPool(e.Context(), rack.SubnetPool{
			Name: "subnets", Version: "v4", Subnet: "198.18.0.0/24", Default: true,
		}))
	}})
	from := func(key string, ranges ...string) {
		e.patch(key, map[string]any{"spec": map[string]any{"loadBalancerSourceRanges": ranges}})
	}
	web := objects.LoadBalancer("default", "web", objects.TCP(80))
	web.Spec.LoadBalancerSourceRanges = []string{"203.0.113.0/24", "203.0.112.0/24"}
	e.createService(web)
	both := objects.LoadBalancer("default", "both", objects.TCP(81))
	both.Spec.IPFamilyPolicy = new(corev1.IPFamilyPolicyRequireDualStack)
	both.Spec.IPFamilies = []corev1.IPFamily{corev1.IPv4Protocol, corev1.IPv6Protocol}
	e.createService(both)
	subnet := objects.LoadBalancer("default", "subnet", objects.TCP(82))
	subnet.Annotations = map[string]string{}
	routed(subnet)
	subnet.Annotations["service.beta.kubernetes.io/load-balancer-source-ranges"] = "203.0.113.0/24"
	e.createService(subnet)

	node := e.nodeOf(e.served("web"))
	e.lets(true, outside, node, "tcp", 80)
	if e.firewall().LetsIn(elsewhere, e.instance(node), "tcp", 80) {
		t.Errorf("%s is let in", elsewhere)
	}
	e.servedByBoth("both", "198.51.100.", "2001:db8:51:")
	e.lets(true, outside, node, "tcp", 81)
	e.lets(true, outsideV6, node, "tcp", 81)
	if rules := e.firewall().Of("default/both"); len(rules) != 2 {
		t.Errorf("two IP families have the rules %+v", rules)
	}
	carrier := e.carried("subnet", subnet4)[0].Instance
	e.lets(true, outside, carrier, "tcp", 82)
	if e.firewall().LetsIn(elsewhere, e.instance(carrier), "tcp", 82) {
		t.Errorf("%s is let in to an external subnet", elsewhere)
	}

	from("web", "198.18.0.0/15")
	from("both", "203.0.113.0/24")
	e.lets(true, elsewhere, node, "tcp", 80)
	e.lets(false, outside, node, "tcp", 80)
	// Ranges of one family alone admit nobody of the other.
	e.lets(false, outsideV6, node, "tcp", 81)
	e.lets(true, outside, node, "tcp", 81)
	e.warned("both", "FirewallIncomplete", "IPv6")
	from("web")
	e.lets(true, outside, node, "tcp", 80)
	e.removeAll("web", "both", "subnet")
	if left := e.firewall().Marked(); len(left) > 0 {
		t.Errorf("left are %+v", left)
	}
}

func (e *environment) instance(name string) rack.Instance {
	e.Helper()
	instance, found := e.state().Instance(name)
	if !found {
		e.Fatalf("there is no instance %s", name)
	}
	return instance
}

// One Service's rules may be left to its user.
func TestAServiceMayKeepItsFirewallToItself(t *testing.T) {
	e := firewallWorld(t, settings{backendFlags: []string{"--manage-firewall", quick}})
	e.createWith("own", "firewall", "off", objects.TCP(80))
	node := e.nodeOf(e.served("own"))
	text := e.warned("own", "FirewallClosed", "TCP 80", "add the rule")
	if strings.Contains(text, "manage") {
		t.Errorf("it names a setting that is on: %q", text)
	}
	if rules := e.firewall().Of("default/own"); len(rules) > 0 {
		t.Errorf("it has the rules %+v", rules)
	}
	e.annotate("own", "firewall", "")
	e.lets(true, outside, node, "tcp", 80)
	// What is written wrongly changes nothing.
	e.annotate("own", "firewall", "on")
	e.warned("own", syncFailed, prefix+"firewall", `says "on"`, "leave it out")
	e.create("later", objects.TCP(81))
	e.served("later")
	e.lets(true, outside, node, "tcp", 80)
	e.annotate("own", "firewall", "off")
	e.lets(false, outside, node, "tcp", 80)
	e.lets(true, outside, node, "tcp", 81)
}
