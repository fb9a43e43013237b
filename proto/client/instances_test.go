// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package client

import (
	"context"
	"errors"
	"io"
	"maps"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

// instancePeer is a backend whose streams of instances a test speaks through, one after the other.
type instancePeer struct {
	backendv1.InstanceServiceClient
	opened chan *instanceStream
	// refusal, if it is set, is answered instead of a stream.
	refusal error
}

// WatchInstances implements backendv1.InstanceServiceClient.
func (p *instancePeer) WatchInstances(ctx context.Context, _ *backendv1.WatchInstancesRequest,
	_ ...grpc.CallOption,
) (grpc.ServerStreamingClient[backendv1.WatchInstancesResponse], error) {
	s := &instanceStream{ctx: ctx, events: make(chan *backendv1.WatchInstancesResponse)}
	select {
	case p.opened <- s:
		return s, p.refusal
	case <-ctx.Done():
		return nil, status.FromContextError(ctx.Err()).Err()
	}
}

// instanceStream is one stream; closing events ends it.
type instanceStream struct {
	grpc.ClientStream
	ctx    context.Context
	events chan *backendv1.WatchInstancesResponse
}

// Recv implements grpc.ServerStreamingClient.
func (s *instanceStream) Recv() (*backendv1.WatchInstancesResponse, error) {
	select {
	case event, ok := <-s.events:
		if !ok {
			return nil, io.EOF
		}
		return event, nil
	case <-s.ctx.Done():
		return nil, status.FromContextError(s.ctx.Err()).Err()
	}
}

func (s *instanceStream) send(instance *backendv1.Instance) {
	s.events <- &backendv1.WatchInstancesResponse{
		Event: &backendv1.WatchInstancesResponse_Instance{Instance: instance},
	}
}

func (s *instanceStream) complete() {
	s.events <- &backendv1.WatchInstancesResponse{
		Event: &backendv1.WatchInstancesResponse_SnapshotComplete{
			SnapshotComplete: new(backendv1.SnapshotComplete),
		},
	}
}

func (s *instanceStream) remove(id string) {
	s.events <- &backendv1.WatchInstancesResponse{
		Event: &backendv1.WatchInstancesResponse_NoLongerListedId{NoLongerListedId: id},
	}
}

// watched is an InstanceWatch that runs for the time of a test, and what it has called.
type watched struct {
	*InstanceWatch
	calls []string
}

func watch(t *testing.T, p *instancePeer) *watched {
	t.Helper()
	w := new(watched)
	w.InstanceWatch = NewInstanceWatch(InstanceWatchConfig{
		Service:      p,
		Changed:      func(id string) { w.calls = append(w.calls, id) },
		Synced:       func() { w.calls = append(w.calls, "synced") },
		Disconnected: func(err error) { w.calls = append(w.calls, err.Error()) },
	})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		w.Run(ctx)
		close(ended)
	}()
	t.Cleanup(func() {
		cancel()
		<-ended
	})
	return w
}

func (w *watched) check(t *testing.T, when string, want ...string) {
	t.Helper()
	synctest.Wait()
	if diff := cmp.Diff(want, slices.Sorted(maps.Keys(w.known))); diff != "" {
		t.Errorf("known %s (-want +got):\n%s", when, diff)
	}
}

func TestInstancesAreKnownAsTheStreamReportsThem(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &instancePeer{opened: make(chan *instanceStream)}
		w := watch(t, p)
		first := <-p.opened
		first.send(&backendv1.Instance{Id: "a"})
		first.send(&backendv1.Instance{Id: "b"})
		first.complete()
		w.check(t, "after the snapshot", "a", "b")
		first.send(&backendv1.Instance{Id: "a", CpuCount: 8})
		w.check(t, "after a change", "a", "b")
		if got := w.Instances(); len(got) != 2 || got[0].GetId() != "a" || got[1].GetId() != "b" {
			t.Errorf("all instances are %v", got)
		}
		if got := w.Instance("a").GetCpuCount(); got != 8 {
			t.Errorf("it is known with %d CPUs, want 8", got)
		}
		first.remove("b")
		w.check(t, "after one is lost", "a")

		// Without a stream, and with half a snapshot, what is known stays known.
		close(first.events)
		w.check(t, "without a stream", "a")
		second := <-p.opened
		second.send(&backendv1.Instance{Id: "b"})
		w.check(t, "with half a snapshot", "a", "b")
		second.complete()
		w.check(t, "after the second snapshot", "b")
		if diff := cmp.Diff([]string{
			"a", "b", "synced", "a", "b", "oxide-backend ended the stream", "b", "a", "synced",
		}, w.calls); diff != "" {
			t.Errorf("called (-want +got):\n%s", diff)
		}
		if got := w.Instance("c"); got != nil {
			t.Errorf("an instance that was never reported is known: %v", got)
		}
	})
}

func TestAStreamOfInstancesIsOpenedAgainWithGrowingPauses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &instancePeer{
			opened:  make(chan *instanceStream),
			refusal: status.Error(codes.Unimplemented, "an old backend"),
		}
		watch(t, p)
		<-p.opened
		last := time.Now()
		next := func(want time.Duration) *instanceStream {
			t.Helper()
			s := <-p.opened
			// They differ, so that not all clients come at once.
			if got := time.Since(last); got < want*8/10 || got > want*12/10 {
				t.Errorf("the pause is %s, want about %s", got, want)
			}
			last = time.Now()
			return s
		}
		for _, seconds := range []int{1, 2, 4, 8, 16, 30} {
			next(time.Duration(seconds) * time.Second)
		}
		synctest.Wait()
		p.refusal = nil
		good := next(30 * time.Second)
		good.complete()
		synctest.Wait()
		close(good.events)
		next(time.Second)
	})
}

func TestTheErrorOfACallIsFoundAndAnyOtherIsKept(t *testing.T) {
	if err := AsError(nil); err != nil {
		t.Errorf("no error became %v", err)
	}
	other := errors.New("other")
	if err := AsError(other); !errors.Is(err, other) {
		t.Errorf("another error became %v", err)
	}
	known := AsError(status.Error(codes.Unavailable, "raw"))
	var e *Error
	if !errors.As(known, &e) || e.Code != codes.Unavailable || e.Message == "raw" {
		t.Errorf("the error of a call became %v", known)
	}
	if AsError(known) != known { //nolint:errorlint // the very same
		t.Errorf("an *Error became another one")
	}
}
