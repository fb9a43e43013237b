// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package e2e

import (
	"context"
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/objects"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/stack"
)

var classedOnly = settings{shimFlags: []string{"--classed-load-balancers-only"}}

// Where others serve what has no class, that is left to them, also if they use the same framework, as k3s
// does.
func TestOnlyClassedServicesAreServedBesideAnotherDefault(t *testing.T) {
	e := classWorld(t, classedOnly)
	e.create("plain", objects.TCP(80))
	e.serveAsOther("plain", "172.30.0.250")
	services, _ := e.services("framework")
	framework := objects.LoadBalancer("default", "framework", objects.TCP(81))
	framework.Finalizers = []string{finalizer}
	_, err := services.Create(t.Context(), framework, metav1.CreateOptions{FieldManager: "k3s"})
	e.must(err)
	e.untouched("plain", func() {
		e.untouched("framework", func() {
			for _, class := range []string{classFloatingIP, classExternalSubnet} {
				e.createClassed("web", class, objects.TCP(80))
				e.servedAs("web", class)
				e.heldBy("web", classFinalizer)
				e.restart()
				e.servedAs("web", class)
				e.remove("web")
				e.has(0)
			}
		})
	})
	e.must(services.Delete(t.Context(), "framework", metav1.DeleteOptions{}))
	e.untouched("framework", func() {
		e.createClassed("web", classFloatingIP, objects.TCP(81))
		e.servedAs("web", classFloatingIP)
		e.restart()
		e.remove("web")
	})
}

// Who hands Services without a class over to another implementation loses no address by that. What is
// served by the other one by then is not fought over, and ends as it would have.
func TestServicesFromBeforeKeepWhatTheyHave(t *testing.T) {
	e := classWorld(t, settings{})
	e.create("web", objects.TCP(80))
	address := e.servedAs("web", "")
	e.must(e.ccm.Stop())
	requests := e.mutations()
	e.start(classedOnly)
	e.keepsAddresses("web", func() {
		e.warned("web", "NotServed", "--classed-load-balancers-only", classFloatingIP)
		e.createClassed("classed", classFloatingIP, objects.TCP(80))
		if other := e.served("classed"); e.nodeOf(other) == e.nodeOf(address) {
			t.Errorf("both are on %s", e.nodeOf(address))
		}
		e.remove("classed")
	})
	e.heldBy("web", finalizer)
	e.must(e.ccm.Stop())
	e.start(settings{})
	e.servedBy("web", address) // and it is taken up where it was
	for operation, n := range e.mutations() {
		// Those of the other Service.
		if want := requests[operation] + 1; n != want && operation != "floating_ip_update" {
			t.Errorf("there were %d requests %s, want %d", n, operation, want)
		}
	}

	e.must(e.ccm.Stop())
	e.start(classedOnly)
	e.serveAsOther("web", "172.30.0.250")
	e.createClassed("classed", classFloatingIP, objects.TCP(81))
	e.served("classed")
	if got := e.service("web").Status.LoadBalancer.Ingress; len(got) != 1 || got[0].IP != "172.30.0.250" {
		t.Errorf("the status of the other implementation was overwritten: %v", got)
	}
	service := e.service("web")
	e.remove("web")
	e.has(1)
	e.eventually(func(ctx context.Context) (string, error) {
		ended, err := e.eventsOn(ctx, service, ",reason=DeletedLoadBalancer")
		if err == nil && len(ended) == 0 {
			return "the event of its end", nil
		}
		return "", err
	})
}

// keepsAddresses checks that a Service publishes the same in the end as before.
func (e *environment) keepsAddresses(key string, do func()) {
	e.Helper()
	before := e.service(key).Status.LoadBalancer
	do()
	if diff := cmp.Diff(before, e.service(key).Status.LoadBalancer); diff != "" {
		e.Errorf("the status of %s is another one (-want +got):\n%s", key, diff)
	}
}

// offFlags are what the chart gives where load balancers are off.
const offFlags = "--controllers=*,-service-lb-controller,-oxide-load-balancer-controller," +
	"-oxide-load-balancer-class-controller"

// Where load balancers are off no Service is touched, nor is it read: the rights that the chart gives then
// suffice.
func TestWithoutLoadBalancersNoServiceIsTouched(t *testing.T) {
	e := newEnvironment(t, settings{idle: true})
	e.create("plain", objects.TCP(80))
	e.createClassed("classed", classFloatingIP, objects.TCP(81))
	off := settings{shimFlags: []string{offFlags, quickMonitor}}
	options := e.ccmOptions(off)
	options.Kubeconfig = e.identity("nodes-only", "loadBalancers.enabled=false")
	ccm, err := stack.StartCCM(t.Context(), options)
	e.must(err)
	e.ccm = ccm
	e.untouched("plain", func() {
		e.untouched("classed", func() {
			e.join("node-a", "node-b")
			e.must(e.rack.RemoveInstances(t.Context(), "node-b"))
			e.ready("Unknown", "node-b")
			e.eventually(func(ctx context.Context) (string, error) {
				nodes, err := e.client.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
				if err == nil && len(nodes.Items) > 1 {
					return "the end of node-b", nil
				}
				return "", err
			})
		})
	})
	e.has(0)
	// That nothing was forbidden is looked for in the logs at the end of every test.
}
