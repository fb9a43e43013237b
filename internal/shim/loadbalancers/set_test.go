// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package loadbalancers

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/shim/annotations"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/shim/backendtest"
	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

// heldLB is what is sent of the plain service while what it asks for cannot be.
func heldLB(change ...func(*backendv1.DesiredLoadBalancer)) *backendv1.DesiredLoadBalancer {
	return wantedLB(append([]func(*backendv1.DesiredLoadBalancer){
		func(d *backendv1.DesiredLoadBalancer) {
			d.HoldAddresses, d.RetainAddresses = true, true
			d.Addresses = append(d.Addresses, &backendv1.WantedAddress{
				Family: backendv1.IpFamily_IP_FAMILY_IPV6,
				Source: &backendv1.WantedAddress_FloatingIp{FloatingIp: &backendv1.FloatingIpSource{}},
			})
		},
	}, change...)...)
}

func TestAServiceWithAMistakeIsHeldNotLeftOut(t *testing.T) {
	nodes := []*v1.Node{node("a", id1, labelled("pool", "edge")), node("b", id2)}
	mistake := annotated(annotations.AddressSource, "nonsense")
	for _, tt := range []struct {
		name    string
		service *v1.Service
		want    *backendv1.DesiredLoadBalancer
	}{
		{"in an annotation", service(mistake), heldLB()},
		{"in a field", service(policy(v1.IPFamilyPolicyRequireDualStack)), heldLB()},
		{"in what it wants of its address, which is not sent",
			service(annotated(annotations.FloatingIP, "198.51.100.9"),
				annotated(annotations.FloatingIPPool, "dmz")), heldLB()},
		{"whose nodes are known", service(mistake, annotated(annotations.NodeSelector, "pool=edge")),
			heldLB(on(id1))},
		{"that goes by endpoints which are not known", service(local), heldLB()},
		{"whose selector is the mistake", service(annotated(annotations.NodeSelector, "!!")), heldLB()},
		{"what it publishes is a witness", service(mistake, func(s *v1.Service) {
			s.Status.LoadBalancer = *vip("198.51.100.9", "172.30.0.11")
		}), heldLB(func(d *backendv1.DesiredLoadBalancer) {
			d.PublishedAddresses = []string{"198.51.100.9", "172.30.0.11"}
		})},
		{"in a port: the others are held", service(func(s *v1.Service) {
			s.Spec.Ports = append(s.Spec.Ports, v1.ServicePort{Port: 443, Protocol: "QUIC"})
		}), heldLB()},
		{"without any port there is nothing to hold", service(func(s *v1.Service) {
			s.Spec.Ports = nil
		}), nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var want []*backendv1.DesiredLoadBalancer
			if tt.want != nil {
				want = append(want, tt.want)
			}
			got := factsOf(nodes, tt.service).set()
			if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" {
				t.Errorf("set (-want +got):\n%s", diff)
			}
		})
	}
}

// Until the framework has released what a Service had, the backend has to know whose it is.
func TestServicesThatAreYetToBeReleasedAreTold(t *testing.T) {
	now := metav1.NewTime(created)
	going := func(s *v1.Service) { s.DeletionTimestamp = &now }
	internal := func(s *v1.Service) { s.Spec.Type = v1.ServiceTypeClusterIP }
	publishes := func(s *v1.Service) { s.Status.LoadBalancer = *vip("198.51.100.9", "172.30.0.11") }
	publishing := func(d *backendv1.DesiredLoadBalancer) {
		d.PublishedAddresses = []string{"198.51.100.9", "172.30.0.11"}
	}
	one := func(source *backendv1.FloatingIpSource) func(*backendv1.DesiredLoadBalancer) {
		return func(d *backendv1.DesiredLoadBalancer) {
			d.Addresses = []*backendv1.WantedAddress{
				floatingIP(backendv1.IpFamily_IP_FAMILY_IPV4, source),
			}
		}
	}
	mine := &backendv1.FloatingIpSource{
		Selector: &backendv1.FloatingIpSource_Existing{Existing: "mine"},
	}
	for _, tt := range []struct {
		name    string
		service *v1.Service
		want    *backendv1.DesiredLoadBalancer
	}{
		{"it is wanted", service(finalized), nil},
		{"it is deleted", service(finalized, going, publishes),
			heldLB(publishing, one(&backendv1.FloatingIpSource{}))},
		{"it is deleted, and has released everything", service(going, publishes), nil},
		{"it is no load balancer any more, and the API server has emptied its status",
			service(finalized, internal), heldLB(publishing, one(&backendv1.FloatingIpSource{}))},
		{"it has a user's own address",
			service(finalized, going, publishes, annotated(annotations.ExistingFloatingIP, "mine")),
			heldLB(publishing, one(mine))},
		{"what it wanted cannot be", service(finalized, going, publishes,
			annotated(annotations.FloatingIP, "nonsense")), heldLB(publishing)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b, c := newPeer(t, tt.service)
			c.setFact(tt.service, vip("198.51.100.9", "172.30.0.11"))
			if _, err := c.lookAround(t.Context(), false); err != nil {
				t.Fatal(err)
			}
			var want []*backendv1.DesiredLoadBalancer
			if tt.want != nil {
				want = append(want, tt.want)
			}
			got := b.all()[0].(*backendv1.ReconcileLoadBalancersRequest).GetTerminating()
			if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" {
				t.Errorf("told (-want +got):\n%s", diff)
			}
		})
	}
}

// fullSet is a cluster with all kinds of Services, and what is told of it.
func fullSet() ([]metav1.Object, *backendv1.ReconcileLoadBalancersRequest) {
	class, now := "example.com/other", metav1.NewTime(created)
	objects := []metav1.Object{
		node("worker-1", id1), node("worker-2", id2, unready),
		service(), service(named("shop", "broken"), policy(v1.IPFamilyPolicyRequireDualStack)),
		service(named("a", "first"), port(30443)),
		service(named("shop", "internal"), nodePort(30443), func(s *v1.Service) {
			s.Spec.Type = v1.ServiceTypeNodePort
		}),
		service(named("shop", "other"), func(s *v1.Service) { s.Spec.LoadBalancerClass = &class }),
		service(named("shop", "going"), func(s *v1.Service) { s.DeletionTimestamp = &now }),
	}
	as := func(name, uid string) func(*backendv1.DesiredLoadBalancer) {
		return func(d *backendv1.DesiredLoadBalancer) { d.Key.Name, d.OwnerUid = name, uid }
	}
	return objects, &backendv1.ReconcileLoadBalancersRequest{
		Cluster: &backendv1.Cluster{
			Scope: scope,
			Candidates: []*backendv1.Candidate{
				candidate(id1, fit), candidate(id2, unusable),
			},
			ReservedPorts: []*backendv1.ReservedPorts{{
				Protocol: backendv1.Protocol_PROTOCOL_TCP, FirstPort: 30443,
				Purpose: "the node port of the Service shop/internal",
				Serves:  []string{"shop/internal"},
			}},
		},
		LoadBalancers: []*backendv1.DesiredLoadBalancer{
			wantedLB(as("a/first", "uid-of-first"), func(d *backendv1.DesiredLoadBalancer) {
				d.Ports[0].Port = 30443
			}),
			heldLB(as("shop/broken", "uid-of-broken")), wantedLB(),
		},
		DryRun: true,
	}
}

func TestTheFullSetIsToldWhenTheBackendAsksForIt(t *testing.T) {
	for name, call := range map[string]func(*Controller) error{
		"Ensure": func(c *Controller) error {
			_, err := c.Ensure(t.Context(), service())
			return err
		},
		"Release": func(c *Controller) error { return c.Release(t.Context(), service()) },
	} {
		t.Run(name, func(t *testing.T) {
			objects, want := fullSet()
			b, c := newPeer(t, objects...)
			b.answer([]*backendv1.LoadBalancerAddress{onNode("198.51.100.9", "172.30.0.11")})
			b.needsSet = true
			if err := call(c); err != nil {
				t.Fatal(err)
			}
			requests := b.all()
			if len(requests) != 3 {
				t.Fatalf("%d requests, want the call, the full set, and the call once more", len(requests))
			}
			if diff := cmp.Diff(want, requests[1], protocmp.Transform()); diff != "" {
				t.Errorf("full set (-want +got):\n%s", diff)
			}
			if !proto.Equal(requests[0], requests[2]) {
				t.Errorf("another call was made: first %v, then %v", requests[0], requests[2])
			}
		})
	}
}

// It happens if the backend is restarted again at the wrong moment, and must not go round and round.
func TestTheFullSetIsToldOnceForOneCall(t *testing.T) {
	required := backendtest.Fail(codes.FailedPrecondition,
		backendv1.ErrorReason_ERROR_REASON_FULL_SET_REQUIRED, "the full set is not known")
	b, c := newPeer(t, service())
	b.forgets, b.needsSet = true, true
	_, err := c.Ensure(t.Context(), service())
	if err == nil || !strings.Contains(err.Error(), "the full set is not known") {
		t.Errorf("the error is %v", err)
	}
	checkRetry(t, err, 10*time.Second)
	if _, n := b.last(); n != 3 {
		t.Errorf("%d requests, want the call, the full set, and the call once more", n)
	}

	// Where the full set is refused, that is what is told.
	b, c = newPeer(t, service())
	b.failures = []error{required, backendtest.Fail(codes.Unavailable,
		backendv1.ErrorReason_ERROR_REASON_OXIDE_UNAVAILABLE, "Oxide does not answer",
		retryInfo(7*time.Second))}
	_, err = c.Ensure(t.Context(), service())
	if err == nil || err.Error() != "Oxide does not answer" {
		t.Errorf("the error is %v", err)
	}
	checkRetry(t, err, 7*time.Second)
	if _, n := b.last(); n != 2 {
		t.Errorf("%d requests, want the call and the full set", n)
	}
}

func TestAnEmptyClusterTellsAnEmptySet(t *testing.T) {
	b, c := newPeer(t)
	if err := c.tellFullSet(t.Context()); err != nil {
		t.Fatal(err)
	}
	got, _ := b.last()
	want := &backendv1.ReconcileLoadBalancersRequest{
		Cluster: &backendv1.Cluster{Scope: scope}, DryRun: true,
	}
	if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" {
		t.Errorf("full set (-want +got):\n%s", diff)
	}
}

// The order of Services in a request is that of their names, however the cache has them.
func TestTheFullSetIsInOrder(t *testing.T) {
	var objects []metav1.Object
	for i := range 50 {
		objects = append(objects, service(named("shop", fmt.Sprintf("s%02d", 49-i))))
	}
	b, c := newPeer(t, objects...)
	if err := errors.Join(c.tellFullSet(t.Context()), c.tellFullSet(t.Context())); err != nil {
		t.Fatal(err)
	}
	requests := b.all()
	for i, lb := range requests[0].(*backendv1.ReconcileLoadBalancersRequest).GetLoadBalancers() {
		if want := fmt.Sprintf("shop/s%02d", i); lb.GetKey().GetName() != want {
			t.Errorf("%s is at place %d", lb.GetKey().GetName(), i)
		}
	}
	if !proto.Equal(requests[0], requests[1]) {
		t.Error("the same cluster was told in two ways")
	}
}
