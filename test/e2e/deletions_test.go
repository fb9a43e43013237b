// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/objects"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/rack"
)

// Many Services that are deleted at once, or change their type, wait for each other, and each for a rack
// that takes longer than a call of the framework's lasts. That is no failure of any of them, with a class
// or without.
func TestDeletingManyServicesAtOnceIsNoFailure(t *testing.T) {
	e := openWorld(t)
	for _, tt := range []struct {
		name      string
		many      int
		latencyMS int
	}{
		{name: "quick", many: 30, latencyMS: 300},
		{name: "slow", many: 30, latencyMS: 3000},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e := e.within(t)
			var services []*corev1.Service
			for i := range tt.many {
				class := []string{"", classFloatingIP}[i%2]
				e.createClassed(fmt.Sprintf("%s-%d", tt.name, i), class, objects.TCP(int32(8000+i)))
			}
			for i := range tt.many {
				name := fmt.Sprintf("%s-%d", tt.name, i)
				e.served(name)
				services = append(services, e.service(name))
			}
			e.must(e.rack.AddFault(t.Context(), rack.Fault{Operation: "*", LatencyMS: tt.latencyMS}))
			took := e.endAll(services)
			e.must(e.rack.ClearFaults(t.Context()))
			t.Logf("all have ended after %s", took.Round(time.Second/10))
			if left := e.state().FloatingIPs; len(left) > 0 {
				t.Errorf("%d floating IPs are left", len(left))
			}
			for _, service := range services {
				e.endedOnce(service)
			}
		})
	}
}

// endAll deletes Services, but for each third, which becomes one of another type, and waits until all
// have lost their finalizers.
func (e *environment) endAll(services []*corev1.Service) (took time.Duration) {
	e.Helper()
	began := time.Now()
	client := e.client.CoreV1().Services("default")
	for i, service := range services {
		if i%3 == 0 {
			e.patch(service.Name, map[string]any{"spec": map[string]any{"type": "ClusterIP"}})
			continue
		}
		e.must(client.Delete(e.Context(), service.Name, metav1.DeleteOptions{}))
	}
	e.eventuallyWithin(2*limit, func(ctx context.Context) (string, error) {
		list, err := client.List(ctx, metav1.ListOptions{})
		if err != nil {
			return "", err
		}
		left := 0
		for _, service := range list.Items {
			if len(service.Finalizers) > 0 {
				left++
			}
		}
		if left > 0 {
			return fmt.Sprintf("the end of %d Services", left), nil
		}
		return "", nil
	})
	return time.Since(began)
}

// endedOnce checks that a Service has no warning, and one event of its end.
func (e *environment) endedOnce(service *corev1.Service) {
	e.Helper()
	all, err := e.eventsOn(e.Context(), service, ",type=Warning")
	e.must(err)
	for _, event := range all {
		if strings.HasPrefix(event.Reason, "ClusterIP") {
			continue // of the API server, which repairs what it has allocated now and then
		}
		e.Errorf("%s has the event %s: %s", service.Name, event.Reason, event.Message)
	}
	e.eventually(func(ctx context.Context) (string, error) {
		ended, err := e.eventsOn(ctx, service, ",reason=DeletedLoadBalancer")
		if err == nil && len(ended) == 0 {
			return "the event of the end of " + service.Name, nil
		}
		if len(ended) > 1 || err == nil && ended[0].Count > 1 {
			e.Errorf("%s has ended %d times: %+v", service.Name, len(ended), ended)
		}
		return "", err
	})
}
