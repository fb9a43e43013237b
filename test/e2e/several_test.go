// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package e2e

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/objects"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/rack"
)

// What is promised of Services with both IP families, and with several addresses of one, on one rack at
// the same time.
func TestFamiliesAndSeveralAddresses(t *testing.T) {
	together(t, settings{
		prepare: withSubnets,
		families: map[string]families{
			"both": dual, "mixed": dual, "preferring": dual, "six": dual, "alonesix": sixOnly, "four": dual,
		},
	},
		row{"both families are required", "both", 2, bothFamilies},
		row{"each family has another source", "mixed", 2, familiesOfTwoSources},
		row{"both families are preferred, and no node has IPv6", "lacking", 2, familyIsLacking},
		row{"both families are preferred", "preferring", 2, bothFamiliesPreferred},
		row{"both families are required, and no node has IPv6", "without", 2, familyIsRequired},
		row{"IPv6 alone", "six", 2, onlySix},
		row{"IPv6 alone on nodes that have no other", "alonesix", 2, onlySix},
		row{"two addresses on three nodes", "two", 3, func(p *pool) { twoOnThree(p, floating4, nil) }},
		row{"two external subnets on three nodes", "twosub", 3, func(p *pool) {
			twoOnThree(p, subnet4, routed)
		}},
		row{"the count is raised and lowered", "count", 3, countChanges},
		row{"two addresses of each family", "four", 3, twoOfEach},
		row{"two are retained, and one and then three are asked for", "again", 3, retainedInAnyNumber},
	)
}

// bothFamilies: an address of each family, on one node or two, and each fails over.
func bothFamilies(p *pool) {
	service := p.make("", inFamilies(corev1.IPFamilyPolicyRequireDualStack,
		corev1.IPv6Protocol, corev1.IPv4Protocol), objects.TCP(80))
	before := p.carried(service, floating6, floating4)
	p.waitFor(service, metav1.ConditionTrue, "AddressAttached", before[0].Addr, before[1].Addr)
	p.ready(corev1.ConditionUnknown, before[0].Instance)
	p.leaves(before[0].Addr, before[0].Instance)
	for _, now := range p.carriedAgain(service, before) {
		if now.Instance == before[0].Instance {
			p.Errorf("%s is on a silent node", now.Addr)
		}
	}
	// One family goes, and nothing happens to the other.
	p.ready(corev1.ConditionTrue, before[0].Instance)
	p.patch(service, map[string]any{"spec": map[string]any{
		"ipFamilyPolicy": corev1.IPFamilyPolicySingleStack,
		"ipFamilies":     []corev1.IPFamily{corev1.IPv6Protocol},
		"clusterIPs":     p.service(service).Spec.ClusterIPs[:1],
	}})
	p.carriedAgain(service, before[:1])
	p.remove(service)
	p.vanishes(service)
}

func familiesOfTwoSources(p *pool) {
	service := p.make("", edits(
		inFamilies(corev1.IPFamilyPolicyRequireDualStack, corev1.IPv4Protocol, corev1.IPv6Protocol),
		annotated("address-source", "floating-ip,external-subnet"),
	), objects.TCP(80))
	before := p.carried(service, floating4, subnet6)
	p.annotate(service, "address-source", "external-subnet")
	now := p.carried(service, subnet4, subnet6)
	if now[1] != before[1] {
		p.Errorf("the address of the other family was %+v, and is %+v", before[1], now[1])
	}
	p.remove(service)
	p.vanishes(service)
}

// Nothing is wrong with a Service that prefers both families as long as it has one.
func familyIsLacking(p *pool) {
	for i, order := range [][]corev1.IPFamily{
		{corev1.IPv4Protocol, corev1.IPv6Protocol}, {corev1.IPv6Protocol, corev1.IPv4Protocol},
	} {
		service := p.make(fmt.Sprint("-", i), inFamilies(corev1.IPFamilyPolicyPreferDualStack, order...),
			objects.TCP(int32(80+i)))
		p.carried(service, floating4)
		p.told(service, "IPFamilyMissing", "there is no IPv6 address: no node has a private IPv6 address")
		p.waitFor(service, metav1.ConditionTrue, "IPFamilyMissing", "no node has a private IPv6 address")
		p.nothingFailed(service)
	}
}

// nothingFailed checks that a Service was not said to fail.
func (p *pool) nothingFailed(service string) {
	p.Helper()
	failed, err := p.warnings(p.Context(), p.service(service), syncFailed)
	if err != nil || len(failed) > 0 {
		p.Errorf("%s failed: %v, %v", service, messages(failed), err)
	}
}

func bothFamiliesPreferred(p *pool) {
	service := p.make("", both, objects.TCP(80))
	p.carried(service, floating4, floating6)
}

func familyIsRequired(p *pool) {
	service := p.make("", inFamilies(corev1.IPFamilyPolicyRequireDualStack,
		corev1.IPv4Protocol, corev1.IPv6Protocol), objects.TCP(80))
	p.waitFor(service, metav1.ConditionFalse, "NoCandidate", "2001:db8:51:",
		"none has a private address of its IP family")
	ingress := p.service(service).Status.LoadBalancer.Ingress
	if len(ingress) != 2 || version(ingress[0].IP) != "v4" {
		p.Errorf("the other family is not served: %v", ingress)
	}
	p.remove(service)
	p.vanishes(service)
}

// onlySix: whichever the source.
func onlySix(p *pool) {
	for i, source := range []struct {
		kind string
		edit func(*corev1.Service)
	}{{floating6, func(*corev1.Service) {}}, {subnet6, routed}} {
		service := p.make(fmt.Sprint("-", i), edits(onlyIPv6, source.edit), objects.TCP(int32(80+i)))
		before := p.carried(service, source.kind)
		p.ready(corev1.ConditionUnknown, before[0].Instance)
		p.leaves(before[0].Addr, before[0].Instance)
		p.carriedAgain(service, before)
		p.ready(corev1.ConditionTrue, before[0].Instance)
		p.remove(service)
		p.vanishes(service)
	}
}

// twoOnThree: a node dies, its address goes to the third node, and the other address stays attached
// where it is at all times. When two nodes are dead, one address stays without a node of its own.
func twoOnThree(p *pool, kind string, edit func(*corev1.Service)) {
	source := edits(annotated("addresses-per-family", "2"))
	if edit != nil {
		source = edits(source, edit)
	}
	service := p.make("", source, objects.TCP(80))
	before := p.carried(service, kind, kind)
	j := p.journal(service)
	p.neverLeaves(before[1], func() {
		p.ready(corev1.ConditionUnknown, before[0].Instance)
		third := p.leaves(before[0].Addr, before[0].Instance)
		if third == before[1].Instance {
			p.Errorf("both addresses are on %s", third)
		}
		p.carriedAgain(service, before)
		p.ready(corev1.ConditionUnknown, third)
		p.told(service, "LoadBalancerDegraded", before[0].Addr, third,
			"carries another address of the load balancer")
		p.ready(corev1.ConditionTrue, before[0].Instance)
		p.leaves(before[0].Addr, third)
		p.carriedAgain(service, before)
	})
	if kind == subnet4 {
		for _, published := range j.different() {
			if !slices.Equal(published, []string{before[0].Addr, before[1].Addr}) {
				p.Errorf("for a moment %s has published %q", service, published)
			}
		}
	}
	p.remove(service)
	p.vanishes(service)
}

// neverLeaves checks, again and again while something is done, that an address is attached where it is.
func (p *pool) neverLeaves(c rack.Carried, do func()) {
	p.Helper()
	p.whileLooking(do, func(state rack.State) string {
		if now, _ := state.At(c.Addr); now != c {
			return fmt.Sprintf("for a moment %+v was %+v", c, now)
		}
		return ""
	})
}

// countChanges: more are added to those that are there; of those that are too many those go first whose
// node is unhealthy; one that finds no node of its own stays reserved.
func countChanges(p *pool) {
	service := p.make("", nil, objects.TCP(80))
	one := p.carried(service, floating4)
	p.annotate(service, "addresses-per-family", "3")
	three := p.carried(service, floating4, floating4, floating4)
	if !slices.Contains(three, one[0]) {
		p.Errorf("the address was %+v, and there are %+v", one[0], three)
	}
	p.annotate(service, "addresses-per-family", "4")
	text := p.told(service, "NoCandidate", "is reserved but attached nowhere",
		"carries another address of the load balancer")
	if !strings.Contains(text, "198.51.100.") {
		p.Errorf("it does not say which: %s", text)
	}
	p.nothingFailed(service)
	p.annotate(service, "addresses-per-family", "3")
	for _, now := range p.carried(service, floating4, floating4, floating4) {
		if !slices.Contains(three, now) {
			p.Errorf("there is %+v, which was not among %+v", now, three)
		}
	}
	p.ready(corev1.ConditionUnknown, one[0].Instance)
	p.told(service, "LoadBalancerDegraded", one[0].Addr)
	p.annotate(service, "addresses-per-family", "2")
	for _, now := range p.carried(service, floating4, floating4) {
		if !slices.Contains(three, now) || now == one[0] {
			p.Errorf("there is %+v, which was not among %+v, or is on a silent node", now, three)
		}
	}
	p.annotate(service, "addresses-per-family", "9")
	p.warned(service, syncFailed, prefix+"addresses-per-family", "use a number from 1 to 8")
	p.remove(service)
	p.vanishes(service)
}

// retainedInAnyNumber: a Service that is created again gets of what was retained as much as it asks for,
// and what is left stays for the next one.
func retainedInAnyNumber(p *pool) {
	asking := func(n string) func(*corev1.Service) {
		return edits(routed, annotated("retain-address", "true", "addresses-per-family", n))
	}
	service := p.make("", asking("2"), objects.TCP(80))
	two := p.carried(service, subnet4, subnet4)
	left := func() {
		p.Helper()
		all := ownedBy(p.state(), service)
		for _, c := range all {
			if c.AttachState != rack.Detached || !strings.HasSuffix(c.Description, " retained") {
				p.Errorf("the Service is gone, and has left %+v", c)
			}
		}
		if len(all) != len(two) {
			p.Errorf("the Service is gone, and has left %+v of %+v", all, two)
		}
	}
	p.remove(service)
	left()
	p.make("", asking("1"), objects.TCP(80))
	p.eventually(func(context.Context) (string, error) {
		if len(p.service(service).Status.LoadBalancer.Ingress) != 1 {
			return "an address", nil
		}
		return "", nil
	})
	now := p.service(service).Status.LoadBalancer.Ingress[0].IP
	other := slices.IndexFunc(two, func(c rack.Carried) bool { return c.Addr != now })
	p.carriedBeside(service, subnet4, two[other])
	if two[1-other].Addr != now {
		p.Errorf("it has %s, and %+v were retained", now, two)
	}
	p.remove(service)
	left()
	p.make("", asking("3"), objects.TCP(80))
	three := p.carried(service, subnet4, subnet4, subnet4)
	for _, before := range two {
		if !slices.ContainsFunc(three, func(c rack.Carried) bool { return c.ID == before.ID }) {
			p.Errorf("%+v did not come back: there are %+v", before, three)
		}
	}
	p.annotate(service, "retain-address", "")
	p.remove(service)
	p.vanishes(service)
}

func twoOfEach(p *pool) {
	service := p.make("", edits(
		inFamilies(corev1.IPFamilyPolicyRequireDualStack, corev1.IPv4Protocol, corev1.IPv6Protocol),
		annotated("addresses-per-family", "2", "address-source", "floating-ip,external-subnet"),
	), objects.TCP(80))
	p.carried(service, floating4, floating4, subnet6, subnet6)
	p.remove(service)
	p.vanishes(service)
}

// A rack before release 21 allocates no external subnets of one address side by side: that is said in
// one line, and it is not asked for again and again.
func TestAnOldReleaseIsSaidOnce(t *testing.T) {
	e := newEnvironment(t, settings{prepare: withSubnets, apiVersion: rack.Release20})
	e.join("node-a")
	first := objects.LoadBalancer("default", "first", objects.TCP(80))
	second := objects.LoadBalancer("default", "second", objects.TCP(80))
	for _, service := range []*corev1.Service{first, second} {
		service.Annotations = map[string]string{prefix + "address-source": "external-subnet"}
	}
	e.createService(first)
	before := e.carried("first", subnet4)
	e.createService(second)
	e.warned("second", syncFailed, "racks before release 21, as this one is",
		"no external subnet of a single address", prefix+"subnet-pool")
	e.waitFor("second", metav1.ConditionFalse, "PoolExhausted", "release 21")
	requests, err := e.rack.Requests(t.Context())
	e.must(err)
	if n := requests["external_subnet_create"]; n > 6 {
		t.Errorf("%d requests for two external subnets", n)
	}
	e.annotate("second", "subnet-pool", "edge-subnets")
	e.carried("second", subnet4)
	e.carriedAgain("first", before)
}

// Services whose Node was deleted while nobody ran are served again, from either source; and what a
// failover by an external subnet costs is no write of a status.
func TestANodeThatWasDeletedWhileNobodyRanStrandsNothing(t *testing.T) {
	e := newEnvironment(t, settings{prepare: withSubnets, machines: machines(3)})
	e.join("node-a")
	before := map[string][]rack.Carried{}
	for i, name := range []string{"first", "second", "floating"} {
		service := objects.LoadBalancer("default", name, objects.TCP(80))
		if name != "floating" {
			service.Annotations = map[string]string{prefix + "address-source": "external-subnet"}
			e.createService(service)
			before[name] = e.carried(name, subnet4)
		} else {
			e.createService(service)
			before[name] = e.carried(name, floating4)
		}
		if before[name][0].Instance != "node-a" {
			t.Fatalf("%d: it has %+v", i, before[name])
		}
	}
	e.join("node-b")
	e.must(e.ccm.Stop())
	e.must(e.client.CoreV1().Nodes().Delete(t.Context(), "node-a", metav1.DeleteOptions{}))
	e.must(e.ccm.StartBackend(t.Context()))
	e.must(e.ccm.StartShim(t.Context()))
	for name, had := range before {
		e.leaves(had[0].Addr, "node-a")
		e.carriedAgain(name, had)
	}
	e.remove("floating")
	e.join("node-c")
	writes := e.publications()
	e.ready(corev1.ConditionUnknown, "node-b")
	for _, name := range []string{"first", "second"} {
		e.leaves(before[name][0].Addr, "node-b")
		e.carriedAgain(name, before[name])
	}
	if n := e.publications() - writes; n != 0 {
		t.Errorf("the failover wrote %d statuses", n)
	}
	for _, name := range []string{"first", "second"} {
		e.remove(name)
		e.vanishes(name)
	}
}
