// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package loadbalancers

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/testing/protocmp"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/shim/annotations"
	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

func TestEnsureSendsTheFullDesiredState(t *testing.T) {
	objects := []metav1.Object{
		service(), node("worker-1", id1), node("worker-2", id2, notReady), node("x", ""),
	}
	b, c := newPeer(t, objects...)
	c.config.AdoptedClusterIDs = []string{"gone-1", "gone-2"}
	c.config.LegacyClusterName = "kubernetes"
	c.config.NodeName = "worker-1"
	reserved := &backendv1.ReservedPorts{FirstPort: 22, Purpose: "SSH"}
	c.config.ReservedPorts = []*backendv1.ReservedPorts{reserved}
	b.answer([]*backendv1.LoadBalancerAddress{onNode("198.51.100.9", "172.30.0.11")})
	status, err := c.Ensure(t.Context(), service())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(vip("198.51.100.9", "172.30.0.11"), status); diff != "" {
		t.Errorf("status (-want +got):\n%s", diff)
	}
	want := &backendv1.EnsureLoadBalancerRequest{
		Cluster: &backendv1.Cluster{
			Scope: scope, AdoptedScopes: []string{"gone-1", "gone-2"}, LegacyName: "kubernetes",
			Candidates: []*backendv1.Candidate{
				avoided(candidate(id1, healthy)), candidate(id2, unhealthy),
			},
			ReservedPorts: []*backendv1.ReservedPorts{reserved},
		},
		LoadBalancer: wantedLB(),
	}
	got, _ := b.last()
	if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" {
		t.Errorf("request (-want +got):\n%s", diff)
	}
}

func TestAServiceThatCannotBeServedIsNotSent(t *testing.T) {
	b, c := newPeer(t, service())
	_, err := c.Ensure(t.Context(), service(func(s *v1.Service) {
		s.Spec.ExternalTrafficPolicy = v1.ServiceExternalTrafficPolicyLocal
	}))
	if err == nil {
		t.Error("it was accepted")
	}
	checkRetry(t, err, 0)
	if _, n := b.last(); n != 0 {
		t.Errorf("%d requests were sent", n)
	}
}

func TestUpdate(t *testing.T) {
	deleted := metav1.NewTime(created)
	published := func(s *v1.Service) {
		s.Status.LoadBalancer = *vip("198.51.100.9", "172.30.0.11")
	}
	for _, tt := range []struct {
		name string
		// current is the Service as it is now; the framework passes an older one.
		current    *v1.Service
		addresses  []*backendv1.LoadBalancerAddress
		conditions []*backendv1.Condition
		failure    error
		calls      int
		wantErr    string
		retry      time.Duration
	}{
		{name: "nothing moved", current: service(published),
			addresses: []*backendv1.LoadBalancerAddress{onNode("198.51.100.9", "172.30.0.11")},
			calls:     1},
		{name: "the address moved: an error makes the framework write the status",
			current:   service(published),
			addresses: []*backendv1.LoadBalancerAddress{onNode("198.51.100.9", "172.30.0.12")},
			calls:     1, wantErr: "moved to another node"},
		{name: "no candidate: an error makes the framework ask until there is one",
			current:    service(published),
			addresses:  []*backendv1.LoadBalancerAddress{onNode("198.51.100.9", "")},
			conditions: []*backendv1.Condition{condition(noCandidate, "none of 1 candidates")},
			calls:      1, wantErr: "a is not Ready (198.51.100.9 is reserved)", retry: 10 * time.Second},
		{name: "the Service is gone: nothing must be made for it", calls: 0},
		{name: "the Service is being deleted", current: service(func(s *v1.Service) {
			s.DeletionTimestamp = &deleted
		}), calls: 0},
		{name: "the Service wants no load balancer any more",
			current: service(func(s *v1.Service) { s.Spec.Type = v1.ServiceTypeClusterIP }), calls: 0},
		{name: "another Service has its name",
			current: service(func(s *v1.Service) { s.UID = "uid-2" }), calls: 0},
		{name: "the Service has a mistake in it",
			current: service(published, annotated(annotations.RetainAddress, "perhaps")), calls: 0,
			wantErr: annotations.RetainAddress},
		{name: "the backend fails", current: service(published), calls: 1,
			failure: fail(codes.FailedPrecondition,
				backendv1.ErrorReason_ERROR_REASON_OXIDE_REFUSED, "refused"), wantErr: "refused"},
		{name: "the backend is busy", current: service(published), calls: 1,
			failure: fail(codes.Unavailable, backendv1.ErrorReason_ERROR_REASON_BUSY, "busy",
				retryInfo(2*time.Second)), wantErr: "busy", retry: 2 * time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b, c := newPeer(t, node("a", id1, notReady))
			b.answer(tt.addresses, tt.conditions...)
			b.failure = tt.failure
			if tt.current != nil {
				list(t, c, tt.current, node("a", id1, notReady))
			}
			err := c.Update(t.Context(), service())
			switch {
			case tt.wantErr == "" && err != nil:
				t.Errorf("the error is %v", err)
			case tt.wantErr != "" && (err == nil || !strings.Contains(err.Error(), tt.wantErr)):
				t.Errorf("the error is %v, want %q in it", err, tt.wantErr)
			}
			checkRetry(t, err, tt.retry)
			if _, n := b.last(); n != tt.calls {
				t.Errorf("the backend was called %d times, want %d", n, tt.calls)
			}
		})
	}
}

func TestUpdateUsesTheServiceAsItIsNow(t *testing.T) {
	b, c := newPeer(t, service(func(s *v1.Service) {
		s.Spec.Ports[0].Port = 8080
		s.Status.LoadBalancer = *vip("198.51.100.9", "172.30.0.11")
	}))
	b.answer([]*backendv1.LoadBalancerAddress{onNode("198.51.100.9", "172.30.0.11")})
	if err := c.Update(t.Context(), service()); err != nil {
		t.Fatal(err)
	}
	request, _ := b.last()
	got := request.(*backendv1.EnsureLoadBalancerRequest).GetLoadBalancer().GetPorts()
	if len(got) != 1 || got[0].GetPort() != 8080 {
		t.Errorf("the ports sent are %v, want those of the current Service", got)
	}
}

func TestRelease(t *testing.T) {
	deleted := func(s *v1.Service) {
		now := metav1.NewTime(created)
		s.DeletionTimestamp = &now
		s.Status.LoadBalancer = *vip("198.51.100.9", "172.30.0.11")
	}
	for _, tt := range []struct {
		name    string
		service *v1.Service
		retain  bool
	}{
		{"its address is given back", service(deleted), false},
		{"it says that the address is not to be kept",
			service(deleted, annotated(annotations.RetainAddress, "false")), false},
		{"it says that the address is to be kept",
			service(deleted, annotated(annotations.RetainAddress, "true")), true},
		{"it says nothing that makes sense: the address is kept",
			service(deleted, annotated(annotations.RetainAddress, "yes")), true},
		{"it has mistakes in other places",
			service(deleted, annotated(annotations.FloatingIP, "nonsense"), func(s *v1.Service) {
				s.Spec.Ports = nil
			}), false},
		{"it wants no load balancer any more", service(func(s *v1.Service) {
			s.Spec.Type = v1.ServiceTypeClusterIP
			s.Status.LoadBalancer = *vip("198.51.100.9", "172.30.0.11")
		}), false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b, c := newPeer(t, tt.service, node("worker-1", id1))
			c.config.LegacyClusterName = "kubernetes"
			if err := c.Release(t.Context(), tt.service); err != nil {
				t.Fatal(err)
			}
			want := &backendv1.DeleteLoadBalancerRequest{
				Key:      &backendv1.LoadBalancerKey{Scope: scope, Name: "shop/web"},
				OwnerUid: "uid-1", RetainAddresses: tt.retain,
				Cluster: &backendv1.Cluster{
					Scope: scope, LegacyName: "kubernetes",
					Candidates: []*backendv1.Candidate{candidate(id1, healthy)},
				},
				PublishedAddresses: []string{"198.51.100.9", "172.30.0.11"},
			}
			got, _ := b.last()
			if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" {
				t.Errorf("request (-want +got):\n%s", diff)
			}
		})
	}
}

func TestReleaseThatFailsIsAnError(t *testing.T) {
	b, c := newPeer(t)
	b.failure = fail(codes.FailedPrecondition,
		backendv1.ErrorReason_ERROR_REASON_INSTANCE_NOT_OPERABLE, "the instance has failed")
	err := c.Release(t.Context(), service())
	if err == nil || err.Error() != "the instance has failed" {
		t.Errorf("the error is %v", err)
	}
}

// The framework gives some calls no deadline; the connection's own must hold then. The controller
// must not take the caller's cancellation away from it.
func TestACancelledCallIsCancelled(t *testing.T) {
	b, c := newPeer(t, service())
	b.answer([]*backendv1.LoadBalancerAddress{onNode("198.51.100.9", "172.30.0.11")})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.Ensure(ctx, service()); err == nil {
		t.Error("the call went on")
	}
	if err := c.Release(ctx, service()); err == nil {
		t.Error("the release went on")
	}
}
