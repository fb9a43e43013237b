// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package nodes

import (
	"context"
	"sync/atomic"
	"testing"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

func TestMain(m *testing.M) {
	// The logger's flush daemon lives as long as the program.
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("k8s.io/klog/v2.(*flushDaemon).run.func1"))
}

// peer is a backend whose streams a test speaks through, one after the other.
type peer struct {
	backendv1.InstanceServiceClient
	// opened takes each stream that is opened; refuse, if it is set, is answered instead.
	opened chan *stream
	refuse atomic.Pointer[status.Status]
}

func newPeer() *peer { return &peer{opened: make(chan *stream)} }

func (p *peer) WatchInstances(ctx context.Context, req *backendv1.WatchInstancesRequest,
	_ ...grpc.CallOption,
) (grpc.ServerStreamingClient[backendv1.WatchInstancesResponse], error) {
	s := &stream{ctx: ctx, req: req, events: make(chan *backendv1.WatchInstancesResponse)}
	select {
	case p.opened <- s:
		return s, p.refuse.Load().Err()
	case <-ctx.Done():
		return nil, status.FromContextError(ctx.Err()).Err()
	}
}

// stream is one stream; closing events ends it with an error.
type stream struct {
	grpc.ClientStream
	ctx    context.Context
	req    *backendv1.WatchInstancesRequest
	events chan *backendv1.WatchInstancesResponse
}

func (s *stream) Recv() (*backendv1.WatchInstancesResponse, error) {
	select {
	case event, ok := <-s.events:
		if !ok {
			return nil, status.Error(codes.Unavailable, "the backend went away")
		}
		return event, nil
	case <-s.ctx.Done():
		return nil, status.FromContextError(s.ctx.Err()).Err()
	}
}

// is tells instances.
func (s *stream) is(instances ...*backendv1.Instance) {
	for _, instance := range instances {
		s.events <- &backendv1.WatchInstancesResponse{
			Event: &backendv1.WatchInstancesResponse_Instance{Instance: instance},
		}
	}
}

// complete ends the snapshot.
func (s *stream) complete() {
	s.events <- &backendv1.WatchInstancesResponse{
		Event: &backendv1.WatchInstancesResponse_SnapshotComplete{
			SnapshotComplete: &backendv1.SnapshotComplete{},
		},
	}
}

// lost tells that an instance is not listed any more.
func (s *stream) lost(id string) {
	s.events <- &backendv1.WatchInstancesResponse{
		Event: &backendv1.WatchInstancesResponse_NoLongerListedId{NoLongerListedId: id},
	}
}
