// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package backend_test

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"testing"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/status"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/oxidesim"
	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

// aSet is a cluster of one node that is to serve some load balancers, of which the last one needs a
// port that the first one has.
func aSet(instanceID string, n int) *backendv1.LoadBalancerSet {
	set := &backendv1.LoadBalancerSet{
		Open: &backendv1.OpenSession{Scope: "c1"},
		Candidates: []*backendv1.Candidate{{
			InstanceId: instanceID, Readiness: backendv1.Readiness_READINESS_READY,
		}},
	}
	for i := range n {
		set.LoadBalancers = append(set.LoadBalancers, &backendv1.DesiredLoadBalancer{
			Key:      &backendv1.LoadBalancerKey{Scope: "c1", Name: fmt.Sprintf("default/svc-%d", i)},
			OwnerUid: fmt.Sprintf("uid-%d", i), Generation: 1,
			Addresses: []*backendv1.DesiredAddress{{
				Family: backendv1.IpFamily_IP_FAMILY_IPV4,
				Source: &backendv1.DesiredAddress_FloatingIp{FloatingIp: &backendv1.FloatingIpSource{}},
			}},
			Ports: []*backendv1.Port{{
				Protocol: backendv1.Protocol_PROTOCOL_TCP, Port: int32(80 + i%(n-1)),
			}},
		})
	}
	return set
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

// openSession sends a set as a session, and returns the stream.
func openSession(
	t *testing.T, client backendv1.LoadBalancerServiceClient, set *backendv1.LoadBalancerSet,
) backendv1.LoadBalancerService_SyncLoadBalancersClient {
	t.Helper()
	stream, err := client.SyncLoadBalancers(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	items := []*backendv1.SyncLoadBalancersRequest{
		{Item: &backendv1.SyncLoadBalancersRequest_Open{Open: set.GetOpen()}},
	}
	for _, c := range set.GetCandidates() {
		items = append(items, &backendv1.SyncLoadBalancersRequest{
			Item: &backendv1.SyncLoadBalancersRequest_Candidate{Candidate: c},
		})
	}
	for _, lb := range set.GetLoadBalancers() {
		items = append(items, &backendv1.SyncLoadBalancersRequest{
			Item: &backendv1.SyncLoadBalancersRequest_LoadBalancer{LoadBalancer: lb},
		})
	}
	items = append(items, &backendv1.SyncLoadBalancersRequest{
		Item: &backendv1.SyncLoadBalancersRequest_InSync{InSync: &backendv1.InSync{}},
	})
	for _, item := range items {
		if err := stream.Send(item); err != nil {
			t.Fatal(err)
		}
	}
	return stream
}

// An operator plans a set, sends it with grpcurl, which closes its side, and clears up behind it.
func TestASessionOverTheWire(t *testing.T) {
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

	planned, err := balancers.PlanLoadBalancers(t.Context(), &backendv1.PlanLoadBalancersRequest{
		Input: &backendv1.PlanLoadBalancersRequest_Set{Set: set},
	})
	if err != nil || len(planned.GetLoadBalancers()) != 3 || len(rack.FloatingIPs()) != 0 {
		t.Fatalf("a plan: %v, %v", planned, err)
	}
	first := planned.GetLoadBalancers()[0].GetLoadBalancer().GetAddresses()[0]
	if first.GetAttachment() != nil || first.GetPlannedAttachment().GetInstanceId() != node.ID ||
		first.GetPlannedAttachment().GetPrivateAddress() != node.PrivateIPs["v4"] {
		t.Errorf("planned: %v", first)
	}

	stream := openSession(t, balancers, set)
	if err := stream.CloseSend(); err != nil {
		t.Fatal(err)
	}
	states := make(map[string]*backendv1.LoadBalancerState)
	for {
		event, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if state := event.GetState(); state != nil {
			states[state.GetKey().GetName()] = state
		}
	}
	for i := range 3 {
		state := states[fmt.Sprintf("default/svc-%d", i)]
		if len(state.GetAddresses()) != 1 {
			t.Fatalf("%d: %v", i, state)
		}
		if served := state.GetAddresses()[0].GetAttachment() != nil; served != (i < 2) {
			t.Errorf("%d: %v", i, state)
		}
		conflict := backendv1.ErrorReason_ERROR_REASON_PORT_CONFLICT
		if refused := state.GetProblem().GetReason() == conflict; refused != (i == 2) {
			t.Errorf("%d: %v", i, state.GetProblem())
		}
	}

	_, err = addresses.ListOrphanedAddresses(t.Context(),
		&backendv1.ListOrphanedAddressesRequest{Scope: "c1"})
	if reasonOf(err) != "SESSION_REQUIRED" {
		t.Errorf("orphans without a session: %v", err)
	}
	left := aSet(node.ID, 3)
	left.LoadBalancers = left.GetLoadBalancers()[:2]
	stream = openSession(t, balancers, left)
	orphan := ""
	for orphan == "" {
		event, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		for _, lb := range event.GetOrphans().GetOrphans() {
			orphan = lb.GetAddresses()[0].GetResourceId()
		}
	}
	deleted, err := addresses.DeleteOrphanedAddress(t.Context(),
		&backendv1.DeleteOrphanedAddressRequest{Scope: "c1", ResourceId: orphan})
	if err != nil || len(deleted.GetActions()) != 1 || len(rack.FloatingIPs()) != 2 {
		t.Errorf("deleted: %v, %v", deleted, err)
	}
	if code := p.stop(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	if err := stream.RecvMsg(&backendv1.SyncLoadBalancersResponse{}); err == nil {
		for err == nil {
			_, err = stream.Recv()
		}
		if reasonOf(err) != "BACKEND_STOPPING" {
			t.Errorf("the session ended with %v", err)
		}
	}
}

// What an operator's command needs, which knows neither the cluster nor who leads.
func TestTheBackendSaysWhichScopesHaveAnActingSession(t *testing.T) {
	rack := oxidesim.Start(t, oxidesim.Config{})
	p := start(t, rack.URL)
	p.awaitReady()
	scopes := func() []string {
		info, err := backendv1.NewBackendServiceClient(p.conn).
			GetInfo(t.Context(), &backendv1.GetInfoRequest{})
		if err != nil {
			t.Fatal(err)
		}
		return info.GetActingScopes()
	}
	if got := scopes(); len(got) != 0 {
		t.Errorf("without a session: %q", got)
	}
	balancers := backendv1.NewLoadBalancerServiceClient(p.conn)
	for _, open := range []*backendv1.OpenSession{
		{Scope: "c2"}, {Scope: "c1"}, {Scope: "c3", ObserveOnly: true},
	} {
		stream := openSession(t, balancers, &backendv1.LoadBalancerSet{Open: open})
		if _, err := stream.Recv(); err != nil {
			t.Fatal(err)
		}
	}
	if got := scopes(); !slices.Equal(got, []string{"c1", "c2"}) {
		t.Errorf("with two acting sessions, and one that observes: %q", got)
	}
}
