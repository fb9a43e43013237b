// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package loadbalancers

import (
	"context"
	"sync"
	"time"
)

// locks are held one at a time for each key.
type locks[K comparable] struct {
	mu sync.Mutex
	// held has a channel for each lock that is held, which is closed when it is given back.
	held map[K]chan struct{}
}

// lock takes a lock; if it is held, it waits for a while. It returns how to give the lock back.
func (l *locks[K]) lock(
	ctx context.Context, key K, patience time.Duration,
) (unlock func(), ok bool) {
	var timeout <-chan time.Time
	for {
		unlock, freed := l.try(key)
		if unlock != nil {
			return unlock, true
		}
		if timeout == nil {
			if patience <= 0 {
				return nil, false
			}
			timer := time.NewTimer(patience)
			defer timer.Stop()
			timeout = timer.C
		}
		select {
		case <-freed:
		case <-timeout:
			return nil, false
		case <-ctx.Done():
			return nil, false
		}
	}
}

// try takes a lock that is free, or returns a channel that is closed when it may be free.
func (l *locks[K]) try(key K) (unlock func(), freed <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if held, taken := l.held[key]; taken {
		return nil, held
	}
	if l.held == nil {
		l.held = make(map[K]chan struct{})
	}
	mine := make(chan struct{})
	l.held[key] = mine
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		delete(l.held, key)
		close(mine)
	}, nil
}
