// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package instances

import (
	"context"
	"sync"
	"time"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/oxide"
)

const (
	// refreshTimeout bounds one shared reading, with the retries of its requests.
	refreshTimeout = time.Minute
	// spacing is the least time from the beginning of one shared reading to that of the next: a
	// thousand nodes that join together make few lists.
	spacing = 250 * time.Millisecond
)

// coalescer lets many callers share readings of the same facts. A reading runs in a context of its
// own, so a caller that goes away never fails the others; and an error is given to everybody who
// waits, never turned into empty facts.
type coalescer[T any] struct {
	// doing says what is read, for errors.
	doing string
	read  func(ctx context.Context) (T, error)

	mu sync.Mutex
	// last is the last reading that succeeded.
	last *reading[T]
	// running is under way; next begins after it, for those who came too late for it.
	running, next *reading[T]
	// began is when the youngest reading did.
	began time.Time
	// active tells that a goroutine sees to next.
	active bool
}

// reading is one reading of the facts.
type reading[T any] struct {
	// began is when it began: nothing that it shows is older.
	began time.Time
	done  chan struct{}
	facts T
	err   error
}

// within returns facts whose reading began at most maxAge before the call, or later.
func (c *coalescer[T]) within(ctx context.Context, maxAge time.Duration) (*reading[T], error) {
	if ctx.Err() != nil {
		return nil, c.ended(ctx)
	}
	c.mu.Lock()
	oldest := time.Now().Add(-maxAge)
	var joined *reading[T]
	switch {
	case c.last != nil && !c.last.began.Before(oldest):
		joined = c.last
	case c.running != nil && !c.running.began.Before(oldest):
		joined = c.running
	default:
		joined = c.following(ctx)
	}
	c.mu.Unlock()
	return c.wait(ctx, joined)
}

// after returns facts whose reading begins after the call did. Callers that come while one is under
// way share the one that follows it.
func (c *coalescer[T]) after(ctx context.Context) (*reading[T], error) {
	if ctx.Err() != nil {
		return nil, c.ended(ctx)
	}
	c.mu.Lock()
	joined := c.following(ctx)
	c.mu.Unlock()
	return c.wait(ctx, joined)
}

// latest returns the last reading that succeeded, nil if there is none.
func (c *coalescer[T]) latest() *reading[T] {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.last
}

// following returns the reading that has not begun yet. The lock is held.
func (c *coalescer[T]) following(ctx context.Context) *reading[T] {
	if c.next == nil {
		c.next = &reading[T]{done: make(chan struct{})}
	}
	if !c.active {
		c.active = true
		go c.run(context.WithoutCancel(ctx), time.Until(c.began.Add(spacing)))
	}
	return c.next
}

// run makes one reading after the other as long as somebody waits for one.
func (c *coalescer[T]) run(ctx context.Context, pause time.Duration) {
	for more := true; more; {
		time.Sleep(pause)
		c.mu.Lock()
		r := c.next
		r.began = time.Now()
		c.running, c.next, c.began = r, nil, r.began
		c.mu.Unlock()

		readCtx, cancel := context.WithTimeout(ctx, refreshTimeout)
		r.facts, r.err = c.read(readCtx)
		cancel()

		c.mu.Lock()
		if r.err == nil {
			c.last = r
		}
		c.running = nil
		more = c.next != nil
		c.active = more
		pause = time.Until(r.began.Add(spacing))
		c.mu.Unlock()
		close(r.done)
	}
}

func (c *coalescer[T]) wait(ctx context.Context, r *reading[T]) (*reading[T], error) {
	select {
	case <-r.done:
		return r, r.err
	case <-ctx.Done():
		return nil, c.ended(ctx)
	}
}

func (c *coalescer[T]) ended(ctx context.Context) error {
	return &oxide.Error{Operation: c.doing, Kind: oxide.KindEnded, Err: ctx.Err()}
}

func factsOf[T any](r *reading[T], err error) (T, error) {
	if err != nil {
		var none T
		return none, err
	}
	return r.facts, nil
}
