// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package e2e

import (
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/objects"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/rack"
)

// routed is the annotation by which a Service gets external subnets.
var routed = annotated("address-source", "external-subnet")

// withSubnets adds default pools of all kinds, and further subnet pools.
func withSubnets(e *environment) {
	e.Helper()
	e.must(e.rack.AddFirewallRule(e.Context(), rack.AllOpen))
	e.must(e.rack.AddPool(e.Context(), rack.Pool{
		Name: "default-v6", Version: "v6", First: "2001:db8:51::10", Last: "2001:db8:51::ffff", Default: true,
	}))
	for _, p := range []rack.SubnetPool{
		{Name: "subnets", Version: "v4", Subnet: "198.18.0.0/24", Default: true},
		{Name: "subnets-v6", Version: "v6", Subnet: "2001:db8:18::/120", Default: true},
		{Name: "edge-subnets", Version: "v4", Subnet: "198.18.1.0/28"},
	} {
		e.must(e.rack.AddSubnetPool(e.Context(), p))
	}
}

// What is promised of Services with external subnets, on one rack at the same time.
func TestExternalSubnets(t *testing.T) {
	together(t, settings{prepare: withSubnets},
		row{"a Service has one, which fails over", "subnet", 2, subnetFailsOver},
		row{"one is retained and comes back", "kept", 2, subnetIsRetained},
		row{"two Services have one port of one node", "shared", 1, subnetsShareAPort},
		row{"the source is changed and changed back", "changed", 2, sourceIsChanged},
		row{"the pool is chosen", "chosen", 2, subnetPoolIsChosen},
		row{"one is a user's own", "own", 2, subnetIsTheUsers},
		row{"what cannot be had is refused", "refused", 2, subnetsAreRefused},
		row{"one that stays where it never was a node", "foreign", 2, subnetIsForeign},
	)
}

// The status is the address alone, and stays as it is whatever happens to its node.
func subnetFailsOver(p *pool) {
	service := p.make("", routed, objects.TCP(80))
	before := p.carried(service, subnet4)[0]
	p.waitFor(service, metav1.ConditionTrue, "AddressAttached", before.Addr, before.Instance)
	if !strings.HasPrefix(before.Addr, "198.18.0.") {
		p.Errorf("the address is %s, of another pool", before.Addr)
	}
	j := p.journal(service)
	p.ready(corev1.ConditionUnknown, before.Instance)
	other := p.leaves(before.Addr, before.Instance)
	p.told(service, "AddressMoved", before.Addr, before.Instance, other, "silent")
	p.carriedAgain(service, []rack.Carried{before})
	p.ready(corev1.ConditionTrue, before.Instance)
	p.must(p.rack.StopInstance(p.Context(), other))
	p.leaves(before.Addr, other)
	p.carriedAgain(service, []rack.Carried{before})
	for _, published := range j.different() {
		if !slices.Equal(published, []string{before.Addr}) {
			p.Errorf("for a moment %s has published %q", service, published)
		}
	}
	p.must(p.rack.StartInstance(p.Context(), other))
	p.remove(service)
	p.vanishes(service)
}

func subnetIsRetained(p *pool) {
	retained := edits(routed, annotated("retain-address", "true"))
	service := p.make("", retained, objects.TCP(80))
	before := p.carried(service, subnet4)
	p.remove(service)
	left := ownedBy(p.state(), service)
	if len(left) != 1 || left[0].ID != before[0].ID || left[0].AttachState != rack.Detached ||
		!strings.HasSuffix(left[0].Description, " retained") {
		p.Errorf("the Service is gone, and has left %+v", left)
	}
	// A Service of that name which asks for a floating IP has no use for it.
	p.make("", nil, objects.TCP(80))
	p.carriedBeside(service, floating4, before[0])
	p.remove(service)
	p.make("", routed, objects.TCP(80))
	if now := p.carriedAgain(service, before); now[0].ID != before[0].ID {
		p.Errorf("it has %+v, and had %+v", now, before)
	}
	p.remove(service)
	p.vanishes(service)
}

// Packets arrive at the address itself, so nobody is in the way: not another Service, not a pod.
func subnetsShareAPort(p *pool) {
	p.hostNetworkPod("agent-shared", p.nodes[0], 80)
	first := p.make("-1", routed, objects.TCP(80))
	second := p.make("-2", routed, objects.TCP(80))
	one, other := p.carried(first, subnet4)[0], p.carried(second, subnet4)[0]
	if one.Addr == other.Addr || one.Instance != other.Instance {
		p.Errorf("they have %+v and %+v", one, other)
	}
	// A floating IP arrives where the pod is.
	third := p.make("-3", nil, objects.TCP(80))
	p.warned(third, portConflict, "TCP 80", "default/agent-shared")
	p.carriedAgain(first, []rack.Carried{one})
	p.carriedAgain(second, []rack.Carried{other})
}

// The new address is secured, published and attached before the old one goes; the event says which
// replaces which; nothing is left.
func sourceIsChanged(p *pool) {
	service := p.make("", nil, objects.TCP(80))
	before := p.carried(service, floating4)[0]
	for _, to := range []struct{ source, kind, from string }{
		{"external-subnet", subnet4, "floating IP"},
		{"", floating4, "external subnet"},
	} {
		j := p.journal(service)
		p.neverWithoutAny(service, func() {
			p.annotate(service, "address-source", to.source)
			now := p.carried(service, to.kind)[0]
			p.told(service, "AddressReplaced", now.Addr, to.from+" "+before.Addr, "the address changes")
			if !slices.ContainsFunc(j.different(), func(published []string) bool {
				return slices.Contains(published, before.Addr) && slices.Contains(published, now.Addr)
			}) {
				p.Errorf("%s and %s were never published at once: %q", before.Addr, now.Addr, j.different())
			}
			before = now
		})
		for _, published := range j.different() {
			if len(published) == 0 {
				p.Errorf("for a moment nothing was published: %q", j.different())
			}
		}
		if left := ownedBy(p.state(), service); len(left) != 1 {
			p.Errorf("on the rack are %+v", left)
		}
	}
	p.remove(service)
	p.vanishes(service)
}

func subnetPoolIsChosen(p *pool) {
	service := p.make("", edits(routed, annotated("subnet-pool", "edge-subnets")), objects.TCP(80))
	before := p.carried(service, subnet4)[0]
	if !strings.HasPrefix(before.Addr, "198.18.1.") {
		p.Errorf("the address is %s, of another pool", before.Addr)
	}
	// What it has fits whatever is allocated by default.
	p.annotate(service, "subnet-pool", "")
	p.settled()
	p.carriedAgain(service, []rack.Carried{before})
}

// An external subnet that the user owns is attached and detached, and nothing else is done to it.
func subnetIsTheUsers(p *pool) {
	const text = "paid for by team x"
	p.must(p.rack.AddSubnets(p.Context(), rack.Subnet{Name: "mine", Description: text}))
	service := p.make("", edits(routed, annotated("existing-external-subnet", "mine")), objects.TCP(80))
	mine := p.carried(service, subnet4)[0]
	p.ready(corev1.ConditionUnknown, mine.Instance)
	p.leaves(mine.Addr, mine.Instance)
	p.carriedAgain(service, []rack.Carried{mine})
	// Of two Services that name it the older one has it.
	p.nextSecond()
	names := edits(routed, annotated("existing-external-subnet", "mine"))
	younger := p.make("-late", names, objects.TCP(81))
	p.warned(younger, syncFailed, "the external subnet mine is used by", service)
	p.remove(younger)
	p.remove(service)
	now, found := p.state().At(mine.Addr)
	if !found || now.Name != "mine" || now.Description != text || now.AttachState != rack.Detached {
		p.Errorf("the user's external subnet became %+v", now)
	}
}

// What cannot be had is told in one line that names the annotation, and touches nothing that works.
func subnetsAreRefused(p *pool) {
	p.must(p.rack.AddSubnets(p.Context(), rack.Subnet{Name: "larger", PrefixLength: 29}))
	steady := p.carried(p.make("", nil, objects.TCP(80)), floating4)
	for i, tc := range []struct {
		annotation, value string
		says              []string
	}{
		{"existing-external-subnet", "larger", []string{"subnet larger has more than one address"}},
		{"existing-external-subnet", "nobodys", []string{"there is no external subnet nobodys"}},
		{"subnet-pool", "subnets-v6", []string{"subnets-v6", "IPv4"}},
		{"subnet-pool", "nowhere", []string{"the subnet pool nowhere does not exist"}},
		{"subnet-pool", "default", []string{"the subnet pool default does not exist"}},
	} {
		service := p.make("-"+string(rune('a'+i)), edits(routed, annotated(tc.annotation, tc.value)),
			objects.TCP(81))
		p.warned(service, syncFailed, append(tc.says, prefix+tc.annotation)...)
		if left := ownedBy(p.state(), service); len(left) > 0 {
			p.Errorf("%s has %+v", service, left)
		}
		p.remove(service)
		// Who asks for it in place of what it has keeps that.
		p.annotateAll(p.name, "address-source", "external-subnet", tc.annotation, tc.value)
		p.warned(p.name, syncFailed, append(tc.says, prefix+tc.annotation)...)
		if now := p.carriedAgain(p.name, steady); now[0].Instance != steady[0].Instance {
			p.Errorf("it has moved to %s", now[0].Instance)
		}
		p.annotateAll(p.name, "address-source", "", tc.annotation, "")
	}
	p.carriedAgain(p.name, steady)
}

// A user's own external subnet on an instance that never was a node is left there.
func subnetIsForeign(p *pool) {
	p.addMachine("stranger", "172.30.2.30")
	p.sees("stranger", "running")
	p.must(p.rack.AddSubnets(p.Context(), rack.Subnet{Name: "elsewhere", Instance: "stranger"}))
	names := edits(routed, annotated("existing-external-subnet", "elsewhere"))
	service := p.make("", names, objects.TCP(80))
	text := p.warned(service, "ForeignAttachment", "stranger", "never was a node")
	p.waitFor(service, metav1.ConditionFalse, "ForeignAttachment", "stranger")
	now := p.state()
	at := slices.IndexFunc(now.ExternalSubnets, func(e rack.ExternalSubnet) bool {
		return e.Name == "elsewhere"
	})
	if now.ExternalSubnets[at].Instance != "stranger" {
		p.Errorf("%s, and it is %+v", text, now.ExternalSubnets[at])
	}
	if ingress := p.service(service).Status.LoadBalancer.Ingress; len(ingress) > 0 {
		p.Errorf("it publishes %v", ingress)
	}
	p.remove(service)
	if later := p.state().ExternalSubnets; !slices.Contains(later, now.ExternalSubnets[at]) {
		p.Errorf("the external subnets are %+v, want %+v among them", later, now.ExternalSubnets[at])
	}
	// Who asks for it in place of what it has keeps that.
	late := p.make("-late", nil, objects.TCP(81))
	steady := p.carried(late, floating4)
	p.annotateAll(late, "address-source", "external-subnet", "existing-external-subnet", "elsewhere")
	p.warned(late, syncFailed, prefix+"existing-external-subnet", "is attached to the instance stranger",
		"detach it there first")
	if still := p.carriedAgain(late, steady); still[0].Instance != steady[0].Instance {
		p.Errorf("it has moved to %s", still[0].Instance)
	}
}
