// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package removals

import (
	"sync"
	"time"
)

const (
	// Window is the time over which removals are counted.
	Window = 10 * time.Minute

	// freeAtLeast removals in a window are not paced, however small the cluster is.
	freeAtLeast = 3

	// freeShare of the nodes, one in so many, may be removed in a window without being paced.
	freeShare = 10
)

// Pacer decides when Nodes whose instances are gone may be removed. In any ten minutes three, or
// one in ten of the nodes if that is more, go at once. Whatever is beyond waits, is proven again
// when its turn comes, and goes one by one, an interval apart.
//
// It remembers nothing beyond its process: another leader begins to count again. It may be used
// concurrently.
type Pacer struct {
	interval time.Duration

	mu sync.Mutex
	// removed are the nodes removed in the last window; waiting those that were proven gone and
	// wait for their turn, with the time when they were last asked for.
	removed map[string]time.Time
	waiting map[string]time.Time
	// turn is the waiting node that is being proven again; empty: none.
	turn string
	last time.Time
}

// NewPacer returns a Pacer that lets paced removals go this far apart.
func NewPacer(interval time.Duration) *Pacer {
	return &Pacer{
		interval: interval,
		removed:  make(map[string]time.Time), waiting: make(map[string]time.Time),
	}
}

// Attempt is one attempt to remove a node, see Begin. It has to be ended.
type Attempt struct {
	pacer *Pacer
	node  string
	nodes int
	ended bool
}

// Begin is called before the instance of a node is asked about. It returns nil if the node was found
// to be gone before and it is not its turn yet: then nothing needs to be asked. The node is
// distinguished from others by a text that no other node ever has; nodes is how many there are now.
func (p *Pacer) Begin(node string, nodes int) *Attempt {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	p.prune(now)
	if _, waits := p.waiting[node]; waits && !p.isFree(node, nodes) {
		p.waiting[node] = now
		if p.turn != "" || now.Sub(p.last) < p.interval {
			return nil
		}
		p.turn = node
	}
	return &Attempt{pacer: p, node: node, nodes: nodes}
}

// Gone ends an attempt with the proof that the instance is gone, and reports whether the node may be
// removed now. If not, it waits for its turn. A node that was to be removed before and is still
// there may be removed again.
func (a *Attempt) Gone() bool {
	p := a.pacer
	p.mu.Lock()
	defer p.mu.Unlock()
	a.ended = true
	now := time.Now()
	p.prune(now)
	hadTurn := p.turn == a.node
	if hadTurn {
		p.turn = ""
	}
	if !hadTurn && !p.isFree(a.node, a.nodes) {
		p.waiting[a.node] = now
		return false
	}
	delete(p.waiting, a.node)
	if _, again := p.removed[a.node]; !again {
		p.removed[a.node], p.last = now, now
	}
	return true
}

// End ends an attempt that came to another result: the instance exists, or nobody knows. After Gone
// it does nothing.
func (a *Attempt) End() {
	p := a.pacer
	p.mu.Lock()
	defer p.mu.Unlock()
	if a.ended {
		return
	}
	a.ended = true
	delete(p.waiting, a.node)
	if p.turn == a.node {
		p.turn = ""
	}
}

// Waiting returns how many nodes wait for their turn.
func (p *Pacer) Waiting() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.prune(time.Now())
	return len(p.waiting)
}

// isFree reports whether a node may be removed without being paced. The share is one of the nodes
// that there were before the removals that are counted.
func (p *Pacer) isFree(node string, nodes int) bool {
	if _, again := p.removed[node]; again {
		return true
	}
	return len(p.removed) < max(freeAtLeast, (nodes+len(p.removed))/freeShare)
}

// prune forgets removals that do not count any more, and nodes that nobody has asked for since:
// they were deleted by hand, or became ready again.
func (p *Pacer) prune(now time.Time) {
	for _, times := range []map[string]time.Time{p.removed, p.waiting} {
		for node, since := range times {
			if now.Sub(since) >= Window {
				delete(times, node)
			}
		}
	}
}
