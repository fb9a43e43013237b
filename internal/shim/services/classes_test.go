// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package services

import (
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/testing/protocmp"
	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
	servicehelpers "k8s.io/cloud-provider/service/helpers"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/shim/annotations"
	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

// ofOurs gives a Service a class of this provider.
func ofOurs(s *v1.Service) { ofClass(annotations.ClassFloatingIP)(s) }

// ofTheirs gives a Service a class of somebody else.
func ofTheirs(s *v1.Service) { ofClass("example.com/other")(s) }

// runClasses runs the controller of classes beside the other one.
func runClasses(t *testing.T, config Config, objects ...runtime.Object) *cluster {
	t.Helper()
	return runWith(t, fake.NewClientset(objects...), &peer{classes: true}, config)
}

// stored returns a Service as it is in the API server.
func (e *cluster) stored(key string) *v1.Service {
	e.Helper()
	namespace, name, _ := strings.Cut(key, "/")
	service, err := e.client.CoreV1().Services(namespace).Get(e.Context(), name, metav1.GetOptions{})
	if err != nil {
		e.Fatal(err)
	}
	return service
}

// finalizers waits until a Service has these finalizers, in any order.
func (e *cluster) finalizers(key string, want ...string) {
	e.Helper()
	slices.Sort(want)
	e.await("the finalizers "+strings.Join(want, ", "), func() bool {
		return slices.Equal(want, slices.Sorted(slices.Values(e.stored(key).Finalizers)))
	})
}

// ends waits until a Service is sent as one that ends.
func (e *cluster) ends(key string) *backendv1.DesiredLoadBalancer {
	e.Helper()
	return e.item(key, func(d *backendv1.DesiredLoadBalancer) bool {
		return d.GetEnding() == backendv1.Ending_ENDING_RELEASE
	})
}

// count returns how many events there are with a reason.
func (e *cluster) count(reason string) (n int) {
	for _, sent := range e.events.Sent() {
		if strings.Contains(sent, " "+reason+" ") {
			n++
		}
	}
	return n
}

func TestAServiceWithAClassIsHeldBeforeAnythingIsMade(t *testing.T) {
	client := fake.NewClientset(service(ofOurs))
	p := &peer{classes: true}
	p.answer = func(d *backendv1.DesiredLoadBalancer) []*backendv1.SyncLoadBalancersResponse {
		now, err := client.CoreV1().Services("shop").Get(t.Context(), "web", metav1.GetOptions{})
		if err != nil || !hasOwnFinalizer(now) {
			t.Errorf("it is asked for, and the Service has the finalizers %v, %v", now.Finalizers, err)
		}
		return []*backendv1.SyncLoadBalancersResponse{stateEvent(d, all(attached, toPublish("198.51.100.9")))}
	}
	e := runWith(t, client, p, Config{})
	e.recorded("Service shop/web Normal EnsuringLoadBalancer Ensuring load balancer")
	e.status("shop/web", "198.51.100.9")
	e.recorded("Service shop/web Normal EnsuredLoadBalancer Ensured load balancer")
	e.finalizers("shop/web", Finalizer)
	changing := protocmp.IgnoreFields(&backendv1.DesiredLoadBalancer{}, "generation", "published_addresses")
	if diff := cmp.Diff(desiredLB(), e.peer.sent("shop/web"), protocmp.Transform(), changing); diff != "" {
		t.Errorf("item (-want +got):\n%s", diff)
	}
}

// Whatever is not asked for anew costs nothing: a Node that comes, a status that is written.
func TestOnlyWhatAServiceAsksForIsEnsuredAgain(t *testing.T) {
	e := runClasses(t, Config{}, service(ofOurs, classFinalized), node("a", id1))
	e.inSync()
	e.peer.answers(all(attached, toPublish("198.51.100.9")))
	e.recorded("EnsuredLoadBalancer")
	if _, err := e.client.CoreV1().Nodes().Create(t.Context(), node("b", id2), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	e.await("the Node is a candidate", func() bool {
		e.peer.mu.Lock()
		defer e.peer.mu.Unlock()
		return e.peer.candidates[id2] != nil
	})
	e.change("shop/web", publishing("203.0.113.1"))
	e.status("shop/web", "198.51.100.9")
	if n := e.count("EnsuringLoadBalancer"); n != 1 {
		t.Errorf("it was ensured %d times", n)
	}
	e.change("shop/web", annotated(annotations.RetainAddress, "true"))
	e.item("shop/web", func(d *backendv1.DesiredLoadBalancer) bool { return d.GetRetainAddresses() })
	e.await("it is ensured again", func() bool { return e.count("EnsuredLoadBalancer") == 2 })
}

func TestTheFinalizerGoesOnceNothingIsLeft(t *testing.T) {
	for name, s := range map[string]*v1.Service{
		"deleted":                          service(ofOurs, classFinalized, going),
		"of another type":                  service(ofOurs, classFinalized, nodePortService),
		"of a class of somebody else":      service(ofTheirs, classFinalized),
		"that had no class before, either": service(ofTheirs, finalized),
		"with both finalizers":             service(ofOurs, classFinalized, finalized, going),
	} {
		t.Run(name, func(t *testing.T) {
			before := slices.Clone(s.Finalizers)
			e := runClasses(t, Config{}, s)
			sent := e.ends("shop/web")
			e.peer.answers(working)
			e.await("its state", func() bool {
				_, ok := e.c.session.State(e.c.lbKey("shop/web"))
				return ok
			})
			if got := e.stored("shop/web").Finalizers; !slices.Equal(got, before) {
				t.Errorf("while it is released its finalizers are %v", got)
			}
			e.peer.send(releasedEvent(sent))
			e.finalizers("shop/web")
			e.recorded("Normal DeletedLoadBalancer Deleted load balancer")
			if n := e.count("DeletingLoadBalancer"); n != 1 {
				t.Errorf("there are %d events that it ends", n)
			}
			if e.count("SyncLoadBalancerFailed") > 0 {
				t.Errorf("a failure was recorded: %v", e.events.Sent())
			}
		})
	}
}

// What waits for Oxide or a person is recorded, and holds the Service until it is released.
func TestWhatCannotBeReleasedHoldsItsService(t *testing.T) {
	e := runClasses(t, Config{}, service(ofOurs, classFinalized, going))
	sent := e.ends("shop/web")
	e.peer.answers(all(phase(pendingPhase), problem(unavailable, codes.Unavailable, "the sled does not answer")))
	e.recorded("Warning SyncLoadBalancerFailed Error syncing load balancer: failed to delete load balancer: " +
		"the sled does not answer")
	e.finalizers("shop/web", Finalizer)
	e.peer.send(releasedEvent(sent))
	e.finalizers("shop/web")
}

// Each finalizer says who takes it off: of a Service that has changed its class there may be both.
func TestFinalizersFollowTheClass(t *testing.T) {
	const framework = servicehelpers.LoadBalancerCleanupFinalizer
	another := finalizedBy("another-cloud-provider")
	for _, tt := range []struct {
		name    string
		config  Config
		service *v1.Service
		want    []string
	}{
		{"a class of ours, after none", Config{}, service(ofOurs, finalized), []string{Finalizer}},
		{"a class of ours, with both", Config{}, service(ofOurs, finalized, classFinalized), []string{Finalizer}},
		{"no class any more, and the framework holds it", Config{}, service(finalized, classFinalized),
			[]string{framework}},
		{"no class any more, and the framework does not yet", Config{}, service(classFinalized),
			[]string{Finalizer}},
		{"a class of ours, where the framework is somebody else's", Config{ClassedOnly: true},
			service(ofOurs, another), []string{Finalizer, framework}},
		{"no class any more, where those are somebody else's", Config{ClassedOnly: true},
			service(classFinalized), []string{Finalizer}},
		{"no class, where those have become somebody else's", Config{ClassedOnly: true},
			service(finalized), []string{framework}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			last := service(named("shop", "last"), ofOurs)
			e := runClasses(t, tt.config, tt.service, last)
			e.inSync()
			e.peer.answers(toPublish("198.51.100.9"))
			e.finalizers("shop/web", tt.want...)
			e.status("shop/last", "198.51.100.9")
			e.finalizers("shop/web", tt.want...)
			e.peer.mu.Lock()
			defer e.peer.mu.Unlock()
			for _, d := range e.peer.history {
				if d.GetEnding() != backendv1.Ending_ENDING_UNSPECIFIED {
					t.Errorf("an end was sent: %v", d)
				}
			}
		})
	}
}

// The framework's controller ends what has no class, and records that: once.
func TestWhatTheFrameworkEndsIsNotEndedTwice(t *testing.T) {
	e := runClasses(t, Config{}, service(finalized, classFinalized, going))
	e.peer.send(releasedEvent(e.ends("shop/web")))
	e.finalizers("shop/web", servicehelpers.LoadBalancerCleanupFinalizer)
	if n := e.count("DeletingLoadBalancer") + e.count("DeletedLoadBalancer"); n != 0 {
		t.Errorf("its end is recorded: %v", e.events.Sent())
	}
}

// A Service that is somebody else's is read, and never written.
func TestWhatIsSomebodyElsesIsNeverTouched(t *testing.T) {
	another := finalizedBy("another-cloud-provider")
	foreign := publishing("203.0.113.77")
	for _, tt := range []struct {
		name    string
		config  Config
		service *v1.Service
	}{
		{"a class of somebody else", Config{}, service(ofTheirs, foreign)},
		{"the same, of somebody who uses the framework", Config{}, service(ofTheirs, foreign, another)},
		{"that, when it is deleted", Config{}, service(ofTheirs, foreign, another, going)},
		{"no class", Config{ClassedOnly: true}, service(foreign)},
		{"no class, of somebody who uses the framework", Config{ClassedOnly: true}, service(foreign, another)},
		{"that, when it is deleted", Config{ClassedOnly: true}, service(foreign, another, going)},
		{"that, when it is no load balancer any more", Config{ClassedOnly: true},
			service(another, nodePortService)},
		{"a load balancer of ours before, which has no class", Config{ClassedOnly: true},
			service(finalized, publishing("198.51.100.9"))},
	} {
		t.Run(tt.name, func(t *testing.T) {
			client := fake.NewClientset(tt.service, service(named("shop", "last"), ofOurs))
			var touched atomic.Int32
			client.PrependReactor("*", "services", func(action clienttesting.Action) (bool, runtime.Object, error) {
				if write, ok := action.(clienttesting.PatchAction); ok && write.GetName() == "web" {
					touched.Add(1)
				}
				return false, nil, nil
			})
			e := runWith(t, client, &peer{classes: true}, tt.config)
			e.inSync()
			e.peer.answers(toPublish("198.51.100.9"))
			e.status("shop/last", "198.51.100.9")
			e.stop()
			if n := touched.Load(); n != 0 {
				t.Errorf("it was written %d times", n)
			}
			e.peer.mu.Lock()
			defer e.peer.mu.Unlock()
			if i := slices.IndexFunc(e.peer.history, func(d *backendv1.DesiredLoadBalancer) bool {
				return d.GetKey().GetName() == "shop/web"
			}); i >= 0 {
				t.Errorf("it was sent: %v", e.peer.history[i])
			}
			for _, sent := range e.events.Sent() {
				if strings.Contains(sent, "shop/web") && !strings.Contains(sent, notServed) {
					t.Errorf("an event was recorded: %s", sent)
				}
			}
		})
	}
}

// Where Services without a class become somebody else's, an event says what becomes of one that was served.
func TestWhatIsNotServedAnyMoreSaysSo(t *testing.T) {
	e := runClasses(t, Config{ClassedOnly: true}, service(finalized))
	e.recorded("Warning " + notServed + " Services without a loadBalancerClass are left to others " +
		"(--classed-load-balancers-only)")
	e.change("shop/web", nodePortService)
	e.peer.send(releasedEvent(e.ends("shop/web")))
	e.finalizers("shop/web")
}

// A class that looks like one of this provider's, and is none, would leave its Service without an address and
// without a word: an event says which classes there are, and nothing of the Service is touched.
func TestAClassThatIsNearlyOursSaysSo(t *testing.T) {
	e := runClasses(t, Config{}, service(ofClass("oxide.computer/floating-ips"), publishing("203.0.113.77")))
	e.recorded("Service shop/web Warning UnknownClass The loadBalancerClass oxide.computer/floating-ips is not " +
		"one that is served here: delete the Service, and create it with the class oxide.computer/floating-ip " +
		"or oxide.computer/external-subnet, or without one")
	e.inSync()
	e.status("shop/web", "203.0.113.77")
	e.finalizers("shop/web")
	if n := e.count("UnknownClass"); n != 1 {
		t.Errorf("it is recorded %d times", n)
	}

	e = runClasses(t, Config{ClassedOnly: true}, service(ofClass("external-subnet")))
	e.recorded("Service shop/web Warning UnknownClass The loadBalancerClass external-subnet is not one that is " +
		"served here: delete the Service, and create it with the class oxide.computer/floating-ip or " +
		"oxide.computer/external-subnet")
}

// A status is cleared when its Service has become somebody else's, if it is still what was written here.
func TestOnlyOurOwnStatusIsCleared(t *testing.T) {
	by := func(manager string) metav1.ManagedFieldsEntry {
		return metav1.ManagedFieldsEntry{
			Manager: manager, Subresource: "status", Operation: metav1.ManagedFieldsOperationUpdate,
			Time: new(metav1.NewTime(created)), FieldsType: "FieldsV1", APIVersion: "v1",
			FieldsV1: metav1.NewFieldsV1(`{"f:status":{"f:loadBalancer":{"f:ingress":{}}}}`),
		}
	}
	writtenBy := func(managers ...string) func(*v1.Service) {
		return func(s *v1.Service) {
			publishing("203.0.113.77")(s)
			for _, manager := range managers {
				s.ManagedFields = append(s.ManagedFields, by(manager))
			}
		}
	}
	for _, tt := range []struct {
		name    string
		change  func(*v1.Service)
		cleared bool
	}{
		{"ours", writtenBy(Name), true},
		{"the framework's", writtenBy("ccm-shim"), true},
		{"of both", writtenBy("ccm-shim", Name), true},
		{"of somebody else", writtenBy("controller"), false},
		{"of somebody else, too", writtenBy(Name, "controller"), false},
		{"of nobody knows whom", writtenBy(), false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e := runClasses(t, Config{}, service(ofTheirs, classFinalized, tt.change))
			e.peer.send(releasedEvent(e.ends("shop/web")))
			e.finalizers("shop/web")
			if cleared := len(e.stored("shop/web").Status.LoadBalancer.Ingress) == 0; cleared != tt.cleared {
				t.Errorf("it is cleared: %t, want %t", cleared, tt.cleared)
			}
		})
	}
}

func TestAnAnnotationThatContradictsTheClassTouchesNothing(t *testing.T) {
	s := service(ofOurs, classFinalized, publishing("198.51.100.9"),
		annotated(annotations.AddressSource, annotations.SourceExternalSubnet))
	e := runClasses(t, Config{}, s)
	const says = "the annotation oxide.computer/address-source says external-subnet, but " +
		"spec.loadBalancerClass is oxide.computer/floating-ip: make it say floating-ip, or leave it out"
	e.recorded("Warning SyncLoadBalancerFailed Error syncing load balancer: failed to ensure load balancer: " + says)
	got := e.item("shop/web", func(d *backendv1.DesiredLoadBalancer) bool { return d.GetPreserveReason() != "" })
	if got.GetPreserveReason() != says {
		t.Errorf("it is preserved because %q", got.GetPreserveReason())
	}
	e.finalizers("shop/web", Finalizer)
	e.status("shop/web", "198.51.100.9")
}

// A Service that changes while its finalizers are written is read again, and that is no failure.
func TestAFinalizerIsNotTakenOffWhatHasChanged(t *testing.T) {
	client := fake.NewClientset(service(ofTheirs, classFinalized))
	var conflicts atomic.Int32
	client.PrependReactor("patch", "services", func(action clienttesting.Action) (bool, runtime.Object, error) {
		patch := action.(clienttesting.PatchAction)
		if patch.GetPatchType() != types.StrategicMergePatchType || conflicts.Add(1) > 1 {
			return false, nil, nil
		}
		for _, part := range []string{`"uid":"uid-1"`, `"resourceVersion":`} {
			if !strings.Contains(string(patch.GetPatch()), part) {
				t.Errorf("the patch has no %s: %s", part, patch.GetPatch())
			}
		}
		return true, nil, apierrors.NewConflict(schema.GroupResource{Resource: "services"}, "web", errors.New("changed"))
	})
	e := runWith(t, client, &peer{classes: true}, Config{})
	sent := e.ends("shop/web")
	began := time.Now()
	e.peer.send(releasedEvent(sent))
	e.finalizers("shop/web")
	if took := time.Since(began); took >= firstFailure {
		t.Errorf("it is tried again after %s, as what has failed", took)
	}
	e.recorded("DeletedLoadBalancer")
	if n := e.count("SyncLoadBalancerFailed"); n != 0 || conflicts.Load() < 2 {
		t.Errorf("%d failures were recorded, after %d writes", n, conflicts.Load())
	}
}

// Nothing may be made for a Service that cannot be held.
func TestWithoutAFinalizerNothingIsMade(t *testing.T) {
	client := fake.NewClientset(service(ofOurs), service(named("shop", "last"), ofOurs))
	client.PrependReactor("patch", "services", func(action clienttesting.Action) (bool, runtime.Object, error) {
		refused := action.(clienttesting.PatchAction).GetName() == "web"
		return refused, nil, errors.New("a webhook refuses it")
	})
	e := runWith(t, client, &peer{classes: true}, Config{})
	e.inSync()
	e.recorded("Service shop/web Warning SyncLoadBalancerFailed Error syncing load balancer: failed to add load " +
		"balancer cleanup finalizer: a webhook refuses it")
	e.item("shop/last", func(*backendv1.DesiredLoadBalancer) bool { return true })
	if got := e.peer.sent("shop/web"); got != nil {
		t.Errorf("it was sent: %v", got)
	}
}

// Somebody has taken the finalizer off, and the Service is gone: what it has is released as it is
// remembered.
func TestAServiceThatIsGoneWithoutItsFinalizerIsReleased(t *testing.T) {
	e := runClasses(t, Config{}, service(ofOurs))
	e.inSync()
	e.peer.answers(all(attached, toPublish("198.51.100.9")))
	e.recorded("EnsuredLoadBalancer")
	if err := e.client.CoreV1().Services("shop").Delete(t.Context(), "web", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	e.peer.send(releasedEvent(e.ends("shop/web")))
	e.recorded("DeletedLoadBalancer")
	e.await("it is forgotten", func() bool { return e.peer.sent("shop/web") == nil })
	if e.classes.remembered("shop/web") != nil {
		t.Error("it is remembered still")
	}
}

// Type to and fro is the only way in which a living Service changes its class.
func TestAnAddressOutlivesAQuickChangeOfClass(t *testing.T) {
	e := runClasses(t, Config{}, service(ofOurs, classFinalized))
	e.inSync()
	e.peer.answers(all(attached, toPublish("198.51.100.9")))
	e.status("shop/web", "198.51.100.9")
	e.await("it is ensured", func() bool { return e.count(ensured) == 1 })
	e.change("shop/web", nodePortService)
	e.ends("shop/web")
	e.change("shop/web", func(s *v1.Service) {
		s.Spec.Type = v1.ServiceTypeLoadBalancer
		ofClass(annotations.ClassExternalSubnet)(s)
	})
	e.item("shop/web", func(d *backendv1.DesiredLoadBalancer) bool {
		return d.GetEnding() == backendv1.Ending_ENDING_UNSPECIFIED &&
			d.GetAddresses()[0].GetExternalSubnet() != nil
	})
	e.await("it is ensured again", func() bool { return e.count(ensured) == 2 })
	e.finalizers("shop/web", Finalizer)
	if e.count("DeletedLoadBalancer") > 0 {
		t.Errorf("an end is recorded: %v", e.events.Sent())
	}
}

// Somebody has taken the finalizer off a Service that lives.
func TestAFinalizerThatIsTakenOffComesBack(t *testing.T) {
	e := runClasses(t, Config{}, service(ofOurs, classFinalized))
	e.inSync()
	e.peer.answers(all(attached, toPublish("198.51.100.9")))
	e.recorded("EnsuredLoadBalancer")
	e.change("shop/web", func(s *v1.Service) { s.Finalizers = []string{"example.com/other"} })
	e.finalizers("shop/web", Finalizer, "example.com/other")
}

// An address that is not served is no success, and no failure: events and the condition say why.
func TestAnAddressThatIsNotServedIsNoSuccessOfAClass(t *testing.T) {
	e := runClasses(t, Config{}, service(ofOurs, checked))
	e.inSync()
	e.peer.answers(all(reserved, phase(pendingPhase),
		holding(backendv1.ConditionType_CONDITION_TYPE_NO_CANDIDATE, "no node is fit")))
	e.recorded("Warning NoCandidate no node is fit")
	e.says("shop/web", metav1.ConditionFalse, "NoCandidate", "no node is fit")
	e.await("nothing is left to be done", func() bool { return e.classes.queue.Len() == 0 })
	if n := e.count(ensured) + e.count(syncFailed); n != 0 {
		t.Errorf("a success or a failure is recorded: %v", e.events.Sent())
	}
}
