// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package loadbalancers

import (
	"context"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/testing/protocmp"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/shim/annotations"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/shim/backendtest"
	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

func TestEnsureSendsTheFullDesiredState(t *testing.T) {
	objects := []metav1.Object{
		service(), node("worker-1", id1), node("worker-2", id2, unready), node("x", ""),
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
				avoided(candidate(id1, fit)), candidate(id2, unusable),
			},
			ReservedPorts: []*backendv1.ReservedPorts{reserved},
		},
		LoadBalancer:  wantedLB(),
		LeaveAttached: true,
	}
	got, _ := b.last()
	if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" {
		t.Errorf("request (-want +got):\n%s", diff)
	}
}

func TestAServiceThatCannotBeServedIsNotSent(t *testing.T) {
	b, c := newPeer(t, service())
	_, err := c.Ensure(t.Context(), service(func(s *v1.Service) {
		s.Spec.Ports = nil
	}))
	if err == nil {
		t.Error("it was accepted")
	}
	checkRetry(t, err, 0)
	if _, n := b.last(); n != 0 {
		t.Errorf("%d requests were sent", n)
	}
}

// A look knows what is due for all Services; the framework does not even pass the current one.
func TestAnUpdateOnlyAsksForALook(t *testing.T) {
	b, c := newPeer(t, service(), node("worker-1", id1))
	for range 3 {
		if err := c.Update(t.Context(), service()); err != nil {
			t.Error(err)
		}
	}
	if n := len(c.woken); n != 1 {
		t.Errorf("%d looks are asked for, want one", n)
	}
	if _, n := b.last(); n != 0 {
		t.Errorf("%d requests were sent", n)
	}
}

func TestRelease(t *testing.T) {
	anyAddress := &backendv1.FloatingIpSource{}
	deleted := func(s *v1.Service) {
		now := metav1.NewTime(created)
		s.DeletionTimestamp = &now
		s.Status.LoadBalancer = *vip("198.51.100.9", "172.30.0.11")
	}
	for _, tt := range []struct {
		name    string
		service *v1.Service
		retain  bool
		// wanted is what it said of its address; nil: what cannot be.
		wanted *backendv1.FloatingIpSource
	}{
		{"its address is given back", service(deleted), false, anyAddress},
		{"it says that the address is not to be kept",
			service(deleted, annotated(annotations.RetainAddress, "false")), false, anyAddress},
		{"it says that the address is to be kept",
			service(deleted, annotated(annotations.RetainAddress, "true")), true, anyAddress},
		{"it says nothing that makes sense: the address is kept",
			service(deleted, annotated(annotations.RetainAddress, "yes")), true, anyAddress},
		{"its address is the user's own",
			service(deleted, annotated(annotations.ExistingFloatingIP, "mine")), false,
			&backendv1.FloatingIpSource{Selector: &backendv1.FloatingIpSource_Existing{Existing: "mine"}}},
		{"it has mistakes in other places",
			service(deleted, annotated(annotations.FloatingIP, "nonsense"), func(s *v1.Service) {
				s.Spec.Ports = nil
			}), false, nil},
		{"it wants no load balancer any more, and the API server has emptied its status",
			service(func(s *v1.Service) { s.Spec.Type = v1.ServiceTypeClusterIP }), false, anyAddress},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b, c := newPeer(t, tt.service, node("worker-1", id1))
			c.config.LegacyClusterName = "kubernetes"
			c.setFact(tt.service, vip("198.51.100.9", "172.30.0.11"))
			if err := c.Release(t.Context(), tt.service); err != nil {
				t.Fatal(err)
			}
			want := &backendv1.DeleteLoadBalancerRequest{
				Key:      &backendv1.LoadBalancerKey{Scope: scope, Name: "shop/web"},
				OwnerUid: "uid-1", RetainAddresses: tt.retain,
				Cluster: &backendv1.Cluster{
					Scope: scope, LegacyName: "kubernetes",
					Candidates: []*backendv1.Candidate{candidate(id1, fit)},
				},
				PublishedAddresses: []string{"198.51.100.9", "172.30.0.11"},
			}
			if tt.wanted != nil {
				want.Addresses = []*backendv1.WantedAddress{
					floatingIP(backendv1.IpFamily_IP_FAMILY_IPV4, tt.wanted),
				}
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
	b.failure = backendtest.Fail(codes.FailedPrecondition,
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
