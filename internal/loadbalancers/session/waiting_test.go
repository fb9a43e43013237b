// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package session

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/plan"
)

// callers make requests on instances until the test ends, each about another address.
func callers(t *testing.T, table *operationTable, n int, instance func(i int) string) (entered *[]*operation) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	entered = new([]*operation)
	results := make(chan *operation, n)
	done := make(chan struct{})
	for i := range n {
		go func() {
			op := &operation{subject: fmt.Sprintf("address-%d", i)}
			if _, err := table.lock(ctx, op); err != nil {
				results <- nil
				return
			}
			request, _, err := table.enter(ctx, op, plan.ActionAttach, instance(i), "")
			if err != nil {
				request = nil
			}
			results <- request
		}()
	}
	go func() {
		defer close(done)
		for range n {
			if op := <-results; op != nil {
				*entered = append(*entered, op)
			}
		}
	}()
	t.Cleanup(func() {
		cancel()
		<-done
	})
	synctest.Wait()
	return entered
}

func always() bool { return true }

// Whatever calls do, the requests of sessions begin at once.
func TestCallsLeaveRoomForSessions(t *testing.T) {
	t.Run("over all instances", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			table := newOperationTable(0)
			entered := callers(t, table, 100, func(i int) string { return fmt.Sprintf("instance-%d", i) })
			if n := len(*entered); n != maxYoungByCall {
				t.Errorf("%d requests of calls", n)
			}
			for i := range maxYoung - maxYoungByCall {
				op := &operation{subject: fmt.Sprintf("balancer-%d", i), instance: fmt.Sprintf("node-%d", i)}
				if began, _ := table.start(op, time.Now(), always); !began {
					t.Fatalf("the request %d of a session waits", i)
				}
			}
		})
	})
	t.Run("on one instance", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			table := newOperationTable(0)
			first := &operation{subject: "first", instance: "node"}
			if began, _ := table.start(first, time.Now(), always); !began {
				t.Fatal("the first request waits")
			}
			table.finish(first, time.Now(), true, false)
			entered := callers(t, table, 20, func(int) string { return "node" })
			if n := len(*entered); n != maxParallelByCall {
				t.Errorf("%d requests of calls", n)
			}
			second := &operation{subject: "second", instance: "node"}
			if began, _ := table.start(second, time.Now(), always); !began {
				t.Error("the request of a session waits")
			}
		})
	})
}

// A request that hangs keeps no other instance's from being made.
func TestCallsThatHangDoNotHoldUpOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		table := newOperationTable(0)
		entered := callers(t, table, 3*maxYoungByCall, func(i int) string { return fmt.Sprintf("instance-%d", i) })
		time.Sleep(2*oldAfter + 3*waitAtMost)
		synctest.Wait()
		if n := len(*entered); n != 3*maxYoungByCall {
			t.Errorf("%d requests", n)
		}
	})
}

func TestACallWaitsForWhoeverHasTheAddressAndNoLongerThanItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		table := newOperationTable(0)
		moving := &operation{scope: "c1", subject: "address", instance: "node", typ: plan.ActionDetach}
		if began, _ := table.start(moving, time.Now(), always); !began {
			t.Fatal("it waits")
		}
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		locked := &operation{subject: "address"}
		if waited, err := table.lock(ctx, locked); !waited || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("waited: %v, %v", waited, err)
		}
		go func() {
			time.Sleep(300 * time.Millisecond)
			table.finish(moving, time.Now(), true, false)
			table.done(moving)
		}()
		began := time.Now()
		if waited, err := table.lock(t.Context(), locked); err != nil || !waited ||
			time.Since(began) != 300*time.Millisecond {
			t.Errorf("waited: %v, %v, for %s", waited, err, time.Since(began))
		}
		again := &operation{scope: "c1", subject: "address"}
		if began, _ := table.start(again, time.Now(), always); began {
			t.Error("a session changes an address that a call has locked")
		}
		table.done(locked)
		if began, _ := table.start(again, time.Now(), always); !began {
			t.Error("a session waits for a call that has ended")
		}
	})
}

// A call makes no request of an instance that is left alone before its time, and then the next probe.
func TestACallWaitsUntilAnInstanceIsProbedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		table := newOperationTable(0)
		failed := &operation{subject: "first", instance: "node"}
		if began, _ := table.start(failed, time.Now(), always); !began {
			t.Fatal("it waits")
		}
		table.finish(failed, time.Now(), false, true)
		table.done(failed)
		if !table.isResting("node", time.Now()) {
			t.Error("it is not left alone")
		}
		locked := &operation{subject: "second"}
		if _, err := table.lock(t.Context(), locked); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		_, waited, err := table.enter(t.Context(), locked, plan.ActionAttach, "node", "")
		if took := time.Since(began); err != nil || !waited || took < stuckBackoff/2 || took > 2*stuckBackoff {
			t.Errorf("waited: %v, %v, for %s", waited, err, took)
		}
	})
}
