// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/objects"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/rack"
)

// A Service that prefers both IP families, IPv6 first, gets the IPv4 address that can be had, and an IPv6
// one as well when that can be. One that requires IPv6 gets an error that says which pool to name.
func TestWhoPrefersAFamilyGetsWhatCanBeHad(t *testing.T) {
	e := newEnvironment(t, settings{machines: dualStack})
	e.must(e.rack.AddPool(t.Context(), rack.Pool{
		Name: "six", Version: "v6", First: "2001:db8:51::10", Last: "2001:db8:51::ffff",
	}))
	e.join("node-a", "node-b")
	preferring := func(name string, port int32, first, second corev1.IPFamily) {
		service := objects.LoadBalancer("default", name, objects.TCP(port))
		policy := corev1.IPFamilyPolicyPreferDualStack
		service.Spec.IPFamilyPolicy = &policy
		service.Spec.IPFamilies = []corev1.IPFamily{first, second}
		e.createService(service)
	}
	preferring("six-first", 80, corev1.IPv6Protocol, corev1.IPv4Protocol)
	sixFirst := e.served("six-first")
	preferring("four-first", 81, corev1.IPv4Protocol, corev1.IPv6Protocol)
	fourFirst := e.served("four-first")
	for name, address := range map[string]string{"six-first": sixFirst, "four-first": fourFirst} {
		if !strings.HasPrefix(address, "198.51.100.") {
			t.Errorf("the address of %s is %s, and there is a default pool for IPv4 alone", name, address)
		}
		if failed, err := e.warnings(t.Context(), e.service(name), syncFailed); err != nil || len(failed) > 0 {
			t.Errorf("%s failed: %v, %v", name, messages(failed), err)
		}
		e.warned(name, "IPFamilyMissing", "there is no IPv6 address")
	}

	required := objects.LoadBalancer("default", "required", objects.TCP(82))
	onlyIPv6(required)
	e.createService(required)
	e.warned("required", syncFailed, "no default pool for IPv6", "name another pool of IPv6 addresses",
		"in the annotation "+prefix+"floating-ip-pool", "spec.ipFamilies")
	e.annotate("required", "floating-ip-pool", "six")
	if address := e.served("required"); !strings.HasPrefix(address, "2001:db8:51:") {
		t.Errorf("the address of a Service that requires IPv6 is %s", address)
	}

	// What could be had now is had, and what is there stays.
	e.must(e.rack.AddPool(t.Context(), rack.Pool{
		Name: "default-v6", Version: "v6", First: "2001:db8:52::10", Last: "2001:db8:52::ffff", Default: true,
	}))
	e.restart()
	e.servedByBoth("six-first", "2001:db8:52:", sixFirst)
	e.servedByBoth("four-first", fourFirst, "2001:db8:52:")
}

// A Service that requires both IP families gets an address of each, in its order, and has neither when it
// is gone.
func TestWhoRequiresBothFamiliesGetsBoth(t *testing.T) {
	e := newEnvironment(t, settings{machines: dualStack})
	e.addPools()
	e.join("node-a", "node-b")
	service := objects.LoadBalancer("default", "web", objects.TCP(80))
	both(service)
	service.Spec.IPFamilyPolicy = new(corev1.IPFamilyPolicyRequireDualStack)
	service.Annotations = map[string]string{prefix + "floating-ip-pool": "edge,"}
	e.createService(service)
	e.servedByBoth("web", "203.0.113.", "2001:db8:51:")
	addresses := e.service("web").Status.LoadBalancer.Ingress
	e.remove("web")
	e.gone(addresses[0].IP)
	e.gone(addresses[1].IP)
}

// A Service that has an address is changed to prefer both IP families: it keeps that, and gets another one.
func TestWhoComesToPreferBothFamiliesGetsTheOtherOne(t *testing.T) {
	e := newEnvironment(t, settings{machines: dualStack})
	e.addPools()
	e.join("node-a", "node-b")
	e.create("web", objects.TCP(80))
	address := e.served("web")
	services, name := e.services("web")
	e.must(objects.Change(t.Context(), name, services.Get, services.Update, both))
	e.servedByBoth("web", address, "2001:db8:51:")
}

// servedByBoth waits until a Service is served with two floating IPs that begin so.
func (e *environment) servedByBoth(key, first, second string) {
	e.Helper()
	e.eventually(func(ctx context.Context) (string, error) {
		_, missing, err := e.truth(ctx, key)
		if err != nil || missing != "" {
			return missing, err
		}
		ingress := e.service(key).Status.LoadBalancer.Ingress
		if len(ingress) != 4 || !strings.HasPrefix(ingress[0].IP, first) ||
			!strings.HasPrefix(ingress[1].IP, second) {
			missing = fmt.Sprintf("%s… and %s… in the status of %s, got %v", first, second, key, ingress)
		}
		return missing, nil
	})
}

// Where no node has an IPv6 address, an IPv6 pool is of no use.
func TestWhoPrefersAFamilyThatNoNodeHasGetsTheOther(t *testing.T) {
	e := newEnvironment(t, settings{})
	e.addPools()
	e.join("node-a", "node-b")
	service := objects.LoadBalancer("default", "web", objects.TCP(80))
	both(service)
	service.Spec.IPFamilies = []corev1.IPFamily{corev1.IPv6Protocol, corev1.IPv4Protocol}
	e.createService(service)
	if address := e.served("web"); !strings.HasPrefix(address, "198.51.100.") {
		t.Errorf("the address is %s, and no node has one of its family", address)
	}
}
