// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package rpc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"runtime/debug"

	"google.golang.org/grpc"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/ownership"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/session"
	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

// Sessions opens sessions, and answers questions about load balancers.
type Sessions interface {
	Open(opening session.Opening) (*session.Session, error)
	Plan(ctx context.Context, req session.PlanRequest) (session.PlanResponse, error)
	Rebalance(ctx context.Context, scope string, dryRun bool) (session.PlanResponse, error)
	Get(ctx context.Context, key ownership.Key) (session.LoadBalancer, error)
	List(
		ctx context.Context, scope string, after ownership.Key, limit int,
	) (found []session.LoadBalancer, more bool, err error)
}

type syncStream = grpc.BidiStreamingServer[
	backendv1.SyncLoadBalancersRequest, backendv1.SyncLoadBalancersResponse]

// SyncLoadBalancers implements backendv1.LoadBalancerServiceServer. One goroutine receives, this
// one sends; the session ends with the first of them that fails, even while the other one waits for
// its peer.
func (s *LoadBalancerService) SyncLoadBalancers(stream syncStream) error {
	received := &receiver{items: newLedger()}
	opening, err := received.open(stream)
	if err != nil {
		return err
	}
	opened, err := s.sessions.Open(opening)
	if err != nil {
		return err
	}
	defer opened.Close()
	ctx, cancel := context.WithCancelCause(stream.Context())
	defer cancel(nil)
	defer context.AfterFunc(ctx, opened.Close)()
	go func() {
		defer cancelOnPanic(ctx, cancel)
		if err := received.run(ctx, stream, opened); err != nil {
			cancel(err)
		}
	}()
	return sendEvents(ctx, stream, opened, received.items)
}

// cancelOnPanic ends one session, and not the whole program, as the interceptor does for the
// goroutine of a call.
func cancelOnPanic(ctx context.Context, cancel context.CancelCauseFunc) {
	if value := recover(); value != nil {
		slog.ErrorContext(ctx, "a session panicked", "panic", value, "stack", string(debug.Stack()))
		cancel(fmt.Errorf("panic: %v", value))
	}
}

// sendEvents sends until the session or the context ends.
func sendEvents(
	ctx context.Context, stream syncStream, opened *session.Session, items *ledger,
) error {
	for {
		event, err := opened.Next(ctx)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if released := event.Released; released != nil {
			items.remove(released.Key, released.OwnerUID)
		}
		if err := stream.Send(eventMessage(event)); err != nil {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			return err
		}
	}
}
