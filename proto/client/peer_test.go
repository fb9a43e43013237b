// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package client

import (
	"context"
	"fmt"
	"net"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

const scope = "cluster-1"

// patience is how long a test waits for what must come.
const patience = 20 * time.Second

// peer is the other side of the protocol: the test sends and receives on each stream itself.
type peer struct {
	backendv1.UnimplementedLoadBalancerServiceServer
	backendv1.UnimplementedBackendServiceServer

	socket   string
	revision int32
	streams  chan *peerStream
}

// peerStream is one stream of SyncLoadBalancers.
type peerStream struct {
	grpc.BidiStreamingServer[
		backendv1.SyncLoadBalancersRequest, backendv1.SyncLoadBalancersResponse]
	end chan error
}

func (p *peer) SyncLoadBalancers(stream grpc.BidiStreamingServer[
	backendv1.SyncLoadBalancersRequest, backendv1.SyncLoadBalancersResponse]) error {
	s := &peerStream{BidiStreamingServer: stream, end: make(chan error, 1)}
	p.streams <- s
	select {
	case err := <-s.end:
		return err
	case <-stream.Context().Done():
		return stream.Context().Err()
	}
}

func (p *peer) GetInfo(context.Context, *backendv1.GetInfoRequest,
) (*backendv1.GetInfoResponse, error) {
	return &backendv1.GetInfoResponse{ApiRevision: p.revision}, nil
}

// server returns a new server of the peer.
func (p *peer) server() *grpc.Server {
	p.streams = make(chan *peerStream, 1)
	server := grpc.NewServer()
	backendv1.RegisterLoadBalancerServiceServer(server, p)
	backendv1.RegisterBackendServiceServer(server, p)
	return server
}

// newPeer serves on a socket until the test ends.
func newPeer(t *testing.T) *peer {
	t.Helper()
	p := &peer{socket: filepath.Join(socketDir(t), "b.sock"), revision: backendv1.APIRevision}
	listener, err := net.Listen("unix", p.socket)
	if err != nil {
		t.Fatal(err)
	}
	server := p.server()
	var wg sync.WaitGroup
	wg.Go(func() { _ = server.Serve(listener) })
	t.Cleanup(func() {
		server.Stop()
		wg.Wait()
	})
	return p
}

// session returns a session with the peer that reconnects quickly.
func (p *peer) session(t *testing.T, handler Handler) *Session {
	t.Helper()
	conn, err := Dial(p.socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	s := NewSession(SessionConfig{
		Conn: conn, Open: &backendv1.OpenSession{Scope: scope}, Handler: handler,
	})
	s.firstRetry, s.lastRetry, s.slowRetry = time.Millisecond, time.Millisecond, time.Millisecond
	return s
}

// run runs a session until the test ends, and returns its end.
func run(t *testing.T, s *Session) (result <-chan error, stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	var wg sync.WaitGroup
	wg.Go(func() { ended <- s.Run(ctx) })
	stop = func() {
		cancel()
		wg.Wait()
	}
	t.Cleanup(stop)
	return ended, stop
}

// next returns the next stream.
func (p *peer) next(t *testing.T) *peerStream {
	t.Helper()
	select {
	case s := <-p.streams:
		return s
	case <-time.After(patience):
		t.Fatal("there is no further stream")
		return nil
	}
}

// item returns the next item, described by describe.
func (s *peerStream) item(t *testing.T) string {
	t.Helper()
	request, err := s.Recv()
	if err != nil {
		t.Fatalf("no further item: %v", err)
	}
	return describe(request)
}

// snapshot returns the items up to the end of the snapshot.
func (s *peerStream) snapshot(t *testing.T) []string {
	t.Helper()
	var items []string
	for {
		item := s.item(t)
		if item == "in sync" {
			return items
		}
		items = append(items, item)
	}
}

// state sends a state that echoes a generation.
func (s *peerStream) state(t *testing.T, name string, generation int64, publish ...string) {
	t.Helper()
	s.event(t, &backendv1.SyncLoadBalancersResponse{
		Event: &backendv1.SyncLoadBalancersResponse_State{State: &backendv1.LoadBalancerState{
			Key: key(name), OwnerUid: "uid-" + name, Generation: generation, Publish: publish,
		}},
	})
}

// released sends that a load balancer has nothing any more.
func (s *peerStream) released(t *testing.T, name string) {
	t.Helper()
	s.event(t, &backendv1.SyncLoadBalancersResponse{
		Event: &backendv1.SyncLoadBalancersResponse_Released{
			Released: &backendv1.LoadBalancerReleased{Key: key(name), OwnerUid: "uid-" + name},
		},
	})
}

func (s *peerStream) event(t *testing.T, event *backendv1.SyncLoadBalancersResponse) {
	t.Helper()
	if err := s.Send(event); err != nil {
		t.Fatalf("send: %v", err)
	}
}

// describe is an item in a few words.
func describe(request *backendv1.SyncLoadBalancersRequest) string {
	switch item := request.GetItem().(type) {
	case *backendv1.SyncLoadBalancersRequest_Open:
		return "open " + item.Open.GetScope()
	case *backendv1.SyncLoadBalancersRequest_Candidate:
		return "candidate " + item.Candidate.GetInstanceId()
	case *backendv1.SyncLoadBalancersRequest_CandidateRemoved:
		return "candidate removed " + item.CandidateRemoved.GetInstanceId()
	case *backendv1.SyncLoadBalancersRequest_ReservedPorts:
		return fmt.Sprintf("reserved ports %d", len(item.ReservedPorts.GetPorts()))
	case *backendv1.SyncLoadBalancersRequest_LoadBalancer:
		lb := item.LoadBalancer
		return fmt.Sprintf("load balancer %s %s %d",
			lb.GetKey().GetName(), lb.GetOwnerUid(), lb.GetGeneration())
	case *backendv1.SyncLoadBalancersRequest_LoadBalancerRemoved:
		removed := item.LoadBalancerRemoved
		return fmt.Sprintf("load balancer removed %s %s", removed.GetKey().GetName(),
			removed.GetOwnerUid())
	case *backendv1.SyncLoadBalancersRequest_InSync:
		return "in sync"
	case *backendv1.SyncLoadBalancersRequest_Rebalance:
		return "rebalance"
	}
	return fmt.Sprintf("%T", request.GetItem())
}

func key(name string) *backendv1.LoadBalancerKey {
	return &backendv1.LoadBalancerKey{Scope: scope, Name: name}
}

// desired is a load balancer that publishes what it is given.
func desired(name string, published ...string) *backendv1.DesiredLoadBalancer {
	return &backendv1.DesiredLoadBalancer{
		Key: key(name), OwnerUid: "uid-" + name, PublishedAddresses: published,
	}
}

// ending is a load balancer whose owner is going away.
func ending(name string) *backendv1.DesiredLoadBalancer {
	lb := desired(name)
	lb.Ending = backendv1.Ending_ENDING_RELEASE
	return lb
}

func unavailable() error { return status.Error(codes.Unavailable, "gone") }
