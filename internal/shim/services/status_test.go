// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package services

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/shim/backendtest"
	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

// patches counts the writes of statuses, and fails those of a Service while that is forbidden.
func patches(client *fake.Clientset, forbidden func(name string) bool) *atomic.Int32 {
	var count atomic.Int32
	client.PrependReactor("patch", "services", func(action clienttesting.Action) (bool, runtime.Object, error) {
		if action.(clienttesting.PatchAction).GetPatchType() == types.ApplyPatchType {
			return false, nil, nil // the condition
		}
		count.Add(1)
		if forbidden(action.(clienttesting.PatchAction).GetName()) {
			return true, nil, errors.New("forbidden")
		}
		return false, nil, nil
	})
	return &count
}

func never(string) bool { return false }

// The status is what the backend says, whoever else writes it, and whatever the framework asks for.
func TestTheStatusIsWhatTheBackendSays(t *testing.T) {
	e := run(t, Config{}, service(finalized))
	e.inSync()
	e.peer.answers(toPublish("198.51.100.9", "172.30.0.11"))
	e.status("shop/web", "198.51.100.9", "172.30.0.11")
	e.peer.answers(toPublish("198.51.100.9", "172.30.0.11", "172.30.0.12"))
	e.status("shop/web", "198.51.100.9", "172.30.0.11", "172.30.0.12")
	e.change("shop/web", publishing("203.0.113.1")) // a stale copy, or anybody's
	e.status("shop/web", "198.51.100.9", "172.30.0.11", "172.30.0.12")
	e.peer.answers(toPublish())
	e.status("shop/web")
	// Each item that changed was sent with what the Service really publishes.
	e.item("shop/web", func(d *backendv1.DesiredLoadBalancer) bool { return len(d.GetPublishedAddresses()) == 0 })
}

// Invariant 7: a status that somebody overwrites again and again is restored after pauses, and a move whose
// next place was published in it does not wait for these.
func TestWhatIsOverwrittenAgainAndAgainCountsAsPublished(t *testing.T) {
	ours := []string{"198.51.100.9", "172.30.0.11", "172.30.0.12"}
	for name, tt := range map[string]struct{ overwritten, want []string }{
		"by another address": {[]string{"203.0.113.1"}, append(slices.Clone(ours), "203.0.113.1")},
		"by less":            {[]string{"198.51.100.9"}, ours},
		"by none":            {nil, ours},
	} {
		t.Run(name, func(t *testing.T) {
			e := run(t, Config{TimeScale: 100}, service(finalized))
			e.inSync()
			e.peer.answers(toPublish(ours...))
			e.status("shop/web", ours...)
			for restored := true; restored; {
				e.change("shop/web", publishing(tt.overwritten...))
				e.await("the status is restored, or a pause before that is recorded", func() bool {
					restored = e.publishes("shop/web", ours...)
					return restored || e.hasRecorded("StatusOverwritten")
				})
			}
			e.item("shop/web", func(d *backendv1.DesiredLoadBalancer) bool {
				return slices.Equal(d.GetPublishedAddresses(), tt.want)
			})
		})
	}
}

// What is published is in the order in which the backend says it, each as an address at which packets
// arrive as they were sent.
func TestEachAddressIsPublishedInTheOrderOfTheBackend(t *testing.T) {
	for name, publish := range map[string][]string{
		"an external subnet, alone": {"203.0.113.4"},
		"IPv6 before IPv4":          {"2001:db8::4", "203.0.113.4"},
		"two of each family":        {"203.0.113.4", "203.0.113.2", "2001:db8::4", "2001:db8::2"},
		"floating IPs, and their Nodes": {"198.51.100.9", "198.51.100.8", "2001:db8::9", "172.30.0.11",
			"172.30.0.12", "fd00::11"},
		"a floating IP while a subnet takes its place": {"203.0.113.4", "198.51.100.9", "172.30.0.11"},
	} {
		t.Run(name, func(t *testing.T) {
			e := run(t, Config{}, service(finalized))
			e.inSync()
			e.peer.answers(toPublish(publish...))
			e.status("shop/web", publish...)
			written, err := e.client.CoreV1().Services("shop").Get(t.Context(), "web", metav1.GetOptions{})
			if err != nil {
				t.Fatal(err)
			}
			for i, ingress := range written.Status.LoadBalancer.Ingress {
				want := v1.LoadBalancerIngress{IP: publish[i], IPMode: new(v1.LoadBalancerIPModeVIP)}
				if diff := cmp.Diff(want, ingress); diff != "" {
					t.Errorf("ingress %d (-want +got):\n%s", i, diff)
				}
			}
		})
	}
}

func TestAStatusIsWrittenOnlyWhereItSays(t *testing.T) {
	owner := func(s *backendv1.LoadBalancerState) { s.OwnerUid = "another" }
	published := toPublish("198.51.100.9")
	for name, tt := range map[string]struct {
		config  Config
		service *v1.Service
		state   stateChange
	}{
		"it is right already": {Config{}, service(finalized, publishing("198.51.100.9")), published},
		"it is right, without modes": {Config{}, service(finalized, func(s *v1.Service) {
			s.Status.LoadBalancer.Ingress = []v1.LoadBalancerIngress{{IP: "198.51.100.9"}}
		}), published},
		"the state is of another owner": {Config{}, service(finalized), all(published, owner)},
		"only observing":                {Config{ReadOnly: true}, service(), published},
		"the Service is no load balancer any more": {Config{}, service(finalized, func(s *v1.Service) {
			s.Spec.Type = v1.ServiceTypeClusterIP
		}), published},
		"nothing is known yet: it is what was published before": {Config{}, service(finalized),
			all(phase(pendingPhase), published, func(s *backendv1.LoadBalancerState) { s.Generation-- })},
	} {
		t.Run(name, func(t *testing.T) {
			client := fake.NewClientset(tt.service)
			count := patches(client, never)
			e := runWith(t, client, &peer{}, tt.config)
			e.inSync()
			if strings.HasPrefix(name, "nothing is known") {
				e.change("shop/web", annotated("oxide.computer/retain-address", "true")) // generation 2
				e.item("shop/web", func(d *backendv1.DesiredLoadBalancer) bool { return d.GetRetainAddresses() })
			}
			e.peer.answers(tt.state)
			e.peer.answers(all(tt.state, holding(backendv1.ConditionType_CONDITION_TYPE_DEGRADED, "seen")))
			if !strings.Contains(name, "another owner") {
				e.recorded("seen")
			}
			e.stop()
			if n := count.Load(); n != 0 {
				t.Errorf("the status was written %d times", n)
			}
		})
	}
}

// A status that cannot be written, by a webhook or for want of a right, is tried again and blocks
// no other.
func TestAStatusThatCannotBeWrittenBlocksNoOther(t *testing.T) {
	objects := []runtime.Object{service(finalized)}
	for i := range 2 * statusWorkers {
		objects = append(objects, service(named("shop", fmt.Sprintf("bad-%d", i)), finalized))
	}
	client := fake.NewClientset(objects...)
	var allowed atomic.Bool
	patches(client, func(name string) bool { return name != "web" && !allowed.Load() })
	e := runWith(t, client, &peer{}, Config{})
	e.inSync()
	e.peer.answers(toPublish("198.51.100.9"))
	e.status("shop/web", "198.51.100.9")
	allowed.Store(true)
	for i := range 2 * statusWorkers {
		e.status(fmt.Sprintf("shop/bad-%d", i), "198.51.100.9")
	}
}

// Without a session nothing is known of what is to be published.
func TestNothingIsWrittenWithoutASession(t *testing.T) {
	client := fake.NewClientset(service(finalized))
	count := patches(client, never)
	e := runWith(t, client, &peer{}, Config{})
	e.inSync()
	e.peer.answers(toPublish("198.51.100.9"))
	e.status("shop/web", "198.51.100.9")
	before := count.Load()
	e.peer.mu.Lock()
	e.peer.refuse, e.peer.answer = errors.New("broken"), nil
	e.peer.cut()
	e.peer.mu.Unlock()
	e.await("the session has ended", func() bool { return e.c.waits.Load() != nil })
	e.change("shop/web", publishing("203.0.113.1"))
	e.await("the cache shows it", func() bool {
		return shows(&e.c.cached("shop/web").Status.LoadBalancer, []string{"203.0.113.1"})
	})
	if n := count.Load(); n != before {
		t.Errorf("the status was written %d times", n-before)
	}
	e.peer.mu.Lock()
	e.peer.refuse = nil
	e.peer.answer = func(d *backendv1.DesiredLoadBalancer) []*backendv1.SyncLoadBalancersResponse {
		return []*backendv1.SyncLoadBalancersResponse{stateEvent(d, toPublish("198.51.100.9"))}
	}
	e.peer.mu.Unlock()
	e.status("shop/web", "198.51.100.9")
}

func TestASupersededSessionEndsTheProcess(t *testing.T) {
	superseded := make(chan error, 1)
	p := &peer{refuse: backendtest.Fail(codes.Aborted,
		backendv1.ErrorReason_ERROR_REASON_SESSION_SUPERSEDED, "a newer session began")}
	e := runWith(t, fake.NewClientset(), p, Config{Superseded: func(err error) { superseded <- err }})
	if err := <-superseded; err == nil || !strings.Contains(err.Error(), "a newer session") {
		t.Errorf("it ends with %v", err)
	}
	e.await("it has tried once", func() bool { return true })
}

func TestASessionThatIsStuckIsUnhealthy(t *testing.T) {
	e := run(t, Config{}, service(finalized))
	if err := e.c.HealthChecker().Check(nil); err != nil {
		t.Errorf("it has just begun: %v", err)
	}
	e.inSync()
	e.peer.answers(toPublish())
	e.await("there is no lag", func() bool { return e.c.session.Lag() == 0 })
	if err := e.c.HealthChecker().Check(nil); err != nil {
		t.Error(err)
	}
}

// The id of the cluster is the UID of the namespace kube-system; without it nothing begins.
func TestTheClusterIDIsReadFromTheCluster(t *testing.T) {
	client := fake.NewClientset(&v1.Namespace{ObjectMeta: metav1.ObjectMeta{
		Name: metav1.NamespaceSystem, UID: scope,
	}})
	var allowed atomic.Bool
	allowed.Store(true)
	c := New(Config{})
	defer c.statuses.ShutDown()
	defer c.conditions.ShutDown()
	c.client = client
	if err := c.readScope(t.Context()); err != nil || c.scope != scope {
		t.Errorf("the scope is %q, %v", c.scope, err)
	}
	forbidden := New(Config{})
	defer forbidden.statuses.ShutDown()
	defer forbidden.conditions.ShutDown()
	forbidden.client = fake.NewClientset()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := forbidden.readScope(ctx); err == nil {
		t.Error("an id was made up")
	}
	err := forbidden.unanswered("")
	for _, part := range []string{"kube-system", "--cluster-id"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("the error does not name %s: %v", part, err)
		}
	}
	if _, err := forbidden.EnsureLoadBalancer(ctx, "", service(), nil); err == nil {
		t.Error("a load balancer was ensured")
	}
	if err := forbidden.EnsureLoadBalancerDeleted(ctx, "", service()); err == nil {
		t.Error("a load balancer was released")
	}
}

func TestTheSessionIsOpenedAsConfigured(t *testing.T) {
	e := run(t, Config{
		ClusterID: "mine", AdoptedClusterIDs: []string{"old"}, LegacyClusterName: "kubernetes", ReadOnly: true,
		ReservedPorts: []*backendv1.ReservedPorts{{FirstPort: 22, Purpose: "SSH"}},
	}, service(nodePort(80)), node("a", id1), node("b", ""))
	e.inSync()
	e.peer.mu.Lock()
	defer e.peer.mu.Unlock()
	open := e.peer.opened[0]
	if open.GetScope() != "mine" || open.GetAdoptedScopes()[0] != "old" ||
		open.GetLegacyName() != "kubernetes" || !open.GetObserveOnly() {
		t.Errorf("it is opened with %v", open)
	}
	if len(e.peer.reserved) != 2 || e.peer.reserved[0].GetPurpose() != "SSH" ||
		e.peer.reserved[1].GetPurpose() != "the node port of the Service shop/web" {
		t.Errorf("the reserved ports are %v", e.peer.reserved)
	}
	if len(e.peer.candidates) != 1 || e.peer.candidates[id1].GetDisplayName() != "a" {
		t.Errorf("the candidates are %v", e.peer.candidates)
	}
	if len(e.peer.loadBalancers) != 1 { // with read-only no finalizer is needed
		t.Errorf("the load balancers are %v", e.peer.loadBalancers)
	}
}

func TestNodesThatComeAndGoAreSent(t *testing.T) {
	e := run(t, Config{}, node("a", id1), service(finalized, annotated("oxide.computer/node-selector", "pool=edge")))
	e.inSync()
	nodes := e.client.CoreV1().Nodes()
	candidates := func() int {
		e.peer.mu.Lock()
		defer e.peer.mu.Unlock()
		return len(e.peer.candidates)
	}
	if _, err := nodes.Create(t.Context(), node("b", id2, labelled("pool", "edge")), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	e.await("two candidates", func() bool { return candidates() == 2 })
	e.item("shop/web", func(d *backendv1.DesiredLoadBalancer) bool {
		return len(d.GetEligibleInstances().GetInstances()) == 1
	})
	if _, err := nodes.Update(t.Context(), node("b", id2, labelled("pool", "edge"), unready), metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	e.await("it is silent", func() bool {
		e.peer.mu.Lock()
		defer e.peer.mu.Unlock()
		return e.peer.candidates[id2].GetReadiness() == backendv1.Readiness_READINESS_UNKNOWN
	})
	if err := nodes.Delete(t.Context(), "b", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	e.await("one candidate", func() bool { return candidates() == 1 })
	e.item("shop/web", func(d *backendv1.DesiredLoadBalancer) bool {
		return len(d.GetEligibleInstances().GetInstances()) == 0
	})
}

// What was to be published for a Service that is not followed any more is nobody's business.
func TestNothingIsPublishedForAServiceThatWasForgotten(t *testing.T) {
	c := bare(t)
	state := &backendv1.LoadBalancerState{
		Key: c.lbKey("shop/web"), OwnerUid: "uid-1", Publish: []string{"198.51.100.9"},
	}
	if wait := c.compare(service(), state); wait >= 0 {
		t.Errorf("it is published after %s", wait)
	}
	c.track(service(), func(*tracked) {})
	if wait := c.compare(service(), state); wait != 0 {
		t.Errorf("for a Service that is followed it waits for %s", wait)
	}
}

// The end of the process may come while the framework asks for a Local Service.
func TestNoSlicesAreFollowedOnceTheControllerHasEnded(t *testing.T) {
	e := run(t, Config{}, service(finalized, local))
	e.inSync()
	e.stop()
	e.c.pushing.Lock()
	e.c.needSlices("shop/web", false)
	e.c.pushing.Unlock()
	e.c.syncService("shop/web")
	if e.c.slices != nil {
		t.Error("they are followed, and nobody waits for their end")
	}
}
