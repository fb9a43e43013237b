// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package oxidesim

import (
	"errors"
	"slices"
	"time"

	"github.com/google/uuid"
)

// attachable is a floating or ephemeral IP or an external subnet: all follow the same state
// machine, detached, attaching, attached, detaching, driven by sagas inside the request.
type attachable interface {
	held() *attachment
	becomes(attachState, time.Time)
}

// attach ties a to i. The lock must be held for writing; it is released. The order of the
// checks is the rack's; room checks limits and families.
func (s *Simulator) attach(a attachable, i *instance, room func() error) error {
	h := a.held()
	owner := false
	switch {
	case h.instance == i.id && (h.state == attached || h.state == attaching):
		// Done already, or being done: only the runtime check below remains.
	case h.state == attached:
		s.mu.Unlock()
		return invalidRequest("cannot be attached to one instance while attached to another")
	case h.state != detached:
		s.mu.Unlock()
		return unavailable()
	default:
		err := i.settled()
		if err == nil {
			err = room()
		}
		if err != nil {
			s.mu.Unlock()
			return err
		}
		owner = true
		h.instance = i.id
		a.becomes(attaching, s.clock.now())
	}
	return s.push(a, i, owner, detached, attached)
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
	case h.state != attached:
		err = unavailable()
	default:
		err = i.settled()
	}
	if err != nil {
		s.mu.Unlock()
		return err
	}
	a.becomes(detaching, s.clock.now())
	begun()
	return s.push(a, i, true, attached, detached)
}

// push tells the sled and finishes, or unwinds to the state before. The lock must be held;
// it is released. Only the owner of the transition changes the state.
func (s *Simulator) push(a attachable, i *instance, owner bool, before, after attachState) error {
	on, err := i.addressable()
	restart := s.nexus.current()
	s.mu.Unlock()
	if owner && err == nil && s.nexus.takeArmed() {
		s.RestartNexus()
	}
	if err == nil {
		err = s.work(s.timings.Attach, restart)
	}
	if err == nil && on != nil {
		err = s.reach(on, unavailable(), restart)
	}
	if errors.Is(err, errConnectionLost) {
		if owner {
			s.recoverLater(a, i.id, after)
		}
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, alive := s.db.instances.rows[i.id]; !alive && err == nil {
		err = notFoundByID(s.db.instances.kind, i.id)
	}
	switch {
	case !owner || a.held().instance != i.id: // the instance's end has detached it
	case err != nil:
		a.becomes(before, s.clock.now())
	default:
		a.becomes(after, s.clock.now())
	}
	return err
}

// recoverLater takes up a transition that a restart of Nexus has cut off: until then it stays
// as it is, and everything asked of it is a 503.
func (s *Simulator) recoverLater(a attachable, instance uuid.UUID, after attachState) {
	s.clock.after(s.timings.SagaRecovery, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if a.held().instance == instance {
			a.becomes(after, s.clock.now())
		}
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
