// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package instances

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/coalesce"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/oxide"
)

const (
	// groupsMaxAge bounds the age of anti-affinity groups.
	groupsMaxAge = 5 * time.Minute
	// racksMaxAge bounds the age of racks, and newRacksMaxAge while a running instance is without
	// one: the metrics show an instance half a minute after its start.
	racksMaxAge    = 10 * time.Minute
	newRacksMaxAge = time.Minute
	// extraPatience is how long a caller waits for facts that it can do without, and extraRetry how
	// long nobody asks for them again after they could not be read.
	extraPatience = 3 * time.Second
	extraRetry    = time.Minute
)

// extra are facts that only tell more about instances. A caller gets those that were last read, or
// none, if Oxide does not give them: nothing fails for the lack of them.
type extra[T any] struct {
	coalesce.Reader[T]

	mu       sync.Mutex
	failedAt time.Time
	failing  bool
}

// get returns facts that are at most of this age, unless they cannot be read; and whether there are
// any at all, because none is not the same as nothing.
func (e *extra[T]) get(ctx context.Context, maxAge time.Duration) (T, bool) {
	last := e.Latest()
	fresh := last != nil && time.Since(last.Began) <= maxAge
	if !fresh && e.due() {
		waitCtx, cancel := context.WithTimeout(ctx, extraPatience)
		defer cancel()
		read, err := e.Within(waitCtx, maxAge)
		if ctx.Err() == nil {
			e.tell(ctx, err)
		}
		if err == nil {
			return read.Facts, true
		}
		last = e.Latest()
	}
	if last == nil {
		var none T
		return none, false
	}
	return last.Facts, true
}

func (e *extra[T]) due() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return !e.failing || time.Since(e.failedAt) >= extraRetry
}

// tell notes how a reading went, and logs what changed.
func (e *extra[T]) tell(ctx context.Context, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	before := e.failing
	e.failing = err != nil
	if err == nil {
		return
	}
	e.failedAt = time.Now()
	if !before {
		slog.WarnContext(ctx, "could not "+e.Doing+"; what is known of them stays", "error", err)
	}
}

// readGroups reads the anti-affinity groups of all instances: one list of the groups, and one of the
// members for each. Oxide answers 404 for a group that was deleted in between: then all is read
// again, once.
func (i *Inventory) readGroups(ctx context.Context) (map[string][]string, error) {
	groups, err := i.readGroupsOnce(ctx)
	if oxide.IsKind(err, oxide.KindNotFound) {
		return i.readGroupsOnce(ctx)
	}
	return groups, err
}

// readGroupsOnce returns the names of groups by instance, sorted.
func (i *Inventory) readGroupsOnce(ctx context.Context) (map[string][]string, error) {
	groups, err := i.api.AntiAffinityGroups(ctx)
	if err != nil {
		return nil, err
	}
	members := make([][]string, len(groups))
	reads, readCtx := errgroup.WithContext(ctx)
	reads.SetLimit(concurrentReads)
	for n, group := range groups {
		reads.Go(func() (err error) {
			members[n], err = i.api.AntiAffinityGroupMembers(readCtx, group.ID)
			return err
		})
	}
	if err := reads.Wait(); err != nil {
		return nil, err
	}
	byInstance := make(map[string][]string)
	for n, group := range groups {
		for _, id := range members[n] {
			byInstance[id] = append(byInstance[id], group.Name)
		}
	}
	for names := range maps.Values(byInstance) {
		slices.Sort(names)
	}
	return byInstance, nil
}

// addGroups tells an instance its anti-affinity groups, as far as they are known.
func (i *Inventory) addGroups(ctx context.Context, to *Instance) {
	if groups, known := i.groups.get(ctx, groupsMaxAge); known {
		to.AntiAffinityGroups, to.AntiAffinityGroupsKnown = groups[to.ID], true
	}
}

// Rack returns the id of the rack that an instance runs on, empty if that is not known.
func (i *Inventory) Rack(ctx context.Context, id string) string {
	racks, known := i.racks.get(ctx, racksMaxAge)
	if known && racks[id] == "" {
		racks, _ = i.racks.get(ctx, newRacksMaxAge)
	}
	return racks[id]
}

// addRacks tells instances their racks, as far as they are known.
func (i *Inventory) addRacks(ctx context.Context, instances map[string]Instance) {
	racks, known := i.racks.get(ctx, racksMaxAge)
	for id, instance := range instances {
		if known && racks[id] == "" && instance.RunState == oxide.RunStateRunning {
			racks, _ = i.racks.get(ctx, newRacksMaxAge)
			break
		}
	}
	for id, instance := range instances {
		instance.RackID = racks[id]
		instances[id] = instance
	}
}
