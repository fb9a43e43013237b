// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package e2e

import (
	"context"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/objects"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/rack"
)

// finalizer is what the framework puts on a Service before it has anything made for it.
const finalizer = "service.kubernetes.io/load-balancer-cleanup"

func TestAServiceGetsItsAddressAndGivesItBack(t *testing.T) {
	e := newEnvironment(t, settings{})
	e.join("node-a", "node-b")
	e.create("web", objects.TCP(80), objects.TCP(443))
	address := e.served("web")
	e.create("dns", objects.UDP(53))
	other := e.served("dns")
	if address == other {
		t.Fatalf("both Services have %s", address)
	}

	service := e.service("web")
	if diff := cmp.Diff([]string{finalizer}, service.Finalizers); diff != "" {
		t.Errorf("finalizers (-want +got):\n%s", diff)
	}

	e.remove("web")
	// The finalizer was let go, so the address has to be gone, and only this one.
	if _, found := e.state().FloatingIP(address); found {
		t.Errorf("the floating IP %s outlives its Service", address)
	}
	if got := e.served("dns"); got != other {
		t.Errorf("the other Service has %s now, had %s", got, other)
	}
}

func TestAServiceThatIsNoLoadBalancerAnyMoreGivesItsAddressBack(t *testing.T) {
	e := newEnvironment(t, settings{})
	e.join("node-a")
	e.create("web", objects.TCP(80))
	e.served("web")
	_, err := e.client.CoreV1().Services("default").Patch(t.Context(), "web",
		types.MergePatchType, []byte(`{"spec":{"type":"ClusterIP"}}`), metav1.PatchOptions{})
	e.must(err)
	e.eventually(func(ctx context.Context) (string, error) {
		service := e.service("web")
		switch ips := e.state().FloatingIPs; {
		case len(ips) != 0:
			return fmt.Sprintf("the end of %v", ips), nil
		case len(service.Status.LoadBalancer.Ingress) != 0:
			return "the empty status", nil
		case len(service.Finalizers) != 0:
			return "the end of the finalizer", nil
		}
		return "", nil
	})
}

// Invariant 5, least movement: an address moves if its Node goes, and never because one comes.
func TestAnAddressMovesOnlyWhenItsNodeGoes(t *testing.T) {
	e := newEnvironment(t, settings{})
	e.join("node-a")
	e.create("web", objects.TCP(80))
	address := e.served("web")
	before, ensured := e.mutations(), e.said("Successfully updated 1 out of 1 load balancers")
	e.join("node-b")
	e.eventually(func(context.Context) (string, error) {
		if e.said("Successfully updated 1 out of 1 load balancers") == ensured {
			return "the look at the Services that a new Node makes necessary", nil
		}
		return "", nil
	})
	e.served("web")
	if diff := cmp.Diff(before, e.mutations()); diff != "" {
		t.Errorf("a new Node changed the rack (-before +after):\n%s", diff)
	}

	e.must(e.client.CoreV1().Nodes().Delete(t.Context(), "node-a", metav1.DeleteOptions{}))
	e.eventually(func(ctx context.Context) (string, error) {
		ip, _ := e.state().FloatingIP(address)
		if ip.AttachState != rack.Attached || ip.Instance != "node-b" {
			return fmt.Sprintf("the move to node-b, got %+v", ip), nil
		}
		return "", nil
	})
	if got := e.served("web"); got != address {
		t.Errorf("the Service has %s now, had %s", got, address)
	}
	before["floating_ip_detach"]++
	before["floating_ip_attach"]++
	if diff := cmp.Diff(before, e.mutations()); diff != "" {
		t.Errorf("requests for changes on the rack (-want +got):\n%s", diff)
	}
}

// The framework takes an empty status for success and never asks again: so a Service without a
// healthy node has to be an error that is tried again.
func TestAServiceGetsItsStatusOnceANodeIsReady(t *testing.T) {
	e := newEnvironment(t, settings{})
	e.join("node-a")
	e.ready(corev1.ConditionFalse, "node-a")
	e.create("web", objects.TCP(80))
	e.eventually(func(ctx context.Context) (string, error) {
		events, err := e.client.CoreV1().Events("default").List(ctx, metav1.ListOptions{
			FieldSelector: "involvedObject.name=web,type=Warning",
		})
		if err != nil {
			return "", err
		}
		if len(events.Items) == 0 {
			return "an event that says what the Service waits for", nil
		}
		return "", nil
	})
	if ingress := e.service("web").Status.LoadBalancer.Ingress; len(ingress) != 0 {
		t.Errorf("the status is %v though no node is ready", ingress)
	}
	e.ready(corev1.ConditionTrue, "node-a")
	e.served("web")
}

// Invariant 8: losing us changes nothing, and coming back changes nothing either.
func TestARestartChangesNothing(t *testing.T) {
	e := newEnvironment(t, settings{})
	e.join("node-a", "node-b")
	e.create("web", objects.TCP(80))
	e.create("dns", objects.UDP(53))
	e.served("web")
	e.served("dns")
	before, requests := e.state(), e.mutations()
	ensured := map[string]int{}
	for _, name := range []string{"default/web", "default/dns"} {
		ensured[name] = e.said("Ensured load balancer", name)
	}

	e.must(e.ccm.Stop())
	for _, p := range []interface {
		Name() string
		ExitCode() int
	}{e.ccm.Backend, e.ccm.Shim} {
		if code := p.ExitCode(); code != 0 {
			t.Errorf("%s ended with exit code %d when asked to end", p.Name(), code)
		}
	}
	if diff := cmp.Diff(before, e.state()); diff != "" {
		t.Errorf("the end changed the rack (-before +after):\n%s", diff)
	}
	e.unchanging("web", func() {
		e.must(e.ccm.StartBackend(t.Context()))
		e.must(e.ccm.StartShim(t.Context()))
		for _, name := range []string{"default/web", "default/dns"} {
			e.eventually(func(context.Context) (string, error) {
				if e.said("Ensured load balancer", name) <= ensured[name] {
					return "the new leader's look at " + name, nil
				}
				return "", nil
			})
		}
	})
	e.served("web")
	e.served("dns")
	if diff := cmp.Diff(before, e.state()); diff != "" {
		t.Errorf("the restart changed the rack (-before +after):\n%s", diff)
	}
	if diff := cmp.Diff(requests, e.mutations()); diff != "" {
		t.Errorf("requests for changes on the rack (-before +after):\n%s", diff)
	}
}

// Invariant 6: either process may die between any two calls of Oxide.
func TestABackendKilledInTheMiddleLosesNothing(t *testing.T) {
	e := newEnvironment(t, settings{})
	e.join("node-a", "node-b")
	const services = 4
	for i := range services {
		name := fmt.Sprintf("web-%d", i)
		before := e.mutationCount()
		e.create(name, objects.TCP(int32(8000+i)))
		// Killed as soon as the rack was asked to change anything.
		e.eventually(func(context.Context) (string, error) {
			if e.mutationCount() == before {
				return "a change on the rack", nil
			}
			return "", nil
		})
		e.ccm.Backend.Kill()
		e.must(e.ccm.StartBackend(t.Context()))
	}
	addresses := map[string]bool{}
	for i := range services {
		addresses[e.served(fmt.Sprintf("web-%d", i))] = true
	}
	state := e.state()
	if len(addresses) != services || len(state.FloatingIPs) != services {
		t.Errorf("%d Services have %d addresses, the rack has %v", services, len(addresses),
			state.FloatingIPs)
	}
	e.nodesExist("node-a", "node-b")
}

// mutations returns how often the rack was asked to change floating IPs, by operation.
func (e *environment) mutations() map[string]int {
	e.Helper()
	requests, err := e.rack.Requests(e.Context())
	e.must(err)
	changing := map[string]int{}
	for _, operation := range []string{
		"floating_ip_create", "floating_ip_update", "floating_ip_delete", "floating_ip_attach",
		"floating_ip_detach",
	} {
		changing[operation] = requests[operation]
	}
	return changing
}

func (e *environment) mutationCount() int {
	e.Helper()
	total := 0
	for _, n := range e.mutations() {
		total += n
	}
	return total
}
