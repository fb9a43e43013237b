// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package coalesce

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/oxide"
)

const spacing = 250 * time.Millisecond

// source is what a Reader reads: each reading takes a second and gives its number, counted from 1.
type source struct {
	mu    sync.Mutex
	count int
	err   error
}

func (s *source) read(ctx context.Context) (int, error) {
	s.mu.Lock()
	s.count++
	count, err := s.count, s.err
	s.mu.Unlock()
	select {
	case <-time.After(time.Second):
		return count, err
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}

func (s *source) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err = err
}

func bubble(t *testing.T, test func(t *testing.T, s *source, c *Reader[int])) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := &source{}
		test(t, s, &Reader[int]{Doing: "read", Read: s.read, Spacing: spacing})
	})
}

// callers makes n calls at the same time and returns what each got.
func callers(n int, call func() (*Reading[int], error)) (facts []int, errs []error) {
	facts, errs = make([]int, n), make([]error, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { facts[i], errs[i] = Facts(call()) })
	}
	wg.Wait()
	return facts, errs
}

func TestHundredCallersShareOneReading(t *testing.T) {
	bubble(t, func(t *testing.T, s *source, c *Reader[int]) {
		facts, errs := callers(100, func() (*Reading[int], error) {
			return c.Within(t.Context(), time.Minute)
		})
		for i, got := range facts {
			if got != 1 || errs[i] != nil {
				t.Fatalf("caller %d got %d, %v", i, got, errs[i])
			}
		}
		if s.count != 1 {
			t.Errorf("%d readings, want 1", s.count)
		}
	})
}

// Of those who want what is newer than their call, all who come during one reading share the next.
func TestHundredCallersDuringAReadingShareTheNext(t *testing.T) {
	bubble(t, func(t *testing.T, s *source, c *Reader[int]) {
		var wg sync.WaitGroup
		wg.Go(func() { _, _ = c.After(t.Context()) })
		synctest.Wait()
		facts, errs := callers(100, func() (*Reading[int], error) { return c.After(t.Context()) })
		for i, got := range facts {
			if got != 2 || errs[i] != nil {
				t.Fatalf("caller %d got %d, %v", i, got, errs[i])
			}
		}
		wg.Wait()
		if s.count != 2 {
			t.Errorf("%d readings, want 2", s.count)
		}
	})
}

func TestCancelledCallerDoesNotFailTheOthers(t *testing.T) {
	bubble(t, func(t *testing.T, s *source, c *Reader[int]) {
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { // the one whose call began the reading
			if _, err := c.Within(ctx, 0); !oxide.IsKind(err, oxide.KindEnded) ||
				!errors.Is(err, context.Canceled) {
				t.Errorf("the cancelled caller got %v", err)
			}
		})
		synctest.Wait()
		wg.Go(func() {
			if got, err := Facts(c.Within(t.Context(), time.Minute)); got != 1 || err != nil {
				t.Errorf("the other caller got %d, %v", got, err)
			}
		})
		time.Sleep(time.Second / 2)
		cancel()
		wg.Wait()
		if s.count != 1 {
			t.Errorf("%d readings, want 1", s.count)
		}
	})
}

func TestCallerWhoHasGoneBeginsNoReading(t *testing.T) {
	bubble(t, func(t *testing.T, s *source, c *Reader[int]) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		for _, call := range []func() (*Reading[int], error){
			func() (*Reading[int], error) { return c.Within(ctx, time.Minute) },
			func() (*Reading[int], error) { return c.After(ctx) },
		} {
			if _, err := call(); !oxide.IsKind(err, oxide.KindEnded) {
				t.Errorf("got %v", err)
			}
		}
		time.Sleep(time.Minute)
		if s.count != 0 {
			t.Errorf("%d readings, want none", s.count)
		}
	})
}

func TestErrorReachesEverybodyAndLeavesNoFacts(t *testing.T) {
	bubble(t, func(t *testing.T, s *source, c *Reader[int]) {
		broken := errors.New("broken")
		s.fail(broken)
		facts, errs := callers(100, func() (*Reading[int], error) {
			return c.Within(t.Context(), time.Minute)
		})
		for i, err := range errs {
			if !errors.Is(err, broken) || facts[i] != 0 {
				t.Fatalf("caller %d got %d, %v", i, facts[i], err)
			}
		}
		if c.Latest() != nil {
			t.Error("a failed reading is taken for facts")
		}
		s.fail(nil)
		if got, err := Facts(c.Within(t.Context(), time.Minute)); got != 2 || err != nil {
			t.Errorf("once it works again: %d, %v", got, err)
		}
		// What was read before stays known, but is not passed off as fresh.
		s.fail(broken)
		time.Sleep(time.Minute)
		if _, err := c.Within(t.Context(), time.Second); !errors.Is(err, broken) {
			t.Errorf("got %v, want the error", err)
		}
		if last := c.Latest(); last == nil || last.Facts != 2 {
			t.Errorf("latest is %+v", last)
		}
	})
}

func TestAfterNeverReturnsFactsFromBeforeTheCall(t *testing.T) {
	bubble(t, func(t *testing.T, s *source, c *Reader[int]) {
		var wg sync.WaitGroup
		for range 200 { // calls at all moments of readings that follow each other
			wg.Go(func() {
				began := time.Now()
				r, err := c.After(t.Context())
				if err != nil || r.Began.Before(began) {
					t.Errorf("a call at %v got facts of %v, %v", began, r.Began, err)
				}
			})
			time.Sleep(73 * time.Millisecond)
		}
		wg.Wait()
		// 200 calls in 14.6 s, a second for each reading: one after the other, none in parallel.
		if s.count < 14 || s.count > 17 {
			t.Errorf("%d readings", s.count)
		}
	})
}

func TestWithinReadsAgainOnlyWhatIsTooOld(t *testing.T) {
	bubble(t, func(t *testing.T, _ *source, c *Reader[int]) {
		for _, step := range []struct {
			wait, maxAge time.Duration
			want         int
		}{
			{0, 10 * time.Second, 1},
			{8 * time.Second, 10 * time.Second, 1}, // began 9 s ago
			{2 * time.Second, 10 * time.Second, 2},
			{0, time.Second / 2, 3},
		} {
			time.Sleep(step.wait)
			if got, err := Facts(c.Within(t.Context(), step.maxAge)); got != step.want ||
				err != nil {
				t.Errorf("after %v: %d, %v, want %d", step.wait, got, err, step.want)
			}
		}
	})
}

// A reading that hangs is no excuse for older facts than were asked for.
func TestWithinJoinsNoReadingThatBeganTooLongAgo(t *testing.T) {
	bubble(t, func(t *testing.T, _ *source, c *Reader[int]) {
		var wg sync.WaitGroup
		wg.Go(func() { _, _ = c.After(t.Context()) })
		time.Sleep(900 * time.Millisecond)
		if got, err := Facts(c.Within(t.Context(), time.Second/2)); got != 2 || err != nil {
			t.Errorf("got reading %d, %v, want the next", got, err)
		}
		wg.Wait()
	})
}

func TestReadingsKeepTheirDistance(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var began []time.Time
		c := &Reader[int]{Spacing: spacing, Read: func(context.Context) (int, error) {
			began = append(began, time.Now())
			return 0, nil
		}}
		for range 5 {
			if _, err := c.After(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if first := began[0].Sub(time.Now().Add(-4 * spacing)); first != 0 {
			t.Errorf("five readings took %v more than they should", first)
		}
		for i := 1; i < len(began); i++ {
			if distance := began[i].Sub(began[i-1]); distance != spacing {
				t.Errorf("reading %d began %v after the one before", i, distance)
			}
		}
	})
}

func TestReadingThatHangsEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &Reader[int]{Spacing: spacing, Read: func(ctx context.Context) (int, error) {
			<-ctx.Done()
			return 0, ctx.Err()
		}}
		start := time.Now()
		if _, err := c.After(t.Context()); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		if took := time.Since(start); took != Timeout {
			t.Errorf("took %v, want %v", took, Timeout)
		}
	})
}
