// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package loadbalancers

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"
	v1 "k8s.io/api/core/v1"

	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

func instanceSet(ids ...string) *backendv1.InstanceSet {
	return &backendv1.InstanceSet{InstanceIds: ids}
}

// A plan that is another one by the time it is carried out brings no address to where the status did
// not say that it would be.
func TestAnAddressGoesOnlyWhereTheStatusSaid(t *testing.T) {
	published := service(func(s *v1.Service) {
		s.Status.LoadBalancer = *vip("198.51.100.9", "172.30.0.11")
	})
	creation := []*backendv1.Action{{Type: backendv1.ActionType_ACTION_TYPE_CREATE}}
	unknown := &backendv1.LoadBalancerAddress{
		PlannedAttachment: &backendv1.Attachment{InstanceId: id2},
	}
	result, actions := move()
	for _, tt := range []struct {
		name     string
		d        change
		eligible *backendv1.InstanceSet
		want     *backendv1.InstanceSet
	}{
		{name: "where it is, and where it will be",
			d: change{published, result.GetLoadBalancer(), actions}, want: instanceSet(id1, id2)},
		{name: "nowhere where it may not be by now",
			d:        change{published, result.GetLoadBalancer(), actions},
			eligible: instanceSet("other", id2), want: instanceSet(id2)},
		{name: "an address that nobody has seen yet is secured only",
			d: change{published, &backendv1.LoadBalancer{
				Addresses: []*backendv1.LoadBalancerAddress{unknown},
			}, creation}, want: instanceSet()},
		{name: "the first address of a Service goes anywhere",
			d: change{service(), &backendv1.LoadBalancer{
				Addresses: []*backendv1.LoadBalancerAddress{unknown},
			}, creation}, eligible: instanceSet(id1), want: instanceSet(id1)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			want := &backendv1.DesiredLoadBalancer{EligibleInstances: tt.eligible}
			if to := (ledChange{change: tt.d}).places(); to != nil {
				confine(want, to)
			}
			if diff := cmp.Diff(tt.want, want.GetEligibleInstances(),
				protocmp.Transform()); diff != "" {
				t.Errorf("eligible instances (-want +got):\n%s", diff)
			}
		})
	}
}
