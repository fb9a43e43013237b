// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package oxide

import (
	"hash/maphash"
	"slices"
	"sync"
	"time"
)

const (
	// endMaxAge is how long a list is believed to end where it was found to.
	endMaxAge = time.Hour
	// maxEnds bounds how many ends are remembered of the lists of one operation: those of the
	// members of anti-affinity groups, or of the interfaces in subnets, are many.
	maxEnds = 1024
	// maxTail bounds how many of the last items of a list are remembered: enough for what a client removes
	// between two readings.
	maxTail = 16
	// doubtSpacing is the least time from one doubt to the next: somebody may ask for what does not
	// exist again and again.
	doubtSpacing = 10 * time.Minute
)

// pageEnd is where a page of a list ended.
type pageEnd struct {
	// list is the operation that lists.
	list string
	// of is the object in the path whose list it is, which the token does not say; next the token of the
	// page that follows: it says what else was asked for, and after which item the page ended.
	of, next string
	// tail are the ids of its last items, of a list in the order of ids that this client changes itself;
	// nil: it is another list.
	tail []string
	// items is how many the page had; first: it is the first one.
	items int
	first bool
}

// listEnds remembers after which pages nothing followed, so that this need not be read each time. It is
// safe for concurrent use.
//
// A page that is not full is the last one if, within the hour, a page of the same list with as many
// items that ended after the same item was followed by an empty one. Neither a larger nor a smaller
// number of items proves anything: a page may be smaller because the cap was lowered below the length
// of the list, and larger because the cap is just that. Of a list that has grown, shrunk or been cut,
// the page therefore ends elsewhere or has another length, and is read on. What remains is a list that
// was exactly as long as the cap when its end was proved, and to which an item was added behind all
// others: both pages look the same. So a page that has at least as many items as one that was cut
// within the hour, in whichever list, counts as full, until a longer page of that list shows that it
// was not the cap that had cut it, but an item that had come in between.
//
// Of a list in the order of ids it is enough to know the last items: what this client adds to it or
// removes from it itself leaves a last item that is known, too, and nothing needs to be read for it.
//
// What it remembers is named by Oxide's answers only, and bounded by maxEnds for each operation of the
// API.
type listEnds struct {
	mu   sync.Mutex
	seed maphash.Seed
	// proved is when an empty page followed, by operation and by where the page ended.
	proved map[string]map[uint64]provedEnd
	// cuts are the shortest pages after which something followed, by operation.
	cuts map[string]provedEnd
	// tails are the last items of the lists that this client changes itself, by operation.
	tails map[string]tail
	// doubtedAt is when all of it was last forgotten.
	doubtedAt time.Time
}

// provedEnd is how many items a page had, and when it was found what follows it.
type provedEnd struct {
	items int
	at    time.Time
}

// tail is the last items of a list in the order of ids, and when it was found that nothing follows them.
type tail struct {
	ids []string
	// whole: the list has no others.
	whole bool
	at    time.Time
}

func newListEnds() *listEnds {
	return &listEnds{
		seed: maphash.MakeSeed(), proved: make(map[string]map[uint64]provedEnd),
		cuts: make(map[string]provedEnd), tails: make(map[string]tail),
	}
}

// place identifies where a page of an operation ended.
func (l *listEnds) place(end pageEnd) uint64 {
	return maphash.Comparable(l.seed, [2]string{end.of, end.next})
}

// isLast reports whether a page that is not full is known to be the last one.
func (l *listEnds) isLast(end pageEnd) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, cut := range l.cuts {
		if end.items >= cut.items && time.Since(cut.at) < endMaxAge {
			return false
		}
	}
	if n := len(end.tail); n > 0 {
		known := l.tails[end.list]
		m := len(known.ids)
		return m > 0 && known.ids[m-1] == end.tail[n-1] && time.Since(known.at) < endMaxAge
	}
	known, ok := l.proved[end.list][l.place(end)]
	return ok && known.items == end.items && time.Since(known.at) < endMaxAge
}

// shows takes over how many items a page has.
func (l *listEnds) shows(list string, items int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if cut, known := l.cuts[list]; known && items > cut.items {
		delete(l.cuts, list)
	}
}

// follows takes over whether anything followed a page.
func (l *listEnds) follows(end pageEnd, more bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now, key := time.Now(), l.place(end)
	if more {
		delete(l.tails, end.list)
		delete(l.proved[end.list], key)
		cut, known := l.cuts[end.list]
		if !known || end.items <= cut.items || now.Sub(cut.at) >= endMaxAge {
			l.cuts[end.list] = provedEnd{items: end.items, at: now}
		}
		return
	}
	if len(end.tail) > 0 || end.items == 0 {
		l.tails[end.list] = tail{
			ids: slices.Clone(end.tail), whole: end.first && len(end.tail) == end.items, at: now,
		}
		return
	}
	ends := l.proved[end.list]
	if ends == nil {
		ends = make(map[uint64]provedEnd)
		l.proved[end.list] = ends
	}
	if _, known := ends[key]; !known && len(ends) >= maxEnds {
		makeRoom(ends, now)
	}
	ends[key] = provedEnd{items: end.items, at: now}
}

// grows takes over that this client has added an item to a list in the order of ids.
func (l *listEnds) grows(list, id string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	known, ok := l.tails[list]
	at, found := slices.BinarySearch(known.ids, id)
	if ok && !found && (at > 0 || known.whole) {
		known.ids = slices.Insert(known.ids, at, id)
		if drop := len(known.ids) - maxTail; drop > 0 {
			known.ids, known.whole = slices.Delete(known.ids, 0, drop), false
		}
		l.tails[list] = known
	}
}

// shrinks takes over that this client has removed an item from such a list.
func (l *listEnds) shrinks(list, id string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	known := l.tails[list]
	if at, found := slices.BinarySearch(known.ids, id); found {
		known.ids = slices.Delete(known.ids, at, at+1)
		l.tails[list] = known
	}
}

// mayGrow takes over that it is unknown whether this client has added an item to such a list.
func (l *listEnds) mayGrow(list string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.tails, list)
}

// doubt makes all lists be read to their end the next time, once in a while.
func (l *listEnds) doubt() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if now := time.Now(); l.doubtedAt.IsZero() || now.Sub(l.doubtedAt) >= doubtSpacing {
		l.doubtedAt = now
		clear(l.proved)
		clear(l.tails)
	}
}

// makeRoom forgets the ends that prove nothing any more; if there are none, the oldest one.
func makeRoom(ends map[uint64]provedEnd, now time.Time) {
	var oldest uint64
	oldestAt := now
	for key, end := range ends {
		switch {
		case now.Sub(end.at) >= endMaxAge:
			delete(ends, key)
		case !end.at.After(oldestAt):
			oldest, oldestAt = key, end.at
		}
	}
	if len(ends) >= maxEnds {
		delete(ends, oldest)
	}
}
