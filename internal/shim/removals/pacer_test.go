// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package removals

import (
	"fmt"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

const interval = 5 * time.Second

// remove asks for the removal of a node whose instance is gone, and returns whether anything was
// looked for, and whether it may be removed.
func remove(p *Pacer, node string, nodes int) (asked, removed bool) {
	attempt := p.Begin(node, nodes)
	if attempt == nil {
		return false, false
	}
	defer attempt.End()
	return true, attempt.Gone()
}

func TestSoManyGoAtOnce(t *testing.T) {
	for _, tt := range []struct{ nodes, want int }{
		{1, 3}, {10, 3}, {39, 3}, {40, 4}, {100, 10}, {1000, 100},
	} {
		t.Run(strconv.Itoa(tt.nodes), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := NewPacer(interval)
				left, removed := tt.nodes, 0
				for i := range tt.nodes {
					if _, ok := remove(p, strconv.Itoa(i), left); ok {
						removed++
						left-- // The cluster shrinks, what is a tenth of it does not.
					}
				}
				if want := min(tt.want, tt.nodes); removed != want {
					t.Errorf("%d are removed at once, want %d", removed, want)
				}
				if got := p.Waiting(); got != tt.nodes-removed {
					t.Errorf("%d wait, want %d", got, tt.nodes-removed)
				}
			})
		})
	}
}

func TestTheOthersGoOneByOneAndAreProvenAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := NewPacer(interval)
		start := time.Now()
		left := map[string]bool{}
		for i := range 10 {
			left[strconv.Itoa(i)] = true
		}
		proofs := map[string]int{}
		var times []time.Duration
		// The framework comes back to each node every second.
		for range 60 {
			for node := range left {
				asked, removed := remove(p, node, 20)
				if asked {
					proofs[node]++
				}
				if removed {
					times = append(times, time.Since(start))
					delete(left, node)
				}
			}
			time.Sleep(time.Second)
		}
		want := []time.Duration{0, 0, 0}
		for i := range 7 {
			want = append(want, time.Duration(i+1)*interval)
		}
		if fmt.Sprint(times) != fmt.Sprint(want) {
			t.Errorf("they go at %v, want %v", times, want)
		}
		once, twice := 0, 0
		for _, n := range proofs {
			switch n {
			case 1:
				once++
			case 2:
				twice++
			}
		}
		if once != 3 || twice != 7 {
			t.Errorf("looked for %v times: 3 nodes once, 7 twice: nothing before its turn", proofs)
		}
	})
}

func TestATurnIsGivenToOneAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := NewPacer(interval)
		for i := range 5 {
			remove(p, strconv.Itoa(i), 5)
		}
		time.Sleep(interval)
		first := p.Begin("3", 5)
		if first == nil {
			t.Fatal("nobody gets a turn")
		}
		if p.Begin("4", 5) != nil {
			t.Error("two have a turn at the same time")
		}
		// The first one turns out to exist: the next one need not wait for another interval.
		first.End()
		if _, removed := remove(p, "4", 5); !removed {
			t.Error("a turn that was not used is lost")
		}
		if got := p.Waiting(); got != 0 {
			t.Errorf("%d wait", got)
		}
	})
}

func TestANodeThatIsStillThereMayBeRemovedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := NewPacer(interval)
		for i := range 3 {
			for range 4 { // The API server refuses to delete it.
				if _, removed := remove(p, strconv.Itoa(i), 5); !removed {
					t.Fatalf("node %d is not removed", i)
				}
			}
		}
		if _, removed := remove(p, "3", 5); removed {
			t.Error("the fourth is not paced")
		}
	})
}

func TestTheWindowPasses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := NewPacer(time.Hour)
		for i := range 4 {
			remove(p, strconv.Itoa(i), 5)
		}
		time.Sleep(Window - time.Second)
		if asked, _ := remove(p, "3", 5); asked {
			t.Error("it goes before the window has passed")
		}
		time.Sleep(time.Second)
		if _, removed := remove(p, "3", 5); !removed {
			t.Error("it still waits after the window has passed")
		}
	})
}

func TestWhoIsNotAskedForAnyMoreDoesNotWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := NewPacer(interval)
		for i := range 4 {
			remove(p, strconv.Itoa(i), 5)
		}
		if got := p.Waiting(); got != 1 {
			t.Fatalf("%d wait", got)
		}
		time.Sleep(Window)
		if got := p.Waiting(); got != 0 {
			t.Errorf("%d wait, nobody asked for them in %s", got, Window)
		}
	})
}

func TestConcurrentAttemptsStayWithinTheLimit(t *testing.T) {
	p := NewPacer(time.Hour)
	var mu sync.Mutex
	removed := 0
	var group sync.WaitGroup
	for i := range 50 {
		group.Go(func() {
			if _, ok := remove(p, strconv.Itoa(i), 50); ok {
				mu.Lock()
				removed++
				mu.Unlock()
			}
		})
	}
	group.Wait()
	if removed != 5 {
		t.Errorf("%d of 50 are removed at once, want 5", removed)
	}
}
