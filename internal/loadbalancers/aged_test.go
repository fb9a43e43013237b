// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package loadbalancers

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// Many who want to know the same at the same time ask once, and once more when the answer is old.
func TestTheSameIsAskedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := aged[int]{maxAge: time.Minute, failureMaxAge: time.Second}
		asked := 0
		ask := func(context.Context, string) (int, error) {
			asked++
			time.Sleep(50 * time.Millisecond)
			return asked, nil
		}
		for want := 1; want <= 2; want++ {
			var all sync.WaitGroup
			for range 10 {
				all.Go(func() {
					if got, err := a.get(t.Context(), "key", ask); got != want || err != nil {
						t.Errorf("got %d, %v, want %d", got, err, want)
					}
				})
			}
			all.Wait()
			time.Sleep(time.Minute)
		}
	})
}

// Who gives up leaves the question to the next one, and who waits may give up, too.
func TestWhoGivesUpHoldsNobodyUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := aged[int]{maxAge: time.Minute, failureMaxAge: time.Second}
		ask := func(ctx context.Context, _ string) (int, error) {
			select {
			case <-ctx.Done():
				return 0, ctx.Err()
			case <-time.After(10 * time.Second):
				return 7, nil
			}
		}
		get := func(patience time.Duration) (int, error) {
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			return a.get(ctx, "key", ask)
		}
		var all sync.WaitGroup
		defer all.Wait()
		for _, patience := range []time.Duration{2 * time.Second, time.Second} {
			all.Go(func() {
				if _, err := get(patience); !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("after %s: %v", patience, err)
				}
			})
			synctest.Wait()
		}
		if got, err := get(time.Minute); got != 7 || err != nil {
			t.Errorf("got %d, %v", got, err)
		}
	})
}
