// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package oxide

import (
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
