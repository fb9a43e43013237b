// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package loadbalancers

import "sync"

// inflight holds the keys for which something is under way. Who comes second does not wait: it
// fails, and its caller comes again.
type inflight[K comparable] struct {
	mu   sync.Mutex
	keys map[K]bool
}

func (f *inflight[K]) tryLock(key K) (unlock func(), ok bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.keys[key] {
		return nil, false
	}
	if f.keys == nil {
		f.keys = make(map[K]bool)
	}
	f.keys[key] = true
	return func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		delete(f.keys, key)
	}, true
}
