// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package backend_test

import (
	"fmt"
	"testing"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/oxidesim"
	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

// aSet is a cluster of one node that is to serve some load balancers.
func aSet(instanceID string, n int) *backendv1.ReconcileLoadBalancersRequest {
	req := &backendv1.ReconcileLoadBalancersRequest{
		Cluster: &backendv1.Cluster{
			Scope: "c1",
			Candidates: []*backendv1.Candidate{{
				InstanceId: instanceID, Health: backendv1.CandidateHealth_CANDIDATE_HEALTH_HEALTHY,
			}},
		},
	}
	for i := range n {
		req.LoadBalancers = append(req.LoadBalancers, &backendv1.DesiredLoadBalancer{
			Key:      &backendv1.LoadBalancerKey{Scope: "c1", Name: fmt.Sprintf("default/svc-%d", i)},
			OwnerUid: fmt.Sprintf("uid-%d", i),
			Addresses: []*backendv1.WantedAddress{{
				Family: backendv1.IpFamily_IP_FAMILY_IPV4,
				Source: &backendv1.WantedAddress_FloatingIp{FloatingIp: &backendv1.FloatingIpSource{}},
			}},
			// The last one wants a port that the first one has.
			Ports: []*backendv1.Port{{
				Protocol: backendv1.Protocol_PROTOCOL_TCP, Port: int32(80 + i%(n-1)),
			}},
		})
	}
	return req
}

// reasonOf is the reason in the only ErrorInfo of an error.
func reasonOf(err error) string {
	for _, detail := range status.Convert(err).Details() {
		if info, ok := detail.(*errdetails.ErrorInfo); ok {
			return info.GetReason()
		}
	}
	return ""
}

// A caller sends the set of a cluster, as it does whenever it is asked for it, and an operator clears up
// behind it, all over the socket.
func TestReconcileOverTheWire(t *testing.T) {
	rack := oxidesim.Start(t, oxidesim.Config{})
	node, err := rack.AddInstance("demo", oxidesim.InstanceSeed{Name: "node-1"})
	if err != nil {
		t.Fatal(err)
	}
	p := start(t, rack.URL)
	p.awaitReady()
	balancers := backendv1.NewLoadBalancerServiceClient(p.conn)
	addresses := backendv1.NewAddressServiceClient(p.conn)
	set := aSet(node.ID, 3)

	_, err = balancers.EnsureLoadBalancer(t.Context(), &backendv1.EnsureLoadBalancerRequest{
		Cluster: set.Cluster, LoadBalancer: set.LoadBalancers[0],
	})
	if status.Code(err) != codes.FailedPrecondition || reasonOf(err) != "FULL_SET_REQUIRED" {
		t.Fatalf("before the set is known: %v", err)
	}

	set.DryRun = true
	dry, err := balancers.ReconcileLoadBalancers(t.Context(), set)
	if err != nil || len(dry.GetResults()) != 3 || len(rack.FloatingIPs()) != 0 {
		t.Fatalf("a dry run: %v, %v", dry, err)
	}
	planned := dry.GetResults()[0].GetLoadBalancer().GetAddresses()[0]
	if planned.GetAttachment() != nil || planned.GetPlannedAttachment().GetInstanceId() != node.ID ||
		planned.GetPlannedAttachment().GetPrivateAddress() != node.PrivateIPs["v4"] {
		t.Errorf("planned: %v", planned)
	}

	set.DryRun = false
	done, err := balancers.ReconcileLoadBalancers(t.Context(), set)
	if err != nil || len(done.GetActions()) != 5 {
		t.Fatalf("got %v, %v", done, err)
	}
	for i, result := range done.GetResults() {
		address := result.GetLoadBalancer().GetAddresses()[0]
		if served := address.GetAttachment() != nil; served != (i < 2) || !address.GetManaged() {
			t.Errorf("%d: %v", i, result)
		}
		conflict := backendv1.ErrorReason_ERROR_REASON_PORT_CONFLICT
		if refused := result.GetProblem().GetReason() == conflict; refused != (i == 2) {
			t.Errorf("%d: %v", i, result.GetProblem())
		}
	}

	left := aSet(node.ID, 3)
	left.LoadBalancers = left.LoadBalancers[:2]
	done, err = balancers.ReconcileLoadBalancers(t.Context(), left)
	if err != nil || len(done.GetOrphans()) != 1 || len(done.GetActions()) != 0 {
		t.Fatalf("with one less: %v, %v", done, err)
	}
	orphans, err := addresses.ListOrphanedAddresses(t.Context(),
		&backendv1.ListOrphanedAddressesRequest{Scope: "c1"})
	if err != nil || len(orphans.GetOrphans()) != 1 {
		t.Fatalf("orphans: %v, %v", orphans, err)
	}
	deleted, err := addresses.DeleteOrphanedAddress(t.Context(),
		&backendv1.DeleteOrphanedAddressRequest{
			Scope: "c1", ResourceId: orphans.GetOrphans()[0].GetAddresses()[0].GetResourceId(),
		})
	if err != nil || len(deleted.GetActions()) != 1 || len(rack.FloatingIPs()) != 2 {
		t.Errorf("deleted: %v, %v", deleted, err)
	}
	if code := p.stop(); code != 0 {
		t.Errorf("exit code %d", code)
	}
}
