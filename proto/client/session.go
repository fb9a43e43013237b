// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package client

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

const (
	// StuckAfter is the longest that a server takes to echo a generation. A session whose Lag is
	// longer is stuck.
	StuckAfter = 10 * time.Second

	// slowRetry is the pause after an end that a person has to do something about.
	slowRetry = 5 * time.Second

	// infoTimeout bounds the question for the server's revision, which waits for Oxide while the
	// server does not know its project yet.
	infoTimeout = 5 * time.Second
)

// SessionConfig is what a Session is made of.
type SessionConfig struct {
	// Conn is the connection to the backend, as of Dial. REQUIRED.
	Conn grpc.ClientConnInterface

	// Open opens each stream. REQUIRED.
	Open *backendv1.OpenSession

	// Handler is called with what the server sends.
	Handler Handler

	// Sending is called with each item just before it is sent, by another goroutine than Handler, and
	// may set its trace_parent. Nothing else of it may be changed. Nil: nothing is called.
	Sending func(*backendv1.SyncLoadBalancersRequest)
}

// Handler holds the functions that a Session calls, each optional. All are called by the goroutine
// of Run, one at a time; while one runs, the server's latest states and actions wait. They must not
// change what they are passed.
type Handler struct {
	// State is called with each state of a load balancer that is set, for its present owner.
	State func(*backendv1.LoadBalancerState)

	// Action is called with each change of Oxide.
	Action func(*backendv1.Action)

	// Released is called when an ending load balancer has nothing any more.
	Released func(key *backendv1.LoadBalancerKey, ownerUID string)

	// Orphans is called with all orphans, whenever they differ.
	Orphans func([]*backendv1.LoadBalancer)

	// FirewallOrphans is called with all firewall rules that are orphans, whenever they differ.
	FirewallOrphans func([]*backendv1.FirewallRule)

	// InSync is called when every item of a stream's snapshot has had its first state.
	InSync func()

	// ActionsDropped is called with the number of actions of the stream that were not sent, because
	// this reader was too slow.
	ActionsDropped func(count int64)

	// Disconnected is called when a stream has ended or could not be opened, unless the context of Run
	// ended it. The error is an *Error, or io.EOF where the server ended the stream with OK.
	Disconnected func(error)

	// Info is called once for each stream with what the server says of itself, if it says so in time.
	Info func(*backendv1.GetInfoResponse)

	// OlderServer is called when the server's revision of the API is below backendv1.APIRevision, once
	// for each such revision. It may refuse with VERSION_SKEW what is set here.
	OlderServer func(*backendv1.GetInfoResponse)
}

// Session is the client's side of SyncLoadBalancers. It keeps the latest item of each object, and
// sends all of them on each new stream. All methods may be called at any time, by any goroutine.
type Session struct {
	service backendv1.LoadBalancerServiceClient
	info    backendv1.BackendServiceClient
	open    *backendv1.OpenSession
	handler Handler
	sending func(*backendv1.SyncLoadBalancersRequest)

	// firstRetry and lastRetry bound the pauses between streams.
	firstRetry, lastRetry, slowRetry time.Duration

	// synced is closed when the first snapshot is complete, ended when Run has ended; endErr is why.
	synced     chan struct{}
	syncedOnce sync.Once
	ended      chan struct{}
	endErr     error

	mu    sync.Mutex
	items items

	// changed is closed at the next state; nil if nobody waits for one.
	changed chan struct{}

	// releases are those who wait for the release of a load balancer.
	releases map[*releaseWaiter]bool

	// olderRevision is the one that was reported last, plus one; 0: none was.
	olderRevision int32
}

// NewSession returns a session that Run has yet to open.
func NewSession(config SessionConfig) *Session {
	return &Session{
		service:    backendv1.NewLoadBalancerServiceClient(config.Conn),
		info:       backendv1.NewBackendServiceClient(config.Conn),
		open:       config.Open,
		handler:    config.Handler,
		sending:    config.Sending,
		firstRetry: firstReconnect, lastRetry: lastReconnect, slowRetry: slowRetry,
		synced:   make(chan struct{}),
		ended:    make(chan struct{}),
		items:    newItems(),
		releases: make(map[*releaseWaiter]bool),
	}
}

// Run holds a stream until the context ends, and then returns nil. It opens none before MarkSynced
// was called, and a further one after every end but SESSION_SUPERSEDED, which it returns: a newer
// session of the scope runs elsewhere, and must not be superseded in turn. It must be called at
// most once.
func (s *Session) Run(ctx context.Context) error {
	err := s.run(ctx)
	s.endErr = err
	if err == nil {
		s.endErr = errors.New("the session with oxide-backend has ended")
	}
	close(s.ended)
	return err
}

func (s *Session) run(ctx context.Context) error {
	select {
	case <-s.synced:
	case <-ctx.Done():
		return nil
	}
	pause := s.firstRetry
	for {
		answered, err := s.hold(ctx)
		if ctx.Err() != nil {
			return nil //nolint:nilerr // a requested end is no failure
		}
		err = AsError(err)
		call(s.handler.Disconnected, err)
		if HasReason(err, backendv1.ErrorReason_ERROR_REASON_SESSION_SUPERSEDED) {
			return err
		}
		if answered {
			pause = s.firstRetry
		}
		if !sleep(ctx, s.retryDelay(err, pause)) {
			return nil
		}
		pause = min(2*pause, s.lastRetry)
	}
}

// retryDelay is how long to wait before the next stream.
func (s *Session) retryDelay(err error, pause time.Duration) time.Duration {
	e, ok := FromError(err)
	if !ok {
		e = new(Error)
	}
	switch e.Code {
	case codes.Unimplemented, codes.InvalidArgument, codes.FailedPrecondition, codes.PermissionDenied:
		// VERSION_SKEW, INVALID_REQUEST, READ_ONLY and the like: soon it would end in the same way.
		pause = s.slowRetry
	default:
		pause = max(pause, min(e.RetryDelay, s.slowRetry))
	}
	return jitter(pause)
}

// jitter changes a pause by up to 20 %, so that many clients of one backend do not come at once.
func jitter(pause time.Duration) time.Duration {
	return time.Duration(float64(pause) * (0.8 + 0.4*rand.Float64()))
}

// sleep waits, and reports false if the context has ended before.
func sleep(ctx context.Context, pause time.Duration) bool {
	wait := time.NewTimer(pause)
	defer wait.Stop()
	select {
	case <-wait.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// hold opens a stream and returns why it ended, and whether the server has sent anything on it.
func (s *Session) hold(ctx context.Context) (answered bool, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := s.service.SyncLoadBalancers(ctx, grpc.WaitForReady(true))
	if err != nil {
		return false, err
	}
	s.mu.Lock()
	s.items.begin()
	s.mu.Unlock()

	var wg sync.WaitGroup
	info := make(chan *backendv1.GetInfoResponse, 1)
	wg.Go(func() { s.send(ctx, stream) })
	wg.Go(func() {
		defer close(info)
		info <- s.serverInfo(ctx)
	})
	answered, err = s.receive(stream, info)
	if e, ok := FromError(err); ok && e.Code == codes.Unimplemented {
		s.checkRevision(<-info) // which may explain it, and is bounded
	}
	cancel()
	wg.Wait()

	s.mu.Lock()
	s.items.end()
	s.mu.Unlock()
	return answered, err
}

// send sends the snapshot and then what differs, until the stream ends. receive returns its error.
func (s *Session) send(ctx context.Context, stream syncStream) {
	requests := []*backendv1.SyncLoadBalancersRequest{{
		Item: &backendv1.SyncLoadBalancersRequest_Open{Open: s.open},
	}}
	for {
		for _, request := range requests {
			call(s.sending, request)
			if stream.Send(request) != nil {
				return
			}
		}
		var more bool
		s.mu.Lock()
		requests, more = s.items.next(time.Now())
		s.mu.Unlock()
		if more {
			continue
		}
		select {
		case <-s.items.wake:
		case <-ctx.Done():
			return
		}
	}
}

// syncStream is a stream of SyncLoadBalancers.
type syncStream = grpc.BidiStreamingClient[
	backendv1.SyncLoadBalancersRequest, backendv1.SyncLoadBalancersResponse]

// receive handles what the server sends until the stream ends.
func (s *Session) receive(stream syncStream, info <-chan *backendv1.GetInfoResponse,
) (answered bool, err error) {
	for {
		event, err := stream.Recv()
		select {
		case i := <-info:
			if i != nil {
				call(s.handler.Info, i)
			}
			s.checkRevision(i)
			info = nil
		default:
		}
		if err != nil {
			return answered, err
		}
		answered = true
		s.handle(event)
	}
}

// serverInfo returns the server's description of itself; nil if it does not answer.
func (s *Session) serverInfo(ctx context.Context) *backendv1.GetInfoResponse {
	ctx, cancel := context.WithTimeout(ctx, infoTimeout)
	defer cancel()
	info, err := s.info.GetInfo(ctx, new(backendv1.GetInfoRequest))
	if err != nil {
		return nil
	}
	return info
}

// checkRevision reports a server that is older than this client.
func (s *Session) checkRevision(info *backendv1.GetInfoResponse) {
	if info == nil || info.GetApiRevision() >= backendv1.APIRevision ||
		s.olderRevision == info.GetApiRevision()+1 {
		return
	}
	s.olderRevision = info.GetApiRevision() + 1
	if s.handler.OlderServer != nil {
		s.handler.OlderServer(info)
	}
}
