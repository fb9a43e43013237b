// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package instances

import (
	"context"
	"maps"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/oxide"
)

const (
	// nobodyMaxAge is how long a reported id that no instance has is not read again: an instance that
	// is created later is in the list.
	nobodyMaxAge = 10 * time.Minute
	// reportedPerMinute and reportedAtOnce bound the direct reads of reported ids, whoever reports them.
	reportedPerMinute, reportedAtOnce = 12, 20
	// maxReported bounds how many reported ids are remembered.
	maxReported = 4096
)

// reportedIDs remembers what direct reads of the ids found that machines report and the list does not
// show.
type reportedIDs struct {
	mu    sync.Mutex
	known map[string]reportedID
	reads *rate.Limiter
}

type reportedID struct {
	// instance is the one that has the id; nil: there is none.
	instance *oxide.Instance
	readAt   time.Time
}

func newReportedIDs() *reportedIDs {
	return &reportedIDs{
		known: make(map[string]reportedID),
		reads: rate.NewLimiter(rate.Every(time.Minute/reportedPerMinute), reportedAtOnce),
	}
}

// withReported returns the listing with the instance that a machine reports to be, which is read
// directly if the list does not show it: a list may miss some. It is the listing itself if there is
// none, or if that was not read because too many were.
func (i *Inventory) withReported(ctx context.Context, l *listing, m Machine) (*listing, error) {
	reported := idsOf(m.SystemUUID)
	if _, listed := l.bySystemUUID(reported); listed {
		return l, nil
	}
	for _, id := range reported {
		instance, err := i.readReported(ctx, id)
		switch {
		case err != nil:
			return nil, err
		case instance != nil && instance.ProjectID == l.identity.ProjectID:
			with := *l
			with.byID = maps.Clone(l.byID)
			with.byID[id] = *instance
			return &with, nil
		}
	}
	return l, nil
}

// readReported reads the instance with an id directly, unless that was done a while ago, or too often;
// nil: there is none, or it was not read.
func (i *Inventory) readReported(ctx context.Context, id string) (*oxide.Instance, error) {
	r := i.reported
	now := time.Now()
	r.mu.Lock()
	known, ok := r.known[id]
	maxAge := nobodyMaxAge
	if known.instance != nil {
		maxAge = listingMaxAge
	}
	fresh := ok && now.Sub(known.readAt) < maxAge
	// One that exists may be read again: such are few.
	allowed := fresh || known.instance != nil || r.reads.AllowN(now, 1)
	r.mu.Unlock()
	if fresh || !allowed {
		return known.instance, nil
	}
	found, err := i.api.InstanceByID(ctx, id)
	read := reportedID{readAt: now}
	switch {
	case err == nil:
		read.instance = &found
	case !oxide.IsKind(err, oxide.KindNotFound):
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.known) >= maxReported {
		maps.DeleteFunc(r.known, func(_ string, old reportedID) bool {
			return now.Sub(old.readAt) >= nobodyMaxAge
		})
	}
	if len(r.known) < maxReported {
		r.known[id] = read
	}
	return read.instance, nil
}
