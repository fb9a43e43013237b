// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package oxidesim

import (
	"errors"
	"slices"
	"time"
)

// attachable is a floating or ephemeral IP or an external subnet: all follow the same state
// machine, detached, attaching, attached, detaching, driven by sagas inside the request.
type attachable interface {
	held() *attachment
	becomes(attachState, time.Time)
}

// transition is the saga of an attach or of a detach. The same one, begun again while it is under
// way or after it was cut off, joins it: the first to finish moves the state.
type transition struct {
	of            attachable
	with          *instance
	from, via, to attachState
}

func (t transition) underWay() bool {
	h := t.of.held()
	return h.instance == t.with.id && h.state == t.via
}

// finish moves the state on, or back if the work has failed, unless somebody else has.
func (t transition) finish(err error, now time.Time) {
	switch {
	case !t.underWay():
	case err != nil:
		t.of.becomes(t.from, now)
	default:
		t.of.becomes(t.to, now)
	}
}

// attach ties a to i. The lock must be held for writing; it is released. The order of the
// checks is the rack's; room checks limits and families.
func (s *Simulator) attach(a attachable, i *instance, room func() error) error {
	h := a.held()
	var err error
	switch {
	case h.instance == i.id && (h.state == attached || h.state == attaching):
		// Done already, or taken up where it is.
	case h.state == attached:
		err = invalidRequest("cannot be attached to one instance while attached to another")
	case h.state != detached:
		err = unavailable()
	default:
		if err = i.settled(); err == nil {
			err = room()
		}
		if err == nil {
			h.instance = i.id
			a.becomes(attaching, s.clock.now())
		}
	}
	if err != nil {
		s.mu.Unlock()
		return err
	}
	return s.push(transition{a, i, detached, attaching, attached})
}

// detach unties a, which is not detached. The lock must be held for writing; it is released.
// Begun is called when the state has moved to detaching.
func (s *Simulator) detach(a attachable, begun func()) error {
	h := a.held()
	i, ok := s.db.instances.rows[h.instance]
	var err error
	switch {
	case !ok: // the instance is being deleted at this moment
		err = notFoundByID(s.db.instances.kind, h.instance)
	case h.state == attaching:
		err = unavailable()
	case h.state == attached:
		if err = i.settled(); err == nil {
			a.becomes(detaching, s.clock.now())
		}
	}
	if err != nil {
		s.mu.Unlock()
		return err
	}
	begun()
	return s.push(transition{a, i, attached, detaching, detached})
}

// push is the work of a transition: it asks the sled and finishes, or unwinds to the state before.
// What is attached already is only asked about. The lock must be held; it is released.
func (s *Simulator) push(t transition) error {
	on, err := t.with.addressable()
	moves := t.underWay()
	restart := s.nexus.current()
	s.mu.Unlock()
	if moves && err == nil && s.nexus.takeArmed() {
		s.RestartNexus()
	}
	if err == nil {
		err = s.work(s.timings.Attach, restart)
	}
	if err == nil && on != nil {
		err = s.reach(on, unavailable(), restart)
	}
	if errors.Is(err, errConnectionLost) {
		if moves {
			s.recoverLater(t)
		}
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, alive := s.db.instances.rows[t.with.id]; !alive && err == nil {
		err = notFoundByID(s.db.instances.kind, t.with.id)
	}
	t.finish(err, s.clock.now())
	return err
}

// recoverLater takes up a transition that a restart of Nexus has cut off, with all its work. Until
// then it stays as it is, unless the same is asked for again.
func (s *Simulator) recoverLater(t transition) {
	s.clock.after(s.timings.SagaRecovery, func() {
		s.mu.Lock()
		if !t.underWay() {
			s.mu.Unlock()
			return
		}
		_ = s.push(t) // unlocks; how it ends shows in the state
	})
}

// midTransition says that something of an instance is just being attached or detached; a
// start then fails.
func (s *Simulator) midTransition(i *instance) bool {
	for _, f := range s.db.floatingIPs.in(i.project) {
		if f.instance == i.id && f.state != attached {
			return true
		}
	}
	for _, e := range s.externalSubnetsOf(i) {
		if e.state != attached {
			return true
		}
	}
	return slices.ContainsFunc(i.ephemeral, func(e *ephemeralIP) bool {
		return e.state != attached
	})
}
