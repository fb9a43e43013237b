// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package conformance_test

import (
	"sync"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

type (
	item  = backendv1.SyncLoadBalancersRequest
	event = backendv1.SyncLoadBalancersResponse
)

// desired is a backend that takes load balancers for others.
func desired(change func(*backendv1.DesiredLoadBalancer)) wrong {
	return requests(func(_ *call, m *item) {
		if lb := m.GetLoadBalancer(); lb != nil {
			change(lb)
		}
	})
}

// events is a backend that sends its events in another way.
func events(change func(*call, *event) []proto.Message) wrong {
	return wrong{response: func(c *call, m proto.Message) []proto.Message {
		if typed, is := m.(*event); is {
			return change(c, typed)
		}
		return []proto.Message{m}
	}}
}

// states is a backend that says something else in its states.
func states(change func(*backendv1.LoadBalancerState)) wrong {
	return events(func(_ *call, e *event) []proto.Message {
		if state := e.GetState(); state != nil {
			change(state)
		}
		return []proto.Message{e}
	})
}

// never is a backend that leaves events out.
func never(is func(*event) bool) wrong {
	return events(func(_ *call, e *event) []proto.Message {
		if is(e) {
			return nil
		}
		return []proto.Message{e}
	})
}

func wrongSessions() []wrongBackend {
	return []wrongBackend{
		{name: "ends superseded sessions as if it were away",
			wrong: answering("SESSION_SUPERSEDED", instead(codes.Unavailable, "OXIDE_UNAVAILABLE")),
			cases: []string{"session/superseded", "session/concurrent-sessions"}},
		{name: "never supersedes", cases: []string{"session/superseded", "session/concurrent-sessions"},
			wrong: wrong{hold: func(err error) bool { return reasonOf(err) == "SESSION_SUPERSEDED" }}},
		{name: "ends superseded sessions with OK", wrong: answering("SESSION_SUPERSEDED", nil),
			cases: []string{"session/superseded"}},
		{name: "takes any number of sessions", cases: []string{"session/too-many"},
			wrong: wrong{hold: func(err error) bool { return reasonOf(err) == "TOO_MANY_SESSIONS" }}},
		{name: "needs no publication", cases: []string{"session/publish-before-attach"},
			wrong: desired(func(lb *backendv1.DesiredLoadBalancer) { lb.NoPublication = true })},
		{name: "does not wait for the end of the snapshot", cases: []string{"session/life"},
			wrong: wrong{request: early}},
		{name: "has generations of its own", cases: []string{"session/life"},
			wrong: states(func(s *backendv1.LoadBalancerState) { s.Generation += 100 })},
		{name: "forgets generations", cases: []string{"session/same-item-ten-times"},
			wrong: states(func(s *backendv1.LoadBalancerState) { s.Generation = min(s.GetGeneration(), 1) })},
		{name: "mixes up keys", cases: []string{"session/life"},
			wrong: states(func(s *backendv1.LoadBalancerState) { s.Key.Scope = "another" })},
		{name: "mixes up owners", cases: []string{"session/life"},
			wrong: states(func(s *backendv1.LoadBalancerState) { s.OwnerUid = "another" })},
		{name: "is never in sync", cases: []string{"session/life", "session/superseded"},
			wrong: never(func(e *event) bool { return e.GetInSync() != nil })},
		{name: "does not say what was released", cases: []string{"session/life"},
			wrong: never(func(e *event) bool { return e.GetReleased() != nil })},
		{name: "says that it released what it has", cases: []string{"session/life", "session/retained"},
			wrong: wrong{request: claimReleased}},
		{name: "says nothing of orphans", cases: []string{"orphans/delete-ten-times"},
			wrong: never(func(e *event) bool { return e.GetOrphans() != nil })},
		{name: "says nothing of what it does",
			cases: []string{"session/same-item-ten-times", "session/observes"},
			wrong: never(func(e *event) bool { return e.GetAction() != nil })},
		{name: "does not ask to remember a rebalance", cases: []string{"plan/rebalance"},
			wrong: never(func(e *event) bool { return e.GetRebalance() != nil })},
		{name: "acts where it is to observe", cases: []string{"session/observes"},
			wrong: requests(func(_ *call, m *item) {
				if open := m.GetOpen(); open != nil {
					open.ObserveOnly = false
				}
			})},
		{name: "says that it does what it would do", cases: []string{"session/observes"},
			wrong: events(func(_ *call, e *event) []proto.Message {
				if action := e.GetAction(); action != nil {
					action.Planned = false
				}
				return []proto.Message{e}
			})},
		{name: "breaks off when its client has said all", cases: []string{"session/closed-side"},
			wrong: wrong{halfClosed: func(c *call) error {
				if c.is(backendv1.LoadBalancerService_SyncLoadBalancers_FullMethodName) {
					return errEnd
				}
				return nil
			}}},
		{name: "retains nothing", cases: []string{"session/retained"},
			wrong: desired(func(lb *backendv1.DesiredLoadBalancer) {
				if lb.GetEnding() == backendv1.Ending_ENDING_RETAIN {
					lb.Ending = backendv1.Ending_ENDING_RELEASE
				}
			})},
		{name: "retains everything", cases: []string{"session/life", "session/closed-side"},
			wrong: desired(func(lb *backendv1.DesiredLoadBalancer) {
				if lb.GetEnding() == backendv1.Ending_ENDING_RELEASE {
					lb.Ending = backendv1.Ending_ENDING_RETAIN
				}
			})},
		{name: "decides what it does not know", cases: []string{"session/preserved"},
			wrong: desired(func(lb *backendv1.DesiredLoadBalancer) {
				if lb.GetPreserveReason() != "" {
					lb.PreserveReason = ""
					lb.Addresses = []*backendv1.DesiredAddress{{
						Family: backendv1.IpFamily_IP_FAMILY_IPV4,
						Source: &backendv1.DesiredAddress_FloatingIp{FloatingIp: &backendv1.FloatingIpSource{}},
					}}
				}
			})},
		{name: "deletes what a client forgets", cases: []string{"orphans/delete-ten-times"},
			wrong: wrong{request: deleteForgotten()}},
		{name: "loses what it has when a session ends", cases: []string{"session/again-ten-times"},
			wrong: renaming()},
		{name: "ends a session for one wrong name", cases: []string{"session/wrong-sources"},
			wrong: states(func(s *backendv1.LoadBalancerState) { s.Problem = nil })},
		{name: "gives up for good in an outage", cases: []string{"faults/outage-in-a-session"},
			wrong: states(func(s *backendv1.LoadBalancerState) {
				if s.GetProblem() != nil {
					s.Addresses = []*backendv1.LoadBalancerAddress{{
						Attachment: &backendv1.Attachment{InstanceId: "5a9174de-0000-4000-8000-000000000000"},
					}}
				}
			})},
	}
}

// early ends a snapshot after its first load balancer, and leaves out the real end.
func early(c *call, m proto.Message) proto.Message {
	i, is := m.(*item)
	if !is {
		return m
	}
	if i.GetInSync() != nil && c.note("ended", 0) > 0 {
		return nil
	}
	if i.GetLoadBalancer() != nil && c.note("ended", 1) == 1 {
		lb := i.GetLoadBalancer()
		c.toClient <- &event{Event: &backendv1.SyncLoadBalancersResponse_State{
			State: &backendv1.LoadBalancerState{
				Key: lb.GetKey(), OwnerUid: lb.GetOwnerUid(), Generation: lb.GetGeneration(),
				Phase: backendv1.Phase_PHASE_PROGRESSING, Publish: []string{"198.51.100.10"},
			},
		}}
	}
	return m
}

// claimReleased forgets load balancers that end, and says that they have nothing any more.
func claimReleased(c *call, m proto.Message) proto.Message {
	i, is := m.(*item)
	if !is || i.GetLoadBalancer().GetEnding() == backendv1.Ending_ENDING_UNSPECIFIED {
		return m
	}
	lb := i.GetLoadBalancer()
	c.toClient <- &event{Event: &backendv1.SyncLoadBalancersResponse_Released{
		Released: &backendv1.LoadBalancerReleased{Key: lb.GetKey(), OwnerUid: lb.GetOwnerUid()},
	}}
	return nil
}

// deleteForgotten takes a load balancer that is removed for one that ends.
func deleteForgotten() func(*call, proto.Message) proto.Message {
	var mu sync.Mutex
	known := make(map[string]*backendv1.DesiredLoadBalancer)
	return func(_ *call, m proto.Message) proto.Message {
		i, is := m.(*item)
		if !is {
			return m
		}
		mu.Lock()
		defer mu.Unlock()
		if lb := i.GetLoadBalancer(); lb != nil {
			known[lb.GetKey().GetName()] = lb
		}
		lb := known[i.GetLoadBalancerRemoved().GetKey().GetName()]
		if lb == nil {
			return m
		}
		lb = proto.Clone(lb).(*backendv1.DesiredLoadBalancer)
		lb.Ending, lb.Generation = backendv1.Ending_ENDING_RELEASE, lb.GetGeneration()+1
		return &item{Item: &backendv1.SyncLoadBalancersRequest_LoadBalancer{LoadBalancer: lb}}
	}
}

// renaming gives the load balancers of each stream names of its own.
func renaming() wrong {
	var mu sync.Mutex
	streams := make(map[*call]string)
	suffix := func(c *call) string {
		mu.Lock()
		defer mu.Unlock()
		if streams[c] == "" {
			streams[c] = "-" + string(rune('a'+len(streams)))
		}
		return streams[c]
	}
	return wrong{
		request: func(c *call, m proto.Message) proto.Message {
			if i, is := m.(*item); is && i.GetLoadBalancer() != nil {
				i.GetLoadBalancer().Key.Name += suffix(c)
				i.GetLoadBalancer().OwnerUid += suffix(c)
				i.GetLoadBalancer().Ports[0].Port += int32(suffix(c)[1])
			}
			return m
		},
		response: func(c *call, m proto.Message) []proto.Message {
			e, is := m.(*event)
			if !is {
				return []proto.Message{m}
			}
			trim := func(s string) string { return s[:len(s)-len(suffix(c))] }
			if s := e.GetState(); s != nil {
				s.Key.Name, s.OwnerUid = trim(s.GetKey().GetName()), trim(s.GetOwnerUid())
			}
			if r := e.GetReleased(); r != nil {
				r.Key.Name, r.OwnerUid = trim(r.GetKey().GetName()), trim(r.GetOwnerUid())
			}
			return []proto.Message{m}
		},
	}
}
