// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package instances

import (
	"context"
	"sync"
	"time"
)

// refreshTimeout bounds one shared reading, with the retries of its requests.
const refreshTimeout = time.Minute

// coalescer lets many callers share readings of the same facts. A reading runs in a context of its
// own, so a caller that goes away never fails the others; and an error is given to everybody who
// waits, never turned into empty facts.
type coalescer[T any] struct {
	read func(ctx context.Context) (T, error)

	mu sync.Mutex
	// last is the last reading that succeeded.
	last *reading[T]
	// running is under way; next begins when it ends, for those who came too late for it.
	running, next *reading[T]
}

// reading is one reading of the facts.
type reading[T any] struct {
	// began is when it began: nothing that it shows is older.
	began time.Time
	done  chan struct{}
	facts T
	err   error
}

// within returns facts that were read no longer ago than maxAge, or reads them.
func (c *coalescer[T]) within(ctx context.Context, maxAge time.Duration) (*reading[T], error) {
	c.mu.Lock()
	if c.last != nil && time.Since(c.last.began) <= maxAge {
		defer c.mu.Unlock()
		return c.last, nil
	}
	if c.running == nil {
		c.start(ctx)
	}
	joined := c.running
	c.mu.Unlock()
	return joined.wait(ctx)
}

// after returns facts of a reading that begins after the call did. Callers that come while one is
// under way share the one that follows it.
func (c *coalescer[T]) after(ctx context.Context) (*reading[T], error) {
	c.mu.Lock()
	var joined *reading[T]
	switch {
	case c.running == nil:
		c.start(ctx)
		joined = c.running
	case c.next == nil:
		c.next = &reading[T]{done: make(chan struct{})}
		fallthrough
	default:
		joined = c.next
	}
	c.mu.Unlock()
	return joined.wait(ctx)
}

// latest returns the last reading that succeeded, nil if there is none.
func (c *coalescer[T]) latest() *reading[T] {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.last
}

// start begins a reading, the waiting one if there is one. The lock is held.
func (c *coalescer[T]) start(ctx context.Context) {
	r := c.next
	if r == nil {
		r = &reading[T]{done: make(chan struct{})}
	}
	r.began = time.Now()
	c.running, c.next = r, nil
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), refreshTimeout)
	go func() {
		defer cancel()
		r.facts, r.err = c.read(ctx)
		c.mu.Lock()
		defer c.mu.Unlock()
		if r.err == nil {
			c.last = r
		}
		c.running = nil
		if c.next != nil {
			c.start(ctx)
		}
		close(r.done)
	}()
}

func (r *reading[T]) wait(ctx context.Context) (*reading[T], error) {
	select {
	case <-r.done:
		return r, r.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}
