// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

// Package instancewatchtest is a backend's stream of instances that tests speak through.
package instancewatchtest

import (
	"context"
	"errors"
	"sync/atomic"

	"google.golang.org/grpc"
	"google.golang.org/grpc/status"

	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

// Peer is a backend whose streams a test speaks through, one after the other.
type Peer struct {
	backendv1.InstanceServiceClient
	// Opened takes each stream that is Opened; Refuse, if it is set, is answered instead.
	Opened chan *Stream
	Refuse atomic.Pointer[status.Status]
}

// NewPeer returns a Peer.
func NewPeer() *Peer { return &Peer{Opened: make(chan *Stream)} }

// WatchInstances opens a stream.
func (p *Peer) WatchInstances(ctx context.Context, req *backendv1.WatchInstancesRequest,
	_ ...grpc.CallOption,
) (grpc.ServerStreamingClient[backendv1.WatchInstancesResponse], error) {
	s := &Stream{ctx: ctx, Req: req, Events: make(chan *backendv1.WatchInstancesResponse)}
	select {
	case p.Opened <- s:
		return s, p.Refuse.Load().Err()
	case <-ctx.Done():
		return nil, status.FromContextError(ctx.Err()).Err()
	}
}

// Stream is one stream; closing Events ends it with an error.
type Stream struct {
	grpc.ClientStream
	ctx    context.Context //nolint:containedctx // it is the stream's
	Req    *backendv1.WatchInstancesRequest
	Events chan *backendv1.WatchInstancesResponse
}

// Recv returns what the test says next.
func (s *Stream) Recv() (*backendv1.WatchInstancesResponse, error) {
	select {
	case event, ok := <-s.Events:
		if !ok {
			return nil, errors.New("the backend went away")
		}
		return event, nil
	case <-s.ctx.Done():
		return nil, status.FromContextError(s.ctx.Err()).Err()
	}
}

// Is tells instances.
func (s *Stream) Is(instances ...*backendv1.Instance) {
	for _, instance := range instances {
		s.Events <- &backendv1.WatchInstancesResponse{
			Event: &backendv1.WatchInstancesResponse_Instance{Instance: instance},
		}
	}
}

// Complete ends the snapshot.
func (s *Stream) Complete() {
	s.Events <- &backendv1.WatchInstancesResponse{
		Event: &backendv1.WatchInstancesResponse_SnapshotComplete{
			SnapshotComplete: &backendv1.SnapshotComplete{},
		},
	}
}

// Lost tells that an instance is not listed any more.
func (s *Stream) Lost(id string) {
	s.Events <- &backendv1.WatchInstancesResponse{
		Event: &backendv1.WatchInstancesResponse_NoLongerListedId{NoLongerListedId: id},
	}
}
