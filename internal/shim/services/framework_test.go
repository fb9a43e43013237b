// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package services

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/durationpb"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/client-go/tools/cache"
	cloudprovider "k8s.io/cloud-provider"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/shim/annotations"
	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

type stateChange = func(*backendv1.LoadBalancerState)

func toPublish(addresses ...string) stateChange {
	return func(s *backendv1.LoadBalancerState) { s.Publish = addresses }
}

func phase(phase backendv1.Phase) stateChange {
	return func(s *backendv1.LoadBalancerState) { s.Phase = phase }
}

func problem(reason backendv1.ErrorReason, code codes.Code, message string) stateChange {
	return func(s *backendv1.LoadBalancerState) {
		s.Problem = &backendv1.Problem{Reason: reason, Code: int32(code), Message: message}
	}
}

func holding(kind backendv1.ConditionType, message string) stateChange {
	return func(s *backendv1.LoadBalancerState) {
		s.Conditions = append(s.Conditions, &backendv1.Condition{Type: kind, Message: message})
	}
}

func reserved(s *backendv1.LoadBalancerState) {
	s.Addresses = []*backendv1.LoadBalancerAddress{{Address: "198.51.100.9"}}
}

func attached(s *backendv1.LoadBalancerState) {
	reserved(s)
	s.Addresses[0].Attachment = &backendv1.Attachment{InstanceId: id1}
}

func all(changes ...stateChange) stateChange {
	return func(s *backendv1.LoadBalancerState) {
		for _, change := range changes {
			change(s)
		}
	}
}

const (
	notOwned     = backendv1.ErrorReason_ERROR_REASON_ADDRESS_NOT_OWNED
	exhausted    = backendv1.ErrorReason_ERROR_REASON_POOL_EXHAUSTED
	unavailable  = backendv1.ErrorReason_ERROR_REASON_OXIDE_UNAVAILABLE
	conflict     = backendv1.ErrorReason_ERROR_REASON_PORT_CONFLICT
	pendingPhase = backendv1.Phase_PHASE_PENDING
)

func TestEnsureReturnsWhatTheBackendSays(t *testing.T) {
	present := publishing("203.0.113.1")
	for _, tt := range []struct {
		name    string
		service *v1.Service
		state   stateChange
		want    *v1.LoadBalancerStatus
		wantErr string
		// retry is when the framework retries; 0: with its own delays.
		retry time.Duration
	}{
		{"what is to be published, before it is attached", service(finalized),
			all(reserved, toPublish("198.51.100.9", "172.30.0.11"), phase(backendv1.Phase_PHASE_PROGRESSING)),
			statusOf([]string{"198.51.100.9", "172.30.0.11"}), "", 0},
		{"a mistake, at once and whole", service(finalized, annotated(annotations.RetainAddress, "perhaps")),
			nil, nil, "use true or false", 0},
		{"a problem, whatever is published", service(finalized, present),
			all(toPublish("203.0.113.1"), problem(notOwned, codes.FailedPrecondition, "it is taken")),
			nil, "it is taken", 0},
		{"a problem for which waiting helps", service(finalized),
			func(s *backendv1.LoadBalancerState) {
				problem(unavailable, codes.Unavailable, "no answer")(s)
				s.Problem.RetryDelay = durationpb.New(5 * time.Second)
			}, nil, "no answer", 5 * time.Second},
		{"a problem with a delay", service(finalized), func(s *backendv1.LoadBalancerState) {
			problem(exhausted, codes.ResourceExhausted, "it is full")(s)
			s.Problem.RetryDelay = durationpb.New(time.Hour)
		}, nil, "it is full", maxRetryDelay},
		{"a problem with too short a delay", service(finalized), func(s *backendv1.LoadBalancerState) {
			problem(notOwned, codes.FailedPrecondition, "soon")(s)
			s.Problem.RetryDelay = durationpb.New(time.Millisecond)
		}, nil, "soon", minRetryDelay},
		{"an address on an instance that is not ours: the status stays", service(finalized, present),
			attached, statusOf([]string{"203.0.113.1"}), "", 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e := run(t, Config{}, tt.service)
			e.inSync()
			if tt.state != nil {
				e.peer.answers(tt.state)
			}
			got, err := e.c.EnsureLoadBalancer(t.Context(), "", tt.service, nil)
			switch {
			case tt.wantErr == "" && err != nil, tt.wantErr != "" && err == nil,
				err != nil && !strings.Contains(err.Error(), tt.wantErr):
				t.Errorf("the error is %v, want %q in it", err, tt.wantErr)
			case err != nil:
				checkRetry(t, err, tt.retry)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("status (-want +got):\n%s", diff)
			}
		})
	}
}

// The framework compares by identity: then it writes no status, records no success and does not
// retry.
func TestAnAddressWithoutAPlaceIsNeitherSuccessNorFailure(t *testing.T) {
	for name, state := range map[string]stateChange{
		"reserved": reserved,
		"its port is taken everywhere": all(reserved, phase(pendingPhase),
			problem(conflict, codes.FailedPrecondition, "TCP 80 is held by shop/older"),
			holding(backendv1.ConditionType_CONDITION_TYPE_PORT_CONFLICT, "TCP 80 is held by shop/older")),
		"every instance is full": all(reserved, problem(
			backendv1.ErrorReason_ERROR_REASON_INSTANCE_LIMIT_REACHED, codes.ResourceExhausted, "full")),
	} {
		t.Run(name, func(t *testing.T) {
			s := service(finalized, publishing("198.51.100.9"))
			e := run(t, Config{}, s)
			e.inSync()
			e.peer.answers(state)
			if status, err := e.c.EnsureLoadBalancer(t.Context(), "", s, nil); err != cloudprovider.ImplementedElsewhere { //nolint:errorlint // as the framework does
				t.Errorf("Ensure returned %v, %v", status, err)
			}
			e.status("shop/web") // what has no place is not published
			if strings.HasPrefix(name, "its port") {
				e.recorded("Warning PortConflict TCP 80 is held by shop/older")
			}
		})
	}
}

// Before the backend knows, a state says no more than what was published before.
func TestEnsureWaitsUntilTheBackendKnows(t *testing.T) {
	s := service(finalized, publishing("198.51.100.9"))
	e := run(t, Config{}, s)
	e.inSync()
	e.peer.answers(all(phase(pendingPhase), toPublish("198.51.100.9")))
	type result struct {
		status *v1.LoadBalancerStatus
		err    error
	}
	done := make(chan result)
	go func() {
		status, err := e.c.EnsureLoadBalancer(t.Context(), "", s, nil)
		done <- result{status, err}
	}()
	e.await("the state has arrived", func() bool {
		_, ok := e.c.session.State(e.c.lbKey("shop/web"))
		return ok
	})
	select {
	case r := <-done:
		t.Fatalf("Ensure returned %v", r)
	default:
	}
	e.peer.answers(toPublish("198.51.100.9", "172.30.0.11"))
	if r := <-done; r.err != nil || !shows(r.status, []string{"198.51.100.9", "172.30.0.11"}) {
		t.Errorf("Ensure returned %v", r)
	}
}

func TestWhatIsRefusedNamesWhoAsksForIt(t *testing.T) {
	for _, tt := range []struct {
		name    string
		change  func(*v1.Service)
		reason  backendv1.ErrorReason
		code    codes.Code
		says    string
		remedy  string
		without bool
	}{
		{name: "address", change: annotated(annotations.FloatingIP, "198.51.100.9"), reason: notOwned,
			says: "198.51.100.9 is taken", remedy: "in the annotation " + annotations.FloatingIP},
		{name: "field", change: func(s *v1.Service) { s.Spec.LoadBalancerIP = "198.51.100.9" },
			reason: notOwned, says: "198.51.100.9 is taken", remedy: "in spec.loadBalancerIP"},
		{name: "pool", change: annotated(annotations.FloatingIPPool, "edge"), reason: exhausted,
			code: codes.ResourceExhausted, says: "the pool edge is full",
			remedy: "; name another pool in the annotation " + annotations.FloatingIPPool + ", or leave it out"},
		{name: "no name of anything", change: annotated(annotations.ExistingFloatingIP, "My IP"),
			reason: backendv1.ErrorReason_ERROR_REASON_INVALID_REQUEST, code: codes.InvalidArgument,
			says: `"My IP" is neither a name nor an id`, remedy: "in the annotation " + annotations.ExistingFloatingIP},
		{name: "nothing in particular", change: func(*v1.Service) {},
			reason: backendv1.ErrorReason_ERROR_REASON_POOL_NOT_FOUND, says: "there is no default pool",
			remedy: "name another pool of IPv4 addresses in the annotation " + annotations.FloatingIPPool +
				", or another IP family in spec.ipFamilies, or ask the rack's operator for a default pool"},
		{name: "a family by the annotation", change: annotated(annotations.FloatingIPVersion, "v4"),
			reason: backendv1.ErrorReason_ERROR_REASON_POOL_NOT_FOUND, says: "there is no default pool",
			remedy: "or another IP family in the annotation " + annotations.FloatingIPVersion},
		{name: "either family", change: func(s *v1.Service) {
			policy(v1.IPFamilyPolicyPreferDualStack)(s)
			families(v1.IPv6Protocol, v1.IPv4Protocol)(s)
		}, reason: backendv1.ErrorReason_ERROR_REASON_POOL_NOT_FOUND, says: "there is no default pool",
			remedy: "; name another pool in the annotation " + annotations.FloatingIPPool +
				", or ask the rack's operator for a default pool"},
		{name: "something else", change: annotated(annotations.FloatingIPPool, "edge"), reason: notOwned,
			says: "the name lb-web is taken", without: true},
		{name: "nothing in particular, and no pool", change: func(*v1.Service) {}, reason: notOwned,
			says: "the name lb-web is taken", without: true},
		{name: "Oxide cannot be reached", change: annotated(annotations.FloatingIPPool, "edge"),
			reason: unavailable, code: codes.Unavailable, says: "the pool edge cannot be read", without: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := service(tt.change)
			state := &backendv1.LoadBalancerState{}
			problem(tt.reason, tt.code, tt.says)(state)
			_, err := outcome(s, state)
			switch {
			case err == nil || !strings.HasPrefix(err.Error(), tt.says):
				t.Errorf("the error is %v", err)
			case tt.without && err.Error() != tt.says, !strings.Contains(err.Error(), tt.remedy):
				t.Errorf("the error is %q, want it to say %q", err, tt.remedy)
			}
		})
	}
}

// Before the framework has put its finalizer on, nothing may be made that nobody would delete.
func TestAServiceIsDesiredOnceTheFrameworkHasSeenIt(t *testing.T) {
	s := service()
	other := service(named("shop", "other"), finalized)
	class := service(named("shop", "class"), finalized, func(s *v1.Service) {
		s.Spec.LoadBalancerClass = new("example.com/other")
	})
	e := run(t, Config{}, s, other, class)
	e.inSync()
	if e.peer.sent("shop/web") != nil || e.peer.sent("shop/other") == nil {
		t.Error("the Service with the finalizer is sent, and the other one is not")
	}
	if e.peer.sent("shop/class").GetEnding() != backendv1.Ending_ENDING_RELEASE {
		t.Error("a Service that is of another class now is released")
	}
	e.peer.answers(toPublish("198.51.100.9"))
	if _, err := e.c.EnsureLoadBalancer(t.Context(), "", s, nil); err != nil {
		t.Fatal(err)
	}
	e.item("shop/web", func(*backendv1.DesiredLoadBalancer) bool { return true })
	// What was ensured is the Service, not its name.
	again := service(func(s *v1.Service) { s.UID = "uid-2" })
	services := e.client.CoreV1().Services("shop")
	if err := services.Delete(t.Context(), "web", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := services.Create(t.Context(), again, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	e.await("it is forgotten", func() bool { return e.peer.sent("shop/web") == nil })
	_, err := e.c.EnsureLoadBalancer(t.Context(), "", s, nil)
	checkRetry(t, err, minRetryDelay)
}

func going(s *v1.Service) {
	now := metav1.NewTime(created)
	s.DeletionTimestamp = &now
}

func TestReleaseWaitsUntilNothingIsLeft(t *testing.T) {
	s := service(finalized, going, publishing("198.51.100.9"))
	e := run(t, Config{}, s)
	sent := e.item("shop/web", func(d *backendv1.DesiredLoadBalancer) bool {
		return d.GetEnding() == backendv1.Ending_ENDING_RELEASE
	})
	done := make(chan error)
	go func() { done <- e.c.EnsureLoadBalancerDeleted(t.Context(), "", s) }()
	select {
	case err := <-done:
		t.Fatalf("Release returned %v", err)
	case <-time.After(50 * time.Millisecond):
	}
	e.peer.send(releasedEvent(sent))
	if err := <-done; err != nil {
		t.Error(err)
	}
	if err := e.c.EnsureLoadBalancerDeleted(t.Context(), "", s); err != nil {
		t.Errorf("released already: %v", err)
	}
}

// What waits for Oxide or a person is said at once; once it is released the framework asks again at
// once, too, and not after its own backoff.
func TestTheFrameworkAsksAgainOnceAServiceIsReleased(t *testing.T) {
	for name, state := range map[string]stateChange{
		"a problem": problem(unavailable, codes.Unavailable, "the sled does not answer"),
		"a condition": holding(backendv1.ConditionType_CONDITION_TYPE_LEFT_ATTACHED,
			"the sled does not answer"),
	} {
		t.Run(name, func(t *testing.T) {
			s := service(finalized, going)
			asked := make(chan *v1.Service, 10)
			p := &peer{prepare: func(c *Controller) {
				c.HoldEnds(cache.ResourceEventHandlerFuncs{
					UpdateFunc: func(_, now any) { asked <- now.(*v1.Service) },
				})
			}}
			p.answer = func(d *backendv1.DesiredLoadBalancer) []*backendv1.SyncLoadBalancersResponse {
				return []*backendv1.SyncLoadBalancersResponse{stateEvent(d, all(phase(pendingPhase), state))}
			}
			e := runWith(t, fake.NewClientset(s), p, Config{})
			if err := e.c.EnsureLoadBalancerDeleted(t.Context(), "", s); err == nil || err.Error() != "the sled does not answer" {
				t.Errorf("Release returned %v", err)
			}
			e.peer.send(releasedEvent(e.peer.sent("shop/web")))
			if got := <-asked; keyOf(got) != "shop/web" {
				t.Errorf("it asks for %s", keyOf(got))
			}
			if err := e.c.EnsureLoadBalancerDeleted(t.Context(), "", s); err != nil {
				t.Error(err)
			}
		})
	}
}

// The API server empties the status of a Service that is no load balancer any more.
func TestWhatWasPublishedLastIsSentWithTheEnd(t *testing.T) {
	e := run(t, Config{}, service(finalized, publishing("198.51.100.9", "172.30.0.11")))
	e.inSync()
	e.change("shop/web", func(s *v1.Service) {
		s.Spec.Type, s.Spec.Ports, s.Status = v1.ServiceTypeExternalName, nil, v1.ServiceStatus{}
	})
	got := e.item("shop/web", func(d *backendv1.DesiredLoadBalancer) bool {
		return d.GetEnding() == backendv1.Ending_ENDING_RELEASE
	})
	if diff := cmp.Diff([]string{"198.51.100.9", "172.30.0.11"}, got.GetPublishedAddresses()); diff != "" {
		t.Errorf("published (-want +got):\n%s", diff)
	}
	if len(got.GetPorts()) != 1 || got.GetPorts()[0].GetPort() != 80 {
		t.Errorf("the ports are %v", got.GetPorts())
	}
}

// The framework remembers a Service whose finalizer somebody has taken off.
func TestAServiceThatIsGoneIsReleasedAsTheFrameworkRemembersIt(t *testing.T) {
	e := run(t, Config{})
	e.inSync()
	e.peer.mu.Lock()
	e.peer.answer = func(d *backendv1.DesiredLoadBalancer) []*backendv1.SyncLoadBalancersResponse {
		return []*backendv1.SyncLoadBalancersResponse{releasedEvent(d)}
	}
	e.peer.mu.Unlock()
	if err := e.c.EnsureLoadBalancerDeleted(t.Context(), "", service(publishing("198.51.100.9"))); err != nil {
		t.Error(err)
	}
	e.await("it is forgotten", func() bool { return e.peer.sent("shop/web") == nil })
	e.peer.mu.Lock()
	defer e.peer.mu.Unlock()
	if n := len(e.peer.history); n != 1 || e.peer.history[0].GetEnding() != backendv1.Ending_ENDING_RELEASE {
		t.Errorf("%d items were sent", n)
	}
}

func TestALivingServiceIsNotReleased(t *testing.T) {
	e := run(t, Config{}, service(finalized))
	e.inSync()
	if err := e.c.EnsureLoadBalancerDeleted(t.Context(), "", service(finalized, going)); err == nil {
		t.Error("it was released")
	}
	if got := e.peer.sent("shop/web").GetEnding(); got != backendv1.Ending_ENDING_UNSPECIFIED {
		t.Errorf("it was sent as %s", got)
	}
}

// The framework would record a success for a Service that may not be served, whenever a Node comes or goes.
func TestAChangeOfNodesIsNoSuccessOfAService(t *testing.T) {
	err := bare(t).UpdateLoadBalancer(t.Context(), "", service(), nil)
	if !errors.Is(err, cloudprovider.ImplementedElsewhere) {
		t.Errorf("the framework gets %v", err)
	}
}

// Nothing is answered for a cluster whose id is not known, or without a backend; the error says
// why.
func TestWithoutABackendTheCauseIsSaid(t *testing.T) {
	e := run(t, Config{}, service(finalized))
	e.inSync()
	e.peer.mu.Lock()
	e.peer.refuse = errors.New("broken")
	e.peer.cut()
	e.peer.mu.Unlock()
	e.await("the session has ended", func() bool { return e.c.waits.Load() != nil })
	err := e.c.unanswered("shop/web")
	checkRetry(t, err, defaultRetryDelay)
	if !strings.Contains(err.Error(), "broken") && !strings.Contains(err.Error(), "cancel") {
		t.Errorf("the error is %v", err)
	}
}

// "No" would make the framework drop its finalizer without deleting anything, or forget that an update
// failed.
func TestSomethingOfAServiceIsAlwaysSaidToRemain(t *testing.T) {
	now := metav1.Now()
	published := v1.LoadBalancerStatus{Ingress: []v1.LoadBalancerIngress{{IP: "198.51.100.9"}}}
	for name, s := range map[string]*v1.Service{
		"desired":          {Spec: v1.ServiceSpec{Type: v1.ServiceTypeLoadBalancer}},
		"not desired":      {Spec: v1.ServiceSpec{Type: v1.ServiceTypeClusterIP}},
		"being deleted":    {ObjectMeta: metav1.ObjectMeta{DeletionTimestamp: &now}},
		"with its address": {Status: v1.ServiceStatus{LoadBalancer: published}},
	} {
		t.Run(name, func(t *testing.T) {
			status, exists, err := bare(t).GetLoadBalancer(t.Context(), "any", s)
			if err != nil || !exists {
				t.Errorf("GetLoadBalancer() = %v, %v", exists, err)
			}
			if diff := cmp.Diff(&s.Status.LoadBalancer, status); diff != "" {
				t.Errorf("status (-want +got):\n%s", diff)
			}
		})
	}
	if got := bare(t).GetLoadBalancerName(t.Context(), "any", service()); got != keyOf(service()) {
		t.Errorf("the name is %q", got)
	}
}

// Somebody has taken the finalizer off: the Service is gone from the cache, or another one has its
// name, while the framework waits for the release of the one that it remembers.
func TestAReleaseThatIsWaitedForIsNotForgotten(t *testing.T) {
	for name, now := range map[string][]runtime.Object{
		"the Service is gone":          nil,
		"another Service has its name": {service(func(s *v1.Service) { s.UID = "uid-2" })},
	} {
		t.Run(name, func(t *testing.T) {
			e := run(t, Config{}, now...)
			e.inSync()
			done := make(chan error, 1)
			go func() { done <- e.c.EnsureLoadBalancerDeleted(t.Context(), "", service()) }()
			sent := e.item("shop/web", func(d *backendv1.DesiredLoadBalancer) bool {
				return d.GetEnding() == backendv1.Ending_ENDING_RELEASE
			})
			if e.c.syncService("shop/web") != nil {
				t.Error("an item was sent for what has no load balancer")
			}
			e.c.session.SetCandidate(&backendv1.Candidate{InstanceId: id3}, time.Time{}, time.Time{})
			e.await("what was sent before has arrived", func() bool {
				e.peer.mu.Lock()
				defer e.peer.mu.Unlock()
				return e.peer.candidates[id3] != nil
			})
			if e.peer.sent("shop/web") == nil {
				t.Error("the backend was asked to forget what it releases")
			}
			e.peer.send(releasedEvent(sent))
			if err := <-done; err != nil {
				t.Error(err)
			}
			e.await("it is forgotten", func() bool { return e.peer.sent("shop/web") == nil })
		})
	}
}
