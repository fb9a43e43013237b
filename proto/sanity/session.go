// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package sanity

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

// session is the client's side of a stream of SyncLoadBalancers, which publishes what the server says.
type session struct {
	c      *checker
	stream grpc.BidiStreamingClient[
		backendv1.SyncLoadBalancersRequest, backendv1.SyncLoadBalancersResponse]
	scope  string
	cancel context.CancelFunc

	// sending guards Send, and that items are sent in the order of their generations.
	sending    sync.Mutex
	generation int64
	desired    map[string]*backendv1.DesiredLoadBalancer
	closed     bool

	mu sync.Mutex
	// changed is closed at the next event.
	changed chan struct{}
	// withheld: nothing is published.
	withheld bool
	events
}

// events are what a session has received.
type events struct {
	states          map[string]*backendv1.LoadBalancerState
	actions         []*backendv1.Action
	released        map[string]string
	orphans         []*backendv1.LoadBalancer
	firewallOrphans []*backendv1.FirewallRule
	rebalance       *backendv1.Rebalance
	synced, ended   bool
	err             error
}

// open opens a session.
func (c *checker) open(ctx context.Context, on *conn, open *backendv1.OpenSession) *session {
	s := c.stream(ctx, on)
	s.scope = open.GetScope()
	s.send(openItem(open))
	return s
}

// stream is a stream on which nothing was sent yet.
func (c *checker) stream(ctx context.Context, on *conn) *session {
	ctx, cancel := context.WithCancel(ctx)
	stream, err := on.balancers.SyncLoadBalancers(ctx)
	if err != nil {
		cancel()
		c.must("to open a session", err)
	}
	s := &session{
		c: c, stream: stream, cancel: cancel, changed: make(chan struct{}),
		desired: make(map[string]*backendv1.DesiredLoadBalancer),
		events: events{
			states: make(map[string]*backendv1.LoadBalancerState), released: make(map[string]string),
		},
	}
	received := make(chan struct{})
	go func() {
		defer close(received)
		s.receive()
	}()
	c.cleanup(func(context.Context) {
		cancel()
		<-received
	})
	return s
}

// acting opens an acting session with the given nodes as candidates, and sends some load balancers
// and the end of the snapshot.
func (c *checker) acting(
	ctx context.Context, nodes []*backendv1.Instance, balancers ...*backendv1.DesiredLoadBalancer,
) *session {
	s := c.open(ctx, c.conn, &backendv1.OpenSession{Scope: c.options.Scope})
	s.candidates(nodes...)
	for _, lb := range balancers {
		s.want(lb)
	}
	s.send(inSyncItem())
	return s
}

func (s *session) send(item *backendv1.SyncLoadBalancersRequest) {
	s.sending.Lock()
	defer s.sending.Unlock()
	_ = s.stream.Send(item) // Recv returns why it failed
}

func (s *session) candidates(nodes ...*backendv1.Instance) {
	for _, node := range nodes {
		s.send(candidateItem(readyCandidate(node.GetId())))
	}
}

// want sends a load balancer with a generation of its own.
func (s *session) want(lb *backendv1.DesiredLoadBalancer) {
	s.sending.Lock()
	defer s.sending.Unlock()
	s.wantLocked(lb)
}

func (s *session) wantLocked(lb *backendv1.DesiredLoadBalancer) {
	s.generation++
	lb = clone(lb)
	lb.Generation = s.generation
	s.desired[lb.GetKey().GetName()] = lb
	_ = s.stream.Send(balancerItem(lb))
}

// ending sends a load balancer as one whose owner is going away.
func (s *session) ending(lb *backendv1.DesiredLoadBalancer, how backendv1.Ending) {
	s.sending.Lock()
	defer s.sending.Unlock()
	lb = clone(lb)
	lb.Ending = how
	lb.PublishedAddresses = s.desired[lb.GetKey().GetName()].GetPublishedAddresses()
	s.wantLocked(lb)
}

// publish sends what the server has said that the owner is to publish.
func (s *session) publish(state *backendv1.LoadBalancerState) {
	s.sending.Lock()
	defer s.sending.Unlock()
	lb := s.desired[state.GetKey().GetName()]
	if s.closed || lb == nil || lb.GetNoPublication() || lb.GetOwnerUid() != state.GetOwnerUid() ||
		slices.Equal(lb.GetPublishedAddresses(), state.GetPublish()) {
		return
	}
	lb = clone(lb)
	lb.PublishedAddresses = state.GetPublish()
	s.wantLocked(lb)
}

// receive keeps what comes until the stream ends. Events that it does not know are skipped.
func (s *session) receive() {
	for {
		event, err := s.stream.Recv()
		s.mu.Lock()
		if err != nil {
			s.ended, s.err = true, err
			s.wake()
			s.mu.Unlock()
			if !errors.Is(err, io.EOF) {
				s.c.inspect("the end of a session", err)
			}
			return
		}
		state := event.GetState()
		s.apply(event)
		withheld := s.withheld
		s.wake()
		s.mu.Unlock()
		if state != nil {
			s.examine(state)
			if !withheld {
				s.publish(state)
			}
		}
	}
}

func (s *session) wake() {
	close(s.changed)
	s.changed = make(chan struct{})
}

func (s *session) apply(event *backendv1.SyncLoadBalancersResponse) {
	switch e := event.GetEvent().(type) {
	case *backendv1.SyncLoadBalancersResponse_State:
		name := e.State.GetKey().GetName()
		if before := s.states[name]; before.GetOwnerUid() == e.State.GetOwnerUid() &&
			e.State.GetGeneration() < before.GetGeneration() {
			s.c.fail("the generation of a state of "+name, fmt.Sprintf("at least %d, as before",
				before.GetGeneration()), strconv.FormatInt(e.State.GetGeneration(), 10))
		}
		s.states[name] = e.State
		s.c.seen.reason(e.State.GetProblem().GetReason())
	case *backendv1.SyncLoadBalancersResponse_Action:
		s.actions = append(s.actions, e.Action)
	case *backendv1.SyncLoadBalancersResponse_Released:
		s.released[e.Released.GetKey().GetName()] = e.Released.GetOwnerUid()
	case *backendv1.SyncLoadBalancersResponse_Orphans:
		s.orphans = e.Orphans.GetOrphans()
	case *backendv1.SyncLoadBalancersResponse_FirewallOrphans:
		s.firewallOrphans = e.FirewallOrphans.GetRules()
	case *backendv1.SyncLoadBalancersResponse_Rebalance:
		s.rebalance = e.Rebalance
	case *backendv1.SyncLoadBalancersResponse_InSync:
		s.synced = true
	}
}

// examine holds what must be so in each state.
func (s *session) examine(state *backendv1.LoadBalancerState) {
	s.sending.Lock()
	sent := s.generation
	s.sending.Unlock()
	key := state.GetKey()
	if key.GetScope() != s.scope || key.GetName() == "" {
		s.c.fail("the key of a state", "one of the scope "+s.scope, key.String())
	}
	if state.GetGeneration() > sent {
		s.c.fail("the generation of a state of "+key.GetName(), fmt.Sprintf("one that was sent, at most %d",
			sent), strconv.FormatInt(state.GetGeneration(), 10))
	}
}

// await ends the case unless a condition becomes true of what was received, in time.
func (s *session) await(ctx context.Context, what string, condition func(*events) bool) {
	limit := time.NewTimer(s.c.options.Settle)
	defer limit.Stop()
	for {
		s.mu.Lock()
		met, ended, err, changed := condition(&s.events), s.ended, s.err, s.changed
		got := s.describe()
		s.mu.Unlock()
		if met {
			return
		}
		if ended {
			s.c.fatal(what, "an open session until then", describe(err))
		}
		select {
		case <-changed:
			continue
		case <-limit.C:
		case <-ctx.Done():
		}
		s.c.fatal(what, "within "+s.c.options.Settle.String(), got)
	}
}

// describe is what a session has received, in one line.
func (s *session) describe() string {
	var text strings.Builder
	fmt.Fprintf(&text, "in sync: %t, orphans: %d, released: %v", s.synced, len(s.orphans), s.released)
	for name, state := range s.states {
		fmt.Fprintf(&text, "; %s: %s", name, bounded(state.String()))
	}
	return text.String()
}

// awaitEnd ends the case unless the stream ends in time; it returns why.
func (s *session) awaitEnd(ctx context.Context, what string) error {
	var err error
	s.await(ctx, what, func(e *events) bool {
		err = e.err
		return e.ended
	})
	return err
}

// ready waits until a load balancer is as desired, and returns its state.
func (s *session) ready(ctx context.Context, name string) *backendv1.LoadBalancerState {
	var state *backendv1.LoadBalancerState
	s.await(ctx, name+" is ready", func(e *events) bool {
		state = e.states[name]
		return state.GetPhase() == backendv1.Phase_PHASE_READY
	})
	return state
}

// release has all load balancers released, and ends the session in order.
func (s *session) release(ctx context.Context) {
	s.sending.Lock()
	var names []string
	owners := make(map[string]string)
	for name, lb := range s.desired {
		if lb.GetEnding() == backendv1.Ending_ENDING_UNSPECIFIED {
			ending := clone(lb)
			ending.Ending = backendv1.Ending_ENDING_RELEASE
			s.wantLocked(ending)
		}
		names = append(names, name)
		owners[name] = lb.GetOwnerUid()
	}
	s.sending.Unlock()
	for _, name := range names {
		s.await(ctx, name+" is released", func(e *events) bool { return e.released[name] == owners[name] })
	}
	s.close(ctx)
}

// close closes the sending side, and expects the end with OK.
func (s *session) close(ctx context.Context) {
	s.sending.Lock()
	s.closed = true
	_ = s.stream.CloseSend()
	s.sending.Unlock()
	if err := s.awaitEnd(ctx, "the end of the session"); !errors.Is(err, io.EOF) {
		s.c.fail("the end of a session whose client has closed its side", "OK", describe(err))
	}
}

// abandon breaks the stream off, as a client that dies does.
func (s *session) abandon(ctx context.Context) {
	s.cancel()
	_ = s.awaitEnd(ctx, "the end of a cancelled session")
}

// clone copies a message. proto.CloneOf does it as well, and would force a newer protobuf on
// importers.
func clone[M proto.Message](message M) M { return proto.Clone(message).(M) }
