// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package session

import (
	"context"
	"io"
	"slices"
	"sync"
	"time"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/ownership"
)

const (
	// maxInbox is how many items may wait for the loop; whoever sends more waits.
	maxInbox = 1024
	// maxActions is how many actions are kept for a reader that is slow.
	maxActions = 1000
)

// Session is one session as its client sees it. Its methods may be called from any goroutine.
type Session struct {
	manager *Manager
	opening Opening

	// items are what the client sent and the loop has not taken yet.
	items chan Item
	// woken has a token when there is something for the loop to do.
	woken chan struct{}
	// ended is closed when the session is over for its client; stopped once its loop has returned.
	ended, stopped chan struct{}

	mu sync.Mutex
	// closing: the client sends nothing further.
	closing bool
	// err is why the session is over, at is since when.
	err error
	at  time.Time
	// gone: the loop has returned.
	gone bool
	// outcomes, questions and what was observed wait for the loop.
	outcomes  []outcome
	questions []question
	observed  []func(*loop)
	out       outbox
}

// question is something that a call asks of the loop.
type question struct {
	// ctx is that of the call: once it has ended nobody waits for the answer.
	ctx    context.Context //nolint:containedctx // it says whether somebody waits
	answer func(*loop)
}

// outbox has what the client has not read yet, in order.
type outbox struct {
	// ready has a token when there is something to read.
	ready chan struct{}
	queue []*entry
	// Of these only the latest is kept: the state of each load balancer, the orphans, the rebalance.
	states                              map[ownership.Key]*entry
	orphans, firewallOrphans, rebalance *entry
	// released are the ends that are queued.
	released map[Removal]*entry
	// void is how many places in the queue have nothing to be read any more.
	void int
	// actions is how many are queued, dropped how many were lost.
	actions int
	dropped int64
	// finished: after all this the stream ends with OK.
	finished bool
}

// entry is a place in the outbox.
type entry struct {
	event Event
	// void: the client has removed what this was about.
	void bool
}

func newSession(m *Manager, opening Opening) *Session {
	return &Session{
		manager: m, opening: opening,
		items: make(chan Item, maxInbox), woken: make(chan struct{}, 1),
		ended: make(chan struct{}), stopped: make(chan struct{}),
		out: outbox{
			ready: make(chan struct{}, 1), states: make(map[ownership.Key]*entry),
			released: make(map[Removal]*entry),
		},
	}
}

func (s *Session) start() {
	ctx, cancel := context.WithCancel(s.manager.ctx)
	go func() {
		defer close(s.stopped)
		defer s.manager.remove(s)
		defer cancel()
		newLoop(s).run(ctx)
		s.leave()
	}()
	go func() {
		<-s.ended
		cancel()
	}()
}

// Send hands an item to the session. It waits while many others wait. It fails once the session has
// ended.
func (s *Session) Send(ctx context.Context, item Item) error {
	select {
	case <-s.ended:
		return s.reason()
	default:
	}
	select {
	case s.items <- item:
		s.wake()
		return nil
	case <-s.ended:
		return s.reason()
	case <-ctx.Done():
		return ctx.Err()
	}
}

// CloseSend says that nothing further will change: the session finishes what can be finished, and
// ends.
func (s *Session) CloseSend() {
	s.mu.Lock()
	s.closing = true
	s.mu.Unlock()
	s.wake()
}

// Next returns what is to be sent next. It fails with io.EOF when a session is finished after
// CloseSend, and with the reason when it was ended.
func (s *Session) Next(ctx context.Context) (Event, error) {
	for {
		s.mu.Lock()
		event, ok := s.out.next()
		finished := s.out.finished
		s.mu.Unlock()
		switch {
		case ok:
			return event, nil
		case finished:
			return Event{}, io.EOF
		}
		select {
		case <-s.out.ready:
		case <-s.ended:
			return Event{}, s.reason()
		case <-ctx.Done():
			return Event{}, ctx.Err()
		}
	}
}

// Close ends the session: no further change begins. It returns when the session has
// released everything.
func (s *Session) Close() {
	s.end(context.Canceled)
	<-s.stopped
}

// end ends the session, for the first reason that is given.
func (s *Session) end(reason error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == nil {
		s.err, s.at = reason, time.Now()
		close(s.ended)
	}
}

func (s *Session) reason() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// endedAt returns when the session was ended; zero: it was not.
func (s *Session) endedAt() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.at
}

func (s *Session) wake() {
	select {
	case s.woken <- struct{}{}:
	default:
	}
}

// deliver hands the loop what came of a request. It returns false if there is no loop any more.
func (s *Session) deliver(o outcome) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.gone {
		return false
	}
	s.outcomes = append(s.outcomes, o)
	s.wake()
	return true
}

// leave frees what the loop has not taken over, once it has returned.
func (s *Session) leave() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.gone = true
	for _, o := range s.outcomes {
		s.manager.operations.done(o.op)
	}
}

// observe makes the loop run a function that takes over what was read.
func (s *Session) observe(apply func(*loop)) {
	s.mu.Lock()
	s.observed = append(s.observed, apply)
	s.mu.Unlock()
	s.wake()
}

// ask runs a function in the loop, and waits for it. It fails if the session ends first.
func (s *Session) ask(ctx context.Context, answer func(*loop)) error {
	done := make(chan struct{})
	s.mu.Lock()
	s.questions = append(s.questions, question{ctx, func(l *loop) {
		answer(l)
		close(done)
	}})
	s.mu.Unlock()
	s.wake()
	select {
	case <-done:
		return nil
	case <-s.stopped:
		return errSessionRequired(s.opening.Scope)
	case <-ctx.Done():
		return ctx.Err()
	}
}

func errSessionRequired(scope string) error {
	return failf(ReasonSessionRequired, nil, "there is no acting session of the scope %s in sync with "+
		"this backend: ask the backend that has it, as its GetInfo shows", scope)
}

// next takes the next event out.
func (o *outbox) next() (Event, bool) {
	for len(o.queue) > 0 {
		first := o.queue[0]
		o.queue[0], o.queue = nil, o.queue[1:]
		if first.void {
			o.void--
			continue
		}
		switch event := first.event; {
		case event.State != nil:
			delete(o.states, event.State.Key)
		case event.Released != nil:
			delete(o.released, *event.Released)
		case event.Orphans != nil:
			o.orphans = nil
		case event.FirewallOrphans != nil:
			o.firewallOrphans = nil
		case event.Rebalance != nil:
			o.rebalance = nil
		case event.Action != nil:
			o.actions--
		}
		return first.event, true
	}
	return Event{}, false
}

// put puts an event in. Of the states of one load balancer, of the orphans and of the rebalance only
// the latest is kept; of actions the last ones.
func (o *outbox) put(event Event) {
	e := &entry{event: event}
	switch {
	case event.State != nil:
		if queued := o.states[event.State.Key]; queued != nil {
			queued.event = event
			return
		}
		o.states[event.State.Key] = e
	case event.Orphans != nil:
		if o.orphans != nil {
			o.orphans.event = event
			return
		}
		o.orphans = e
	case event.FirewallOrphans != nil:
		if o.firewallOrphans != nil {
			o.firewallOrphans.event = event
			return
		}
		o.firewallOrphans = e
	case event.Rebalance != nil:
		if o.rebalance != nil {
			o.rebalance.event = event
			return
		}
		o.rebalance = e
	case event.Released != nil:
		o.released[*event.Released] = e
	case event.Action != nil:
		if o.actions++; o.actions > maxActions {
			o.dropAction()
		}
	}
	o.queue = append(o.queue, e)
}

// forget drops what is queued of a load balancer that the client has removed. Otherwise a client
// that never reads could make the queue grow without end.
func (o *outbox) forget(removed Removal) {
	state, released := o.states[removed.Key], o.released[removed]
	delete(o.states, removed.Key)
	delete(o.released, removed)
	for _, e := range []*entry{state, released} {
		if e != nil {
			e.event, e.void = Event{}, true
			o.void++
		}
	}
	if o.void > len(o.queue)/2 {
		o.queue = slices.DeleteFunc(o.queue, func(e *entry) bool { return e.void })
		o.void = 0
	}
}

// dropAction loses the oldest action, and counts it in one event.
func (o *outbox) dropAction() {
	o.actions--
	o.dropped++
	o.queue = slices.DeleteFunc(o.queue, func(e *entry) bool { return e.event.ActionsDropped > 0 })
	oldest := slices.IndexFunc(o.queue, func(e *entry) bool { return e.event.Action != nil })
	o.queue[oldest] = &entry{event: Event{ActionsDropped: o.dropped}}
}

// send hands an event to the client.
func (s *Session) send(event Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.out.put(event)
	select {
	case s.out.ready <- struct{}{}:
	default:
	}
}

// forget drops what is queued of a load balancer that the client has removed.
func (s *Session) forget(removed Removal) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.out.forget(removed)
}

// finish ends the session with OK once everything was read.
func (s *Session) finish() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.out.finished = true
	select {
	case s.out.ready <- struct{}{}:
	default:
	}
}
