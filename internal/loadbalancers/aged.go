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
}

type answer[T any] struct {
	at    time.Time
	value T
	err   error
}

// get returns an answer that is young enough, or asks. Several may ask at the same time.
func (a *aged[T]) get(
	ctx context.Context, key string, ask func(context.Context, string) (T, error),
) (T, error) {
	a.mu.Lock()
	known, ok := a.answers[key]
	a.mu.Unlock()
	maxAge := a.maxAge
	if known.err != nil {
		maxAge = a.failureMaxAge
	}
	if ok && time.Since(known.at) < maxAge {
		return known.value, known.err
	}
	fresh := answer[T]{at: time.Now()}
	fresh.value, fresh.err = ask(ctx, key)
	if ctx.Err() != nil {
		return fresh.value, fresh.err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
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
