// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package loadbalancers

import "sync"

// arrivals counts the addresses that are on their way to an instance. Plans that are made at the same
// time spread over the instances by it; else all of them would choose the same one, and all but the
// first would find it busy.
type arrivals struct {
	mu    sync.Mutex
	count map[string]int
}

// plan makes a plan with what is on its way, and adds what that sends. The caller calls done when the
// plan was carried out, or given up.
func (a *arrivals) plan(
	planner func(arriving map[string]int) (plan, error),
) (p plan, done func(), err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if p, err = planner(a.count); err != nil {
		return p, nil, err
	}
	a.add(p, 1)
	return p, func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.add(p, -1)
	}, nil
}

func (a *arrivals) add(p plan, n int) {
	if a.count == nil {
		a.count = make(map[string]int)
	}
	for _, instance := range p.destinations() {
		if a.count[instance] += n; a.count[instance] == 0 {
			delete(a.count, instance)
		}
	}
}

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
