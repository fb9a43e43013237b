// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package oxidesim

import "sync"

// nexus is the control plane process: it can restart, which cuts off every request in
// flight and drops connections until it is back.
type nexus struct {
	mu         sync.Mutex
	generation chan struct{} // closed at the next restart
	down       bool
	armed      bool
}

// current is closed when the control plane that serves now is gone.
func (n *nexus) current() <-chan struct{} {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.generation
}

// takeArmed says, once, that the transition just begun is to be cut off.
func (n *nexus) takeArmed() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	armed := n.armed
	n.armed = false
	return armed
}

func (s *Simulator) nexusDown() bool {
	s.nexus.mu.Lock()
	defer s.nexus.mu.Unlock()
	return s.nexus.down
}

// RestartNexus restarts the control plane: requests that wait for something are cut off
// without an answer, and connections are dropped until it is back. What was being attached
// or detached stays so until saga recovery finishes it, or the same is asked for again; anything
// else asked of it is a 503.
func (s *Simulator) RestartNexus() {
	s.nexus.mu.Lock()
	close(s.nexus.generation)
	s.nexus.generation = make(chan struct{})
	s.nexus.down = true
	s.nexus.mu.Unlock()
	s.clock.after(s.timings.NexusRestart, func() {
		s.nexus.mu.Lock()
		s.nexus.down = false
		s.nexus.mu.Unlock()
	})
}

// RestartNexusDuringNextTransition restarts the control plane just after the next attach or
// detach has moved the hidden state, and before it can finish.
func (s *Simulator) RestartNexusDuringNextTransition() {
	s.nexus.mu.Lock()
	defer s.nexus.mu.Unlock()
	s.nexus.armed = true
}
