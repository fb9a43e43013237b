// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package instances

import (
	"context"
	"log/slog"
	"maps"
	"reflect"
	"slices"
	"sync"
	"time"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/oxide"
)

const (
	// watchInterval is how often instances are listed for those who watch, and
	// transitionInterval while an instance is on its way from one state to another.
	watchInterval      = 4 * time.Second
	transitionInterval = time.Second
	// watchedNetworksMaxAge is how old network facts get while no instance changes.
	watchedNetworksMaxAge = 5 * time.Minute
	// watchPatience is how long Oxide may be away before those who watch are told so by the end
	// of their stream.
	watchPatience = time.Minute
)

// Event is something that a watcher is told: exactly one field is set.
type Event struct {
	// Instance is new or changed.
	Instance *Instance
	// Complete is when the facts of the snapshot, which ends with this event, were read.
	Complete time.Time
	// NoLongerListed is the id of an instance that the list does not show any more.
	NoLongerListed string
}

// snapshot is what was last read for those who watch.
type snapshot struct {
	readAt    time.Time
	instances map[string]Instance
}

// hub reads for all who watch, while there are any.
type hub struct {
	inventory *Inventory

	mu       sync.Mutex
	watchers int
	stop     context.CancelFunc
	current  *snapshot
	err      error
	// changed is closed when current or err was replaced.
	changed chan struct{}
}

// Watch calls send for each instance of the project, once for the end of this snapshot, and then for
// each change, until the context or send ends it, or until Oxide has been away for a minute. A
// watcher that is slow misses intermediate states, never the last one, and delays nobody else.
// Ephemeral addresses appear once they are known. Lag is called with the age of the facts whenever
// all of them were sent.
func (i *Inventory) Watch(
	ctx context.Context, send func(Event) error, lag func(time.Duration),
) error {
	i.hub.join(ctx)
	defer i.hub.leave()
	var sent map[string]Instance
	for {
		current, changed, err := i.hub.state()
		if err != nil {
			return err
		}
		if current != nil {
			if err := sendChanges(sent, current, send); err != nil {
				return err
			}
			sent = current.instances
			lag(time.Since(current.readAt))
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changed:
		}
	}
}

// sendChanges sends what differs between what a watcher knows and the facts; a watcher that knows
// nothing yet gets the end of the snapshot, too.
func sendChanges(sent map[string]Instance, current *snapshot, send func(Event) error) error {
	for _, id := range slices.Sorted(maps.Keys(current.instances)) {
		now := current.instances[id]
		if before, known := sent[id]; known && reflect.DeepEqual(before, now) {
			continue
		}
		if err := send(Event{Instance: &now}); err != nil {
			return err
		}
	}
	if sent == nil {
		return send(Event{Complete: current.readAt})
	}
	for _, id := range slices.Sorted(maps.Keys(sent)) {
		if _, listed := current.instances[id]; !listed {
			if err := send(Event{NoLongerListed: id}); err != nil {
				return err
			}
		}
	}
	return nil
}

// join begins reading with the first watcher.
func (h *hub) join(ctx context.Context) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.watchers++; h.watchers > 1 {
		return
	}
	loopCtx, stop := context.WithCancel(context.WithoutCancel(ctx))
	h.stop, h.current, h.err, h.changed = stop, nil, nil, make(chan struct{})
	go h.loop(loopCtx, h.changed)
}

// leave ends reading with the last one.
func (h *hub) leave() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.watchers--; h.watchers == 0 {
		h.stop()
	}
}

func (h *hub) state() (*snapshot, <-chan struct{}, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.current, h.changed, h.err
}

// publish replaces the state, unless another loop has taken over meanwhile.
func (h *hub) publish(own chan struct{}, s *snapshot, err error) (next chan struct{}) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.changed != own {
		return own
	}
	h.current, h.err, h.changed = s, err, make(chan struct{})
	close(own)
	return h.changed
}

func (h *hub) loop(ctx context.Context, own chan struct{}) {
	var last *snapshot
	lastGood := time.Now()
	for ctx.Err() == nil {
		next, err := h.inventory.look(ctx, last)
		switch {
		case ctx.Err() != nil:
			return
		case err == nil:
			lastGood = time.Now()
			if last == nil || !reflect.DeepEqual(last.instances, next.instances) {
				own = h.publish(own, next, nil)
			}
			last = next
		case time.Since(lastGood) > watchPatience:
			own = h.publish(own, nil, err)
			return
		default:
			slog.WarnContext(ctx, "could not look at the instances for those who watch",
				"error", err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(last.interval()):
		}
	}
}

// interval is how long to wait before the next look.
func (s *snapshot) interval() time.Duration {
	if s == nil {
		return watchInterval
	}
	for _, instance := range s.instances {
		switch instance.RunState {
		case oxide.RunStateCreating, oxide.RunStateStarting, oxide.RunStateStopping,
			oxide.RunStateRebooting, oxide.RunStateMigrating, oxide.RunStateRepairing:
			return transitionInterval
		}
	}
	return watchInterval
}

// look lists the instances. Network facts are read anew only if an instance has changed, or now and
// then.
func (i *Inventory) look(ctx context.Context, last *snapshot) (*snapshot, error) {
	listed, err := i.listings.after(ctx)
	if err != nil {
		return nil, err
	}
	var n *networks
	if last != nil && last.misses(listed.facts) {
		n, err = factsOf(i.networks.after(ctx))
	} else {
		n, err = factsOf(i.networks.within(ctx, watchedNetworksMaxAge))
	}
	if err != nil {
		return nil, err
	}
	s := &snapshot{
		readAt: listed.began, instances: make(map[string]Instance, len(listed.facts.byID)),
	}
	for id, base := range listed.facts.byID {
		i.mu.Lock()
		known := i.ephemerals[id].ips
		i.mu.Unlock()
		instance, err := i.assemble(listed.facts.identity, base, n, known)
		if err != nil {
			// Told once; the run state is still worth watching.
			instance = Instance{Instance: base, SiloID: listed.facts.identity.SiloID}
		}
		s.instances[id] = instance
	}
	return s, nil
}

// misses reports whether the list shows an instance that is new or has changed.
func (s *snapshot) misses(l *listing) bool {
	for id, now := range l.byID {
		if before, known := s.instances[id]; !known || before.Instance != now {
			return true
		}
	}
	return false
}
