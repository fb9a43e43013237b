// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package oxidesim

import (
	"fmt"
	"net/http"
	"net/netip"
	"time"

	"github.com/google/uuid"
)

// sledState is what a sled is like, from the control plane's point of view.
type sledState string

const (
	sledReachable   sledState = "reachable"
	sledUnreachable sledState = "unreachable" // powered, but its agent does not answer
	sledPoweredOff  sledState = "powered_off"
	sledExpunged    sledState = "expunged"
)

// sled is a server of the rack.
type sled struct {
	id      uuid.UUID
	serial  string
	model   string
	addr    netip.Addr // of its agent, on the rack's own network
	state   sledState
	changed chan struct{} // closed at the next change of state
}

// vmm is a virtual machine; an instance has at most one. It stays linked to its instance for a
// moment after its end; until then the instance is stopping.
type vmm struct {
	id   uuid.UUID
	sled *sled
	end  vmmEnd
}

// vmmEnd is how a virtual machine has ended; empty while it has not.
type vmmEnd string

const (
	vmmFailed    vmmEnd = "failed"
	vmmDestroyed vmmEnd = "destroyed" // the end of an ordinary stop
)

func newSled(n int) *sled {
	return &sled{
		id: uuid.New(), serial: fmt.Sprintf("BRM%08d", 42220000+n), model: "913-0000019",
		addr:  netip.MustParseAddr(fmt.Sprintf("fd00:1122:3344:%x::1", 0x101+n)),
		state: sledReachable, changed: make(chan struct{}),
	}
}

func (sl *sled) become(state sledState) {
	sl.state = state
	close(sl.changed)
	sl.changed = make(chan struct{})
}

// place finds the sled for a new VMM: reachable, allowed by the instance's anti-affinity
// groups, and with the fewest instances.
func (s *Simulator) place(i *instance) (*sled, error) {
	load := map[*sled]int{}
	for _, other := range s.db.instances.rows {
		if other.vmm != nil {
			load[other.vmm.sled]++
		}
	}
	var best *sled
	for _, sl := range s.db.sleds {
		if sl.state != sledReachable || load[sl] >= maxPerSled || s.kept(i, sl) {
			continue
		}
		if best == nil || load[sl] < load[best] {
			best = sl
		}
	}
	if best == nil {
		return nil, insufficientCapacity("no sleds can fit the requested instance")
	}
	return best, nil
}

// maxPerSled is the room on a sled, in instances of whatever size.
const maxPerSled = 4096

// reach waits until a sled agent answers. It gives up with the error of the caller's choice
// after the time that the control plane allows, at once if the sled is expunged, and with
// errConnectionLost if Nexus restarts meanwhile (restart is closed then). The lock must not
// be held.
func (s *Simulator) reach(sl *sled, lost error, restart <-chan struct{}) error {
	deadline := time.NewTimer(s.clock.scaled(s.timings.SledTimeout))
	defer deadline.Stop()
	for {
		s.mu.RLock()
		state, changed := sl.state, sl.changed
		s.mu.RUnlock()
		switch state {
		case sledReachable:
			return nil
		case sledExpunged:
			return lost
		}
		select {
		case <-changed:
		case <-deadline.C:
			return lost
		case <-restart:
			return errConnectionLost
		case <-s.clock.closed:
			return errConnectionLost
		}
	}
}

// work waits for the scaled d, as a saga at work; it is cut off by a restart of Nexus.
func (s *Simulator) work(d time.Duration, restart <-chan struct{}) error {
	if !s.pause(s.clock.scaled(d), restart) {
		return errConnectionLost
	}
	return nil
}

// pause waits for d, unscaled, and says false if Nexus or the whole rack went away.
func (s *Simulator) pause(d time.Duration, restart <-chan struct{}) bool {
	select {
	case <-restart:
		return false
	default:
	}
	if d <= 0 {
		return true
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-restart:
		return false
	case <-s.clock.closed:
		return false
	}
}

// gatewayFor is what a stop or reboot answers when the sled does not: 502 when nothing is
// there to connect to, else 504.
func gatewayFor(state sledState) error {
	if state == sledPoweredOff || state == sledExpunged {
		return gateway(http.StatusBadGateway)
	}
	return gateway(http.StatusGatewayTimeout)
}

func newVMM(on *sled) *vmm { return &vmm{id: uuid.New(), sled: on} }
