// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package services

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"
	v1 "k8s.io/api/core/v1"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/shim/annotations"
	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

// from restricts a Service to clients of some networks.
func from(ranges ...string) func(*v1.Service) {
	return func(s *v1.Service) { s.Spec.LoadBalancerSourceRanges = ranges }
}

func letsIn(ranges ...string) func(*backendv1.DesiredLoadBalancer) {
	return func(d *backendv1.DesiredLoadBalancer) { d.SourceRanges = ranges }
}

func closed(d *backendv1.DesiredLoadBalancer) { d.OpenFirewall = false }

func TestTheFirewallIsToLetInWhomTheServiceAdmits(t *testing.T) {
	const legacy = v1.AnnotationLoadBalancerSourceRangesKey
	for _, tt := range []struct {
		name    string
		service *v1.Service
		want    *backendv1.DesiredLoadBalancer
	}{
		{"everybody", service(), desiredLB()},
		{"some", service(from("203.0.113.0/24", "10.0.0.0/8")), desiredLB(letsIn("10.0.0.0/8", "203.0.113.0/24"))},
		{"some, by the annotation", service(annotated(legacy, "10.0.0.0/8")), desiredLB(letsIn("10.0.0.0/8"))},
		{"nobody is let in here", service(annotated(annotations.Firewall, "off")), desiredLB(closed)},
		{"nobody is let in here, and the proxies admit some",
			service(annotated(annotations.Firewall, "off"), from("10.0.0.0/8")),
			desiredLB(closed, letsIn("10.0.0.0/8"))},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := desiredOf(bare(t), tt.service)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got, protocmp.Transform()); diff != "" {
				t.Errorf("item (-want +got):\n%s", diff)
			}
		})
	}
}

// A firewall that is open to some must never be opened to all by a mistake.
func TestAMistakeAboutTheFirewallPreservesEverything(t *testing.T) {
	for _, tt := range []struct {
		name    string
		service *v1.Service
		says    []string
	}{
		{"a word for a network", service(from("10.0.0.0/8", "home")),
			[]string{"spec.loadBalancerSourceRanges", `"home"`, "203.0.113.0/24"}},
		{"an address in the annotation", service(annotated(v1.AnnotationLoadBalancerSourceRangesKey, "10.0.0.1")),
			[]string{v1.AnnotationLoadBalancerSourceRangesKey, `"10.0.0.1"`, "203.0.113.0/24"}},
		{"a switch that is none", service(annotated(annotations.Firewall, "on"), from("10.0.0.0/8")),
			[]string{annotations.Firewall, `"on"`, "leave it out"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := bare(t).desired(tt.service)
			for _, part := range tt.says {
				if !strings.Contains(got.GetPreserveReason(), part) {
					t.Errorf("it is preserved for the reason %q, without %q", got.GetPreserveReason(), part)
				}
			}
			if len(got.GetSourceRanges()) == 0 || !got.GetOpenFirewall() {
				t.Errorf("open: %t, for %q", got.GetOpenFirewall(), got.GetSourceRanges())
			}
		})
	}
}

// Kubernetes takes no source ranges of a Service that is no load balancer any more.
func TestAServiceThatIsEndingLetsInNobodyElse(t *testing.T) {
	e := run(t, Config{}, service(finalized, from("10.0.0.0/8")))
	e.inSync()
	sent := e.item("shop/web", func(*backendv1.DesiredLoadBalancer) bool { return true })
	if diff := cmp.Diff([]string{"10.0.0.0/8"}, sent.GetSourceRanges()); diff != "" || !sent.GetOpenFirewall() {
		t.Fatalf("source ranges (-want +got):\n%s", diff)
	}
	e.change("shop/web", func(s *v1.Service) {
		from()(s)
		s.Spec.Type = v1.ServiceTypeClusterIP
	})
	sent = e.item("shop/web", func(d *backendv1.DesiredLoadBalancer) bool {
		return d.GetEnding() == backendv1.Ending_ENDING_RELEASE
	})
	if diff := cmp.Diff([]string{"10.0.0.0/8"}, sent.GetSourceRanges()); diff != "" || !sent.GetOpenFirewall() {
		t.Errorf("source ranges at the end (-want +got):\n%s", diff)
	}
}

// Whoever has a closed port reads how it is opened for all Services, unless that is so already or
// would not help.
func TestAClosedFirewallNamesTheSettingThatOpensIt(t *testing.T) {
	const setting = "firewall.manage=true"
	for _, tt := range []struct {
		name      string
		unmanaged bool
		service   *v1.Service
		want      bool
	}{
		{"rules are kept, or it is not known yet", false, service(), false},
		{"no rules are kept", true, service(), true},
		{"no rules are kept, nor would be for it", true, service(annotated(annotations.Firewall, "off")), false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, recorded := reporting(t)
			c.firewallUnmanaged.Store(tt.unmanaged)
			state := &backendv1.LoadBalancerState{Phase: backendv1.Phase_PHASE_READY}
			holding(backendv1.ConditionType_CONDITION_TYPE_FIREWALL_CLOSED, "add the rule")(state)
			c.reportConditions(tt.service, state)
			condition, _ := c.readyCondition(tt.service, state)
			c.firewallUnmanaged.Store(!tt.unmanaged)
			c.reportConditions(tt.service, state)
			sent := recorded.Sent()
			if len(sent) != 1 || !strings.Contains(sent[0], "FirewallClosed add the rule") {
				t.Fatalf("events: %q", sent)
			}
			for _, text := range []string{sent[0], condition.Message} {
				if got := strings.Contains(text, setting); got != tt.want {
					t.Errorf("%q names the setting: %t", text, got)
				}
			}
		})
	}
}
