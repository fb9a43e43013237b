// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package client

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

// unconnected is a session without a connection, on which a test opens streams by hand.
func unconnected() *Session { return NewSession(SessionConfig{}) }

// opened begins a stream.
func opened(s *Session) {
	s.items.end()
	s.items.begin()
}

// sent is everything that is to be sent now.
func sent(s *Session) []*backendv1.SyncLoadBalancersRequest {
	var all []*backendv1.SyncLoadBalancersRequest
	for {
		requests, ok := s.items.next(time.Now())
		if !ok {
			return all
		}
		all = append(all, requests...)
	}
}

// described is everything that is to be sent now, in a few words.
func described(s *Session) string {
	var all []string
	for _, request := range sent(s) {
		all = append(all, describe(request))
	}
	return strings.Join(all, ", ")
}

func TestDurationsGrowUntilTheyAreSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := unconnected()
		ready := &backendv1.Candidate{
			InstanceId: "i-1", Readiness: backendv1.Readiness_READINESS_READY,
		}
		began := time.Now()
		s.SetCandidate(ready, began, time.Time{})
		for n := range 3 {
			time.Sleep(time.Minute)
			opened(s)
			c := sent(s)[0].GetCandidate()
			want := time.Duration(n+1) * time.Minute
			if got := c.GetReadinessDuration().AsDuration(); got != want {
				t.Errorf("readiness is observed for %s, want %s", got, want)
			}
			if c.GetReachabilityDuration() != nil {
				t.Errorf("reachability is observed for %s", c.GetReachabilityDuration().AsDuration())
			}
			// The same observation is not sent again because time passes, nor for a duration in it.
			ready.ReadinessDuration = c.GetReadinessDuration()
			s.SetCandidate(ready, began, time.Time{})
			if got := described(s); got != "" {
				t.Errorf("sent %s", got)
			}
		}
		s.SetCandidate(ready, began, time.Now())
		time.Sleep(time.Second)
		if got := sent(s)[0].GetCandidate().GetReachabilityDuration().AsDuration(); got != time.Second {
			t.Errorf("reachability is observed for %s", got)
		}
	})
}

func TestWhatTheClientPassedIsNotChanged(t *testing.T) {
	s := unconnected()
	lb := desired("a")
	s.SetLoadBalancer(lb)
	lb.OwnerUid = "changed later"
	opened(s)
	if got := described(s); got != "load balancer a uid-a 1, in sync" {
		t.Errorf("sent %s", got)
	}
	if lb.GetGeneration() != 0 {
		t.Errorf("the argument got the generation %d", lb.GetGeneration())
	}
}

// candidate1 is the candidate that the server of each of the removals has, besides a load balancer.
func candidate1() *backendv1.Candidate { return &backendv1.Candidate{InstanceId: "i-1"} }

// otherOwner is the load balancer of another owner with the same key.
func otherOwner() *backendv1.DesiredLoadBalancer {
	lb := desired("a")
	lb.OwnerUid = "uid-b"
	return lb
}

var removals = []struct {
	name string
	play func(*Session)
	want string
}{
	{"are sent once", func(s *Session) {
		s.RemoveCandidate("i-1")
		s.RemoveCandidate("i-1")
		s.RemoveLoadBalancer(key("a"), "uid-a")
		s.RemoveLoadBalancer(key("a"), "uid-a")
	}, "candidate removed i-1, load balancer removed a uid-a"},
	{"of what the server does not have are not sent", func(s *Session) {
		s.SetCandidate(&backendv1.Candidate{InstanceId: "i-2"}, time.Time{}, time.Time{})
		s.SetLoadBalancer(desired("b"))
		s.RemoveCandidate("i-2")
		s.RemoveCandidate("i-3")
		s.RemoveLoadBalancer(key("b"), "uid-b")
		s.RemoveLoadBalancer(key("c"), "uid-c")
	}, ""},
	{"for another owner do nothing", func(s *Session) {
		s.RemoveLoadBalancer(key("a"), "uid-b")
	}, ""},
	{"are undone by a new item", func(s *Session) {
		s.RemoveCandidate("i-1")
		s.SetCandidate(candidate1(), time.Time{}, time.Time{})
		s.RemoveLoadBalancer(key("a"), "uid-a")
		s.SetLoadBalancer(desired("a"))
	}, "candidate i-1, load balancer a uid-a 2"},
	{"of one owner precede the item of the next", func(s *Session) {
		s.RemoveLoadBalancer(key("a"), "uid-a")
		s.SetLoadBalancer(otherOwner())
	}, "load balancer removed a uid-a, load balancer a uid-b 2"},
	{"of an owner that was replaced before it was sent are those of the one that was sent",
		func(s *Session) {
			s.SetLoadBalancer(otherOwner())
			s.RemoveLoadBalancer(key("a"), "uid-b")
		}, "load balancer removed a uid-a"},
	{"while there is no stream leave nothing to send", func(s *Session) {
		s.items.end()
		s.RemoveCandidate("i-1")
		s.RemoveLoadBalancer(key("a"), "uid-a")
		opened(s)
	}, "in sync"},
	{"that were not sent in time are not sent on the next stream", func(s *Session) {
		s.RemoveCandidate("i-1")
		s.RemoveLoadBalancer(key("a"), "uid-a")
		opened(s)
	}, "in sync"},
}

func TestRemovals(t *testing.T) {
	for _, tt := range removals {
		t.Run(tt.name, func(t *testing.T) {
			s := unconnected()
			s.SetCandidate(candidate1(), time.Time{}, time.Time{})
			s.SetLoadBalancer(desired("a"))
			opened(s)
			sent(s)
			tt.play(s)
			if got := described(s); got != tt.want {
				t.Errorf("sent %q, want %q", got, tt.want)
			}
			opened(s)
			if got := described(s); strings.Contains(got, "removed") {
				t.Errorf("a removal is sent again: %s", got)
			}
		})
	}
}

func TestAGenerationIsGreaterThanAllBefore(t *testing.T) {
	s := unconnected()
	var last int64
	for n, lb := range []*backendv1.DesiredLoadBalancer{
		desired("a"), desired("b"), desired("a", "198.51.100.7"), desired("a"), ending("a"),
	} {
		generation := s.SetLoadBalancer(lb)
		if generation <= last {
			t.Errorf("item %d has the generation %d after %d", n, generation, last)
		}
		if again := s.SetLoadBalancer(lb); again != generation {
			t.Errorf("item %d has the generation %d, then %d", n, generation, again)
		}
		last = generation
	}
	s.RemoveLoadBalancer(key("a"), "uid-a")
	if generation := s.SetLoadBalancer(ending("a")); generation <= last {
		t.Errorf("after a removal the generation is %d, was %d", generation, last)
	}
}

func TestStatesThatAreOlderThanWhatIsKnownAreSkipped(t *testing.T) {
	s := unconnected()
	var handled []int64
	s.handler.State = func(state *backendv1.LoadBalancerState) {
		handled = append(handled, state.GetGeneration())
	}
	echo := func(name, owner string, generation int64) {
		s.handle(&backendv1.SyncLoadBalancersResponse{
			Event: &backendv1.SyncLoadBalancersResponse_State{State: &backendv1.LoadBalancerState{
				Key: key(name), OwnerUid: owner, Generation: generation,
			}},
		})
	}
	s.SetLoadBalancer(desired("a"))
	opened(s)
	for n := range 4 {
		sent(s)
		s.SetLoadBalancer(desired("a", strconv.Itoa(n)))
	}
	// Four were sent, and a fifth is set.
	for _, generation := range []int64{2, 1, 3, 3, 2, 5, 4} {
		echo("a", "uid-a", generation)
	}
	echo("a", "uid-other", 4)
	echo("unknown", "uid-a", 4)
	if diff := cmp.Diff([]int64{2, 3, 3, 4}, handled); diff != "" {
		t.Errorf("handled (-want +got):\n%s", diff)
	}
	if state, ok := s.State(key("a")); !ok || state.GetGeneration() != 4 {
		t.Errorf("kept %v", state)
	}
	other := desired("a")
	other.OwnerUid = "uid-other"
	s.SetLoadBalancer(other)
	if state, ok := s.State(key("a")); ok {
		t.Errorf("the state of an earlier owner is kept: %v", state)
	}
	echo("a", "uid-a", 4)
	if state, ok := s.State(key("a")); ok {
		t.Errorf("a state of an earlier owner is accepted: %v", state)
	}
}

func TestLagIsHowLongAGenerationWasNotEchoed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := unconnected()
		echo := func(name string, generation int64) {
			s.keepState(&backendv1.LoadBalancerState{
				Key: key(name), OwnerUid: "uid-" + name, Generation: generation,
			})
		}
		check := func(when string, want time.Duration) {
			t.Helper()
			if got := s.Lag(); got != want {
				t.Errorf("%s: %s, want %s", when, got, want)
			}
		}
		a, b := s.SetLoadBalancer(desired("a")), s.SetLoadBalancer(desired("b"))
		time.Sleep(time.Hour)
		check("without a stream", 0)
		opened(s)
		sent(s)
		time.Sleep(2 * time.Second)
		check("nothing was echoed", 2*time.Second)
		echo("a", a)
		check("one was echoed", 2*time.Second)
		a = s.SetLoadBalancer(desired("a", "x"))
		sent(s)
		time.Sleep(time.Second)
		newest := s.SetLoadBalancer(desired("a", "y"))
		sent(s)
		echo("b", b)
		check("the oldest of two generations", time.Second)
		echo("a", a)
		check("the newer of them is left", 0)
		time.Sleep(StuckAfter + time.Second)
		check("a server that is stuck", StuckAfter+time.Second)
		echo("a", newest)
		check("all were echoed", 0)
		s.SetLoadBalancer(desired("a"))
		sent(s)
		time.Sleep(time.Second)
		s.RemoveLoadBalancer(key("a"), "uid-a")
		check("what was removed does not count", 0)
		s.SetLoadBalancer(desired("a"))
		sent(s)
		time.Sleep(time.Second)
		s.items.end()
		check("after the stream", 0)
	})
}

func TestASlowServerIsSentTheNewestAndCostsBoundedMemory(t *testing.T) {
	const balancers, changes = 20, 10_000
	p := newPeer(t)
	s := p.session(t, Handler{})
	s.MarkSynced()
	run(t, s)
	stream := p.next(t)
	stream.snapshot(t)
	// The server reads nothing while everything changes, by more than a connection buffers.
	padding := strings.Repeat("x", 4096)
	newest := make(map[string]int64)
	most := 0
	for n := range changes {
		name := fmt.Sprintf("lb-%d", n%balancers)
		newest[name] = s.SetLoadBalancer(desired(name, strconv.Itoa(n), padding))
		s.SetCandidate(&backendv1.Candidate{InstanceId: strconv.Itoa(n)}, time.Time{}, time.Time{})
		s.RemoveCandidate(strconv.Itoa(n))
		s.mu.Lock()
		most = max(most, s.items.queue.Len()+len(s.items.loadBalancers))
		s.mu.Unlock()
	}
	s.SetReservedPorts([]*backendv1.ReservedPorts{{FirstPort: 22}}) // queued last
	received, last := 0, make(map[string]int64)
	for {
		request, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		if request.GetReservedPorts() != nil {
			break
		}
		if lb := request.GetLoadBalancer(); lb != nil {
			received++
			last[lb.GetKey().GetName()] = lb.GetGeneration()
		}
	}
	if diff := cmp.Diff(newest, last); diff != "" {
		t.Errorf("the newest items (-want +got):\n%s", diff)
	}
	if received > changes/2 {
		t.Errorf("%d of %d changes were sent to a server that did not read", received, changes)
	}
	// Removals of candidates that were sent before the connection was full may wait, too.
	if most > 1000 {
		t.Errorf("up to %d objects were kept for %d load balancers", most, balancers)
	}
}

func TestWhatChangesDuringASnapshotIsSentAfterIt(t *testing.T) {
	s := unconnected()
	s.SetLoadBalancer(desired("a"))
	s.SetLoadBalancer(desired("b"))
	opened(s)
	s.items.next(time.Now())
	s.SetLoadBalancer(desired("a", "198.51.100.7"))
	s.SetLoadBalancer(desired("b", "198.51.100.8"))
	s.SetLoadBalancer(desired("c"))
	const want = "load balancer b uid-b 4, in sync, load balancer a uid-a 3, load balancer c uid-c 5"
	if got := described(s); got != want {
		t.Errorf("sent %q, want %q", got, want)
	}
}
