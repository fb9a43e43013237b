// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

func superseded() error {
	return fail(codes.Aborted, backendv1.ErrorReason_ERROR_REASON_SESSION_SUPERSEDED, "superseded")
}

func TestEachItemMayBeGivenTheSpanThatItBelongsTo(t *testing.T) {
	const span = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	p := newPeer(t)
	s := p.session(t, Handler{})
	s.sending = func(request *backendv1.SyncLoadBalancersRequest) {
		if request.GetLoadBalancer() != nil {
			request.TraceParent = span
		}
	}
	s.SetLoadBalancer(desired("a"))
	s.MarkSynced()
	run(t, s)
	stream := p.next(t)
	for range 3 {
		request, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		want := ""
		if request.GetLoadBalancer() != nil {
			want = span
		}
		if got := request.GetTraceParent(); got != want {
			t.Errorf("%s is of the span %q, want %q", describe(request), got, want)
		}
	}
	// The span is no part of what is desired: the same again is not sent again.
	before := s.SetLoadBalancer(desired("a"))
	if again := s.SetLoadBalancer(desired("a")); again != before {
		t.Errorf("the generation of the same item became %d, was %d", again, before)
	}
}

func TestEachStreamBeginsWithEveryItemOnce(t *testing.T) {
	p := newPeer(t)
	s := p.session(t, Handler{})
	s.SetCandidate(&backendv1.Candidate{InstanceId: "i-2"}, time.Time{}, time.Time{})
	s.SetCandidate(&backendv1.Candidate{InstanceId: "i-1"}, time.Time{}, time.Time{})
	s.SetReservedPorts([]*backendv1.ReservedPorts{{FirstPort: 22}})
	b := s.SetLoadBalancer(desired("b"))
	a := s.SetLoadBalancer(desired("a"))
	s.MarkSynced()
	run(t, s)
	want := []string{
		"open cluster-1", "candidate i-1", "candidate i-2", "reserved ports 1",
		fmt.Sprintf("load balancer a uid-a %d", a), fmt.Sprintf("load balancer b uid-b %d", b),
	}
	for range 3 {
		stream := p.next(t)
		if diff := cmp.Diff(want, stream.snapshot(t)); diff != "" {
			t.Fatalf("the snapshot (-want +got):\n%s", diff)
		}
		// What is set again as it was is not sent again.
		s.SetCandidate(&backendv1.Candidate{InstanceId: "i-2"}, time.Time{}, time.Time{})
		s.SetReservedPorts([]*backendv1.ReservedPorts{{FirstPort: 22}})
		if got := s.SetLoadBalancer(desired("b")); got != b {
			t.Errorf("the generation of the same item became %d, was %d", got, b)
		}
		s.SetReservedPorts(nil)
		if got := stream.item(t); got != "reserved ports 0" {
			t.Errorf("sent %s", got)
		}
		s.SetReservedPorts([]*backendv1.ReservedPorts{{FirstPort: 22}})
		if got := stream.item(t); got != "reserved ports 1" {
			t.Errorf("sent %s", got)
		}
		stream.end <- unavailable()
	}
}

// absent is a connection to a backend that is not there.
type absent struct{ streams []time.Time }

func (*absent) Invoke(context.Context, string, any, any, ...grpc.CallOption) error {
	return unavailable()
}

func (a *absent) NewStream(context.Context, *grpc.StreamDesc, string, ...grpc.CallOption,
) (grpc.ClientStream, error) {
	a.streams = append(a.streams, time.Now())
	return nil, unavailable()
}

func TestNoStreamIsOpenedBeforeEverythingWasSet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		conn := new(absent)
		s := NewSession(SessionConfig{Conn: conn})
		_, stop := run(t, s)
		time.Sleep(time.Hour)
		synctest.Wait()
		if n := len(conn.streams); n != 0 {
			t.Errorf("%d streams were opened", n)
		}
		s.MarkSynced()
		time.Sleep(time.Minute)
		stop()
		// 100 ms, 200 ms, 400 ms, 800 ms, and from then on a second, all with a jitter of 20 %.
		if n := len(conn.streams); n < 48 || n > 78 {
			t.Errorf("%d streams were opened in a minute", n)
		}
		if first := conn.streams[1].Sub(conn.streams[0]); first > 120*time.Millisecond {
			t.Errorf("the first pause was %s", first)
		}
	})
}

func TestASupersededSessionEnds(t *testing.T) {
	p := newPeer(t)
	var disconnected []error
	s := p.session(t, Handler{
		Disconnected: func(err error) { disconnected = append(disconnected, err) },
	})
	s.MarkSynced()
	result, _ := run(t, s)
	p.next(t).end <- superseded()
	err := <-result
	if !HasReason(err, backendv1.ErrorReason_ERROR_REASON_SESSION_SUPERSEDED) {
		t.Errorf("ended with %v", err)
	}
	if len(disconnected) != 1 || !errors.Is(disconnected[0], err) {
		t.Errorf("reported %v", disconnected)
	}
	if _, err := s.AwaitState(t.Context(), key("a"), nil); !HasReason(err,
		backendv1.ErrorReason_ERROR_REASON_SESSION_SUPERSEDED) {
		t.Errorf("a state is awaited of a session that has ended: %v", err)
	}
	if err := s.AwaitReleased(t.Context(), key("a"), "uid-a"); err == nil {
		t.Error("a release is awaited of a session that has ended")
	}
}

func TestTheEndOfTheContextIsNoError(t *testing.T) {
	p := newPeer(t)
	for _, synced := range []bool{false, true} {
		s := p.session(t, Handler{Disconnected: func(err error) { t.Errorf("reported %v", err) }})
		if synced {
			s.MarkSynced()
			s.MarkSynced() // Twice must not panic.
		}
		result, stop := run(t, s)
		if synced {
			p.next(t).snapshot(t)
		}
		stop()
		if err := <-result; err != nil {
			t.Errorf("ended with %v", err)
		}
	}
}

func TestEveryOtherEndIsFollowedByAnotherStream(t *testing.T) {
	p := newPeer(t)
	reported := make(chan error, 1)
	s := p.session(t, Handler{Disconnected: func(err error) { reported <- err }})
	s.MarkSynced()
	run(t, s)
	for _, tt := range []struct {
		name string
		end  error
		want string
	}{
		{"the backend went away", unavailable(), "oxide-backend is not there"},
		{"the backend stops", fail(codes.Unavailable,
			backendv1.ErrorReason_ERROR_REASON_BACKEND_STOPPING, "stopping"), "stopping"},
		{"another version", fail(codes.Unimplemented,
			backendv1.ErrorReason_ERROR_REASON_VERSION_SKEW, "field 99"), "field 99"},
		{"an older backend", fail(codes.Unimplemented,
			backendv1.ErrorReason_ERROR_REASON_UNIMPLEMENTED, "no sessions"), "no sessions"},
		{"read only", fail(codes.FailedPrecondition,
			backendv1.ErrorReason_ERROR_REASON_READ_ONLY, "read only"), "read only"},
		{"an invalid item", fail(codes.InvalidArgument,
			backendv1.ErrorReason_ERROR_REASON_INVALID_REQUEST, "bad port"), "bad port"},
		{"a fault", fail(codes.Internal,
			backendv1.ErrorReason_ERROR_REASON_INTERNAL, "a fault"), "a fault"},
		{"an end without an error", nil, io.EOF.Error()},
	} {
		p.next(t).end <- tt.end
		if err := <-reported; !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: reported %v", tt.name, err)
		}
	}
	p.next(t)
}

func TestPausesBetweenStreams(t *testing.T) {
	s := NewSession(SessionConfig{})
	retryIn := func(d time.Duration) *errdetails.RetryInfo {
		return &errdetails.RetryInfo{RetryDelay: durationpb.New(d)}
	}
	for _, tt := range []struct {
		name  string
		err   error
		pause time.Duration
		want  time.Duration
	}{
		{"nobody there", unavailable(), 100 * time.Millisecond, 100 * time.Millisecond},
		{"nobody there for a while", unavailable(), time.Second, time.Second},
		{"as the backend recommends", fail(codes.Unavailable,
			backendv1.ErrorReason_ERROR_REASON_BACKEND_STOPPING, "", retryIn(2*time.Second)),
			100 * time.Millisecond, 2 * time.Second},
		{"a bounded recommendation", fail(codes.Unavailable,
			backendv1.ErrorReason_ERROR_REASON_BACKEND_STOPPING, "", retryIn(time.Hour)),
			100 * time.Millisecond, slowRetry},
		{"another version", fail(codes.Unimplemented,
			backendv1.ErrorReason_ERROR_REASON_VERSION_SKEW, ""), 100 * time.Millisecond, slowRetry},
		{"read only", fail(codes.FailedPrecondition,
			backendv1.ErrorReason_ERROR_REASON_READ_ONLY, ""), 100 * time.Millisecond, slowRetry},
		{"an invalid item", fail(codes.InvalidArgument,
			backendv1.ErrorReason_ERROR_REASON_INVALID_REQUEST, ""), time.Second, slowRetry},
		{"an end without an error", io.EOF, 200 * time.Millisecond, 200 * time.Millisecond},
	} {
		got := s.retryDelay(tt.err, tt.pause)
		if got < tt.want*8/10 || got > tt.want*12/10 {
			t.Errorf("%s: %s, want about %s", tt.name, got, tt.want)
		}
	}
}

func TestAnOlderServerIsReportedOnce(t *testing.T) {
	p := newPeer(t)
	p.revision = backendv1.APIRevision - 1
	var reported []int32
	events := make(chan bool)
	s := p.session(t, Handler{
		OlderServer: func(info *backendv1.GetInfoResponse) {
			reported = append(reported, info.GetApiRevision())
		},
		Disconnected: func(error) { events <- true },
	})
	s.MarkSynced()
	run(t, s)
	for range 3 {
		p.next(t).end <- fail(codes.Unimplemented,
			backendv1.ErrorReason_ERROR_REASON_VERSION_SKEW, "field 99")
		<-events
	}
	if diff := cmp.Diff([]int32{p.revision}, reported); diff != "" {
		t.Errorf("reported (-want +got):\n%s", diff)
	}
}

func TestARebalanceIsRememberedUntilItExpiresOrIsCleared(t *testing.T) {
	p := newPeer(t)
	s := p.session(t, Handler{})
	s.MarkSynced()
	run(t, s)
	const remembered = "rebalance"
	inAnHour := timestamppb.New(time.Now().Add(time.Hour))
	for _, tt := range []struct {
		name   string
		expire *timestamppb.Timestamp
		want   []string
	}{
		{"one that lasts", inAnHour, []string{"open cluster-1", remembered}},
		{"one that has expired", timestamppb.New(time.Now()), []string{"open cluster-1"}},
		{"another that lasts", inAnHour, []string{"open cluster-1", remembered}},
		{"none", nil, []string{"open cluster-1"}},
	} {
		stream := p.next(t)
		stream.snapshot(t)
		stream.event(t, &backendv1.SyncLoadBalancersResponse{
			Event: &backendv1.SyncLoadBalancersResponse_Rebalance{
				Rebalance: &backendv1.Rebalance{ExpireTime: tt.expire},
			},
		})
		stream.end <- unavailable()
		stream = p.next(t)
		if diff := cmp.Diff(tt.want, stream.snapshot(t)); diff != "" {
			t.Errorf("%s: the snapshot (-want +got):\n%s", tt.name, diff)
		}
		stream.end <- unavailable()
	}
}

func TestEveryEventReachesItsHandlerAndUnknownOnesAreSkipped(t *testing.T) {
	p := newPeer(t)
	events := make(chan string, 10)
	var s *Session
	s = p.session(t, Handler{
		State: func(state *backendv1.LoadBalancerState) {
			// The session may be used by the functions that it calls.
			s.SetReservedPorts([]*backendv1.ReservedPorts{{FirstPort: 1}})
			if kept, ok := s.State(state.GetKey()); !ok || kept != state || !s.Connected() {
				t.Error("the state is not kept")
			}
			events <- "state " + state.GetKey().GetName()
		},
		Action: func(a *backendv1.Action) { events <- "action " + a.GetAddress() },
		Released: func(k *backendv1.LoadBalancerKey, uid string) {
			events <- "released " + k.GetName() + " " + uid
		},
		Orphans: func(orphans []*backendv1.LoadBalancer) {
			events <- fmt.Sprintf("orphans %d", len(orphans))
		},
		FirewallOrphans: func(rules []*backendv1.FirewallRule) {
			events <- "orphaned rule " + rules[0].GetName()
		},
		InSync:         func() { events <- "in sync" },
		ActionsDropped: func(n int64) { events <- fmt.Sprintf("dropped %d", n) },
	})
	generation := s.SetLoadBalancer(desired("a"))
	s.MarkSynced()
	run(t, s)
	stream := p.next(t)
	stream.snapshot(t)
	stream.event(t, new(backendv1.SyncLoadBalancersResponse))
	stream.state(t, "a", generation)
	for _, event := range []*backendv1.SyncLoadBalancersResponse{
		{Event: &backendv1.SyncLoadBalancersResponse_Action{
			Action: &backendv1.Action{Address: "198.51.100.7"}}},
		{Event: &backendv1.SyncLoadBalancersResponse_Orphans{
			Orphans: &backendv1.OrphanedAddresses{Orphans: []*backendv1.LoadBalancer{{}}}}},
		{Event: &backendv1.SyncLoadBalancersResponse_FirewallOrphans{
			FirewallOrphans: &backendv1.FirewallOrphans{Rules: []*backendv1.FirewallRule{{Name: "lb-x"}}}}},
		{Event: &backendv1.SyncLoadBalancersResponse_InSync{InSync: new(backendv1.InSync)}},
		{Event: &backendv1.SyncLoadBalancersResponse_ActionsDropped{
			ActionsDropped: &backendv1.ActionsDropped{Count: 7}}},
	} {
		stream.event(t, event)
	}
	stream.released(t, "b")
	want := []string{
		"state a", "action 198.51.100.7", "orphans 1", "orphaned rule lb-x", "in sync", "dropped 7",
		"released b uid-b",
	}
	var got []string
	for range want {
		got = append(got, <-events)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
	if got := stream.item(t); got != "reserved ports 1" {
		t.Errorf("sent %s", got)
	}
}

func TestAHundredReconnectsLeakNothing(t *testing.T) {
	p := newPeer(t)
	s := p.session(t, Handler{})
	s.SetCandidate(&backendv1.Candidate{InstanceId: "i-1"}, time.Now(), time.Time{})
	s.MarkSynced()
	run(t, s)
	open := func() int {
		entries, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Skip("no /proc here")
		}
		return len(entries)
	}
	var before int
	for n := range 100 {
		name := fmt.Sprintf("lb-%d", n)
		generation := s.SetLoadBalancer(desired(name))
		stream := p.next(t)
		stream.snapshot(t)
		if n == 0 {
			before = open()
		}
		if n%2 == 0 {
			stream.state(t, name, generation)
			_, err := s.AwaitState(within(t, patience), key(name), isGeneration(generation))
			if err != nil {
				t.Fatal(err)
			}
		}
		s.RemoveLoadBalancer(key(name), "uid-"+name)
		stream.end <- unavailable()
	}
	p.next(t).snapshot(t)
	if after := open(); after > before+2 {
		t.Errorf("%d file descriptors are open after a hundred reconnects, %d before", after, before)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := len(s.items.loadBalancers); n != 0 {
		t.Errorf("%d load balancers that were removed are kept", n)
	}
}
