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

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/objects"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/rack"
)

const (
	classFloatingIP     = prefix + "floating-ip"
	classExternalSubnet = prefix + "external-subnet"
	// classTheirs is the class of another implementation.
	classTheirs = "metallb.example.com/l2"

	// classFinalizer is what a Service with a class of ours has before anything is made for it.
	classFinalizer = prefix + "load-balancer-cleanup"
)

// classWorld is a world with nodes a and b whose firewall closes nothing and whose rack has a default
// pool for external subnets.
func classWorld(t *testing.T, s settings) *environment {
	t.Helper()
	e := newEnvironment(t, settings{idle: true})
	e.must(e.rack.AddFirewallRule(t.Context(), rack.AllOpen))
	e.must(e.rack.AddSubnetPool(t.Context(), rack.SubnetPool{
		Name: "subnets", Version: "v4", Subnet: "203.0.113.128/25", Default: true,
	}))
	e.start(s)
	e.join("node-a", "node-b")
	return e
}

// createClassed creates a Service of type LoadBalancer with a class; empty: none.
func (e *environment) createClassed(key, class string, ports ...corev1.ServicePort) {
	e.Helper()
	namespace, name := splitKey(key)
	service := objects.LoadBalancer(namespace, name, ports...)
	if class != "" {
		service.Spec.LoadBalancerClass = &class
	}
	e.createService(service)
}

// noBalancer makes a Service one of another type.
func (e *environment) noBalancer(key string) {
	e.Helper()
	e.patch(key, map[string]any{"spec": map[string]any{"type": "ClusterIP"}})
}

// balancer makes a Service a load balancer of a class; empty: of none.
func (e *environment) balancer(key, class string) {
	e.Helper()
	spec := map[string]any{"type": "LoadBalancer"}
	if class != "" {
		spec["loadBalancerClass"] = class
	}
	e.patch(key, map[string]any{"spec": spec})
}

// heldBy waits until a Service has these finalizers.
func (e *environment) heldBy(key string, finalizers ...string) {
	e.Helper()
	e.eventually(func(context.Context) (string, error) {
		return cmp.Diff(finalizers, e.service(key).Finalizers, cmp.Transformer("sorted",
			func(all []string) []string { return slices.Sorted(slices.Values(all)) })), nil
	})
}

// servedAs waits until a Service has what a class gives, and nothing else: one address in Oxide, which
// the status names.
func (e *environment) servedAs(key, class string) (address string) {
	e.Helper()
	if class != classExternalSubnet {
		address = e.served(key)
	} else {
		e.eventually(func(context.Context) (string, error) {
			ingress, subnets := e.service(key).Status.LoadBalancer.Ingress, e.state().ExternalSubnets
			if len(ingress) != 1 || len(subnets) != 1 || subnets[0].Subnet != ingress[0].IP+"/32" ||
				subnets[0].AttachState != rack.Attached {
				return fmt.Sprintf("one external subnet that is served, got %+v and %+v", ingress, subnets), nil
			}
			address = ingress[0].IP
			return "", nil
		})
	}
	e.has(1)
	return address
}

// has waits until there are so many addresses on the rack.
func (e *environment) has(addresses int) {
	e.Helper()
	e.eventually(func(context.Context) (string, error) {
		state := e.state()
		if n := len(state.FloatingIPs) + len(state.ExternalSubnets); n != addresses {
			return fmt.Sprintf("%d addresses, got %+v and %+v", addresses, state.FloatingIPs,
				state.ExternalSubnets), nil
		}
		return "", nil
	})
}

// finalizerOf is the finalizer of Services of a class; empty: of none.
func finalizerOf(class string) string {
	if class == "" {
		return finalizer
	}
	return classFinalizer
}

func TestAServiceIsServedByItsClass(t *testing.T) {
	e := classWorld(t, settings{})
	for _, class := range []string{classFloatingIP, classExternalSubnet} {
		t.Run(strings.TrimPrefix(class, prefix), func(t *testing.T) {
			e := e.within(t)
			e.createClassed("web", class, objects.TCP(80))
			address := e.servedAs("web", class)
			e.heldBy("web", classFinalizer)
			e.waitFor("web", metav1.ConditionTrue, "AddressAttached")
			service := e.service("web")
			for _, reason := range []string{"EnsuringLoadBalancer", "EnsuredLoadBalancer"} {
				e.eventually(func(ctx context.Context) (string, error) {
					found, err := e.eventsOn(ctx, service, ",reason="+reason)
					if err == nil && (len(found) != 1 || found[0].Count > 1) {
						return fmt.Sprintf("one event %s, got %+v", reason, found), nil
					}
					return "", err
				})
			}
			carrier := e.carrierOf(address)
			e.ready(corev1.ConditionUnknown, carrier)
			e.eventually(func(context.Context) (string, error) {
				if now := e.carrierOf(address); now == "" || now == carrier {
					return "the move of " + address + " off " + carrier, nil
				}
				return "", nil
			})
			if now := e.servedAs("web", class); now != address {
				t.Errorf("it has %s now, had %s", now, address)
			}
			e.ready(corev1.ConditionTrue, carrier)
			e.remove("web")
			e.has(0)
			e.endedOnce(service)
		})
	}
}

// carrierOf returns the node that carries an address, of either kind; empty: none does.
func (e *environment) carrierOf(address string) string {
	e.Helper()
	state := e.state()
	if ip, _ := state.FloatingIP(address); ip.AttachState == rack.Attached {
		return ip.Instance
	}
	for _, subnet := range state.ExternalSubnets {
		if subnet.Subnet == address+"/32" && subnet.AttachState == rack.Attached {
			return subnet.Instance
		}
	}
	return ""
}

func TestAnAnnotationMustAgreeWithTheClass(t *testing.T) {
	e := classWorld(t, settings{})
	e.createClassed("web", classFloatingIP, objects.TCP(80))
	address := e.servedAs("web", classFloatingIP)
	e.unchanging("web", func() {
		e.annotate("web", "address-source", "external-subnet")
		e.warned("web", syncFailed, "the annotation oxide.computer/address-source says external-subnet",
			"spec.loadBalancerClass is oxide.computer/floating-ip", "leave it out")
		if now := e.nodeOf(address); now == "" {
			t.Error("it is attached nowhere any more")
		}
	})
	e.annotate("web", "address-source", "floating-ip")
	e.servedBy("web", address)
}

// A living Service changes its class by type to and fro alone. However quickly that is done, and whoever
// is there to see it, it has one address in the end, and the finalizer of who serves it.
func TestAChangeOfClassLosesAndDoublesNothing(t *testing.T) {
	e := classWorld(t, settings{})
	e.createClassed("web", "", objects.TCP(80))
	e.servedAs("web", "")
	e.heldBy("web", finalizer)
	for i, to := range []string{
		classFloatingIP, "", classExternalSubnet, classFloatingIP, classExternalSubnet, "",
	} {
		for _, how := range []string{"slowly", "quickly", "halfway", "unseen"} {
			released := e.said("Changed in Oxide", "ACTION_TYPE_DETACH", "default/web")
			if how == "halfway" {
				e.must(e.rack.AddFault(t.Context(), rack.Fault{Operation: "*", LatencyMS: 400}))
			}
			e.noBalancer("web")
			switch how {
			case "halfway":
				e.eventually(func(context.Context) (string, error) {
					if e.said("Changed in Oxide", "ACTION_TYPE_DETACH", "default/web") == released {
						return "the detachment", nil
					}
					return "", nil
				})
			case "slowly":
				e.heldBy("web")
				e.has(0)
				if has := e.service("web").Status.LoadBalancer.Ingress; len(has) > 0 {
					t.Errorf("%d, %s: the status is %v", i, how, has)
				}
			case "unseen":
				e.must(e.ccm.Shim.Stop(limit))
			}
			e.balancer("web", to)
			if how == "unseen" {
				e.must(e.ccm.StartShim(t.Context()))
			}
			address := e.servedAs("web", to)
			e.heldBy("web", finalizerOf(to))
			e.must(e.rack.ClearFaults(t.Context()))
			t.Logf("%d: %s to the class %q: %s", i, how, to, address)
		}
	}
	service := e.service("web")
	e.remove("web")
	e.has(0)
	failed, err := e.warnings(t.Context(), service, syncFailed)
	e.must(err)
	for _, event := range failed {
		t.Logf("recorded meanwhile: %s", event.Message)
	}
}

// While nobody is there neither finalizer goes, and nothing is released: the address stays the Service's.
func TestAChangeOfClassThatNobodySawKeepsTheAddress(t *testing.T) {
	e := classWorld(t, settings{})
	e.createClassed("web", "", objects.TCP(80))
	address := e.servedAs("web", "")
	for _, to := range []string{classFloatingIP, "", classFloatingIP} {
		e.must(e.ccm.Shim.Stop(limit))
		requests := e.mutations()
		e.noBalancer("web")
		e.balancer("web", to)
		e.must(e.ccm.StartShim(t.Context()))
		e.heldBy("web", finalizerOf(to))
		if now := e.servedAs("web", to); now != address {
			t.Errorf("of the class %q it has %s, had %s", to, now, address)
		}
		if diff := cmp.Diff(requests, e.mutations()); diff != "" {
			t.Errorf("requests for changes on the rack (-before +after):\n%s", diff)
		}
	}
}

func TestAServiceOfTheSameNameMayHaveAnotherClass(t *testing.T) {
	e := classWorld(t, settings{})
	e.createClassed("web", "", objects.TCP(80))
	e.servedAs("web", "")
	for _, class := range []string{classFloatingIP, classExternalSubnet, classFloatingIP, ""} {
		services, name := e.services("web")
		e.must(services.Delete(t.Context(), name, metav1.DeleteOptions{}))
		again := objects.LoadBalancer("default", name, objects.TCP(80))
		if class != "" {
			again.Spec.LoadBalancerClass = &class
		}
		e.eventually(func(ctx context.Context) (string, error) {
			_, err := services.Create(ctx, again, metav1.CreateOptions{})
			if apierrors.IsAlreadyExists(err) {
				return "the end of the Service of the same name", nil
			}
			return "", err
		})
		e.servedAs("web", class)
		e.heldBy("web", finalizerOf(class))
	}
}

// However both finalizers have come there, the one of who serves the Service remains, and when it ends none.
func TestBothFinalizersAtOnce(t *testing.T) {
	e := classWorld(t, settings{})
	both := func(key string) {
		e.patch(key, map[string]any{"metadata": map[string]any{
			"finalizers": []string{finalizer, classFinalizer},
		}})
	}
	for name, end := range map[string]func(key string){
		"type": e.noBalancer,
		"deleted": func(key string) {
			services, name := e.services(key)
			e.must(services.Delete(t.Context(), name, metav1.DeleteOptions{}))
		},
	} {
		t.Run(name, func(t *testing.T) {
			e := e.within(t)
			e.createClassed(name, "", objects.TCP(80))
			e.servedAs(name, "")
			both(name)
			e.heldBy(name, finalizer)
			e.must(e.ccm.Shim.Stop(limit))
			both(name)
			end(name)
			e.must(e.ccm.StartShim(t.Context()))
			e.eventually(func(ctx context.Context) (string, error) {
				services, name := e.services(name)
				service, err := services.Get(ctx, name, metav1.GetOptions{})
				switch {
				case apierrors.IsNotFound(err):
					return "", nil
				case err == nil && len(service.Finalizers) > 0:
					return "the end of " + strings.Join(service.Finalizers, " and "), nil
				}
				return "", err
			})
			e.has(0)
		})
	}
}

// serveAsOther writes a status as another implementation does, such as MetalLB.
func (e *environment) serveAsOther(key, address string) {
	e.Helper()
	services, name := e.services(key)
	_, err := services.Patch(e.Context(), name, "application/merge-patch+json", fmt.Appendf(nil,
		`{"status":{"loadBalancer":{"ingress":[{"ip":%q,"ipMode":"VIP"}]}}}`, address),
		metav1.PatchOptions{FieldManager: "controller"}, "status")
	e.must(err)
}

// untouched checks that nobody writes a Service, and that nothing is recorded on it, while something is
// done.
func (e *environment) untouched(key string, do func()) {
	e.Helper()
	before := e.service(key)
	do()
	after := e.service(key)
	if diff := cmp.Diff(before, after); diff != "" {
		e.Errorf("%s was written (-before +after):\n%s", key, diff)
	}
	events, err := e.eventsOn(e.Context(), after, "")
	e.must(err)
	for _, event := range events {
		e.Errorf("on %s is recorded: %s: %s", key, event.Reason, event.Message)
	}
}

// What another implementation serves is none of ours: not while it lives, not when it ends, and not when
// the other one uses the finalizer of the same framework.
func TestTheClassOfAnotherImplementationIsNeverTouched(t *testing.T) {
	e := classWorld(t, settings{})
	e.createClassed("theirs", classTheirs, objects.TCP(80))
	e.serveAsOther("theirs", "172.30.0.250")
	services, _ := e.services("framework")
	framework := objects.LoadBalancer("default", "framework", objects.TCP(81))
	framework.Finalizers, framework.Spec.LoadBalancerClass = []string{finalizer}, new(classTheirs)
	_, err := services.Create(t.Context(), framework, metav1.CreateOptions{FieldManager: "another-provider"})
	e.must(err)
	e.serveAsOther("framework", "172.30.0.251")
	e.untouched("theirs", func() {
		e.untouched("framework", func() {
			e.createClassed("web", classFloatingIP, objects.TCP(80))
			e.served("web")
			e.restart()
			e.create("dns", objects.UDP(53))
			e.served("dns")
		})
	})
	e.must(services.Delete(t.Context(), "framework", metav1.DeleteOptions{}))
	e.untouched("framework", func() {
		e.remove("dns")
		e.restart()
		e.remove("web")
	})
	e.remove("theirs")
}

// What becomes another implementation's ends here: its address is released, and what is the other one's by
// then stays as it is.
func TestWhatBecomesAnotherImplementationsEndsHere(t *testing.T) {
	e := classWorld(t, settings{})
	for _, from := range []string{"", classFloatingIP, classExternalSubnet} {
		for _, how := range []string{"seen", "unseen"} {
			t.Run(how+" from "+strings.TrimPrefix(from, prefix), func(t *testing.T) {
				e := e.within(t)
				e.createClassed("web", from, objects.TCP(80))
				e.servedAs("web", from)
				if how == "unseen" {
					e.must(e.ccm.Shim.Stop(limit))
				}
				e.noBalancer("web")
				e.balancer("web", classTheirs)
				e.serveAsOther("web", "172.30.0.250")
				if how == "unseen" {
					e.must(e.ccm.StartShim(t.Context()))
				}
				e.has(0)
				e.heldBy("web")
				e.eventually(func(context.Context) (string, error) {
					has := meta.FindStatusCondition(e.service("web").Status.Conditions, objects.ReadyCondition)
					if has != nil {
						return "the end of the condition", nil
					}
					return "", nil
				})
				if got := e.service("web").Status.LoadBalancer.Ingress; len(got) != 1 || got[0].IP != "172.30.0.250" {
					t.Errorf("the status is %v, and was the other one's", got)
				}
				e.leftAlone("web")
				e.remove("web")
			})
		}
	}
}

// leftAlone checks that nothing more is written to a Service while another one comes and goes.
func (e *environment) leftAlone(key string) {
	e.Helper()
	before := e.service(key).ResourceVersion
	e.create("another", objects.TCP(8080))
	e.served("another")
	e.remove("another")
	if now := e.service(key); now.ResourceVersion != before {
		e.Errorf("%s was written: %+v", key, now)
	}
}

// Deletion is finished by whoever leads next.
func TestARestartInTheMiddleOfADeletionFinishesIt(t *testing.T) {
	e := classWorld(t, settings{})
	for _, class := range []string{classFloatingIP, classExternalSubnet} {
		t.Run(strings.TrimPrefix(class, prefix), func(t *testing.T) {
			e := e.within(t)
			e.createClassed("web", class, objects.TCP(80))
			e.servedAs("web", class)
			service := e.service("web")
			e.must(e.rack.AddFault(t.Context(), rack.Fault{Operation: "*", LatencyMS: 1000}))
			services, name := e.services("web")
			e.must(services.Delete(t.Context(), name, metav1.DeleteOptions{}))
			e.eventually(func(context.Context) (string, error) {
				if e.said("Changed in Oxide", "ACTION_TYPE_DETACH", "default/web") == 0 {
					return "the detachment", nil
				}
				return "", nil
			})
			e.ccm.Shim.Kill()
			if got := e.service("web").Finalizers; !slices.Equal(got, []string{classFinalizer}) {
				t.Errorf("in the middle the finalizers are %v", got)
			}
			e.must(e.rack.ClearFaults(t.Context()))
			e.must(e.ccm.StartShim(t.Context()))
			e.eventually(func(ctx context.Context) (string, error) {
				_, err := services.Get(ctx, name, metav1.GetOptions{})
				if apierrors.IsNotFound(err) {
					return "", nil
				}
				return "the end of the Service", err
			})
			e.has(0)
			e.endedOnce(service)
		})
	}
}
