// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package coalesce

import (
	"context"
	"sync"
	"time"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/oxide"
)

// Timeout bounds one reading, with the retries of its requests.
const Timeout = time.Minute

// Reader lets many callers share readings of the same facts. A reading runs in a context of its
// own, so a caller that goes away never fails the others; and an error is given to everybody who
// waits, never turned into empty facts.
type Reader[T any] struct {
	// Doing says what is read, for errors.
	Doing string
	// Read reads the facts.
	Read func(ctx context.Context) (T, error)
	// Spacing is the least time from the beginning of one reading to that of the next.
	Spacing time.Duration

	mu sync.Mutex
	// last is the last reading that succeeded.
	last *Reading[T]
	// running is under way; next begins after it, for those who came too late for it.
	running, next *Reading[T]
	// began is when the youngest reading did.
	began time.Time
	// active tells that a goroutine sees to next.
	active bool
}

// Reading is one reading of the facts.
type Reading[T any] struct {
	// Began is when it began: nothing that it shows is older.
	Began time.Time
	done  chan struct{}
	// Facts are what was read.
	Facts T
	err   error
}

// Within returns facts whose reading began at most maxAge before the call, or later.
func (c *Reader[T]) Within(ctx context.Context, maxAge time.Duration) (*Reading[T], error) {
	if ctx.Err() != nil {
		return nil, c.ended(ctx)
	}
	c.mu.Lock()
	oldest := time.Now().Add(-maxAge)
	var joined *Reading[T]
	switch {
	case c.last != nil && !c.last.Began.Before(oldest):
		joined = c.last
	case c.running != nil && !c.running.Began.Before(oldest):
		joined = c.running
	default:
		joined = c.following(ctx)
	}
	c.mu.Unlock()
	return c.wait(ctx, joined)
}

// After returns facts whose reading begins after the call did. Callers that come while one is under
// way share the one that follows it.
func (c *Reader[T]) After(ctx context.Context) (*Reading[T], error) {
	if ctx.Err() != nil {
		return nil, c.ended(ctx)
	}
	c.mu.Lock()
	joined := c.following(ctx)
	c.mu.Unlock()
	return c.wait(ctx, joined)
}

// Latest returns the last reading that succeeded, nil if there is none.
func (c *Reader[T]) Latest() *Reading[T] {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.last
}

// following returns the reading that has not begun yet. The lock is held.
func (c *Reader[T]) following(ctx context.Context) *Reading[T] {
	if c.next == nil {
		c.next = &Reading[T]{done: make(chan struct{})}
	}
	if !c.active {
		c.active = true
		go c.run(context.WithoutCancel(ctx), time.Until(c.began.Add(c.Spacing)))
	}
	return c.next
}

// run makes one reading after the other as long as somebody waits for one.
func (c *Reader[T]) run(ctx context.Context, pause time.Duration) {
	for more := true; more; {
		time.Sleep(pause)
		c.mu.Lock()
		r := c.next
		r.Began = time.Now()
		c.running, c.next, c.began = r, nil, r.Began
		c.mu.Unlock()

		readCtx, cancel := context.WithTimeout(ctx, Timeout)
		r.Facts, r.err = c.Read(readCtx)
		cancel()

		c.mu.Lock()
		if r.err == nil {
			c.last = r
		}
		c.running = nil
		more = c.next != nil
		c.active = more
		pause = time.Until(r.Began.Add(c.Spacing))
		c.mu.Unlock()
		close(r.done)
	}
}

func (c *Reader[T]) wait(ctx context.Context, r *Reading[T]) (*Reading[T], error) {
	select {
	case <-r.done:
		return r, r.err
	case <-ctx.Done():
		return nil, c.ended(ctx)
	}
}

func (c *Reader[T]) ended(ctx context.Context) error {
	return &oxide.Error{Operation: c.Doing, Kind: oxide.KindEnded, Err: ctx.Err()}
}

// Facts returns what was read, or the error.
func Facts[T any](r *Reading[T], err error) (T, error) {
	if err != nil {
		var none T
		return none, err
	}
	return r.Facts, nil
}
