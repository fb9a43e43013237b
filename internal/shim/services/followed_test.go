// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package services

import (
	"errors"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
	v1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"

	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

// endpoint is on a Node; its conditions are ready, serving and terminating, absent if nil.
func endpoint(node string, is ...*bool) discoveryv1.Endpoint {
	e := discoveryv1.Endpoint{NodeName: &node}
	if len(is) == 3 {
		e.Conditions = discoveryv1.EndpointConditions{Ready: is[0], Serving: is[1], Terminating: is[2]}
	}
	return e
}

func endpointSlice(name string, endpoints ...discoveryv1.Endpoint) *discoveryv1.EndpointSlice {
	return &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "shop", Name: name, Labels: map[string]string{discoveryv1.LabelServiceName: "web"},
		},
		Endpoints: endpoints,
	}
}

func TestEndpointsServeUntilTheyEnd(t *testing.T) {
	yes, no := new(true), new(false)
	const serving, leaving = backendv1.ServingState_SERVING_STATE_SERVING,
		backendv1.ServingState_SERVING_STATE_LEAVING
	for _, tt := range []struct {
		name      string
		endpoints []discoveryv1.Endpoint
		want      map[string]backendv1.ServingState
	}{
		{"without conditions", []discoveryv1.Endpoint{endpoint("a")},
			map[string]backendv1.ServingState{"a": serving}},
		{"ready", []discoveryv1.Endpoint{endpoint("a", yes, yes, no)},
			map[string]backendv1.ServingState{"a": serving}},
		{"starting", []discoveryv1.Endpoint{endpoint("a", no, no, no)}, map[string]backendv1.ServingState{}},
		{"failing its probe", []discoveryv1.Endpoint{endpoint("a", no, nil, nil)},
			map[string]backendv1.ServingState{}},
		{"ending", []discoveryv1.Endpoint{endpoint("a", no, yes, yes)},
			map[string]backendv1.ServingState{"a": leaving}},
		{"ending, published though not ready", []discoveryv1.Endpoint{endpoint("a", yes, yes, yes)},
			map[string]backendv1.ServingState{"a": leaving}},
		{"ended", []discoveryv1.Endpoint{endpoint("a", no, no, yes)}, map[string]backendv1.ServingState{}},
		{"ending beside one that is ready", []discoveryv1.Endpoint{
			endpoint("a", yes, yes, no), endpoint("a", no, yes, yes),
			endpoint("b", no, yes, yes), endpoint("b", yes, yes, no),
		}, map[string]backendv1.ServingState{"a": serving, "b": serving}},
		{"on no Node", []discoveryv1.Endpoint{{}}, map[string]backendv1.ServingState{}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, servingIn(endpointSlice("s", tt.endpoints...))); diff != "" {
				t.Errorf("serving (-want +got):\n%s", diff)
			}
		})
	}
}

// lists counts the reads of a resource, and fails them while they are forbidden.
func lists(client *fake.Clientset, resource string, forbidden *atomic.Bool) *atomic.Int32 {
	var count atomic.Int32
	client.PrependReactor("list", resource, func(clienttesting.Action) (bool, runtime.Object, error) {
		count.Add(1)
		return forbidden.Load(), nil, errors.New("forbidden")
	})
	return &count
}

// Endpoints that cannot be read delay nothing but the Services that need them.
func TestALocalServiceIsPreservedUntilItsEndpointsAreKnown(t *testing.T) {
	client := fake.NewClientset(node("a", id1), node("b", id2), service(finalized, local),
		service(named("shop", "plain"), finalized),
		endpointSlice("s-1", endpoint("a"), endpoint("gone")))
	var forbidden atomic.Bool
	forbidden.Store(true)
	lists(client, "endpointslices", &forbidden)
	e := runWith(t, client, &peer{}, Config{})
	e.item("shop/web", func(d *backendv1.DesiredLoadBalancer) bool {
		return strings.Contains(d.GetPreserveReason(), "not known yet")
	})
	e.item("shop/plain", func(d *backendv1.DesiredLoadBalancer) bool { return d.GetPreserveReason() == "" })
	forbidden.Store(false)
	got := e.item("shop/web", func(d *backendv1.DesiredLoadBalancer) bool { return d.GetPreserveReason() == "" })
	eligible := got.GetEligibleInstances()
	if len(eligible.GetInstances()) != 1 || eligible.GetInstances()[0].GetInstanceId() != id1 ||
		eligible.GetInstances()[0].GetState() != backendv1.ServingState_SERVING_STATE_SERVING ||
		!eligible.GetFollowsServing() || eligible.GetDescription() != "has a ready endpoint of the Service, "+
		"which spec.externalTrafficPolicy Local asks for" {
		t.Errorf("the eligible instances are %v", eligible)
	}
	_, err := client.DiscoveryV1().EndpointSlices("shop").Create(t.Context(),
		endpointSlice("s-2", endpoint("b", new(false), new(true), new(true))), metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	e.item("shop/web", func(d *backendv1.DesiredLoadBalancer) bool {
		of := d.GetEligibleInstances().GetInstances()
		return len(of) == 2 && of[1].GetState() == backendv1.ServingState_SERVING_STATE_LEAVING
	})
}

// The endpoints of a cluster are many: they are followed from the first Service that needs them to
// the last.
func TestEndpointsAreFollowedOnceWhileALocalServiceLives(t *testing.T) {
	now := metav1.NewTime(created)
	client := fake.NewClientset(service(named("shop", "going"), finalized, local, func(s *v1.Service) {
		s.DeletionTimestamp = &now
	}), service(finalized), service(named("shop", "other"), finalized))
	var allowed atomic.Bool
	count := lists(client, "endpointslices", &allowed)
	e := runWith(t, client, &peer{}, Config{})
	e.inSync()
	if n := count.Load(); n != 0 {
		t.Errorf("the endpoints were read %d times although no live Service needs them", n)
	}
	followed := func() bool {
		e.c.pushing.Lock()
		defer e.c.pushing.Unlock()
		return e.c.slices != nil
	}
	e.change("shop/web", local)
	e.change("shop/other", local)
	e.await("the endpoints are followed", func() bool { return followed() && count.Load() == 1 })
	cluster := func(s *v1.Service) { s.Spec.ExternalTrafficPolicy = v1.ServiceExternalTrafficPolicyCluster }
	e.change("shop/web", cluster)
	e.item("shop/web", func(d *backendv1.DesiredLoadBalancer) bool { return d.GetEligibleInstances() == nil })
	if !followed() {
		t.Error("the endpoints are not followed, although one Service needs them still")
	}
	e.change("shop/other", cluster)
	e.await("the endpoints are not followed any more", func() bool { return !followed() })
	if n := count.Load(); n != 1 {
		t.Errorf("the endpoints were read %d times", n)
	}
}

// Pods that come and go elsewhere change nothing; what is used on a Node is sent.
func TestThePortsThatPodsUseAreFollowed(t *testing.T) {
	client := fake.NewClientset(node("worker-1", id1), service(finalized), hostPod("proxy", "worker-1", 80, 90))
	e := runWith(t, client, &peer{}, Config{})
	ports := func() (ports []int32) {
		e.peer.mu.Lock()
		defer e.peer.mu.Unlock()
		for _, used := range e.peer.candidates[id1].GetUsedPorts() {
			ports = append(ports, used.GetPort())
		}
		return ports
	}
	e.await("the port is used", func() bool { return cmp.Equal(ports(), []int32{80}) })
	e.change("shop/web", port(90))
	e.await("another port is used", func() bool { return cmp.Equal(ports(), []int32{90}) })
	if err := client.CoreV1().Pods("shop").Delete(t.Context(), "proxy", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	e.await("no port is used", func() bool { return len(ports()) == 0 })
}

func TestOfAPodWhatIsNeededIsKept(t *testing.T) {
	pod := hostPod("proxy", "worker-1", 80)
	pod.UID, pod.ResourceVersion = "uid-1", "7"
	pod.Annotations = map[string]string{"large": strings.Repeat("x", 1000)}
	pod.Spec.Containers[0].Env = []v1.EnvVar{{Name: "TOKEN", Value: "secret"}}
	pod.Spec.InitContainers = []v1.Container{{
		RestartPolicy: new(v1.ContainerRestartPolicyAlways),
		Ports: []v1.ContainerPort{{
			Protocol: v1.ProtocolUDP, ContainerPort: 443, HostIP: "127.0.0.1",
		}},
	}}
	meta := metav1.ObjectMeta{Namespace: "shop", Name: "proxy", UID: "uid-1", ResourceVersion: "7"}
	labelled := meta
	labelled.Labels = map[string]string{"app": "proxy"}
	without := pod.DeepCopy()
	without.Spec.HostNetwork = false
	for name, tt := range map[string]struct {
		pod  *v1.Pod
		want *v1.Pod
	}{
		"one that uses ports of its Node": {pod, &v1.Pod{ObjectMeta: labelled, Spec: v1.PodSpec{
			NodeName: "worker-1", Containers: []v1.Container{{
				Ports: []v1.ContainerPort{
					{Protocol: v1.ProtocolUDP, HostPort: 443, HostIP: "127.0.0.1"},
					{Protocol: v1.ProtocolTCP, HostPort: 80},
				},
			}},
		}}},
		"one that does not": {without, &v1.Pod{ObjectMeta: meta}},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := trimPod(tt.pod)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("kept (-want +got):\n%s", diff)
			}
			again, err := trimPod(got)
			if diff := cmp.Diff(tt.want, again); diff != "" || err != nil {
				t.Errorf("trimmed again (-want +got): %v\n%s", err, diff)
			}
		})
	}
}
