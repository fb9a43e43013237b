// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package model

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/objects"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/rack"
)

// The firewall of the VPC: the rules of Services, and those of others.

const firewallAnnotation = "oxide.computer/firewall"

// foreignRule is a rule of another client of the API, of a kind that no load balancer has.
func foreignRule(name string) json.RawMessage {
	return json.RawMessage(`{"name":"` + name + `","description":"terraform","status":"enabled",` +
		`"direction":"inbound","action":"allow","priority":7,` +
		`"targets":[{"type":"ip","value":"172.30.0.200"},{"type":"ip_net","value":"172.30.3.0/24"}],` +
		`"filters":{"hosts":[{"type":"vpc","value":"default"}],"ports":["9000-9100","9443"],` +
		`"protocols":[{"type":"udp"},{"type":"icmp","value":{"icmp_type":3,"code":"0-4"}}]}}`)
}

// clients are senders outside the rack, by IP version: those of the first element are in sourceRanges.
var clients = map[string][2]string{
	"v4": {"203.0.113.9", "192.0.2.77"},
	"v6": {"2001:db8:113::9", "2001:db8:c::9"},
}

// sourceRanges are the networks that a Service may admit; one of them alone admits nobody of the other
// family.
var sourceRanges = []string{"203.0.113.0/24", "2001:db8:113::/48"}

// firewallKinds are the operations on which rules there are to be.
func firewallKinds() []kind {
	return []kind{
		{3, ofService(isLive, "turn the firewall rules of", func(w *world, v *service) change {
			return func(ctx context.Context, _ *step) error {
				v.unprotected = !v.unprotected
				value := ""
				if v.unprotected {
					value = "off"
				}
				return w.annotate(ctx, v.name, firewallAnnotation, value)
			}
		})},
		{4, ofService(isLive, "edit the source ranges of", func(w *world, v *service) change {
			var ranges []string
			for _, each := range sourceRanges {
				if w.random.IntN(2) == 0 {
					ranges = append(ranges, each)
				}
			}
			w.detail = strings.Join(ranges, ",")
			return func(ctx context.Context, _ *step) error {
				v.ranges = ranges
				return w.patch(ctx, v.name, map[string]any{"spec": map[string]any{
					"loadBalancerSourceRanges": ranges,
				}})
			}
		})},
		{2, ofService(isLive, "remove by hand the firewall rules of", func(w *world, v *service) change {
			return func(ctx context.Context, _ *step) error {
				w.changeRules(ctx, func(rules []json.RawMessage) []json.RawMessage {
					return slices.DeleteFunc(rules, func(rule json.RawMessage) bool {
						return strings.Contains(string(rule), " name="+namespace+"/"+v.name+" ")
					})
				})
				return nil
			}
		})},
		{2, chooseForeignRule},
	}
}

// chooseForeignRule has another client add a rule, or remove it again.
func chooseForeignRule(w *world) (operation, bool) {
	name := "theirs-" + strconv.Itoa(w.random.IntN(3))
	verb := "add"
	if w.foreign[name] {
		verb = "remove"
	}
	return operation{verb + " the firewall rule " + name, func(ctx context.Context, _ snapshot, _ *step) error {
		w.foreign[name] = !w.foreign[name]
		w.writeForeign(ctx)
		return nil
	}}, true
}

// writeForeign has another client write the rules that are its own, with all that it reads.
func (w *world) writeForeign(ctx context.Context) {
	w.changeRules(ctx, func(rules []json.RawMessage) []json.RawMessage {
		rules = slices.DeleteFunc(rules, func(rule json.RawMessage) bool {
			return strings.Contains(string(rule), `"theirs-`)
		})
		for name, isThere := range w.foreign {
			if isThere {
				rules = append(rules, foreignRule(name))
			}
		}
		return rules
	})
}

// writeForeignAgain has another client repeat what it wrote, if that failed or was overwritten at once.
func (w *world) writeForeignAgain(ctx context.Context, s snapshot) {
	var lost problems
	if w.checkForeign(&lost, s); w.isRewritten && len(lost) > 0 {
		w.writeForeign(ctx)
	}
}

// changeRules has another client change the rules once. Its error says nothing about whether they were
// written: those of a rack with a silent sled are, and the answer is none.
func (w *world) changeRules(ctx context.Context, change func([]json.RawMessage) []json.RawMessage) {
	w.isRewritten = true
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	_ = w.rack.ChangeFirewall(ctx, change)
}

// checkForeign finds rules of others that are missing, new or changed. While another client writes, what
// it writes may get lost: Oxide's API has no version of the rules.
func (e *expectation) checkForeign(found *problems, s snapshot) {
	for name, isThere := range e.foreign {
		now := slices.DeleteFunc(slices.Clone(s.firewall), func(rule rack.FirewallRule) bool {
			return rule.Name != name
		})
		switch {
		case isThere && len(now) != 1:
			found.add(foreignRules, "there are %d rules %s, and another client wrote one", len(now), name)
		case !isThere && len(now) > 0:
			found.add(foreignRules, "the rule %s, which another client removed, is there", name)
		case isThere && e.foreignText == "":
			e.foreignText = strings.ReplaceAll(now[0].Text, name, "")
		case isThere && strings.ReplaceAll(now[0].Text, name, "") != e.foreignText:
			found.add(foreignRules, "the rule %s was changed to %s", name, now[0].Text)
		}
	}
	for _, rule := range s.firewall.Marked() {
		name, isOurs := strings.CutPrefix(rule.Service(), namespace+"/")
		if !isOurs || name != nudged && e.services[name] == nil {
			found.add(foreignRules, "the rule %s, %q, is nobody's", rule.Name, rule.Description)
		}
	}
}

// checkFirewall finds where the rules of a Service do not let in whom it admits, or let in others. Those of
// other Services may, so each Service's are looked at alone.
func (e *expectation) checkFirewall(found *problems, s snapshot, v *service) {
	own := s.firewall.Of(namespace + "/" + v.name)
	if v.unprotected {
		if len(own) > 0 {
			found.add(portsOpen, "%s, which wants no rule, has %d", v.name, len(own))
		}
		return
	}
	uid := " uid=" + string(s.services[v.name].UID) + " "
	for _, rule := range own {
		if !strings.Contains(rule.Description, uid) {
			found.add(portsOpen, "the rule %s is marked as that of another %s", rule.Name, v.name)
		}
	}
	for _, ip := range e.current(s, v) {
		instance, there := s.rack.Instance(ip.Instance)
		if !there || ip.AttachState != rack.Attached || !e.isFit(ip.Instance) {
			continue
		}
		e.checkPorts(found, v, own, ip, instance)
	}
}

// checkPorts holds that at an address of a Service each of its ports, and no other, is open for those
// clients that it admits.
func (e *expectation) checkPorts(
	found *problems, v *service, own rack.Firewall, ip rack.Carried, to rack.Instance,
) {
	closed := slices.DeleteFunc([]corev1.ServicePort{
		objects.TCP(80), objects.TCP(443), objects.UDP(53), objects.UDP(80),
	}, func(port corev1.ServicePort) bool { return overlap(v.ports, []corev1.ServicePort{port}) })
	for _, port := range slices.Concat(v.ports, closed) {
		has := overlap(v.ports, []corev1.ServicePort{port})
		for _, client := range clients[ip.Version()] {
			want := has && v.admits(client)
			got := own.LetsIn(client, to, strings.ToLower(string(port.Protocol)), int(port.Port))
			if got != want {
				found.add(portsOpen, "that %s %d of %s at %s is open for %s is %t", port.Protocol, port.Port,
					v.name, fmt.Sprint(ip.Addr, " on ", ip.Instance), client, got)
			}
		}
	}
}

// admits reports whether the source ranges of a Service have a client.
func (v *service) admits(client string) bool {
	return len(v.ranges) == 0 || slices.ContainsFunc(v.ranges, func(text string) bool {
		return netip.MustParsePrefix(text).Contains(netip.MustParseAddr(client))
	})
}
