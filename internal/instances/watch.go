// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package instances

import (
	"cmp"
	"context"
	"log/slog"
	"maps"
	"reflect"
	"slices"
	"sync"
	"time"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/coalesce"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/oxide"
)

const (
	// watchInterval is how often instances are listed for those who watch, and transitionInterval
	// while an instance is on its way from one state to another. After a look that failed the next one
	// comes as soon, too, and then after twice as long each time: whoever begins to watch waits for
	// the first that succeeds, and an instance may have stopped since the last one. Once lists have
	// failed for so long that the feed has ended, they are tried every downInterval.
	watchInterval      = 4 * time.Second
	transitionInterval = time.Second
	downInterval       = 30 * time.Second
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

// hub has one feed for all who watch, while there are any.
type hub struct {
	inventory *Inventory

	mu   sync.Mutex
	feed *feed
	// down: the last feed was ended by lists that failed, and none has succeeded since.
	down bool
	// refreshedAt is when the loop was last asked to list at once, refreshing whether it will be again.
	refreshedAt time.Time
	refreshing  bool
}

// feed is what one loop publishes. The hub's lock guards it.
type feed struct {
	watchers int
	// wantRacks is how many of them want racks.
	wantRacks int
	stop      context.CancelFunc
	current   *snapshot
	// err ends the feed.
	err error
	// changed is closed when there is something to send.
	changed chan struct{}
	// refresh has a token when the loop is to list at once.
	refresh chan struct{}
}

// Watch calls send for each instance of the project, once for the end of this snapshot, and then
// for each change, until the context or send ends it, or until Oxide has been away for a minute. A
// watcher that is slow misses intermediate states, never the last one, and delays nobody else.
// Ephemeral addresses appear once they are known (Instance.EphemeralKnown), and so do racks, if
// this watcher or another one wants them. Lag is called with the age of the facts whenever all of
// them were sent.
func (i *Inventory) Watch(
	ctx context.Context, racks bool, send func(Event) error, lag func(time.Duration),
) error {
	joined := i.hub.join(ctx, racks)
	defer i.hub.leave(joined, racks)
	var sent map[string]Instance
	for {
		current, changed, err := i.hub.state(joined)
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
			return &oxide.Error{
				Operation: "watch the instances", Kind: oxide.KindEnded, Err: ctx.Err(),
			}
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

// join begins a feed with its first watcher.
func (h *hub) join(ctx context.Context, racks bool) *feed {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.feed == nil {
		loopCtx, stop := context.WithCancel(context.WithoutCancel(ctx))
		h.feed = &feed{stop: stop, changed: make(chan struct{}), refresh: make(chan struct{}, 1)}
		go h.loop(loopCtx, h.feed)
	}
	h.feed.watchers++
	if racks {
		h.feed.wantRacks++
	}
	return h.feed
}

// leave ends a feed with its last watcher.
func (h *hub) leave(f *feed, racks bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if racks {
		f.wantRacks--
	}
	if f.watchers--; f.watchers > 0 {
		return
	}
	f.stop()
	if h.feed == f {
		h.feed = nil
	}
}

func (h *hub) racksWanted(f *feed) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return f.wantRacks > 0
}

func (h *hub) state(f *feed) (*snapshot, <-chan struct{}, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return f.current, f.changed, f.err
}

// publish replaces the facts, and tells the watchers if there is something new.
func (h *hub) publish(f *feed, s *snapshot) {
	h.mu.Lock()
	defer h.mu.Unlock()
	news := f.current == nil || !reflect.DeepEqual(f.current.instances, s.instances)
	f.current, h.down = s, false
	if news {
		close(f.changed)
		f.changed = make(chan struct{})
	}
}

// end ends a feed with an error for its watchers. Whoever comes next begins another one.
func (h *hub) end(f *feed, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	f.err, h.down = err, true
	close(f.changed)
	if h.feed == f {
		h.feed = nil
	}
}

func (h *hub) loop(ctx context.Context, f *feed) {
	var last *snapshot
	var failed error
	retry := transitionInterval
	lastGood := time.Now()
	for ctx.Err() == nil {
		next, err := h.inventory.lookUntil(ctx, last, lastGood.Add(watchPatience))
		if err == nil && h.racksWanted(f) {
			h.inventory.addRacks(ctx, next.instances)
		}
		switch {
		case ctx.Err() != nil:
			return
		case err == nil:
			if failed != nil {
				slog.InfoContext(ctx, "instances are watched again")
			}
			last, failed, retry, lastGood = next, nil, transitionInterval, next.readAt
			h.publish(f, next)
		case time.Since(lastGood) >= watchPatience:
			if oxide.IsKind(err, oxide.KindEnded) {
				err = cmp.Or(failed, errNoAnswer)
			}
			h.end(f, err)
			return
		case failed == nil:
			failed = err
			slog.WarnContext(ctx, "cannot look at the instances for those who watch",
				"error", err)
		}
		pause := last.interval()
		if failed != nil {
			pause = min(pause, retry)
			retry = 2 * pause
			if h.isDown() {
				pause = downInterval
			}
		}
		select {
		case <-ctx.Done():
		case <-f.refresh:
		case <-time.After(pause):
		}
	}
}

func (h *hub) isDown() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.down
}

// Refresh has the instances listed again at once for those who watch, once a second at most.
func (i *Inventory) Refresh() {
	h := &i.hub
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.feed == nil || h.refreshing {
		return
	}
	if wait := transitionInterval - time.Since(h.refreshedAt); wait > 0 {
		h.refreshing = true
		time.AfterFunc(wait, func() {
			h.mu.Lock()
			h.refreshing = false
			h.mu.Unlock()
			i.Refresh()
		})
		return
	}
	h.refreshedAt = time.Now()
	select {
	case h.feed.refresh <- struct{}{}:
	default:
	}
}

// errNoAnswer ends a feed when Oxide has not even refused.
var errNoAnswer error = &oxide.Error{
	Operation: "list the instances", Kind: oxide.KindUnavailable, Detail: "no answer for a minute",
}

// lookUntil looks, and gives up at the deadline.
func (i *Inventory) lookUntil(
	ctx context.Context, last *snapshot, deadline time.Time,
) (*snapshot, error) {
	ctx, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	return i.look(ctx, last)
}

// interval is how long to wait before the next look.
func (s *snapshot) interval() time.Duration {
	if s == nil {
		return watchInterval
	}
	for _, instance := range s.instances {
		switch instance.RunState {
		case oxide.RunStateCreating, oxide.RunStateStarting, oxide.RunStateStopping,
			oxide.RunStateRebooting, oxide.RunStateMigrating, oxide.RunStateRepairing,
			oxide.RunStateDestroyed: // which some racks show for a moment while an instance stops
			return transitionInterval
		}
	}
	return watchInterval
}

// look lists the instances. Network facts are read anew only if an instance has changed, or now and
// then.
func (i *Inventory) look(ctx context.Context, last *snapshot) (*snapshot, error) {
	listed, err := i.listings.After(ctx)
	if err != nil {
		return nil, err
	}
	var n *networks
	if last != nil && last.misses(listed.Facts) {
		n, err = coalesce.Facts(i.networks.After(ctx))
	} else {
		n, err = coalesce.Facts(i.networks.Within(ctx, watchedNetworksMaxAge))
	}
	if err != nil {
		return nil, err
	}
	s := &snapshot{
		readAt: listed.Began, instances: make(map[string]Instance, len(listed.Facts.byID)),
	}
	for id, base := range listed.Facts.byID {
		ephemerals, known := i.knownEphemerals(id)
		instance, err := i.assemble(listed.Facts.identity, base, n, ephemerals)
		instance.EphemeralKnown = known
		if err != nil {
			// It was logged once; the run state is still worth watching.
			instance = bare(listed.Facts.identity, base)
		}
		i.addGroups(ctx, &instance)
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
