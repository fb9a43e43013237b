// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package nodes

import (
	"context"
	"errors"

	"google.golang.org/grpc"
	"google.golang.org/grpc/status"

	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

// peer is a backend whose streams a test speaks through, one after the other.
type peer struct {
	backendv1.InstanceServiceClient
	// opened takes each stream that is opened.
	opened chan *instanceStream
}

// newPeer returns a peer.
func newPeer() *peer { return &peer{opened: make(chan *instanceStream)} }

// WatchInstances opens a stream.
func (p *peer) WatchInstances(ctx context.Context, req *backendv1.WatchInstancesRequest,
	_ ...grpc.CallOption,
) (grpc.ServerStreamingClient[backendv1.WatchInstancesResponse], error) {
	s := &instanceStream{ctx: ctx, req: req, events: make(chan *backendv1.WatchInstancesResponse)}
	select {
	case p.opened <- s:
		return s, nil
	case <-ctx.Done():
		return nil, status.FromContextError(ctx.Err()).Err()
	}
}

// instanceStream is one stream; closing events ends it with an error.
type instanceStream struct {
	grpc.ClientStream
	ctx    context.Context
	req    *backendv1.WatchInstancesRequest
	events chan *backendv1.WatchInstancesResponse
}

// Recv returns what the test says next.
func (s *instanceStream) Recv() (*backendv1.WatchInstancesResponse, error) {
	select {
	case event, ok := <-s.events:
		if !ok {
			return nil, errors.New("the backend went away")
		}
		return event, nil
	case <-s.ctx.Done():
		return nil, status.FromContextError(s.ctx.Err()).Err()
	}
}

// send reports instances.
func (s *instanceStream) send(instances ...*backendv1.Instance) {
	for _, instance := range instances {
		s.events <- &backendv1.WatchInstancesResponse{
			Event: &backendv1.WatchInstancesResponse_Instance{Instance: instance},
		}
	}
}

// complete ends the snapshot.
func (s *instanceStream) complete() {
	s.events <- &backendv1.WatchInstancesResponse{
		Event: &backendv1.WatchInstancesResponse_SnapshotComplete{
			SnapshotComplete: &backendv1.SnapshotComplete{},
		},
	}
}
