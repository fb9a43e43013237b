// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package session

import (
	"context"
	"sync"
	"time"
)

// ttlCache keeps answers of Oxide for a while, and failures for another. It reads in the
// background.
type ttlCache[T any] struct {
	maxAge, failureMaxAge time.Duration

	mu      sync.Mutex
	answers map[string]answer[T]
	reading map[string]bool
}

// answer is what was read, or why it could not be.
type answer[T any] struct {
	at    time.Time
	value T
	err   error
}

func newTTLCache[T any](maxAge, failureMaxAge time.Duration) *ttlCache[T] {
	return &ttlCache[T]{
		maxAge: maxAge, failureMaxAge: failureMaxAge,
		answers: make(map[string]answer[T]), reading: make(map[string]bool),
	}
}

// get returns the last answer, and makes sure that one that is too old is read again; then done is
// called. It returns false if there is none yet.
func (c *ttlCache[T]) get(
	ctx context.Context, key string, now time.Time,
	read func(context.Context, string) (T, error), done func(),
) (answer[T], bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	known, ok := c.answers[key]
	maxAge := c.maxAge
	if known.err != nil {
		maxAge = c.failureMaxAge
	}
	if (!ok || now.Sub(known.at) >= maxAge) && !c.reading[key] {
		c.reading[key] = true
		go func() {
			c.read(ctx, key, now, read)
			done()
		}()
	}
	return known, ok
}

func (c *ttlCache[T]) read(
	ctx context.Context, key string, now time.Time, read func(context.Context, string) (T, error),
) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	value, err := read(ctx, key)
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.reading, key)
	for other, old := range c.answers {
		if now.Sub(old.at) >= 2*max(c.maxAge, c.failureMaxAge) {
			delete(c.answers, other)
		}
	}
	c.answers[key] = answer[T]{at: now, value: value, err: err}
}

// wait returns an answer that is young enough, and reads it if there is none.
func (c *ttlCache[T]) wait(
	ctx context.Context, key string, read func(context.Context, string) (T, error),
) (T, error) {
	now := time.Now()
	c.mu.Lock()
	known, ok := c.answers[key]
	c.mu.Unlock()
	if !ok || now.Sub(known.at) >= c.maxAge || known.err != nil && now.Sub(known.at) >= c.failureMaxAge {
		c.read(ctx, key, now, read)
		c.mu.Lock()
		known = c.answers[key]
		c.mu.Unlock()
	}
	return known.value, known.err
}
