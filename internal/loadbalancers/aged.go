// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package loadbalancers

import (
	"context"
	"sync"
	"time"
)

// aged keeps answers of Oxide for a while. A failure is kept, too, but shorter.
type aged[T any] struct {
	maxAge, failureMaxAge time.Duration

	mu      sync.Mutex
	answers map[string]answer[T]
	// asking has a channel for each question under way, which is closed when there is an answer.
	asking map[string]chan struct{}
}

type answer[T any] struct {
	at    time.Time
	value T
	err   error
}

// get returns an answer that is young enough, or asks, unless somebody asks the same already: then it
// waits for that answer.
func (a *aged[T]) get(
	ctx context.Context, key string, ask func(context.Context, string) (T, error),
) (T, error) {
	for {
		known, asking := a.look(key)
		switch {
		case known != nil:
			return known.value, known.err
		case asking == nil:
			return a.ask(ctx, key, ask)
		}
		select {
		case <-asking: // he may have given up
		case <-ctx.Done():
			var none T
			return none, endedError(ctx)
		}
	}
}

// look returns an answer that is young enough, or how to wait for who asks already; neither if it is
// for the caller to ask.
func (a *aged[T]) look(key string) (*answer[T], <-chan struct{}) {
	a.mu.Lock()
	defer a.mu.Unlock()
	known, ok := a.answers[key]
	maxAge := a.maxAge
	if known.err != nil {
		maxAge = a.failureMaxAge
	}
	if ok && time.Since(known.at) < maxAge {
		return &known, nil
	}
	if asking, busy := a.asking[key]; busy {
		return nil, asking
	}
	if a.asking == nil {
		a.asking = make(map[string]chan struct{})
	}
	a.asking[key] = make(chan struct{})
	return nil, nil
}

// ask asks, and keeps the answer unless the caller has given up.
func (a *aged[T]) ask(
	ctx context.Context, key string, ask func(context.Context, string) (T, error),
) (T, error) {
	fresh := answer[T]{at: time.Now()}
	fresh.value, fresh.err = ask(ctx, key)
	a.mu.Lock()
	defer a.mu.Unlock()
	close(a.asking[key])
	delete(a.asking, key)
	if ctx.Err() != nil {
		return fresh.value, fresh.err
	}
	if a.answers == nil {
		a.answers = make(map[string]answer[T])
	}
	for other, old := range a.answers {
		if time.Since(old.at) >= max(a.maxAge, a.failureMaxAge) {
			delete(a.answers, other)
		}
	}
	a.answers[key] = fresh
	return fresh.value, fresh.err
}
