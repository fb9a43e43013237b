// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package loadbalancers

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	v1 "k8s.io/api/core/v1"
	"k8s.io/client-go/tools/cache"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/shim/annotations"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/shim/backendtest"
	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

func warned(reason, message string) string {
	return "Service shop/web Warning " + reason + " " + message
}

func TestEachConditionIsToldOnceWhileItHolds(t *testing.T) {
	type conditions = []*backendv1.Condition
	closed := func(ports string) *backendv1.Condition {
		return condition(firewallClosed, "open "+ports)
	}
	for _, tt := range []struct {
		name string
		// answers are the conditions, call by call.
		answers []conditions
		want    []string
	}{
		{"none", []conditions{nil}, nil},
		{"every one that is told by an event of its own", []conditions{{
			closed("TCP 80"), condition(portRefused, "TCP 80 is\nused"), condition(degraded, "not healthy"),
			condition(notOwned, "edited"), condition(foreignAttachment, "elsewhere"),
		}}, []string{
			warned("FirewallClosed", "open TCP 80"), warned("PortRefused", "TCP 80 is used"),
			warned("LoadBalancerDegraded", "not healthy"), warned("AddressNotOwned", "edited"),
			warned("ForeignAttachment", "elsewhere"),
		}},
		{"what hinders a place, and goes on", []conditions{
			{condition(noCandidate, "none of 3"), condition(portConflict, "held by shop/older")},
			{condition(noCandidate, "none of 2"), condition(portConflict, "held by shop/older")},
		}, []string{
			warned("NoCandidate", "none of 3: no node can carry the address: none has a private address "+
				"of its IP family"),
			warned("PortConflict", "held by shop/older"),
		}},
		{"what is told when it is due, and unknown ones", []conditions{{
			condition(pending, "wait"), condition(99, "new"), condition(0, "nothing"),
		}}, nil},
		{"it goes on", []conditions{{closed("TCP 80")}, {closed("TCP 80")}, {closed("TCP 80")}},
			[]string{warned("FirewallClosed", "open TCP 80")}},
		{"it is gone and comes again", []conditions{{closed("TCP 80")}, nil, {closed("TCP 80")}},
			[]string{warned("FirewallClosed", "open TCP 80"), warned("FirewallClosed", "open TCP 80")}},
		{"it changes, and back", []conditions{{closed("TCP 80")}, {closed("TCP 443")}, {closed("TCP 80")}},
			[]string{warned("FirewallClosed", "open TCP 80"), warned("FirewallClosed", "open TCP 443"),
				warned("FirewallClosed", "open TCP 80")}},
		{"two of a type", []conditions{{closed("TCP 80"), closed("UDP 53")}, {closed("UDP 53")},
			{closed("TCP 80"), closed("UDP 53")}},
			[]string{warned("FirewallClosed", "open TCP 80"), warned("FirewallClosed", "open UDP 53"),
				warned("FirewallClosed", "open TCP 80")}},
		{"another one joins it", []conditions{{closed("TCP 80")}, {closed("TCP 80"),
			condition(degraded, "not healthy")}, {closed("TCP 80")}},
			[]string{warned("FirewallClosed", "open TCP 80"), warned("LoadBalancerDegraded", "not healthy")}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b, c := newPeer(t, service(), node("worker-1", id1))
			for _, answer := range tt.answers {
				b.answer([]*backendv1.LoadBalancerAddress{onNode("198.51.100.9", "172.30.0.11")}, answer...)
				_, _ = c.Ensure(t.Context(), service())
			}
			if diff := cmp.Diff(tt.want, b.events.Take()); diff != "" {
				t.Errorf("events (-want +got):\n%s", diff)
			}
		})
	}
}

// Nothing is known of the conditions then: they may hold still.
func TestAFailureSettlesNoCondition(t *testing.T) {
	b, c := newPeer(t, service(), node("worker-1", id1))
	b.answer([]*backendv1.LoadBalancerAddress{onNode("198.51.100.9", "172.30.0.11")},
		condition(firewallClosed, "open TCP 80"))
	for _, failure := range []error{nil, backendtest.Fail(codes.Unavailable,
		backendv1.ErrorReason_ERROR_REASON_OXIDE_UNAVAILABLE, "no answer"), nil} {
		b.failure = failure
		_, _ = c.Ensure(t.Context(), service())
	}
	if got := b.events.Take(); len(got) != 1 {
		t.Errorf("the events are %q, want one", got)
	}
}

// That an address is somebody else's makes the framework's call fail, and the framework tells that. What
// comes to light later is told by nobody else.
func TestAnAddressOfSomebodyElseIsToldOnce(t *testing.T) {
	refused := backendtest.Fail(codes.FailedPrecondition, backendv1.ErrorReason_ERROR_REASON_ADDRESS_NOT_OWNED, "taken")
	for name, tt := range map[string]struct {
		ensured error
		want    []string
	}{
		"as it was refused": {refused, nil},
		"as it was served":  {nil, []string{warned("AddressNotOwned", "taken")}},
	} {
		t.Run(name, func(t *testing.T) {
			b, c := newPeer(t, service(), node("worker-1", id1))
			b.answer([]*backendv1.LoadBalancerAddress{onNode("198.51.100.9", "172.30.0.11")})
			b.failure = tt.ensured
			_, _ = c.Ensure(t.Context(), service())
			b.failure = nil
			b.looks = func(*reconcileRequest) *reconcileResponse {
				return &reconcileResponse{Results: []*backendv1.LoadBalancerResult{withProblem(
					found(nil, condition(notOwned, "taken")),
					backendv1.ErrorReason_ERROR_REASON_ADDRESS_NOT_OWNED)}}
			}
			for range 2 {
				if _, err := c.lookAround(t.Context(), false); err != nil {
					t.Fatal(err)
				}
			}
			if diff := cmp.Diff(tt.want, b.events.Take()); diff != "" {
				t.Errorf("events (-want +got):\n%s", diff)
			}
		})
	}
}

func TestARenamedAddressIsToldOnce(t *testing.T) {
	published := service(func(s *v1.Service) {
		s.Status.LoadBalancer = *vip("198.51.100.9", "172.30.0.11")
	})
	named := func(id, name string, managed bool) *backendv1.LoadBalancerAddress {
		address := onNode("198.51.100.9", "172.30.0.11")
		address.ResourceId, address.ResourceName, address.Managed = id, name, managed
		return address
	}
	told := warned("AddressRenamed", "The floating IP of the address 198.51.100.9 was renamed from lb-shop-web "+
		"to shop: it is kept, but if its marker is lost as well it cannot be recognized; rename it back")
	for _, tt := range []struct {
		name  string
		looks []*backendv1.LoadBalancerAddress
		want  []string
	}{
		{"it has its name", []*backendv1.LoadBalancerAddress{
			named("a", "lb-shop-web", true), named("a", "lb-shop-web", true)}, nil},
		{"it has another one from the beginning", []*backendv1.LoadBalancerAddress{
			named("a", "shop", true), named("a", "shop", true)}, nil},
		{"it is renamed", []*backendv1.LoadBalancerAddress{
			named("a", "lb-shop-web", true), named("a", "shop", true), named("a", "shop", true)},
			[]string{told}},
		{"another one takes its place", []*backendv1.LoadBalancerAddress{
			named("a", "lb-shop-web", true), named("b", "shop", true)}, nil},
		{"it is the user's own", []*backendv1.LoadBalancerAddress{
			named("a", "lb-shop-web", false), named("a", "shop", false)}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b, c := newPeer(t, published, node("worker-1", id1))
			for _, address := range tt.looks {
				b.looks = func(*reconcileRequest) *reconcileResponse {
					return &reconcileResponse{Results: []*backendv1.LoadBalancerResult{
						found([]*backendv1.LoadBalancerAddress{address})}}
				}
				if _, err := c.lookAround(t.Context(), false); err != nil {
					t.Fatal(err)
				}
			}
			if diff := cmp.Diff(tt.want, b.events.Take()); diff != "" {
				t.Errorf("events (-want +got):\n%s", diff)
			}
		})
	}
}

func TestAnotherAddressInPlaceOfOneIsTold(t *testing.T) {
	created := []*backendv1.Action{{
		Type: backendv1.ActionType_ACTION_TYPE_CREATE, Address: "198.51.100.10",
		Key: &backendv1.LoadBalancerKey{Scope: scope, Name: "shop/web"},
		Why: "its address 198.51.100.9 is gone from the project",
	}}
	for name, tt := range map[string]struct {
		published *v1.LoadBalancerStatus
		want      []string
	}{
		"the first one": {vip(), nil},
		"another one": {vip("198.51.100.9", "172.30.0.11"), []string{
			"Service shop/web Normal AddressReplaced Allocated the address 198.51.100.10: " +
				"its address 198.51.100.9 is gone from the project"}},
	} {
		t.Run(name, func(t *testing.T) {
			s := service(func(s *v1.Service) { s.Status.LoadBalancer = *tt.published })
			b, c := newPeer(t, s, node("worker-1", id1))
			b.answer([]*backendv1.LoadBalancerAddress{onNode("198.51.100.10", "172.30.0.11")})
			b.actions = created
			if _, err := c.Ensure(t.Context(), s); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, b.events.Take()); diff != "" {
				t.Errorf("events (-want +got):\n%s", diff)
			}
		})
	}
}

func TestWishesThatWillNotBeAreTold(t *testing.T) {
	both := families(v1.IPv4Protocol, v1.IPv6Protocol)
	prefer := policy(v1.IPFamilyPolicyPreferDualStack)
	oneFamily := func(family string) string {
		return warned("OneIPFamily", "The Service prefers both IP families, and gets an "+family+
			" address only: a second address is not supported yet")
	}
	unknown := func(name, known string) string {
		return warned("UnknownAnnotation",
			"The annotation "+name+" is not known: did you mean "+known+"?")
	}
	typo := annotated("oxide.computer/floating-pi", "198.51.100.9")
	for _, tt := range []struct {
		name string
		// services are the Service as it is from call to call.
		services []*v1.Service
		want     []string
	}{
		{"nothing of that kind", []*v1.Service{service()}, nil},
		{"a misspelt annotation, once", []*v1.Service{service(typo), service(typo)},
			[]string{unknown("oxide.computer/floating-pi", annotations.FloatingIP)}},
		{"two of them, in order", []*v1.Service{
			service(typo, annotated("oxide.computer/address_source", "floating-ip")),
		}, []string{unknown("oxide.computer/address_source", annotations.AddressSource),
			unknown("oxide.computer/floating-pi", annotations.FloatingIP)}},
		{"it was mended, and made again", []*v1.Service{service(typo), service(), service(typo)},
			[]string{unknown("oxide.computer/floating-pi", annotations.FloatingIP),
				unknown("oxide.computer/floating-pi", annotations.FloatingIP)}},
		{"what is somebody else's", []*v1.Service{service(annotated("oxide.computer/owner", "x"))}, nil},
		{"both families preferred", []*v1.Service{service(prefer, both), service(prefer, both)},
			[]string{oneFamily("IPv4")}},
		{"both preferred, in the other order", []*v1.Service{
			service(prefer, families(v1.IPv6Protocol, v1.IPv4Protocol)),
		}, []string{oneFamily("IPv6")}},
		{"both preferred, where the cluster has one", []*v1.Service{service(prefer)}, nil},
		{"both preferred by its Pods, one asked for the address", []*v1.Service{
			service(prefer, both, annotated(annotations.FloatingIPVersion, "v6")),
		}, nil},
		{"both preferred, then one", []*v1.Service{service(prefer, both), service(),
			service(prefer, both)}, []string{oneFamily("IPv4"), oneFamily("IPv4")}},
		{"a Service that cannot be served is told of what is misspelt in it, too", []*v1.Service{
			service(typo, policy(v1.IPFamilyPolicyRequireDualStack)),
		}, []string{unknown("oxide.computer/floating-pi", annotations.FloatingIP)}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b, c := newPeer(t)
			b.answer([]*backendv1.LoadBalancerAddress{onNode("198.51.100.9", "172.30.0.11")})
			for _, s := range tt.services {
				list(t, c, s)
				_, _ = c.Ensure(t.Context(), s)
			}
			if diff := cmp.Diff(tt.want, b.events.Take()); diff != "" {
				t.Errorf("events (-want +got):\n%s", diff)
			}
		})
	}
}

func TestWhatWasToldOfAServiceIsForgottenWithIt(t *testing.T) {
	for name, end := range map[string]func(*Controller) error{
		"released": func(c *Controller) error { return c.Release(t.Context(), service()) },
		"deleted": func(c *Controller) error {
			c.forget(service())
			return nil
		},
		"deleted while nobody watched": func(c *Controller) error {
			c.forget(cache.DeletedFinalStateUnknown{Obj: service()})
			return nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			b, c := newPeer(t, service())
			b.answer([]*backendv1.LoadBalancerAddress{onNode("198.51.100.9", "172.30.0.11")},
				condition(firewallClosed, "open TCP 80"))
			for range 2 {
				if _, err := c.Ensure(t.Context(), service()); err != nil {
					t.Fatal(err)
				}
				if err := end(c); err != nil {
					t.Fatal(err)
				}
			}
			if got := b.events.Take(); len(got) != 2 {
				t.Errorf("the events are %q, want one for each life", got)
			}
		})
	}
}

func TestChangesInOxideAreLogged(t *testing.T) {
	_, mark := logged.since(0, "")
	b, c := newPeer(t, service())
	b.answer([]*backendv1.LoadBalancerAddress{onNode("198.51.100.9", "172.30.0.11")})
	b.actions = []*backendv1.Action{{
		Type: backendv1.ActionType_ACTION_TYPE_ATTACH, Address: "198.51.100.9",
		Key:          &backendv1.LoadBalancerKey{Scope: scope, Name: "shop/web"},
		ResourceName: "lb-shop-web", InstanceId: id1, Why: "it is attached\nnowhere",
	}}
	if _, err := c.Ensure(t.Context(), service()); err != nil {
		t.Fatal(err)
	}
	if err := c.Release(t.Context(), service()); err != nil {
		t.Fatal(err)
	}
	lines, _ := logged.since(mark, "Changed in Oxide")
	if len(lines) != 2 {
		t.Fatalf("%d lines: %q", len(lines), lines)
	}
	for _, line := range lines {
		for _, part := range []string{`"namespace"="shop"`, `"service"="web"`, "ATTACH", "198.51.100.9",
			"lb-shop-web", id1, "it is attached nowhere"} {
			if !strings.Contains(line, part) {
				t.Errorf("the line has no %s: %s", part, line)
			}
		}
	}
}
