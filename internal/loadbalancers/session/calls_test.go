// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package session_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/ownership"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/session"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/oxide"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/oxidesim"
)

// reserve reserves a floating IP under a name, and attaches it to a node.
func (w *world) reserve(name string, node int) string {
	w.Helper()
	ip, _, err := w.manager.Reserve(w.Context(), session.ReserveRequest{Name: name, Family: ownership.IPv4})
	w.must(err)
	_, err = w.manager.Attach(w.Context(), session.AttachRequest{ID: ip.ID, InstanceID: w.nodes[node]})
	w.must(err)
	return ip.ID
}

func (w *world) moveTo(ctx context.Context, id string, node int) error {
	_, err := w.manager.Attach(ctx, session.AttachRequest{
		ID: id, InstanceID: w.nodes[node], FromAnywhere: true,
	})
	return err
}

// Somebody asks for a load balancer's address again and again, and its failover takes as long as ever.
func TestCallsForALoadBalancersAddressDelayNoFailover(t *testing.T) {
	failover := func(t *testing.T, hammered bool) (took time.Duration) {
		inWorld(t, 3, func(w *world) {
			o := w.open().sync()
			defer o.close()
			ip := o.settled(o.want("default/web", nil, 80))
			ctx, cancel := context.WithCancel(w.Context())
			var ended atomic.Int32
			callers := 0
			for hammered && callers < 8 {
				callers++
				go func() {
					defer ended.Add(1)
					for ctx.Err() == nil {
						err := w.moveTo(ctx, ip.ID, 2)
						if err == nil || ctx.Err() == nil && !session.IsReason(err, session.ReasonNotOwned) {
							t.Errorf("somebody took it: %v", err)
							return
						}
					}
				}()
			}
			time.Sleep(2 * time.Second)
			from := w.node(w.ip(ip.ID).InstanceID)
			o.observe(from, silent)
			took = w.await(time.Minute, "the failover", func() bool {
				at := w.ip(ip.ID)
				return at.AttachState == "attached" && at.InstanceID != w.nodes[from]
			})
			cancel()
			w.await(time.Minute, "the end of the callers", func() bool { return int(ended.Load()) == callers })
		})
		return took
	}
	quiet, loud := failover(t, false), failover(t, true)
	t.Logf("failover_seconds: %.2f, with callers %.2f", quiet.Seconds(), loud.Seconds())
	if loud > quiet+time.Second {
		t.Errorf("%s instead of %s", loud, quiet)
	}
}

// A backend that stops in the middle of a move finishes it: the address arrives.
func TestInvariant2AMoveByACallArrivesAlthoughTheBackendStops(t *testing.T) {
	inWorld(t, 2, func(w *world) {
		id := w.reserve("vip", 0)
		ctx, cancel := context.WithCancel(w.Context())
		moved := make(chan error, 1)
		go func() { moved <- w.moveTo(ctx, id, 1) }()
		w.await(10*time.Second, "the detachment", func() bool { return w.ip(id).AttachState == "detaching" })
		cancel()
		stop, done := context.WithTimeout(context.Background(), 8*time.Second)
		defer done()
		w.manager.Stop(stop)
		if ip := w.ip(id); ip.AttachState != "attached" || ip.InstanceID != w.nodes[1] {
			t.Errorf("when the backend has stopped: %+v", ip)
		}
		w.must(<-moved)
		w.connect()
	})
}

// An instance whose sled does not answer keeps its addresses, and gets no other: an address that could
// not arrive there stays where it is.
func TestInvariant2NoAddressMovesToAnInstanceThatTakesNone(t *testing.T) {
	inWorldOf(t, oxidesim.Config{}, 3, func(w *world) {
		stuck, other := w.reserve("stuck", 0), w.reserve("other", 1)
		w.must(w.sim.LoseSled(w.sled(0)))
		var oxideErr *oxide.Error
		began := time.Now()
		err := w.moveTo(w.Context(), stuck, 2)
		if !errors.As(err, &oxideErr) || oxideErr.Kind != oxide.KindUnavailable {
			t.Fatalf("after %s: %v", time.Since(began), err)
		}
		if err := w.moveTo(w.Context(), other, 0); !session.IsReason(err, session.ReasonNotOperable) {
			t.Errorf("to the instance: %v", err)
		}
		if ip := w.ip(other); ip.InstanceID != w.nodes[1] {
			t.Errorf("the other address: %+v", ip)
		}
		// All others go on meanwhile.
		began = time.Now()
		w.must(w.moveTo(w.Context(), other, 2))
		if took := time.Since(began); took > 10*time.Second {
			t.Errorf("a move elsewhere took %s", took)
		}
		w.must(w.sim.RecoverSled(w.sled(0)))
		w.must(w.moveTo(w.Context(), stuck, 2))
	})
}

// Oxide's detach names no instance: while a call waited for its turn, another backend moved the address.
func TestInvariant2ACallThatHadToWaitLooksAgainWhereAnAddressIs(t *testing.T) {
	inWorld(t, 3, func(w *world) {
		id, blocker := w.reserve("vip", 0), w.reserve("blocker", 0)
		time.Sleep(15 * time.Second) // one request at a time again
		_, err := w.sim.AddFault(oxidesim.Fault{Operation: "floating_ip_detach", LatencyMS: 5000, Times: 1})
		w.must(err)
		ended := make(chan error, 2)
		go func() {
			_, err := w.manager.Detach(w.Context(), ownership.FloatingIP, blocker, w.nodes[0])
			ended <- err
		}()
		time.Sleep(500 * time.Millisecond)
		go func() {
			_, err := w.manager.Attach(w.Context(), session.AttachRequest{
				ID: id, InstanceID: w.nodes[1], From: w.nodes[0],
			})
			ended <- err
		}()
		time.Sleep(500 * time.Millisecond)
		w.must(w.api.DetachFloatingIP(w.Context(), id))
		_, err = w.api.AttachFloatingIP(w.Context(), id, w.nodes[2])
		w.must(err)
		w.must(<-ended)
		if err := <-ended; !session.IsReason(err, session.ReasonInUse) {
			t.Errorf("the call that waited: %v", err)
		}
		if ip := w.ip(id); ip.InstanceID != w.nodes[2] || ip.AttachState != "attached" {
			t.Errorf("got %+v", ip)
		}
	})
}

// An attachment whose answer was lost shows its instance and may never have been completed.
func TestInvariant6AnAttachmentIsConfirmedWhenItIsAskedForAgain(t *testing.T) {
	inWorld(t, 1, func(w *world) {
		id := w.reserve("vip", 0)
		w.must(w.sim.SetAttachState(id, "attaching", w.nodes[0]))
		w.must(w.moveTo(w.Context(), id, 0))
		if ip := w.ip(id); ip.AttachState != "attached" {
			t.Errorf("got %+v", ip)
		}
	})
}

// Sessions see at once what a call changed, and addresses of calls are no matter of theirs.
func TestASessionLeavesAddressesOfCallsAlone(t *testing.T) {
	inWorld(t, 2, func(w *world) {
		o := w.open().sync()
		defer o.close()
		web := o.want("default/web", nil, 80)
		first := o.settled(web)
		for i := range 4 {
			w.reserve(fmt.Sprintf("vip-%d", i), i%2)
		}
		time.Sleep(3 * time.Minute)
		synctest.Wait()
		for _, ip := range w.sim.FloatingIPs() {
			if ip.AttachState != "attached" {
				t.Errorf("%+v", ip)
			}
		}
		if ip := o.settled(web); ip.ID != first.ID || ip.Attached != first.Attached {
			t.Errorf("the load balancer's address: %+v, before: %+v", ip, first)
		}
	})
}
