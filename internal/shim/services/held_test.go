// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package services

import (
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/client-go/tools/cache"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/shim/annotations"
	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

// notified keeps what the framework's service controller is notified of.
type notified struct {
	cache.ResourceEventHandler
	mu  sync.Mutex
	all []string
}

func (n *notified) note(what string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.all = append(n.all, what)
}

func (n *notified) OnAdd(object any, _ bool) { n.note("added " + keyOf(object.(*v1.Service))) }

func (n *notified) OnUpdate(before, now any) {
	what := "updated "
	if before == now {
		what = "asked for "
	}
	n.note(what + keyOf(now.(*v1.Service)))
}

func (n *notified) OnDelete(any) { n.note("deleted") }

func (n *notified) so() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.all)
}

func (n *notified) check(t *testing.T, when string, want ...string) {
	t.Helper()
	if got := n.so(); !slices.Equal(got, want) {
		t.Errorf("%s: notified of %q, want %q", when, got, want)
	}
}

// framework is a controller with a Service, the event handler for it, and what comes through that.
func framework(
	t *testing.T, objects ...runtime.Object,
) (*cluster, cache.ResourceEventHandler, *notified) {
	t.Helper()
	n := &notified{}
	var handler cache.ResourceEventHandler
	e := runWith(t, fake.NewClientset(objects...), &peer{
		prepare: func(c *Controller) { handler = c.HoldEnds(n) },
	}, Config{})
	e.inSync()
	e.await("the controller has started", func() bool { return e.c.awaitStart(t.Context()) })
	return e, handler, n
}

// asked waits until the framework is notified of a Service that it holds.
func (e *cluster) asked(n *notified, times int) {
	e.Helper()
	e.await("the framework is notified", func() bool {
		return len(n.so()) >= times
	})
}

func working(s *backendv1.LoadBalancerState) { s.Phase = backendv1.Phase_PHASE_PROGRESSING }

func TestTheFrameworkIsNotifiedOfAnEndOnceThereIsNothingLeft(t *testing.T) {
	for name, s := range map[string]*v1.Service{
		"deleted": service(finalized, going),
		"of another type": service(finalized, func(s *v1.Service) {
			s.Spec.Type = v1.ServiceTypeClusterIP
		}),
	} {
		t.Run(name, func(t *testing.T) {
			e, handler, n := framework(t, s)
			handler.OnUpdate(service(finalized), s)
			e.peer.answers(working)
			e.await("its state", func() bool {
				_, ok := e.c.session.State(e.c.lbKey("shop/web"))
				return ok
			})
			e.c.reviewEnd("shop/web")
			n.check(t, "while it is released")
			e.peer.send(releasedEvent(e.peer.sent("shop/web")))
			e.asked(n, 1)
			n.check(t, "once it is released", "asked for shop/web")
			if err := e.c.EnsureLoadBalancerDeleted(t.Context(), "", s); err != nil {
				t.Error(err)
			}
		})
	}
}

// A new leader comes to Services that end, of which there may be nothing: then no state precedes the
// release.
func TestANewLeaderAsksForWhatHasEndedBefore(t *testing.T) {
	s := service(finalized, going)
	e, handler, n := framework(t, s)
	handler.OnAdd(s, true)
	n.check(t, "at the start")
	sent := e.item("shop/web", func(*backendv1.DesiredLoadBalancer) bool { return true })
	e.peer.send(releasedEvent(sent))
	e.asked(n, 1)
	n.check(t, "once it is released", "asked for shop/web")
}

func TestAnEndThatWaitsForAPersonIsPassedOnAtOnce(t *testing.T) {
	for name, state := range map[string]stateChange{
		"a problem": problem(unavailable, codes.Unavailable, "the sled does not answer"),
		"a condition": holding(backendv1.ConditionType_CONDITION_TYPE_LEFT_ATTACHED,
			"the sled does not answer"),
	} {
		t.Run(name, func(t *testing.T) {
			s := service(finalized, going)
			e, handler, n := framework(t, s)
			handler.OnUpdate(service(finalized), s)
			n.check(t, "before anything is known")
			e.peer.answers(all(phase(pendingPhase), state))
			e.asked(n, 1)
			handler.OnUpdate(s, s) // as a resync does
			n.check(t, "then and later", "asked for shop/web", "asked for shop/web")
		})
	}
}

// That a Service waited for something before it was deleted says nothing about its end.
func TestTheEndOfWhatWasNotServedIsHeldAsAnyOther(t *testing.T) {
	alive, s := service(finalized), service(finalized, going)
	e, handler, n := framework(t, alive)
	e.peer.answers(all(phase(pendingPhase), holding(
		backendv1.ConditionType_CONDITION_TYPE_PORT_CONFLICT, "another Service has TCP 80")))
	e.await("its state", func() bool {
		state, ok := e.c.session.State(e.c.lbKey("shop/web"))
		return ok && len(state.GetConditions()) > 0
	})
	handler.OnUpdate(alive, s) // before its end is translated
	n.check(t, "while the backend does not know that it ends")
}

func TestAnEndIsHeldForTwoMinutesAtMost(t *testing.T) {
	s := service(finalized, going)
	e, handler, n := framework(t, s)
	e.peer.answers(working)
	handler.OnUpdate(service(finalized), s)
	back := func(d time.Duration) {
		e.c.held.mu.Lock()
		e.c.held.byKey["shop/web"].since = time.Now().Add(-d)
		e.c.held.mu.Unlock()
		e.c.reviewEnd("shop/web")
	}
	back(2*time.Minute - 10*time.Second)
	n.check(t, "before")
	back(2 * time.Minute)
	n.check(t, "after", "asked for shop/web")
}

// Without a session nothing is released, and the framework records that.
func TestAnEndIsNotHeldForABackendThatIsAway(t *testing.T) {
	for _, tt := range []struct {
		name     string
		started  bool
		leavesAt time.Duration // 0: it never came
		held     time.Duration
	}{
		{name: "the scope is not known", held: 10 * time.Second},
		{name: "it never came", started: true, held: 10 * time.Second},
		{name: "it left", started: true, leavesAt: 5 * time.Second, held: 20 * time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, n := service(finalized, going), &notified{}
				c := bare(t, s)
				if tt.started {
					close(c.started)
				}
				c.HoldEnds(n).OnUpdate(service(finalized), s)
				time.Sleep(tt.leavesAt)
				if tt.leavesAt > 0 {
					c.handler().Disconnected(errors.New("broken"))
				}
				time.Sleep(tt.held - tt.leavesAt - time.Millisecond)
				n.check(t, "before")
				time.Sleep(time.Millisecond)
				synctest.Wait()
				n.check(t, "after", "asked for shop/web")
				c.handler().InSync()
				if c.away.Load() != nil {
					t.Error("a session has begun, and none is said to be there")
				}
			})
		})
	}
}

func TestNoEndIsLostThatIsOvertaken(t *testing.T) {
	living, ending := service(finalized), service(finalized, going)
	for name, tt := range map[string]struct {
		then func(cache.ResourceEventHandler)
		want []string
	}{
		"wanted again": {func(h cache.ResourceEventHandler) { h.OnUpdate(ending, living) },
			[]string{"asked for shop/web", "updated shop/web"}},
		"without its finalizer": {func(h cache.ResourceEventHandler) { h.OnUpdate(ending, service(going)) },
			[]string{"asked for shop/web", "updated shop/web"}},
		"gone": {func(h cache.ResourceEventHandler) { h.OnDelete(ending) },
			[]string{"asked for shop/web", "deleted"}},
		"gone unseen": {func(h cache.ResourceEventHandler) {
			h.OnDelete(cache.DeletedFinalStateUnknown{Key: "shop/web", Obj: ending})
		}, []string{"asked for shop/web", "deleted"}},
		"of our class": {func(h cache.ResourceEventHandler) {
			h.OnUpdate(ending, service(finalized, ofClass(annotations.ClassFloatingIP)))
		}, []string{"asked for shop/web", "updated shop/web"}},
		"of a class of somebody else, without its finalizer": {func(h cache.ResourceEventHandler) {
			h.OnUpdate(ending, service(ofClass("example.com/other")))
		}, []string{"asked for shop/web", "updated shop/web"}},
		"of a class of somebody else: it ends all the same": {func(h cache.ResourceEventHandler) {
			h.OnUpdate(ending, service(finalized, ofClass("example.com/other")))
		}, nil},
		"again": {func(h cache.ResourceEventHandler) { h.OnUpdate(ending, ending) }, nil},
	} {
		t.Run(name, func(t *testing.T) {
			n := &notified{}
			handler := bare(t, ending).HoldEnds(n)
			handler.OnUpdate(living, ending)
			n.check(t, "held")
			tt.then(handler)
			n.check(t, "overtaken", tt.want...)
		})
	}
}

// What is not cleaned up here is not held: a Service of another class may have the finalizer of whoever
// serves that, who may use the same framework.
func TestWhatDoesNotEndIsPassedOnAsItIs(t *testing.T) {
	n := &notified{}
	handler := bare(t).HoldEnds(n)
	other := service(finalizedBy("another-cloud-provider"), ofClass("example.com/other"))
	handler.OnAdd(other, true)
	handler.OnAdd(service(), false)
	handler.OnUpdate(service(), service(finalized))
	n.check(t, "passed on", "added shop/web", "added shop/web", "updated shop/web")
}
