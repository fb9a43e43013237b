// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package session

import (
	"context"
	"log/slog"
	"maps"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/ownership"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/plan"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/oxide"
)

const (
	// maxVanished bounds the addresses that are read one by one because a list does not show them:
	// a list may miss some, and an empty one may be an error of what is between Oxide and us. The
	// others stay what they were until the next list.
	maxVanished = 256
	// concurrentViews bounds the reads of single addresses.
	concurrentViews = 8
)

// addressList has the addresses of one kind of the project, for all sessions. Own changes are written
// through.
type addressList struct {
	resources
	kind    ownership.Kind
	timings timings
	// changed is called, without the lock, when something was read or changed.
	changed func()

	// taking serializes the lists that are taken over.
	taking sync.Mutex

	mu sync.Mutex
	// known is what was last read or changed, by id.
	known map[string]knownAddress
	// deleted are those that were deleted here, until a list that began later does not show
	// them.
	deleted map[string]time.Time
	// listedAt is when the last list that succeeded began; zero: there is none yet.
	listedAt time.Time
	// version grows with every change of known.
	version uint64
	// failure is that of the last list; the zero value: it succeeded.
	failure backoff
	// wantedAt is the latest time after which somebody wants a list to begin; reading: one is under
	// way.
	wantedAt time.Time
	reading  bool
	// viewing are those that are being read one by one, unread those where that failed.
	viewing map[string]bool
	unread  map[string]*backoff
}

// knownAddress is an address and when it was read.
type knownAddress struct {
	plan.Address
	// readAt is when the reading began that shows it; a change counts as a reading when it was
	// answered.
	readAt time.Time
}

func newAddressList(
	kind ownership.Kind, of resources, timings timings, changed func(),
) *addressList {
	return &addressList{
		resources: of, kind: kind, timings: timings, changed: changed,
		known: make(map[string]knownAddress), deleted: make(map[string]time.Time),
		viewing: make(map[string]bool), unread: make(map[string]*backoff),
	}
}

// want makes sure that a list begins after a time, soon; after one that failed, not before its
// backoff has ended: whoever wants one asks again then.
func (l *addressList) want(ctx context.Context, after time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if after.After(l.wantedAt) {
		l.wantedAt = after
	}
	if !l.reading && l.listedAt.Before(l.wantedAt) && !time.Now().Before(l.failure.until) {
		l.reading = true
		go l.read(ctx)
	}
}

// read lists until nobody wants a later list. A failure is left to whoever wants the next one.
func (l *addressList) read(ctx context.Context) {
	for {
		err := l.listNow(ctx)
		l.mu.Lock()
		again := err == nil && l.listedAt.Before(l.wantedAt)
		if !again {
			l.reading = false
		}
		l.mu.Unlock()
		if !again {
			l.changed()
			return
		}
	}
}

// listNow lists the addresses, together with everybody who does, and takes the list over.
func (l *addressList) listNow(ctx context.Context) error {
	all, began, err := l.list(ctx)
	if err != nil {
		l.mu.Lock()
		l.failure.fail(time.Now(), err, l.timings.retry, l.timings.maxReadRetry)
		l.mu.Unlock()
		return err
	}
	l.take(ctx, all, began)
	return nil
}

// take takes a list over, but for what was changed after it began.
func (l *addressList) take(ctx context.Context, list []plan.Address, began time.Time) {
	l.taking.Lock()
	defer l.taking.Unlock()
	listed := make(map[string]bool, len(list))
	l.mu.Lock()
	if !began.After(l.listedAt) {
		l.mu.Unlock()
		return
	}
	for _, ip := range list {
		listed[ip.ID] = true
		if at, gone := l.deleted[ip.ID]; gone && !began.After(at) {
			continue
		}
		if l.known[ip.ID].readAt.Before(began) {
			l.known[ip.ID] = knownAddress{ip, began}
		}
	}
	var vanished []string
	for id, known := range l.known {
		if !listed[id] && known.readAt.Before(began) {
			vanished = append(vanished, id)
		}
	}
	for id, at := range l.deleted {
		if began.After(at) {
			delete(l.deleted, id)
		}
	}
	l.listedAt, l.failure = began, backoff{}
	l.version++
	l.mu.Unlock()
	if len(vanished) > 0 {
		l.confirm(ctx, vanished, began)
	}
	l.changed()
}

// confirm removes addresses that a list does not show, each once a direct read does not find it,
// either.
func (l *addressList) confirm(ctx context.Context, vanished []string, began time.Time) {
	asked := vanished[:min(len(vanished), maxVanished)]
	gone := make([]bool, len(asked))
	group, groupCtx := errgroup.WithContext(ctx)
	group.SetLimit(concurrentViews)
	for i, id := range asked {
		group.Go(func() error {
			err := l.view(groupCtx, id)
			gone[i] = oxide.IsKind(err, oxide.KindNotFound)
			return nil
		})
	}
	_ = group.Wait()
	l.mu.Lock()
	defer l.mu.Unlock()
	left := len(vanished)
	for i, id := range asked {
		if !gone[i] {
			continue
		}
		left--
		if l.known[id].readAt.Before(began) {
			delete(l.known, id)
		}
	}
	l.version++
	if left > 0 {
		slog.WarnContext(ctx, "a list of the "+l.kind.String()+"s does not show some that exist, or were "+
			"not read one by one yet", "missing", left, "known", len(l.known))
	}
}

// view reads one address.
func (l *addressList) view(ctx context.Context, id string) error {
	began := time.Now()
	ip, err := l.byID(ctx, id)
	if err != nil {
		return err
	}
	l.takeOne(ip, began)
	return nil
}

// takeOne takes over an address that was read by itself, unless something younger is known of it.
func (l *addressList) takeOne(ip plan.Address, began time.Time) {
	l.mu.Lock()
	if _, gone := l.deleted[ip.ID]; !gone && l.known[ip.ID].readAt.Before(began) {
		l.known[ip.ID] = knownAddress{ip, began}
		l.version++
	}
	l.mu.Unlock()
	l.changed()
}

// record writes a change through: what a request made of an address.
func (l *addressList) record(ip plan.Address) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.known[ip.ID] = knownAddress{ip, time.Now()}
	l.version++
}

// recordDeleted writes the end of an address through.
func (l *addressList) recordDeleted(id string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.known, id)
	l.deleted[id] = time.Now()
	l.version++
}

// addressView is what is known at a moment.
type addressView struct {
	known    map[string]knownAddress
	version  uint64
	listedAt time.Time
	// err is why the last list failed, retryAt when there may be another one.
	err     error
	retryAt time.Time
}

// since returns what is known if it is another version; known is nil if it is not.
func (l *addressList) since(version uint64) addressView {
	l.mu.Lock()
	defer l.mu.Unlock()
	v := addressView{
		version: l.version, listedAt: l.listedAt, err: l.failure.err, retryAt: l.failure.until,
	}
	if l.version != version {
		v.known = maps.Clone(l.known)
	}
	return v
}

// most returns how many addresses the instance carries that carries the most.
func (l *addressList) most() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	carried, most := make(map[string]int), 0
	for _, known := range l.known {
		if known.InstanceID != "" {
			carried[known.InstanceID]++
			most = max(most, carried[known.InstanceID])
		}
	}
	return most
}

// recordDetached writes a detachment through.
func (l *addressList) recordDetached(id string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if known, ok := l.known[id]; ok {
		known.InstanceID, known.readAt = "", time.Now()
		l.known[id] = known
		l.version++
	}
}

// doubt makes the next change of an address wait for another reading: the last one failed, and
// may have taken effect.
func (l *addressList) doubt(id string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if known, ok := l.known[id]; ok {
		known.readAt = time.Time{}
		l.known[id] = known
		l.version++
	}
}

// isComing reports whether a list that begins after a time is about to be read, or is being read.
func (l *addressList) isComing(after time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.reading && !l.wantedAt.Before(after) && l.failure.err == nil
}

// viewSoon reads one address in the background, unless that is under way.
func (l *addressList) viewSoon(ctx context.Context, id string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.viewing[id] {
		return
	}
	l.viewing[id] = true
	go func() {
		ctx, cancel := context.WithTimeout(ctx, readTimeout)
		defer cancel()
		err := l.view(ctx, id)
		rest(ctx, l.viewed(ctx, id, err))
		l.mu.Lock()
		delete(l.viewing, id)
		l.mu.Unlock()
		l.changed()
	}()
}

// viewed takes over how a reading of one address ended, and returns for how long it is not read
// again.
func (l *addressList) viewed(ctx context.Context, id string, err error) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	if oxide.IsKind(err, oxide.KindNotFound) {
		delete(l.known, id)
		l.version++
	}
	if _, known := l.known[id]; err == nil || !known {
		delete(l.unread, id)
		return 0
	}
	slog.WarnContext(ctx, "cannot read the "+l.kind.String(), "id", id, "error", err)
	if l.unread[id] == nil {
		l.unread[id] = &backoff{}
	}
	l.unread[id].fail(time.Now(), err, l.timings.announce, l.timings.maxReadRetry)
	return time.Until(l.unread[id].until)
}
