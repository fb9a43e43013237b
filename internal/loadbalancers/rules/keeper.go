// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package rules

import (
	"context"
	"encoding/json"
	"errors"
	"reflect"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/firewall"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/firewall/ruleset"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/ownership"
)

// API is what this package needs of Oxide.
type API interface {
	Firewall(ctx context.Context, vpcID string) ([]firewall.Stored, error)
	ReplaceFirewall(ctx context.Context, vpcID string, rules []json.RawMessage) error
}

// Config is what a Keeper is made of.
type Config struct {
	API API
	// Changed is called when something else is known of a firewall than before.
	Changed func()
	// TimeScale multiplies everything that is waited for; 0 means 1.
	TimeScale float64
	// Registerer takes the metrics; nil: there are none.
	Registerer prometheus.Registerer
}

// Keeper has the firewalls of the VPCs. It is safe for concurrent use.
type Keeper struct {
	api     API
	changed func()
	timings timings
	metrics metrics
	ctx     context.Context //nolint:containedctx // it is the process's, not a caller's

	mu      sync.Mutex
	writers map[string]*writer
	// acting are the clusters that have a session here: without any nothing is written.
	acting   map[string]bool
	stopping bool
	// stopped is closed once no further request begins.
	stopped chan struct{}
	busy    sync.WaitGroup
}

// timings are how long things are waited for.
type timings struct {
	// maxAge is how old a reading gets, failedMaxAge one that failed.
	maxAge, failedMaxAge time.Duration
	// gather is how long changes are gathered, spacing the least time between two writes.
	gather, spacing time.Duration
	// maxRetry bounds the pause after failures, which doubles from spacing on.
	maxRetry time.Duration
	// request bounds one request.
	request time.Duration
}

func newTimings(scale float64) timings {
	scaled := func(d time.Duration) time.Duration {
		if scale == 0 {
			return d
		}
		return time.Duration(float64(d) * scale)
	}
	return timings{
		maxAge: scaled(time.Minute), failedMaxAge: scaled(30 * time.Second),
		gather: scaled(time.Second), spacing: scaled(5 * time.Second),
		maxRetry: scaled(5 * time.Minute), request: 90 * time.Second,
	}
}

// NewKeeper returns a Keeper, which reads nothing before it is asked to. Its requests end with ctx.
func NewKeeper(ctx context.Context, config Config) *Keeper {
	k := &Keeper{
		api: config.API, changed: config.Changed, timings: newTimings(config.TimeScale), ctx: ctx,
		writers: make(map[string]*writer), acting: make(map[string]bool), stopped: make(chan struct{}),
	}
	k.metrics = newMetrics(k, config.Registerer)
	return k
}

// Reading is what was read of a firewall.
type Reading struct {
	// At is when it began.
	At time.Time
	// Stored are the rules of the VPC; they are not to be changed.
	Stored []ruleset.Stored
	// Rules are the same, as far as they are understood.
	Rules []firewall.Rule
	// Err is why they could not be read.
	Err error
}

// State is what is known of a firewall, and of what is kept in it.
type State struct {
	Reading
	// Known: it was read, or that was tried. StaleAt is when that is to be done again; zero: now.
	Known   bool
	StaleAt time.Time
	// Differs are the load balancers whose rules are not as desired.
	Differs map[ownership.Key]bool
	// Refused are those whose rules cannot be written, with the reason.
	Refused map[ownership.Key]string
	// Unsettled are those whose rules are stored, and not in force everywhere.
	Unsettled map[ownership.Key]bool
	// Failure is why what is desired is not in force everywhere; nil: it is, or only time is needed.
	Failure error
}

// Problem returns why what is desired is not there; nil: it is, or only time is needed.
func (s *State) Problem() error {
	switch {
	case s.Err != nil:
		return s.Err
	case s.Failure != nil:
		return s.Failure
	}
	for _, why := range s.Refused {
		return errors.New(why)
	}
	return nil
}

// Get returns what is known of the firewall of a VPC, and has it read in the background if that is too
// old.
func (k *Keeper) Get(vpc string, now time.Time) State {
	k.mu.Lock()
	defer k.mu.Unlock()
	w := k.writer(vpc, now)
	maxAge := k.timings.maxAge
	if w.reading.Err != nil {
		maxAge = k.timings.failedMaxAge
	}
	if !w.known || now.Sub(w.reading.At) >= maxAge {
		w.stale = true
		k.start(w)
	}
	state := w.state()
	if !w.stale {
		state.StaleAt = w.reading.At.Add(maxAge)
	}
	return state
}

// Read reads the firewall of a VPC now.
func (k *Keeper) Read(ctx context.Context, vpc string) (Reading, error) {
	var reading Reading
	err := k.do(ctx, vpc, false, func(ctx context.Context, w *writer) error {
		k.read(ctx, w)
		k.mu.Lock()
		reading = w.reading
		k.mu.Unlock()
		return reading.Err
	})
	return reading, err
}

// Fresh returns a reading that is young enough, and reads if there is none.
func (k *Keeper) Fresh(ctx context.Context, vpc string, now time.Time) (Reading, error) {
	k.mu.Lock()
	w := k.writer(vpc, now)
	known, reading := w.known && now.Sub(w.reading.At) < k.timings.maxAge, w.reading
	k.mu.Unlock()
	if known {
		return reading, reading.Err
	}
	return k.Read(ctx, vpc)
}

// Begin says that a session of a cluster begins to act. What an earlier one desired is over.
func (k *Keeper) Begin(scope string, now time.Time) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.acting[scope] = true
	k.desire(scope, nil, now)
	for _, w := range k.writers {
		k.start(w) // what is not in force everywhere waits for a session
	}
}

// End says that no session of a cluster acts any more: nothing is desired for it.
func (k *Keeper) End(scope string, now time.Time) {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.acting, scope)
	k.desire(scope, nil, now)
}

// Desire says what a cluster that has a session desires of the firewalls, by VPC, in place of all that
// it desired before.
func (k *Keeper) Desire(scope string, byVPC map[string]ruleset.Desired, now time.Time) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.desire(scope, byVPC, now)
}

// desire is Desire; the lock is held.
func (k *Keeper) desire(scope string, byVPC map[string]ruleset.Desired, now time.Time) {
	for vpc := range byVPC {
		k.writer(vpc, now)
	}
	for vpc, w := range k.writers {
		desired, has := byVPC[vpc]
		before, had := w.desired[scope]
		switch {
		case !has && had:
			delete(w.desired, scope)
		case !has || had && reflect.DeepEqual(before, desired):
			continue
		default:
			w.desired[scope] = desired
		}
		w.compare(now, k)
		if isRefusal(w.failure) {
			w.retryAt = time.Time{} // it was for what was desired before
		}
		k.start(w)
	}
}

// Remove removes rules that are kept for load balancers from the firewall of a VPC, and returns them.
// Remove is asked about each that has a marker.
func (k *Keeper) Remove(
	ctx context.Context, vpc string, remove func(*ruleset.Stored) bool,
) ([]ruleset.Stored, error) {
	var removed []ruleset.Stored
	err := k.do(ctx, vpc, true, func(ctx context.Context, w *writer) error {
		var err error
		removed, err = k.removeNow(ctx, w, remove)
		return err
	})
	return removed, err
}

// Stop begins no further request, and waits for those that are under way, until ctx ends.
func (k *Keeper) Stop(ctx context.Context) {
	k.mu.Lock()
	if !k.stopping {
		k.stopping = true
		close(k.stopped)
	}
	for _, w := range k.writers {
		w.wake()
	}
	k.mu.Unlock()
	finished := make(chan struct{})
	go func() {
		k.busy.Wait()
		close(finished)
	}()
	select {
	case <-finished:
	case <-ctx.Done():
	}
}

// held returns how many rules are kept.
func (k *Keeper) held() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	held := 0
	for _, w := range k.writers {
		for i := range w.reading.Stored {
			if w.reading.Stored[i].Marked {
				held++
			}
		}
	}
	return held
}

// ErrStopped says that the process is about to end.
var ErrStopped = errors.New("the backend is about to stop")

// unusedFor is after how long a firewall is forgotten that nobody asks for.
const unusedFor = 10 * time.Minute

// writer returns the one of a VPC, and forgets those that nobody uses; the lock is held.
func (k *Keeper) writer(vpc string, now time.Time) *writer {
	w := k.writers[vpc]
	if w == nil {
		for id, other := range k.writers {
			if now.Sub(other.usedAt) > unusedFor && len(other.desired) == 0 && !other.running {
				delete(k.writers, id)
			}
		}
		w = newWriter(vpc)
		k.writers[vpc] = w
	}
	w.usedAt = now
	return w
}

// do has the writer of a VPC do something in its turn, and waits for it.
func (k *Keeper) do(
	ctx context.Context, vpc string, writes bool, what func(context.Context, *writer) error,
) error {
	done := make(chan error, 1)
	k.mu.Lock()
	w := k.writer(vpc, time.Now())
	w.jobs = append(w.jobs, job{writes: writes, do: func(own context.Context) {
		if err := ctx.Err(); err != nil {
			done <- err // its caller has gone
			return
		}
		done <- what(own, w)
	}})
	k.start(w)
	k.mu.Unlock()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	case <-k.stopped:
		return ErrStopped
	}
}
