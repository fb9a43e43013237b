// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package services

import (
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
	cloudprovider "k8s.io/cloud-provider"

	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

func explained(text string) stateChange {
	return func(s *backendv1.LoadBalancerState) { s.Explanation = text }
}

func TestTheConditionSaysWhetherAddressesAreServedAndWhyNot(t *testing.T) {
	const (
		conflicting = backendv1.ConditionType_CONDITION_TYPE_PORT_CONFLICT
		degraded    = backendv1.ConditionType_CONDITION_TYPE_DEGRADED
		firewall    = backendv1.ConditionType_CONDITION_TYPE_FIREWALL_CLOSED
		widened     = backendv1.ConditionType_CONDITION_TYPE_FIREWALL_WIDENED
		incomplete  = backendv1.ConditionType_CONDITION_TYPE_FIREWALL_INCOMPLETE
		refused     = backendv1.ConditionType_CONDITION_TYPE_PORT_REFUSED
		missing     = backendv1.ConditionType_CONDITION_TYPE_FAMILY_MISSING
		renamed     = backendv1.ConditionType_CONDITION_TYPE_ADDRESS_RENAMED
		progressing = backendv1.Phase_PHASE_PROGRESSING
		badResponse = backendv1.ErrorReason_ERROR_REASON_OXIDE_BAD_RESPONSE
		rejected    = backendv1.ErrorReason_ERROR_REASON_OXIDE_CREDENTIALS_REJECTED
		denied      = backendv1.ErrorReason_ERROR_REASON_OXIDE_FORBIDDEN
	)
	for _, tt := range []struct {
		name  string
		state stateChange
		// want is "STATUS REASON MESSAGE"; empty: there is nothing new to say.
		want string
	}{
		{"ready", explained("198.51.100.9 is on a"), "True AddressAttached 198.51.100.9 is on a"},
		{"ready, with something to know", all(explained("it is on a"), holding(refused, "port 80 is used")),
			"True PortRefused it is on a; port 80 is used"},
		{"ready, behind a firewall", all(explained("it is on a"), holding(firewall, "add the rule"), holding(99, "")),
			"True FirewallClosed it is on a; add the rule"},
		{"ready, behind a firewall that was opened further than it should be", all(explained("it is on a"),
			holding(widened, "for whole subnets")), "True FirewallWidened it is on a; for whole subnets"},
		{"ready, behind a firewall that could not be written", all(explained("it is on a"),
			holding(incomplete, "403")), "True FirewallIncomplete it is on a; 403"},
		{"ready, with one of two IP families", all(explained("it is on a"),
			holding(missing, "there is no IPv6 address")),
			"True IPFamilyMissing it is on a; there is no IPv6 address"},
		{"ready, and renamed while this leader watched", all(explained("it is on a"),
			holding(renamed, "it was renamed")), "True AddressAttached it is on a"},
		{"a conflict, whatever is published", all(toPublish("198.51.100.9"), phase(pendingPhase),
			problem(conflict, codes.FailedPrecondition, "TCP 80 is held by b"),
			holding(conflicting, "TCP 80 is held by b")), "False PortConflict TCP 80 is held by b"},
		{"two causes", all(holding(degraded, "it stays"), holding(conflicting, "it is held")),
			"False LoadBalancerDegraded it stays; it is held"},
		{"a conflict during a change", all(phase(progressing), holding(conflicting, "it is held")),
			"False PortConflict it is held"},
		{"a problem", all(phase(pendingPhase), problem(exhausted, codes.ResourceExhausted, "it is full")),
			"False PoolExhausted it is full; name another pool of IPv4 addresses in the annotation " +
				"oxide.computer/floating-ip-pool, or another IP family in spec.ipFamilies, or ask the " +
				"rack's operator for a default pool with free addresses"},
		{"Oxide does not answer", all(phase(pendingPhase), problem(unavailable, codes.Unavailable, "503")),
			"Unknown OxideUnavailable 503"},
		{"Oxide fails", all(toPublish("198.51.100.9"), phase(pendingPhase), problem(badResponse, codes.Internal,
			"500")), "Unknown OxideBadResponse 500"},
		{"the token is rejected", all(toPublish("198.51.100.9"), phase(pendingPhase),
			problem(rejected, codes.FailedPrecondition, "401")), "Unknown OxideCredentialsRejected 401"},
		{"what it has cannot be read", all(toPublish("198.51.100.9"), phase(pendingPhase),
			problem(denied, codes.PermissionDenied, "403")), "Unknown OxideForbidden 403"},
		{"it may get nothing", all(phase(pendingPhase), problem(denied, codes.PermissionDenied, "403")),
			"False OxideForbidden 403"},
		{"a change is under way", all(phase(progressing), explained("it moves")), ""},
		{"nothing was read yet", phase(pendingPhase), ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			state := &backendv1.LoadBalancerState{Phase: backendv1.Phase_PHASE_READY}
			tt.state(state)
			got := ""
			if condition, known := bare(t).readyCondition(service(), state); known {
				got = fmt.Sprintf("%s %s %s", condition.Status, condition.Reason, condition.Message)
			}
			if got != tt.want {
				t.Errorf("it says %q, want %q", got, tt.want)
			}
		})
	}
}

// The framework would record the success EnsuredLoadBalancer, after an event that says the contrary.
func TestNoSuccessIsRecordedForAnAddressThatIsNotServed(t *testing.T) {
	for kind := range unserved {
		t.Run(conditionReasons[kind], func(t *testing.T) {
			e := run(t, Config{}, service(finalized))
			e.inSync()
			e.peer.answers(all(attached, toPublish("198.51.100.9", "172.30.0.11"), holding(kind, "because")))
			status, err := e.c.EnsureLoadBalancer(t.Context(), "", service(finalized), nil)
			if status != nil || err != cloudprovider.ImplementedElsewhere { //nolint:errorlint // as the framework
				t.Errorf("it returned %v, %v", status, err)
			}
			e.status("shop/web", "198.51.100.9", "172.30.0.11")
			e.says("shop/web", metav1.ConditionFalse, conditionReasons[kind], "because")
		})
	}
}

// ready returns the condition of a Service; nil: it has none.
func (e *cluster) ready(key string) *metav1.Condition {
	e.Helper()
	namespace, name, _ := strings.Cut(key, "/")
	service, err := e.client.CoreV1().Services(namespace).Get(e.Context(), name, metav1.GetOptions{})
	if err != nil {
		e.Fatal(err)
	}
	return meta.FindStatusCondition(service.Status.Conditions, ReadyCondition)
}

// says waits until the condition of a Service is as it should be.
func (e *cluster) says(key string, status metav1.ConditionStatus, reason, message string) {
	e.Helper()
	e.await(fmt.Sprintf("the condition %s %s %s", status, reason, message), func() bool {
		has := e.ready(key)
		return has != nil && has.Status == status && has.Reason == reason && has.Message == message
	})
}

// applied counts the writes of conditions, and fails as many of them as it is to.
func applied(client *fake.Clientset, failures int32) *atomic.Int32 {
	var count atomic.Int32
	client.PrependReactor("patch", "services", func(action clienttesting.Action) (bool, runtime.Object, error) {
		if action.(clienttesting.PatchAction).GetPatchType() != types.ApplyPatchType {
			return false, nil, nil
		}
		if n := count.Add(1); n <= failures {
			return true, nil, errors.New("forbidden")
		}
		return false, nil, nil
	})
	return &count
}

var foreign = metav1.Condition{
	Type: "example.com/Checked", Status: metav1.ConditionTrue, Reason: "Fine", Message: "by somebody else",
	LastTransitionTime: metav1.NewTime(created),
}

func checked(s *v1.Service) { s.Status.Conditions = append(s.Status.Conditions, foreign) }

// A new leader that finds the condition as it should be writes nothing.
func TestTheConditionIsWrittenWhenItDiffersAndLeavesThoseOfOthers(t *testing.T) {
	api := fake.NewClientset(service(finalized, checked))
	count := applied(api, 2)
	e := runWith(t, api, &peer{}, Config{})
	e.inSync()
	e.peer.answers(all(toPublish("198.51.100.9"), explained("it is on a")))
	e.says("shop/web", metav1.ConditionTrue, "AddressAttached", "it is on a")
	if n := count.Load(); n != 3 {
		t.Errorf("it was written %d times, want 3, of which 2 failed", n)
	}
	since := e.ready("shop/web").LastTransitionTime
	e.stop()

	next := runWith(t, api, &peer{}, Config{})
	next.inSync()
	next.peer.answers(all(toPublish("198.51.100.9"), explained("it is on a")))
	next.c.conditions.Add("shop/web")
	next.await("the new leader has reconciled it", func() bool {
		state, ok := next.c.session.State(next.c.lbKey("shop/web"))
		return ok && state.GetExplanation() != "" && next.c.conditions.Len() == 0
	})
	next.c.syncCondition("shop/web")
	if n := count.Load(); n != 3 {
		t.Errorf("the new leader wrote it: %d writes in all", n)
	}
	next.peer.answers(holding(backendv1.ConditionType_CONDITION_TYPE_DEGRADED, "it stays"))
	next.says("shop/web", metav1.ConditionFalse, "LoadBalancerDegraded", "it stays")
	if now := next.ready("shop/web").LastTransitionTime; now.Before(&since) {
		t.Errorf("the transition is of %s, before %s", now, since)
	}
	web, err := api.CoreV1().Services("shop").Get(t.Context(), "web", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(&foreign, meta.FindStatusCondition(web.Status.Conditions, foreign.Type)); diff != "" {
		t.Errorf("the condition of somebody else (-want +got):\n%s", diff)
	}
}

func TestAServiceThatIsNoLoadBalancerAnyMoreHasNoCondition(t *testing.T) {
	class := "example.com/another"
	for name, change := range map[string]func(*v1.Service){
		"another type": func(s *v1.Service) { s.Spec.Type = v1.ServiceTypeClusterIP },
		"a class":      func(s *v1.Service) { s.Spec.LoadBalancerClass = &class },
	} {
		t.Run(name, func(t *testing.T) {
			e := run(t, Config{}, service(finalized, checked))
			e.inSync()
			e.peer.answers(toPublish("198.51.100.9"))
			e.says("shop/web", metav1.ConditionTrue, "AddressAttached", "")
			e.peer.answers(all(phase(pendingPhase), explained("it waits"),
				holding(backendv1.ConditionType_CONDITION_TYPE_PENDING, "its sled does not answer")))
			e.change("shop/web", change) // its finalizer is there: it says what holds its end up
			e.says("shop/web", metav1.ConditionFalse, "AddressPending", "its sled does not answer")
			e.change("shop/web", func(s *v1.Service) { s.Finalizers = nil })
			e.await("the condition is gone", func() bool { return e.ready("shop/web") == nil })
		})
	}
	t.Run("while nobody followed it", func(t *testing.T) {
		left := metav1.Condition{Type: ReadyCondition, Status: metav1.ConditionTrue, Reason: "AddressAttached"}
		api := fake.NewClientset(service(func(s *v1.Service) { s.Spec.Type = v1.ServiceTypeClusterIP }))
		e := runWith(t, api, &peer{}, Config{})
		e.inSync()
		e.c.writeCondition(service(), &left)
		e.await("the condition is gone", func() bool { return e.ready("shop/web") == nil })
	})
}

func TestReadOnlyWritesNoCondition(t *testing.T) {
	api := fake.NewClientset(service())
	count := applied(api, 0)
	e := runWith(t, api, &peer{}, Config{ReadOnly: true})
	e.inSync()
	e.peer.answers(holding(backendv1.ConditionType_CONDITION_TYPE_DEGRADED, "seen"))
	e.recorded("seen")
	e.c.syncCondition("shop/web")
	e.stop()
	if n := count.Load(); n != 0 {
		t.Errorf("it was written %d times", n)
	}
}

// Texts that differ each time, and others who overwrite it, cause few writes.
func TestTheConditionIsNotWrittenForEachText(t *testing.T) {
	of := func(status metav1.ConditionStatus, message string) metav1.Condition {
		return metav1.Condition{Type: ReadyCondition, Status: status, Reason: "Because", Message: message}
	}
	writes := func(every time.Duration, next func(i int) metav1.Condition) (count int) {
		c := bare(t)
		c.track(service(), func(*tracked) {})
		var has *metav1.Condition
		for i := range int(10 * time.Minute / every) {
			condition, now := next(i), service()
			if c.conditionWait(now, has, condition) == 0 {
				has = &condition
				count++
			}
			time.Sleep(every)
		}
		c.statuses.ShutDown()
		c.conditions.ShutDown()
		c.changed.ShutDown()
		synctest.Wait()
		return count
	}
	for _, tt := range []struct {
		name string
		next func(i int) metav1.Condition
		want int
	}{
		{"another text each second", func(i int) metav1.Condition {
			return of(metav1.ConditionFalse, fmt.Sprintf("attempt %d", i))
		}, 10},
		{"another status each second", func(i int) metav1.Condition {
			return of([]metav1.ConditionStatus{metav1.ConditionTrue, metav1.ConditionFalse}[i%2], "")
		}, conditionWrites*10 + conditionWrites - 1},
		{"Unknown for a moment now and then", func(i int) metav1.Condition {
			if i%60 > 30 {
				return of(metav1.ConditionUnknown, "503")
			}
			return of(metav1.ConditionTrue, "")
		}, 1},
		{"Unknown for long", func(i int) metav1.Condition {
			if i > 60 {
				return of(metav1.ConditionUnknown, "503")
			}
			return of(metav1.ConditionTrue, "")
		}, 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				if n := writes(time.Second, tt.next); n != tt.want {
					t.Errorf("%d writes in ten minutes, want %d", n, tt.want)
				}
			})
		})
	}
}
