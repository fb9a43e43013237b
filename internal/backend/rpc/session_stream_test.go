// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package rpc

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"

	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

// One reconcile, as from a file.
func TestClosingTheSendingSideFinishesWhatCanBeFinished(t *testing.T) {
	r := newRig(t)
	items := append([]*backendv1.SyncLoadBalancersRequest{itemOpen(&backendv1.OpenSession{Scope: "c1"})},
		r.ready()...)
	stream := r.stream(append(items, itemInSync())...)
	r.must(stream.CloseSend())
	events, err := endOf(stream)
	if err != nil {
		t.Fatal(err)
	}
	var last *backendv1.LoadBalancerState
	inSync, actions := false, 0
	for _, event := range events {
		switch e := event.GetEvent().(type) {
		case *backendv1.SyncLoadBalancersResponse_State:
			last = e.State
		case *backendv1.SyncLoadBalancersResponse_InSync:
			inSync = true
		case *backendv1.SyncLoadBalancersResponse_Action:
			actions++
		}
	}
	if last.GetPhase() != backendv1.Phase_PHASE_READY || len(last.GetPublish()) != 2 ||
		last.GetGeneration() != 3 || !inSync || actions == 0 {
		t.Errorf("in sync: %v, %d actions, the last state: %v", inSync, actions, last)
	}
	if ips := r.rack.FloatingIPs(); len(ips) != 1 || ips[0].InstanceID != r.node {
		t.Errorf("floating IPs: %+v", ips)
	}
}

func TestWhatAClientMustNotSendEndsTheStreamWithOneClearStatus(t *testing.T) {
	r := newRig(t)
	open := itemOpen(&backendv1.OpenSession{Scope: "c1"})
	news := itemInSync()
	newer(news, 55)
	unknownItem := &backendv1.SyncLoadBalancersRequest{}
	newer(unknownItem, 56)
	foreign := goodDesired()
	foreign.Key.Scope = "c2"
	bad := goodDesired()
	bad.Ports = nil
	large := goodDesired()
	large.PreserveReason = strings.Repeat("x", maxMessage)
	const invalid = "INVALID_REQUEST"
	for _, tc := range []struct {
		name   string
		items  []*backendv1.SyncLoadBalancersRequest
		code   codes.Code
		reason string
		says   string
	}{
		{"an item before open", []*backendv1.SyncLoadBalancersRequest{itemInSync()},
			codes.InvalidArgument, invalid, "open is required"},
		{"nothing", []*backendv1.SyncLoadBalancersRequest{{}}, codes.InvalidArgument, invalid,
			"open is required"},
		{"a bad opening", []*backendv1.SyncLoadBalancersRequest{itemOpen(&backendv1.OpenSession{})},
			codes.InvalidArgument, invalid, "open.scope"},
		{"a second open", []*backendv1.SyncLoadBalancersRequest{open, open}, codes.InvalidArgument,
			invalid, "open is only for the first item"},
		{"in_sync twice", []*backendv1.SyncLoadBalancersRequest{open, itemInSync(), itemInSync()},
			codes.InvalidArgument, invalid, "in_sync was sent already"},
		{"an empty item", []*backendv1.SyncLoadBalancersRequest{open, {}}, codes.InvalidArgument,
			invalid, "item is required"},
		{"another scope", []*backendv1.SyncLoadBalancersRequest{open, itemBalancer(foreign)},
			codes.InvalidArgument, invalid, "load_balancer.key.scope"},
		{"a bad load balancer", []*backendv1.SyncLoadBalancersRequest{open, itemBalancer(bad)},
			codes.InvalidArgument, invalid, "load_balancer.ports"},
		{"a bad candidate",
			[]*backendv1.SyncLoadBalancersRequest{open, itemCandidate(&backendv1.Candidate{})},
			codes.InvalidArgument, invalid, "candidate.instance_id"},
		{"an unknown item", []*backendv1.SyncLoadBalancersRequest{open, unknownItem},
			codes.Unimplemented, "VERSION_SKEW", "field 56 of SyncLoadBalancersRequest"},
		{"an unknown field", []*backendv1.SyncLoadBalancersRequest{open, news},
			codes.Unimplemented, "VERSION_SKEW", "field 55"},
		{"an item that is too large", []*backendv1.SyncLoadBalancersRequest{open, itemBalancer(large)},
			codes.InvalidArgument, invalid, "larger than the 16 MiB"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := endOf(r.stream(tc.items...))
			wantEnd(t, err, tc.code, tc.reason, tc.says)
		})
	}
	if ips := r.rack.FloatingIPs(); len(ips) != 0 {
		t.Errorf("something was changed: %+v", ips)
	}
}

func TestAStreamWithoutAnyItemIsRefused(t *testing.T) {
	stream := newRig(t).stream()
	if err := stream.CloseSend(); err != nil {
		t.Fatal(err)
	}
	_, err := endOf(stream)
	wantEnd(t, err, codes.InvalidArgument, "INVALID_REQUEST", "item is required")
}

func TestItemsThatEndBeforeTheSnapshotIsCompleteAreRefused(t *testing.T) {
	r := newRig(t)
	stream := r.stream(itemOpen(&backendv1.OpenSession{Scope: "c1"}), itemBalancer(goodDesired()))
	if err := stream.CloseSend(); err != nil {
		t.Fatal(err)
	}
	_, err := endOf(stream)
	wantEnd(t, err, codes.InvalidArgument, "INVALID_REQUEST", "in_sync is required")
	if ips := r.rack.FloatingIPs(); len(ips) != 0 {
		t.Errorf("something was changed: %+v", ips)
	}
}

func TestANewerSessionEndsTheOlder(t *testing.T) {
	r := newRig(t)
	older := r.stream(itemOpen(&backendv1.OpenSession{Scope: "c1"}), itemInSync())
	if _, err := older.Recv(); err != nil {
		t.Fatal(err)
	}
	observing := r.stream(itemOpen(&backendv1.OpenSession{Scope: "c1", ObserveOnly: true}), itemInSync())
	if _, err := observing.Recv(); err != nil {
		t.Fatal(err)
	}
	newer := r.stream(itemOpen(&backendv1.OpenSession{Scope: "c1"}), itemInSync())
	if _, err := newer.Recv(); err != nil {
		t.Fatal(err)
	}
	_, err := endOf(older)
	wantEnd(t, err, codes.Aborted, "SESSION_SUPERSEDED", "newer session")
}

func TestAStopSaysSo(t *testing.T) {
	r := newRig(t)
	stream := r.stream(itemOpen(&backendv1.OpenSession{Scope: "c1"}), itemInSync())
	if _, err := stream.Recv(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	r.manager.Stop(ctx)
	_, err := endOf(stream)
	wantEnd(t, err, codes.Unavailable, "BACKEND_STOPPING", "")
	_, err = endOf(r.stream(itemOpen(&backendv1.OpenSession{Scope: "c1"})))
	wantEnd(t, err, codes.Unavailable, "BACKEND_STOPPING", "")
}

// A client that goes away leaves nothing behind: the next one is superseded by nobody.
func TestAClientThatGoesAwayEndsItsSession(t *testing.T) {
	r := newRig(t)
	ctx, cancel := context.WithCancel(t.Context())
	stream, err := r.client.SyncLoadBalancers(ctx)
	r.must(err)
	r.must(stream.Send(itemOpen(&backendv1.OpenSession{Scope: "c1"})))
	r.must(stream.Send(itemInSync()))
	if _, err := stream.Recv(); err != nil {
		t.Fatal(err)
	}
	cancel()
	_, err = endOf(stream)
	if status.Code(err) != codes.Canceled {
		t.Errorf("got %v", err)
	}
	deadline := time.Now().Add(10 * time.Second)
	for {
		_, err := r.client.PlanLoadBalancers(t.Context(), &backendv1.PlanLoadBalancersRequest{
			Input: &backendv1.PlanLoadBalancersRequest_Scope{Scope: "c1"},
		})
		if status.Code(err) == codes.FailedPrecondition {
			wantEnd(t, err, codes.FailedPrecondition, "SESSION_REQUIRED", "c1")
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("the session is still there: %v", err)
		}
		time.Sleep(time.Millisecond)
	}
}

// A client that sends without end and never reads is slowed down, and holds up no other.
func TestAClientThatNeverReadsHoldsUpNoOther(t *testing.T) {
	r := newRig(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	stream, err := r.client.SyncLoadBalancers(ctx)
	r.must(err)
	r.must(stream.Send(itemOpen(&backendv1.OpenSession{Scope: "c1"})))
	sender := make(chan struct{})
	go func() {
		defer close(sender)
		for i := range int64(20_000) {
			lb := goodDesired()
			lb.Generation = i + 1
			if stream.Send(itemBalancer(lb)) != nil {
				return
			}
		}
	}()
	other := r.stream(append([]*backendv1.SyncLoadBalancersRequest{
		itemOpen(&backendv1.OpenSession{Scope: "c2"}),
	}, itemInSync())...)
	r.must(other.CloseSend())
	if _, err := endOf(other); err != nil {
		t.Error(err)
	}
	cancel()
	<-sender
}

func TestAPlanOfASetChangesNothing(t *testing.T) {
	r := newRig(t)
	lb := goodDesired()
	lb.EligibleInstances, lb.PublishedAddresses = nil, nil
	req := &backendv1.PlanLoadBalancersRequest{
		Input: &backendv1.PlanLoadBalancersRequest_Set{Set: &backendv1.LoadBalancerSet{
			Open: &backendv1.OpenSession{Scope: "c1"},
			Candidates: []*backendv1.Candidate{{
				InstanceId: r.node, Readiness: backendv1.Readiness_READINESS_READY,
			}},
			LoadBalancers: []*backendv1.DesiredLoadBalancer{lb},
		}},
		ExplainNames: []string{"default/web"},
	}
	first, err := r.client.PlanLoadBalancers(t.Context(), req)
	if err != nil || len(first.GetActions()) != 2 || len(first.GetLoadBalancers()) != 1 ||
		len(first.GetLoadBalancers()[0].GetVerdicts()) != 1 {
		t.Fatalf("got %v, %v", first, err)
	}
	again, err := r.client.PlanLoadBalancers(t.Context(), req)
	if err != nil || !proto.Equal(first, again) {
		t.Errorf("asked again (-first +again): %v\n%s", err, cmp.Diff(first, again, protocmp.Transform()))
	}
	if ips := r.rack.FloatingIPs(); len(ips) != 0 {
		t.Errorf("something was changed: %+v", ips)
	}
	if _, err := r.client.GetLoadBalancer(t.Context(), &backendv1.GetLoadBalancerRequest{
		Key: lb.Key,
	}); status.Code(err) != codes.NotFound {
		t.Errorf("Get: %v", err)
	}
	_, err = r.client.PlanLoadBalancers(t.Context(), &backendv1.PlanLoadBalancersRequest{})
	wantEnd(t, err, codes.InvalidArgument, "INVALID_REQUEST", "input is required")
}
