// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package sanity

import (
	"fmt"

	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

func openItem(open *backendv1.OpenSession) *backendv1.SyncLoadBalancersRequest {
	return &backendv1.SyncLoadBalancersRequest{Item: &backendv1.SyncLoadBalancersRequest_Open{Open: open}}
}

func candidateItem(candidate *backendv1.Candidate) *backendv1.SyncLoadBalancersRequest {
	return &backendv1.SyncLoadBalancersRequest{
		Item: &backendv1.SyncLoadBalancersRequest_Candidate{Candidate: candidate},
	}
}

func balancerItem(lb *backendv1.DesiredLoadBalancer) *backendv1.SyncLoadBalancersRequest {
	return &backendv1.SyncLoadBalancersRequest{
		Item: &backendv1.SyncLoadBalancersRequest_LoadBalancer{LoadBalancer: lb},
	}
}

func removedItem(lb *backendv1.DesiredLoadBalancer) *backendv1.SyncLoadBalancersRequest {
	return &backendv1.SyncLoadBalancersRequest{
		Item: &backendv1.SyncLoadBalancersRequest_LoadBalancerRemoved{
			LoadBalancerRemoved: &backendv1.LoadBalancerRemoved{
				Key: lb.GetKey(), OwnerUid: lb.GetOwnerUid(),
			},
		},
	}
}

func inSyncItem() *backendv1.SyncLoadBalancersRequest {
	return &backendv1.SyncLoadBalancersRequest{
		Item: &backendv1.SyncLoadBalancersRequest_InSync{InSync: &backendv1.InSync{}},
	}
}

func readyCandidate(id string) *backendv1.Candidate {
	return &backendv1.Candidate{InstanceId: id, Readiness: backendv1.Readiness_READINESS_READY}
}

// firstPort is the first port that load balancers of the suite serve.
const firstPort = 20000

// balancer returns a load balancer with one floating IP of the default pool for IPv4, and a port of
// its own.
func (w *world) balancer(what string) *backendv1.DesiredLoadBalancer {
	number := w.serial.Add(1)
	return &backendv1.DesiredLoadBalancer{
		Key: &backendv1.LoadBalancerKey{
			Scope: w.options.Scope, Name: fmt.Sprintf("sanity/%s-%d", what, number),
		},
		OwnerUid: fmt.Sprintf("%s-owner-%d", w.options.Scope, number), Generation: 1,
		Addresses: []*backendv1.DesiredAddress{floatingIP()},
		Ports: []*backendv1.Port{{
			Protocol: backendv1.Protocol_PROTOCOL_TCP, Port: int32(firstPort + number%10000),
		}},
	}
}

func floatingIP() *backendv1.DesiredAddress {
	return &backendv1.DesiredAddress{
		Family: backendv1.IpFamily_IP_FAMILY_IPV4,
		Source: &backendv1.DesiredAddress_FloatingIp{FloatingIp: &backendv1.FloatingIpSource{}},
	}
}
