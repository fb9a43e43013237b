// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package loadbalancers

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes/fake"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/shim/backendtest"
	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

// lead runs a controller as the leader's until the test ends. The informers are not started yet.
func lead(t *testing.T, c *Controller, client *fake.Clientset) informers.SharedInformerFactory {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	factory := informers.NewSharedInformerFactory(client, 0)
	if err := c.UseInformers(factory); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		c.Run(ctx, client)
	}()
	t.Cleanup(func() {
		cancel()
		<-ended
		factory.Shutdown()
	})
	return factory
}

func TestTheFullSetIsToldWhenLeadingBegins(t *testing.T) {
	client := fake.NewClientset(service(), node("worker-1", id1), hostPod("proxy", "worker-1", 80))
	b, c := newPeer(t)
	unavailable := backendtest.Fail(codes.Unavailable,
		backendv1.ErrorReason_ERROR_REASON_OXIDE_UNAVAILABLE, "Oxide does not answer")
	b.failures = []error{unavailable, unavailable}
	factory := lead(t, c, client)
	if _, n := b.last(); n != 0 {
		t.Fatal("a set was told before it was known")
	}
	factory.Start(t.Context().Done())
	await(t, func() bool { return len(b.all()) >= 3 })
	got := b.all()[2].(*backendv1.ReconcileLoadBalancersRequest)
	if !got.GetDryRun() {
		t.Error("the set may be acted on at once: the statuses could not lead")
	}
	if sets := got.GetLoadBalancers(); len(sets) != 1 || sets[0].GetKey().GetName() != "shop/web" {
		t.Errorf("the set is %v", sets)
	}
	used := got.GetCluster().GetCandidates()[0].GetUsedPorts()
	if len(used) != 1 || used[0].GetHolder() != "the pod shop/proxy" {
		t.Errorf("the ports of pods are told as %v", used)
	}
}

// tardy are instances of which Oxide says nothing until later.
type tardy struct {
	known
	told atomic.Bool
}

func (t *tardy) Complete() bool { return t.told.Load() }

// A Node is ready for a while after its instance was stopped: who has just begun to lead must not send an
// address there.
func TestNothingMovesBeforeTheInstancesAreKnown(t *testing.T) {
	for name, tt := range map[string]struct {
		patience time.Duration
		then     func(*Controller, *tardy)
	}{
		"they are known after a while": {time.Hour, func(c *Controller, instances *tardy) {
			if !instances.told.Swap(true) {
				c.instanceChanged("")
			}
		}},
		"they stay unknown": {time.Second, func(*Controller, *tardy) {}},
	} {
		t.Run(name, func(t *testing.T) {
			b, c := newPeer(t)
			instances := &tardy{}
			c.config.Instances, c.config.Pace.Patience = instances, tt.patience
			c.wake()
			ensured := make(chan struct{})
			go func() {
				defer close(ensured)
				_, _ = c.Ensure(t.Context(), service())
			}()
			lead(t, c, fake.NewClientset(service(), node("worker-1", id1))).Start(t.Context().Done())
			await(t, func() bool { return len(c.woken) == 0 })
			if n := len(b.all()); n != 0 {
				t.Errorf("%d requests were made before", n)
			}
			await(t, func() bool {
				tt.then(c, instances)
				return len(b.all()) > 0
			})
			<-ensured
		})
	}
}

func TestLeadingEndsBeforeTheSetIsTold(t *testing.T) {
	for name, synced := range map[string]bool{"while caches are filled": false, "between two tries": true} {
		t.Run(name, func(t *testing.T) {
			b, c := newPeer(t)
			c.config.Pace.Retry = time.Hour
			b.failure = backendtest.Fail(codes.Unavailable,
				backendv1.ErrorReason_ERROR_REASON_OXIDE_UNAVAILABLE, "Oxide does not answer")
			ctx, cancel := context.WithCancel(t.Context())
			client := fake.NewClientset()
			factory := informers.NewSharedInformerFactory(client, 0)
			if err := c.UseInformers(factory); err != nil {
				t.Fatal(err)
			}
			if synced {
				factory.Start(ctx.Done())
			}
			done := make(chan struct{})
			go func() {
				defer close(done)
				c.Run(ctx, client)
			}()
			if synced {
				await(t, func() bool { return len(b.all()) == 1 })
			}
			cancel()
			select {
			case <-done:
			case <-time.After(10 * time.Second):
				t.Fatal("it goes on")
			}
			factory.Shutdown()
		})
	}
}

func TestADeletedServiceIsForgotten(t *testing.T) {
	client := fake.NewClientset(service(), node("worker-1", id1))
	b, c := newPeer(t)
	b.answer([]*backendv1.LoadBalancerAddress{onNode("198.51.100.9", "172.30.0.11")},
		condition(firewallClosed, "open TCP 80"))
	lead(t, c, client).Start(t.Context().Done())
	await(t, func() bool { return len(b.all()) > 0 })
	ensure := func() {
		if _, err := c.Ensure(t.Context(), service()); err != nil {
			t.Fatal(err)
		}
	}
	ensure()
	ensure()
	if got := b.events.Take(); len(got) != 1 {
		t.Errorf("the events are %q, want one", got)
	}
	err := client.CoreV1().Services("shop").Delete(t.Context(), "web", metav1.DeleteOptions{})
	if err != nil {
		t.Fatal(err)
	}
	await(t, func() bool {
		ensure()
		got := b.events.Take()
		return len(got) == 1 && strings.Contains(got[0], ReasonFirewallClosed)
	})
}

func TestOrphansAreLoggedOnce(t *testing.T) {
	b, c := newPeer(t)
	b.orphans = []*backendv1.LoadBalancer{{
		Key:       &backendv1.LoadBalancerKey{Scope: scope, Name: "shop/gone"},
		Addresses: []*backendv1.LoadBalancerAddress{onNode("198.51.100.9", "")},
	}}
	_, mark := logged.since(0, "")
	for range 2 {
		if _, err := c.lookAround(t.Context(), false); err != nil {
			t.Fatal(err)
		}
	}
	lines, _ := logged.since(mark, "shop/gone")
	if len(lines) != 1 || !strings.Contains(lines[0], "198.51.100.9") ||
		!strings.Contains(lines[0], "lb-shop-web") || !strings.Contains(lines[0], "AddressService") {
		t.Errorf("the orphan is logged as %q", lines)
	}
}
