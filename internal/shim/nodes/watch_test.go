// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package nodes

import (
	"context"
	"maps"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

// follow runs a follower for the time of a test.
func follow(t *testing.T, p *peer) (f *follower, changed *[]string) {
	t.Helper()
	changed = new([]string)
	f = &follower{
		client: p, known: map[string]*backendv1.Instance{},
		changed: func(id string) { *changed = append(*changed, id) },
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		f.run(ctx)
		close(ended)
	}()
	t.Cleanup(func() {
		cancel()
		<-ended
	})
	return f, changed
}

func (f *follower) ids() []string {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return slices.Sorted(maps.Keys(f.known))
}

func TestInstancesAreKnownAsTheStreamTellsThem(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPeer()
		f, changed := follow(t, p)
		check := func(when string, want ...string) {
			t.Helper()
			synctest.Wait()
			if diff := cmp.Diff(want, f.ids()); diff != "" {
				t.Errorf("%s (-want +got):\n%s", when, diff)
			}
		}
		first := <-p.opened
		first.is(machine(id1, "a"), machine(id2, "b"))
		first.complete()
		check("after the snapshot", id1, id2)
		bigger := machine(id1, "a")
		bigger.CpuCount = 8
		first.is(bigger)
		check("after a change", id1, id2)
		if got := f.instance(id1).GetCpuCount(); got != 8 {
			t.Errorf("it is known with %d CPUs, want 8", got)
		}
		first.lost(id2)
		check("after one is lost", id1)

		// Without a stream, and with half a snapshot, what is known stays known.
		close(first.events)
		check("without a stream", id1)
		second := <-p.opened
		second.is(machine(id2, "b"))
		check("with half a snapshot", id1, id2)
		second.complete()
		check("after the second snapshot", id2)
		if diff := cmp.Diff([]string{id1, id2, id1, id2}, *changed); diff != "" {
			t.Errorf("told as changed (-want +got):\n%s", diff)
		}
	})
}

func TestAStreamThatEndsIsOpenedAgainWithGrowingPauses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPeer()
		p.refuse.Store(status.New(codes.Unimplemented, "an old backend"))
		follow(t, p)
		last := time.Now()
		<-p.opened
		pause := func() time.Duration {
			<-p.opened
			defer func() { last = time.Now() }()
			return time.Since(last)
		}
		for i, seconds := range []int{1, 2, 4, 8, 16, 30, 30} {
			want := time.Duration(seconds) * time.Second
			// They differ by up to a fifth, so that not all replicas come at once.
			if got := pause(); got < want || got > want*12/10 {
				t.Errorf("pause %d is %s, want about %s", i, got, want)
			}
		}
		// A stream whose snapshot was complete was a good one.
		p.refuse.Store(nil)
		s := <-p.opened
		s.complete()
		last = time.Now()
		close(s.events)
		if got := pause(); got > 2*time.Second {
			t.Errorf("the pause after a good stream is %s", got)
		}
	})
}
