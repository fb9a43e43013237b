// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package oxide

import (
	"fmt"
	"strconv"
	"testing"
	"testing/synctest"
	"time"
)

func end(next string, items int) pageEnd { return pageEnd{list: "l", next: next, items: items} }

func TestAPageIsTheLastOneOnlyWhereNothingFollowedItWithinTheHour(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newListEnds()
		check := func(e pageEnd, want bool, when string) {
			t.Helper()
			if got := l.isLast(e); got != want {
				t.Errorf("%s: %v is the last page: %v, want %v", when, e, got, want)
			}
		}
		check(end("x", 9), false, "before any proof")
		l.follows(end("x", 9), false)
		check(end("x", 9), true, "proved")
		check(end("x", 8), false, "as long as a lower cap")
		check(end("x", 10), false, "grown, and perhaps cut")
		check(end("y", 9), false, "cut elsewhere")
		check(pageEnd{list: "m", next: "x", items: 9}, false, "of another list")
		check(pageEnd{list: "l", of: "o", next: "x", items: 9}, false, "of the list of another object")
		time.Sleep(endMaxAge - time.Second)
		check(end("x", 9), true, "just within the hour")
		time.Sleep(time.Second)
		check(end("x", 9), false, "after an hour")
		l.follows(end("x", 9), false)
		l.follows(end("x", 9), true)
		check(end("x", 9), false, "something follows now")
	})
}

func TestALengthAtWhichAPageWasCutCountsAsFullForAnHour(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newListEnds()
		l.follows(end("c", 3), false)
		l.follows(pageEnd{list: "other", next: "z", items: 3}, true)
		if l.isLast(end("c", 3)) {
			t.Error("a page that is as long as one that was cut counts as the last one")
		}
		l.follows(end("b", 2), false)
		if !l.isLast(end("b", 2)) {
			t.Error("a page that is shorter than what was cut is read on")
		}
		time.Sleep(endMaxAge)
		l.follows(end("c", 3), false)
		if !l.isLast(end("c", 3)) {
			t.Error("a cut is remembered for more than an hour")
		}
	})
}

// What this client adds to a list or removes from it itself leaves a last item that it knows: no request is
// needed for that.
func TestAListThatThisClientChangesKeepsItsEnd(t *testing.T) {
	page := func(ids ...string) pageEnd {
		end := pageEnd{list: "l", next: fmt.Sprint("after ", ids), items: len(ids), first: true}
		end.tail = ids[max(0, len(ids)-maxTail):]
		return end
	}
	nothing := pageEnd{list: "l", first: true}
	for _, tc := range []struct {
		name   string
		proved pageEnd
		change func(*listEnds)
		page   pageEnd
		want   bool
	}{
		{"what was proved", page("f", "m"), func(*listEnds) {}, page("f", "m"), true},
		{"added before the last", page("f", "m"), func(l *listEnds) { l.grows("l", "h") },
			page("f", "h", "m"), true},
		{"added before all", page("f", "m"), func(l *listEnds) { l.grows("l", "b") },
			page("b", "f", "m"), true},
		{"added behind all", page("f", "m"), func(l *listEnds) { l.grows("l", "x") },
			page("f", "m", "x"), true},
		{"added behind all, and cut off", page("f", "m"), func(l *listEnds) { l.grows("l", "x") },
			page("f", "m"), false},
		{"added to an empty list", nothing, func(l *listEnds) { l.grows("l", "b") }, page("b"), true},
		{"removed the last", page("f", "m"), func(l *listEnds) { l.shrinks("l", "m") }, page("f"), true},
		{"removed the only one, and added another", page("m"), func(l *listEnds) {
			l.shrinks("l", "m")
			l.grows("l", "b")
		}, page("b"), true},
		{"removed more than is remembered, and added one", page(letters(maxTail + 1)...), func(l *listEnds) {
			for _, id := range letters(maxTail + 1) {
				l.shrinks("l", id)
			}
			l.grows("l", "A")
		}, page("A"), false},
		{"added more than is remembered", nothing, func(l *listEnds) {
			for _, id := range letters(maxTail + 1) {
				l.grows("l", id)
			}
		}, page(letters(maxTail + 1)...), true},
		{"added and removed more than is remembered", nothing, func(l *listEnds) {
			for _, id := range letters(maxTail + 1) {
				l.grows("l", id)
			}
			for _, id := range letters(maxTail + 1)[1:] {
				l.shrinks("l", id)
			}
		}, page(letters(1)...), false},
		{"added behind all by somebody else", page("f", "m"), func(*listEnds) {},
			page("f", "m", "x"), false},
		{"perhaps added", page("f", "m"), func(l *listEnds) { l.mayGrow("l") }, page("f", "m"), false},
		{"added to what was never read", pageEnd{list: "other"}, func(l *listEnds) { l.grows("l", "b") },
			page("b"), false},
		{"in doubt", page("f", "m"), (*listEnds).doubt, page("f", "m"), false},
		{"something follows now", page("f", "m"),
			func(l *listEnds) { l.follows(page("f", "m"), true) }, page("m"), false},
		{"as long as a page that was cut", page("f", "m"), func(l *listEnds) {
			l.follows(pageEnd{list: "other", next: "z", items: 2}, true)
		}, page("f", "m"), false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := newListEnds()
				l.follows(tc.proved, false)
				tc.change(l)
				if got := l.isLast(tc.page); got != tc.want {
					t.Errorf("it is the last page: %v, want %v", got, tc.want)
				}
				if n := len(l.tails["l"].ids); n > maxTail {
					t.Errorf("%d of the last items are remembered, want at most %d", n, maxTail)
				}
				time.Sleep(endMaxAge)
				if l.isLast(tc.page) {
					t.Error("it still is after an hour")
				}
			})
		})
	}
}

// letters are n ids in their order.
func letters(n int) []string {
	ids := make([]string, n)
	for i := range ids {
		ids[i] = string(rune('a' + i))
	}
	return ids
}

func TestAnItemThatCameInBetweenIsNoCap(t *testing.T) {
	l := newListEnds()
	l.follows(end("c", 3), true)
	l.shows("l", 4)
	l.follows(end("d", 4), false)
	if !l.isLast(end("d", 4)) {
		t.Error("a longer page was shown, and still counts as cut")
	}
}

func TestTheEndsThatAreRememberedAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newListEnds()
		for i := range 3 * maxEnds {
			l.follows(end(strconv.Itoa(i), 1), false)
			time.Sleep(time.Millisecond)
		}
		if n := len(l.proved["l"]); n > maxEnds {
			t.Errorf("%d ends are remembered, want at most %d", n, maxEnds)
		}
		if !l.isLast(end(strconv.Itoa(3*maxEnds-1), 1)) {
			t.Error("the youngest was forgotten")
		}
	})
}
