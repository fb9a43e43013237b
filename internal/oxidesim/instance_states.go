// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package oxidesim

import (
	"time"
)

// enter moves an instance to a state and forgets whatever was to happen next.
func (s *Simulator) enter(i *instance, state runState) {
	i.state = state
	i.stateUpdated = s.clock.now()
	i.step++
	i.unwound = false
}

// later runs f under the lock after the scaled d, unless the instance has meanwhile left
// the state it is in now.
func (s *Simulator) later(i *instance, d time.Duration, f func()) {
	step := i.step
	s.clock.after(d, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if i.step == step {
			f()
		}
	})
}

// requestStart starts a stopped or failed instance; one that is on its way is left alone.
func (s *Simulator) requestStart(i *instance) error {
	switch i.state {
	case starting, running, rebooting, migrating:
		return nil
	case stopped, failed:
	default:
		return conflict("instance is in state %s and cannot be started now", i.state)
	}
	i.wantRunning = true
	i.modified = s.clock.now()
	return s.boot(i)
}

// boot places a new VMM. What fails here has been begun, so it is undone, which the API
// shows as the instance being failed.
func (s *Simulator) boot(i *instance) error {
	on, err := s.place(i)
	if err == nil && s.midTransition(i) {
		err = unavailable()
	}
	if err != nil {
		s.enter(i, failed)
		i.unwound = true
		return err
	}
	i.vmm = newVMM(on)
	s.enter(i, starting)
	s.later(i, s.timings.Start, func() { s.arrive(i) })
	return nil
}

// arrive makes a starting or rebooting instance run, once its sled can be heard to say so.
func (s *Simulator) arrive(i *instance) {
	if i.vmm.sled.state != sledReachable {
		s.later(i, s.timings.Watcher, func() { s.arrive(i) })
		return
	}
	s.enter(i, running)
}

// halt ends the VMM: stopping, destroyed but still linked, then the instance is stopped.
func (s *Simulator) halt(i *instance) {
	s.enter(i, stopping)
	s.later(i, s.timings.Stop, func() {
		i.vmm.end = vmmDestroyed
		s.later(i, s.timings.Unlink, func() {
			i.vmm = nil
			s.enter(i, stopped)
		})
	})
}

// fail is the loss of a VMM, which has failed at once; the instance is stopping, then failed, then
// perhaps started again.
func (s *Simulator) fail(i *instance) {
	if i.vmm == nil {
		return
	}
	s.enter(i, stopping)
	i.vmm.end = vmmFailed
	s.later(i, s.timings.Unlink, func() {
		i.vmm = nil
		s.enter(i, failed)
		s.scheduleRestart(i)
	})
}

// scheduleRestart plans the automatic start of a failed instance, not before its cooldown
// from the last one has passed.
func (s *Simulator) scheduleRestart(i *instance) {
	wait := s.timings.AutoRestart
	if i.lastAutoRestart != nil && s.clock.scale > 0 {
		since := s.clock.now().Sub(*i.lastAutoRestart)
		rest := s.timings.Cooldown - time.Duration(float64(since)/s.clock.scale)
		wait = max(wait, rest)
	}
	s.later(i, wait, func() {
		if !i.wantRunning || !i.restartEnabled() {
			return
		}
		now := s.clock.now()
		i.lastAutoRestart = &now
		if s.boot(i) != nil {
			s.scheduleRestart(i)
		}
	})
}

func (s *Simulator) instanceStart(c *call) (any, error) {
	i, err := findInProject(c, s.db.instances, "instance", roleLimited)
	if err != nil {
		return nil, err
	}
	if err := s.requestStart(i); err != nil {
		return nil, err
	}
	return s.instanceJSON(i), nil
}

// instanceStop asks the sled to stop the VMM. A failed instance has none: it is stopped at
// once, and will not be started automatically any more.
func (s *Simulator) instanceStop(c *call) (any, error) {
	return s.askSled(c, func(i *instance) (bool, error) {
		switch i.state {
		case creating:
			return false, invalidRequest("instance is still being created")
		case failed:
			s.enter(i, stopped)
		}
		i.wantRunning = false
		i.modified = s.clock.now()
		return i.vmm != nil && i.state != stopping, nil
	}, s.halt)
}

func (s *Simulator) instanceReboot(c *call) (any, error) {
	return s.askSled(c, func(i *instance) (bool, error) {
		if i.state != running && i.state != rebooting {
			return false, invalidRequest("instance in state %q cannot be rebooted", i.state)
		}
		return true, nil
	}, func(i *instance) {
		s.enter(i, rebooting)
		s.later(i, s.timings.Reboot, func() { s.arrive(i) })
	})
}

// askSled is what stop and reboot have in common: begin decides under the lock whether the
// sled must be asked; then the sled is reached; then, if the VMM is still there, act.
func (s *Simulator) askSled(
	c *call, begin func(*instance) (bool, error), act func(*instance),
) (any, error) {
	s.mu.Lock()
	i, err := findInProject(c, s.db.instances, "instance", roleLimited)
	ask := false
	if err == nil {
		ask, err = begin(i)
	}
	if err != nil || !ask {
		defer s.mu.Unlock()
		if err != nil {
			return nil, err
		}
		return s.instanceJSON(i), nil
	}
	vm := i.vmm
	lost := gatewayFor(vm.sled.state)
	restart := s.nexus.current()
	s.mu.Unlock()

	if err := s.reach(vm.sled, lost, restart); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, err := see(c, s.db.instances, i.id); err != nil {
		return nil, err
	}
	if i.vmm != vm {
		return nil, vmmVanished()
	}
	if i.state != stopping {
		act(i)
	}
	return s.instanceJSON(i), nil
}

// addressable is the runtime check of attaching and detaching: whether the sled must be
// told (and which), or why it cannot be done now.
func (i *instance) addressable() (*sled, error) {
	switch i.state {
	case stopped:
		return nil, nil
	case running, rebooting:
		return i.vmm.sled, nil
	case failed:
		if i.unwound {
			return nil, nil
		}
		return nil, invalidRequest("instance is failed")
	case creating:
		return nil, invalidRequest("instance is still being created")
	case stopping:
		return nil, i.vmm.end.refusal()
	default:
		return nil, unavailable()
	}
}

// refusal is why nothing can be attached to or detached from an instance that is stopping: its VMM
// has not ended yet, or how it has ended has no answer of its own.
func (e vmmEnd) refusal() error {
	switch e {
	case vmmFailed:
		return invalidRequest("instance has failed")
	case vmmDestroyed:
		return internal()
	default:
		return unavailable()
	}
}

// settled is the check before anything is changed: a migrating instance is busy, one that is
// being created or has failed cannot be attached to.
func (i *instance) settled() error {
	switch {
	case i.state == migrating:
		return unavailable()
	case i.state == creating || i.state == failed && !i.unwound:
		return invalidRequest("cannot attach to or detach from an instance in state %q", i.state)
	}
	return nil
}
