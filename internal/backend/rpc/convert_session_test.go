// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package rpc

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/firewall"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/health"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/ownership"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/plan"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/session"
	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

// comparable lets go-cmp compare addresses.
var comparable = cmp.Comparer(func(a, b netip.Addr) bool { return a == b })

func TestItemsArriveComplete(t *testing.T) {
	now := time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)
	lb := goodDesired()
	lb.Ending = backendv1.Ending_ENDING_RETAIN
	lb.RetainAddresses, lb.NoPublication = true, true
	lb.PreserveReason = "it contradicts\nitself"
	lb.Addresses[0].Source = fromFloatingIP(&backendv1.FloatingIpSource{
		Selector: &backendv1.FloatingIpSource_Existing{Existing: strings.ToUpper(someID)},
	})
	want := session.Desired{
		Key: ownership.Key{Scope: "c1", Name: "default/web"}, OwnerUID: "u1", Generation: 3,
		Ending: plan.EndRetain, Created: time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC),
		Addresses: []plan.Desired{{
			Family: ownership.IPv4, Source: ownership.Source{Existing: someID},
		}},
		Ports: []plan.Port{{Protocol: firewall.TCP, Number: 80}},
		Eligible: &plan.Eligible{
			Instances:   map[string]plan.Serving{someID: plan.IsLeaving},
			Description: "has a ready endpoint", FollowsServing: true,
		},
		Retain: true, NoPublication: true, PreserveReason: "it contradicts itself",
		Published: []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("fd00::1")},
	}
	if diff := cmp.Diff(want, desiredOf(lb), comparable); diff != "" {
		t.Errorf("load balancer (-want +got):\n%s", diff)
	}
	c := goodCandidate()
	c.ExclusionReason, c.OutOfServiceReason = "has a label", "has a taint"
	c.UsedPorts[0].Address = "0.0.0.0"
	c.ReachabilityInDoubt = true
	c.Cordoned, c.CordonObserved, c.ShuttingDown, c.LeastPreferred = true, true, true, true
	wantSeen := health.Observation{
		InstanceID: someID, Name: "node-1",
		Readiness: health.NotReady, ReadinessFor: 7 * time.Second, Unreachable: true,
		InDoubt:   true,
		Exclusion: "has a label", OutOfService: "has a taint",
		Cordoned: true, CordonObserved: true, ShuttingDown: true, LeastPreferred: true,
		Used: []plan.UsedPort{{
			Port:   plan.Port{Protocol: firewall.SCTP, Number: 80},
			Holder: "pod a/b", Serves: []string{"default/web"}, On: netip.IPv4Unspecified(),
		}},
		ReceivedAt: now,
	}
	if diff := cmp.Diff(wantSeen, observationOf(c, now), comparable); diff != "" {
		t.Errorf("candidate (-want +got):\n%s", diff)
	}
	reserved := reservedOf([]*backendv1.ReservedPorts{
		{FirstPort: 22}, {Protocol: tcp, FirstPort: 5, LastPort: 9, Purpose: "p", Serves: []string{"a"},
			Address: "::ffff:10.0.0.1"},
	})
	wantReserved := []plan.ReservedPorts{
		{First: 22, Last: 22, Purpose: "the client"},
		{Protocol: firewall.TCP, First: 5, Last: 9, Purpose: "p", Serves: []string{"a"},
			On: netip.MustParseAddr("10.0.0.1")},
	}
	if diff := cmp.Diff(wantReserved, reserved, comparable); diff != "" {
		t.Errorf("reserved ports (-want +got):\n%s", diff)
	}
}

// Oxide carries no SCTP: a load balancer with such a port gets nothing, and keeps what it has.
func TestAPortThatOxideDoesNotCarryIsTheLoadBalancersOwnProblem(t *testing.T) {
	lb := goodDesired()
	lb.Ports = []*backendv1.Port{{Protocol: tcp, Port: 80}, {Protocol: sctp, Port: 81}}
	checkField(t, validateLoadBalancer("load_balancer", "c1", lb), "")
	const want = "ports[1].protocol is SCTP, which Oxide does not carry: use TCP or UDP"
	if got := desiredOf(lb); got.PreserveReason != want || len(got.Addresses) == 0 {
		t.Errorf("got %q, %v", got.PreserveReason, got.Addresses)
	}
	lb.Ending = backendv1.Ending_ENDING_RELEASE
	if got := desiredOf(lb); got.PreserveReason != "" {
		t.Errorf("it is preserved although it is ending: %q", got.PreserveReason)
	}
}

// A user's typing error is the problem of one load balancer: what it has stays, and nobody else
// notices.
func TestASourceThatCannotBeIsTheLoadBalancersOwnProblem(t *testing.T) {
	pool := func(name string) *backendv1.DesiredAddress_FloatingIp {
		return fromFloatingIP(&backendv1.FloatingIpSource{
			Selector: &backendv1.FloatingIpSource_Pool{Pool: name},
		})
	}
	address := func(text string) *backendv1.DesiredAddress_FloatingIp {
		return fromFloatingIP(&backendv1.FloatingIpSource{
			Selector: &backendv1.FloatingIpSource_Address{Address: text},
		})
	}
	for _, tc := range []struct {
		name   string
		change func(a *backendv1.DesiredAddress)
		says   string
	}{
		{"good", func(*backendv1.DesiredAddress) {}, ""},
		{"a pool", func(a *backendv1.DesiredAddress) { a.Source = pool("public") }, ""},
		{"no pool", func(a *backendv1.DesiredAddress) { a.Source = pool("Public Pool") },
			`addresses[0].floating_ip.pool "Public Pool" is neither a name nor an id`},
		{"no address", func(a *backendv1.DesiredAddress) { a.Source = address("1.2.3") },
			`addresses[0].floating_ip.address "1.2.3" is not an IP address`},
		{"of the other family", func(a *backendv1.DesiredAddress) { a.Source = address("fd00::1") },
			`addresses[0].floating_ip.address fd00::1 is of the other IP family`},
		{"no name of a subnet pool", func(a *backendv1.DesiredAddress) {
			a.Source = &backendv1.DesiredAddress_ExternalSubnet{ExternalSubnet: &backendv1.ExternalSubnetSource{
				Selector: &backendv1.ExternalSubnetSource_Pool{Pool: "Public Pool"},
			}}
		}, `addresses[0].external_subnet.pool "Public Pool" is neither a name nor an id`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			lb := goodDesired()
			tc.change(lb.Addresses[0])
			checkField(t, validateLoadBalancer("load_balancer", "c1", lb), "")
			got := desiredOf(lb)
			if got.PreserveReason != tc.says || (len(got.Addresses) == 0) != (tc.says != "") {
				t.Errorf("got %q, %v", got.PreserveReason, got.Addresses)
			}
			lb.Ending = backendv1.Ending_ENDING_RELEASE
			if got := desiredOf(lb); got.PreserveReason != "" {
				t.Errorf("it is preserved although it is ending: %q", got.PreserveReason)
			}
		})
	}
}

func TestEveryKindOfEventIsSent(t *testing.T) {
	key := ownership.Key{Scope: "c1", Name: "default/web"}
	keyMsg := &backendv1.LoadBalancerKey{Scope: "c1", Name: "default/web"}
	at := time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)
	addr, private := netip.MustParseAddr("198.51.100.7"), netip.MustParseAddr("172.30.0.5")
	addresses := []session.Address{{
		Family: ownership.IPv4, Addr: addr, ID: "ip", Name: "n", Managed: true, Retained: true,
		Attached: session.Attachment{InstanceID: "i", PrivateAddr: private},
	}}
	addressMsgs := []*backendv1.LoadBalancerAddress{{
		Family:  backendv1.IpFamily_IP_FAMILY_IPV4,
		Source:  backendv1.AddressSource_ADDRESS_SOURCE_FLOATING_IP,
		Address: "198.51.100.7", ResourceId: "ip", ResourceName: "n", Managed: true, Retained: true,
		Attachment: &backendv1.Attachment{InstanceId: "i", PrivateAddress: "172.30.0.5"},
	}}
	type response = backendv1.SyncLoadBalancersResponse
	for _, tc := range []struct {
		name  string
		event session.Event
		want  *response
	}{
		{"state", session.Event{State: &session.State{
			Key: key, OwnerUID: "u", Generation: 7, Publish: []netip.Addr{addr, private},
			Addresses: addresses, Phase: session.PhaseProgressing,
			Conditions:  []session.Condition{{Type: session.AttachTimeout, Message: "a\nb"}},
			Problem:     &session.Error{Reason: session.ReasonPortConflict, Message: "taken"},
			Explanation: "it is\nthere",
		}}, &response{Event: &backendv1.SyncLoadBalancersResponse_State{
			State: &backendv1.LoadBalancerState{
				Key: keyMsg, OwnerUid: "u", Generation: 7,
				Publish: []string{"198.51.100.7", "172.30.0.5"}, Addresses: addressMsgs,
				Phase: backendv1.Phase_PHASE_PROGRESSING,
				Conditions: []*backendv1.Condition{{
					Type: backendv1.ConditionType_CONDITION_TYPE_ATTACH_TIMEOUT, Message: "a b",
				}},
				Problem: &backendv1.Problem{
					Reason:  backendv1.ErrorReason_ERROR_REASON_PORT_CONFLICT,
					Message: "taken", Code: int32(codes.FailedPrecondition),
				},
				Explanation: "it is there",
			},
		}}},
		{"action", session.Event{Action: &session.Action{
			Action: plan.Action{
				Type: plan.ActionAttach, Key: key, ID: "ip", Name: "n", Addr: addr, Instance: "i",
				From: "h", Why: "w", Replaces: true,
			},
			Planned: true, EndTime: at, CauseTime: at.Add(-time.Second), Summary: "s",
		}}, &response{Event: &backendv1.SyncLoadBalancersResponse_Action{Action: &backendv1.Action{
			Type: backendv1.ActionType_ACTION_TYPE_ATTACH, Key: keyMsg,
			Source:     backendv1.AddressSource_ADDRESS_SOURCE_FLOATING_IP,
			ResourceId: "ip", ResourceName: "n", Address: "198.51.100.7", InstanceId: "i",
			PreviousInstanceId: "h", Why: "w", Replaces: true, Planned: true,
			EndTime: timestamppb.New(at), CauseTime: timestamppb.New(at.Add(-time.Second)),
			Summary: "s",
		}}}},
		{"released", session.Event{Released: &session.Removal{Key: key, OwnerUID: "u"}},
			&response{Event: &backendv1.SyncLoadBalancersResponse_Released{
				Released: &backendv1.LoadBalancerReleased{Key: keyMsg, OwnerUid: "u"},
			}}},
		{"orphans", session.Event{Orphans: &[]session.LoadBalancer{{
			Key: key, OwnerUID: "u", Addresses: addresses, Problem: errors.New("x"),
			Phase: session.PhasePending,
		}}}, &response{Event: &backendv1.SyncLoadBalancersResponse_Orphans{
			Orphans: &backendv1.OrphanedAddresses{Orphans: []*backendv1.LoadBalancer{{
				Key: keyMsg, OwnerUid: "u", Addresses: addressMsgs, Phase: backendv1.Phase_PHASE_PENDING,
				Problem: &backendv1.Problem{
					Reason:  backendv1.ErrorReason_ERROR_REASON_INTERNAL,
					Message: "oxide-backend failed in a way that was not foreseen; its log has the details",
					Code:    int32(codes.Internal),
				},
			}}},
		}}},
		{"no orphans any more", session.Event{Orphans: &[]session.LoadBalancer{}},
			&response{Event: &backendv1.SyncLoadBalancersResponse_Orphans{
				Orphans: &backendv1.OrphanedAddresses{},
			}}},
		{"orphaned firewall rules", session.Event{FirewallOrphans: &[]session.KeptRule{{
			VPCID: "v", VPCName: "default", Key: key, OwnerUID: "u", Family: ownership.IPv6,
			Rule: firewall.Rule{Name: "r", Priority: 9}, Orphaned: true,
		}}}, &response{Event: &backendv1.SyncLoadBalancersResponse_FirewallOrphans{
			FirewallOrphans: &backendv1.FirewallOrphans{Rules: []*backendv1.FirewallRule{{
				VpcId: "v", VpcName: "default", Name: "r", Key: keyMsg, OwnerUid: "u", Priority: 9,
				Family: backendv1.IpFamily_IP_FAMILY_IPV6, Orphaned: true,
			}}},
		}}},
		{"in sync", session.Event{InSync: true},
			&response{Event: &backendv1.SyncLoadBalancersResponse_InSync{InSync: &backendv1.InSync{}}}},
		{"rebalance", session.Event{Rebalance: &session.Rebalance{Expires: at}},
			&response{Event: &backendv1.SyncLoadBalancersResponse_Rebalance{
				Rebalance: &backendv1.Rebalance{ExpireTime: timestamppb.New(at)},
			}}},
		{"no rebalance any more", session.Event{Rebalance: &session.Rebalance{}},
			&response{Event: &backendv1.SyncLoadBalancersResponse_Rebalance{
				Rebalance: &backendv1.Rebalance{},
			}}},
		{"actions dropped", session.Event{ActionsDropped: 12},
			&response{Event: &backendv1.SyncLoadBalancersResponse_ActionsDropped{
				ActionsDropped: &backendv1.ActionsDropped{Count: 12},
			}}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			diff := cmp.Diff(tc.want, eventMessage(tc.event), protocmp.Transform())
			if diff != "" {
				t.Errorf("event (-want +got):\n%s", diff)
			}
		})
	}
}

func TestEveryValueOfASessionHasAMessage(t *testing.T) {
	for c := session.NoCandidate; c <= session.FirewallIncomplete; c++ {
		if conditionTypes[c] == backendv1.ConditionType_CONDITION_TYPE_UNSPECIFIED {
			t.Errorf("condition %d has none", c)
		}
	}
	for p := session.PhasePending; p <= session.PhaseReady; p++ {
		if phaseMessages[p] == backendv1.Phase_PHASE_UNSPECIFIED {
			t.Errorf("phase %d has none", p)
		}
	}
	for a := plan.ActionCreate; a <= plan.ActionDelete; a++ {
		if actionTypes[a] == backendv1.ActionType_ACTION_TYPE_UNSPECIFIED {
			t.Errorf("action %s has none", a)
		}
	}
	if n := len(backendv1.ConditionType_name) - 1; len(conditionTypes) != n {
		t.Errorf("%d conditions are documented, %d are used", n, len(conditionTypes))
	}
}

// Whatever arrives is refused or converted, and nothing panics.
func FuzzItems(f *testing.F) {
	for _, item := range []*backendv1.SyncLoadBalancersRequest{
		{Item: &backendv1.SyncLoadBalancersRequest_Open{Open: goodOpen()}},
		{Item: &backendv1.SyncLoadBalancersRequest_Candidate{Candidate: goodCandidate()}},
		{Item: &backendv1.SyncLoadBalancersRequest_LoadBalancer{LoadBalancer: goodDesired()}},
		{Item: &backendv1.SyncLoadBalancersRequest_InSync{}},
		{Item: &backendv1.SyncLoadBalancersRequest_Rebalance{}},
		{Item: &backendv1.SyncLoadBalancersRequest_ReservedPorts{}},
		{},
	} {
		seed, err := proto.Marshal(item)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, wire []byte) {
		var req backendv1.SyncLoadBalancersRequest
		if proto.Unmarshal(wire, &req) != nil {
			return
		}
		r := &receiver{scope: "c1", items: newLedger()}
		if _, err := r.item(&req); err != nil {
			if text := toStatus(err).Message(); len(text) > maxText || strings.Contains(text, "\n") {
				t.Errorf("%q", text)
			}
		}
		if validateOpen("open", req.GetOpen()) == nil {
			openingOf(req.GetOpen())
		}
	})
}

// Whatever is sent as a plan is refused or converted, and nothing panics.
func FuzzPlan(f *testing.F) {
	seed, err := proto.Marshal(goodPlan())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(seed)
	f.Fuzz(func(_ *testing.T, wire []byte) {
		var req backendv1.PlanLoadBalancersRequest
		if proto.Unmarshal(wire, &req) == nil && validatePlan(&req) == nil {
			planRequestOf(&req, time.Now())
		}
	})
}
