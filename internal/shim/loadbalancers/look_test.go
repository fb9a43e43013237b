// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package loadbalancers

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"
	v1 "k8s.io/api/core/v1"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/shim/annotations"
	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

type (
	reconcileRequest  = backendv1.ReconcileLoadBalancersRequest
	reconcileResponse = backendv1.ReconcileLoadBalancersResponse
)

// found is the result of a look for the plain service.
func found(addresses []*backendv1.LoadBalancerAddress, conditions ...*backendv1.Condition,
) *backendv1.LoadBalancerResult {
	for _, address := range addresses {
		if address.GetPlannedAttachment() == nil {
			address.PlannedAttachment = address.GetAttachment()
		}
	}
	return &backendv1.LoadBalancerResult{LoadBalancer: &backendv1.LoadBalancer{
		Key:       &backendv1.LoadBalancerKey{Scope: scope, Name: "shop/web"},
		Addresses: addresses, Conditions: conditions,
	}}
}

func withProblem(r *backendv1.LoadBalancerResult, reason backendv1.ErrorReason,
) *backendv1.LoadBalancerResult {
	r.Problem = &backendv1.Problem{Reason: reason, Message: "why it cannot be"}
	return r
}

// writtenTo returns the statuses that were written, in order.
func writtenTo(t *testing.T, client *fake.Clientset) []*v1.LoadBalancerStatus {
	t.Helper()
	var statuses []*v1.LoadBalancerStatus
	for _, action := range client.Actions() {
		if patch, ok := action.(clienttesting.PatchAction); ok {
			statuses = append(statuses, writtenBy(t, patch))
		}
	}
	return statuses
}

// writtenBy returns the status that a patch writes.
func writtenBy(t *testing.T, patch clienttesting.PatchAction) *v1.LoadBalancerStatus {
	t.Helper()
	var service v1.Service
	if err := json.Unmarshal(patch.GetPatch(), &service); err != nil {
		t.Error(err)
	}
	if patch.GetSubresource() != "status" || service.UID == "" {
		t.Errorf("a patch of %q that any Service of the name would take: %s",
			patch.GetSubresource(), patch.GetPatch())
	}
	return &service.Status.LoadBalancer
}

// Anybody may write a status, and the framework does from an older copy.
func TestALookMendsStatuses(t *testing.T) {
	const (
		exhausted = backendv1.ErrorReason_ERROR_REASON_POOL_EXHAUSTED
		conflict  = backendv1.ErrorReason_ERROR_REASON_PORT_CONFLICT
	)
	right := vip("198.51.100.9", "172.30.0.11")
	at := func(private string) []*backendv1.LoadBalancerAddress {
		return []*backendv1.LoadBalancerAddress{onNode("198.51.100.9", private)}
	}
	changesToV6 := func(s *v1.Service) {
		families(v1.IPv4Protocol, v1.IPv6Protocol)(s)
		annotated(annotations.FloatingIPVersion, "v6")(s)
	}
	for _, tt := range []struct {
		name      string
		published *v1.LoadBalancerStatus
		change    func(*v1.Service)
		readOnly  bool
		moving    bool
		result    *backendv1.LoadBalancerResult
		// want is what is written; nil: nothing.
		want *v1.LoadBalancerStatus
	}{
		{name: "it is right", published: right, result: found(at("172.30.0.11"))},
		{name: "it lacks everything", published: vip(), result: found(at("172.30.0.11")), want: right},
		{name: "it has too much", published: vip("198.51.100.9", "172.30.0.11", "172.30.0.12"),
			result: found(at("172.30.0.11")), want: right},
		{name: "it is in another order", published: vip("172.30.0.11", "198.51.100.9"),
			result: found(at("172.30.0.11")), want: right},
		{name: "the address is attached nowhere", published: right,
			result: found(at(""), condition(noCandidate, "none")), want: vip()},
		{name: "the address has lost its place to another Service", published: right,
			result: withProblem(found(at("")), conflict), want: vip()},
		{name: "it is on another cluster's instance", published: vip("198.51.100.9", "172.30.0.12"),
			result: found(at("172.30.9.9"), condition(foreignAttachment, "elsewhere"))},
		{name: "a change is under way", published: vip(), moving: true, result: found(at("172.30.0.11"))},
		{name: "nothing may be changed", published: vip(), readOnly: true,
			result: found(at("172.30.0.11"))},
		{name: "what it has cannot be told",
			published: right, result: found([]*backendv1.LoadBalancerAddress{{
				Source: 99, Address: "198.51.100.9",
				Attachment: &backendv1.Attachment{InstanceId: id1},
			}})},
		{name: "it wishes for what cannot be, of the same IP family: what it has is described",
			published: vip("198.51.100.9", "172.30.0.12"),
			result:    withProblem(found(at("172.30.0.11")), exhausted), want: right},
		{name: "it wishes for another IP family that cannot be had: what it has serves on",
			published: right, change: changesToV6, result: withProblem(found(nil), exhausted)},
		{name: "it got an address of the other IP family", published: right, change: changesToV6,
			result: found([]*backendv1.LoadBalancerAddress{onNode("2001:db8::9", "fd00::11")}),
			want:   vip("2001:db8::9", "fd00::11")},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := service(func(s *v1.Service) { s.Status.LoadBalancer = *tt.published })
			if tt.change != nil {
				tt.change(s)
			}
			b, c := newPeer(t, s, node("worker-1", id1))
			client := fake.NewClientset(s)
			c.client, c.config.ReadOnly = client, tt.readOnly
			b.looks = func(*reconcileRequest) *reconcileResponse {
				return &reconcileResponse{Results: []*backendv1.LoadBalancerResult{tt.result}}
			}
			if tt.moving && !c.begin([]change{{service: s}}) {
				t.Fatal("it moves already")
			}
			for range 2 {
				if _, err := c.lookAround(t.Context(), false); err != nil {
					t.Fatal(err)
				}
				c.changes.Wait()
				if tt.want != nil {
					// As the informer would show it.
					s = s.DeepCopy()
					s.Status.LoadBalancer = *tt.want
					list(t, c, s, node("worker-1", id1))
				}
			}
			var want []*v1.LoadBalancerStatus
			if tt.want != nil {
				want = append(want, tt.want)
				if want[0].Ingress == nil {
					want[0].Ingress = []v1.LoadBalancerIngress{}
				}
			}
			if diff := cmp.Diff(want, writtenTo(t, client)); diff != "" {
				t.Errorf("statuses written (-want +got):\n%s", diff)
			}
			if !c.isMoving("shop/web") == tt.moving {
				t.Error("it is not known any more whether a change is under way")
			}
		})
	}
}
