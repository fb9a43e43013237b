// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package loadbalancers

import (
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/cache"
)

// takeWake reports whether a look was asked for since the last time.
func (c *Controller) takeWake() bool {
	select {
	case <-c.woken:
		return true
	default:
		return false
	}
}

// Each look is a request to Oxide, and a project may be full of machines that come and go.
func TestOnlyInstancesOfNodesAreAReasonToLook(t *testing.T) {
	_, c := newPeer(t, node("worker-1", id1), node("joining", ""))
	c.putOff(id3, time.Hour)
	for name, tt := range map[string]struct {
		id   string
		want bool
	}{
		"a Node's":                    {id1, true},
		"another machine's":           {id2, false},
		"one that a change waits for": {id3, true},
		"all are known anew":          {"", true},
	} {
		t.Run(name, func(t *testing.T) {
			c.takeWake()
			c.instanceChanged(tt.id)
			if got := c.takeWake(); got != tt.want {
				t.Errorf("a look is asked for: %t, want %t", got, tt.want)
			}
		})
	}
	if _, waits := c.retryAt[id3]; waits {
		t.Error("the change still waits")
	}
}

// slice is one of the plain service's, with an endpoint on each Node.
func slice(ready bool, nodes ...string) *discoveryv1.EndpointSlice {
	s := &discoveryv1.EndpointSlice{ObjectMeta: metav1.ObjectMeta{
		Namespace: "shop", Name: "web-1", Labels: map[string]string{discoveryv1.LabelServiceName: "web"},
	}}
	for _, name := range nodes {
		s.Endpoints = append(s.Endpoints, discoveryv1.Endpoint{
			NodeName: &name, Conditions: discoveryv1.EndpointConditions{Ready: &ready},
		})
	}
	return s
}

// While one Service has the policy Local, the slices of all are followed, and some change all the time.
func TestOnlyEndpointsThatGoElsewhereAreAReasonToLook(t *testing.T) {
	for _, tt := range []struct {
		name     string
		service  *v1.Service
		old, now any
		want     bool
	}{
		{"on another Node", service(local), slice(true, "a"), slice(true, "b"), true},
		{"on one Node more", service(local), slice(true, "a"), slice(true, "a", "b"), true},
		{"ready now", service(local), slice(false, "a"), slice(true, "a"), true},
		{"the first ones", service(local), nil, slice(true, "a"), true},
		{"the first ones, not ready", service(local), nil, slice(false, "a"), false},
		{"no more", service(local), slice(true, "a"), nil, true},
		{"no more, while nobody watched", service(local),
			cache.DeletedFinalStateUnknown{Obj: slice(true, "a")}, nil, true},
		{"another one beside it", service(local), slice(true, "a"), slice(true, "a", "a"), false},
		{"of a Service that all Nodes serve", service(), slice(true, "a"), slice(true, "b"), false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, c := newPeer(t, tt.service)
			c.slices.compare(tt.old, tt.now)
			if got := c.takeWake(); got != tt.want {
				t.Errorf("a look is asked for: %t, want %t", got, tt.want)
			}
		})
	}
}

func TestOnlyServicesWithPortsOnNodesAreAReasonToLook(t *testing.T) {
	of := func(kind v1.ServiceType, change ...func(*v1.Service)) *v1.Service {
		return service(append(change, func(s *v1.Service) { s.Spec.Type = kind })...)
	}
	otherPort := func(s *v1.Service) { s.Spec.Ports[0].Port = 8443 }
	const balanced, nodePort, internal = v1.ServiceTypeLoadBalancer, v1.ServiceTypeNodePort,
		v1.ServiceTypeClusterIP
	for _, tt := range []struct {
		name     string
		old, now *v1.Service
		want     bool
	}{
		{"a new load balancer", nil, of(balanced), true},
		{"a new node port", nil, of(nodePort), true},
		{"a new one inside the cluster", nil, of(internal), false},
		{"nothing is another", of(balanced), of(balanced), false},
		{"another port", of(balanced), of(balanced, otherPort), true},
		{"another port inside the cluster", of(internal), of(internal, otherPort), false},
		{"no load balancer any more", of(balanced), of(internal), true},
		{"a load balancer now", of(internal), of(balanced), true},
		{"a load balancer ends", of(balanced), nil, true},
		{"one inside the cluster ends", of(internal), nil, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, c := newPeer(t)
			switch {
			case tt.now == nil:
				c.forget(tt.old)
			case tt.old == nil:
				c.serviceChanged(nil, tt.now)
			default:
				c.serviceChanged(tt.old, tt.now)
			}
			if got := c.takeWake(); got != tt.want {
				t.Errorf("a look is asked for: %t, want %t", got, tt.want)
			}
		})
	}
}

func TestWithoutLoadBalancersThereIsNothingToLookAt(t *testing.T) {
	b, c := newPeer(t, service(func(s *v1.Service) { s.Spec.Type = v1.ServiceTypeNodePort }))
	looks := func() int {
		before := len(b.all())
		if _, err := c.lookAround(t.Context(), false); err != nil {
			t.Fatal(err)
		}
		return len(b.all()) - before
	}
	for _, tt := range []struct {
		name   string
		before func()
		want   int
	}{
		{"the backend has to know that there is none", nil, 1},
		{"it knows", nil, 0},
		{"after a while somebody may have left an orphan", func() { c.setNoneUntil(time.Now()) }, 1},
		{"it was told again", nil, 0},
		{"another backend knows nothing", func() { c.instanceChanged("") }, 1},
		{"a Service comes", func() { list(t, c, service()) }, 1},
		{"it stays", nil, 1},
		{"it goes", func() { list(t, c) }, 1},
		{"it is known to have gone", nil, 0},
	} {
		if tt.before != nil {
			tt.before()
		}
		if got := looks(); got != tt.want {
			t.Errorf("%s: %d looks, want %d", tt.name, got, tt.want)
		}
	}
}
