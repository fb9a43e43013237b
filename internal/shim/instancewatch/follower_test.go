// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package instancewatch

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

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/shim/instancewatch/instancewatchtest"
	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

const (
	id1 = "11111111-1111-4111-8111-111111111111"
	id2 = "22222222-2222-4222-8222-222222222222"
)

func machine(id, name string) *backendv1.Instance {
	return &backendv1.Instance{Id: id, Name: name}
}

// follow runs a follower for the time of a test.
func follow(t *testing.T, p *instancewatchtest.Peer) (f *Follower, changed *[]string) {
	t.Helper()
	changed = new([]string)
	f = New(p, false)
	f.Subscribe(func(id string) { *changed = append(*changed, id) })
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		f.Run(ctx)
		close(ended)
	}()
	t.Cleanup(func() {
		cancel()
		<-ended
	})
	return f, changed
}

func (f *Follower) ids() []string {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return slices.Sorted(maps.Keys(f.known))
}

func TestInstancesAreKnownAsTheStreamTellsThem(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := instancewatchtest.NewPeer()
		f, changed := follow(t, p)
		check := func(when string, want ...string) {
			t.Helper()
			synctest.Wait()
			if diff := cmp.Diff(want, f.ids()); diff != "" {
				t.Errorf("%s (-want +got):\n%s", when, diff)
			}
		}
		first := <-p.Opened
		first.Is(machine(id1, "a"), machine(id2, "b"))
		first.Complete()
		check("after the snapshot", id1, id2)
		bigger := machine(id1, "a")
		bigger.CpuCount = 8
		first.Is(bigger)
		check("after a change", id1, id2)
		if got := f.Instance(id1).GetCpuCount(); got != 8 {
			t.Errorf("it is known with %d CPUs, want 8", got)
		}
		first.Lost(id2)
		check("after one is lost", id1)

		// Without a stream, and with half a snapshot, what is known stays known.
		close(first.Events)
		check("without a stream", id1)
		second := <-p.Opened
		second.Is(machine(id2, "b"))
		check("with half a snapshot", id1, id2)
		second.Complete()
		check("after the second snapshot", id2)
		if diff := cmp.Diff([]string{id1, id2, "", id1, id2, id2, id1, ""}, *changed); diff != "" {
			t.Errorf("told as changed (-want +got):\n%s", diff)
		}
	})
}

func TestAStreamThatEndsIsOpenedAgainWithGrowingPauses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := instancewatchtest.NewPeer()
		p.Refuse.Store(status.New(codes.Unimplemented, "an old backend"))
		follow(t, p)
		last := time.Now()
		<-p.Opened
		pause := func() time.Duration {
			<-p.Opened
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
		p.Refuse.Store(nil)
		s := <-p.Opened
		s.Complete()
		last = time.Now()
		close(s.Events)
		if got := pause(); got > 2*time.Second {
			t.Errorf("the pause after a good stream is %s", got)
		}
	})
}
