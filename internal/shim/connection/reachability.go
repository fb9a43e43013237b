// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package connection

import (
	"context"
	"errors"
	"time"

	"google.golang.org/grpc/connectivity"
	"k8s.io/klog/v2"
)

// ErrUnreachable is returned by WatchReachability when the backend has not answered for too long.
var ErrUnreachable = errors.New("oxide-backend is unreachable")

// StateWatcher is the part of a connection that WatchReachability uses.
type StateWatcher interface {
	// GetState returns the state of the connection.
	GetState() connectivity.State

	// WaitForStateChange waits until the state is another than the given one and returns true, or
	// until the context ends and returns false.
	WaitForStateChange(ctx context.Context, from connectivity.State) bool

	// Connect makes an idle connection connect.
	Connect()

	// LastAnswer is when the backend last sent anything; zero: never.
	LastAnswer() time.Time

	// Refused reports whether the backend refuses this process as another user's.
	Refused() bool
}

// WatchReachability watches a connection until it is down and the backend has not answered for
// `limit`, and then returns ErrUnreachable; a limit of zero means for ever. It returns nil when the
// context ends or the connection is closed. Time counts from the call on, so a backend that never
// comes is noticed, too; and from the last answer on, so one that keeps its socket open and answers
// nothing is: gRPC's keepalive closes such a connection, and it is up again only when the backend
// has sent something. A connection on which this process is refused is not up; the backend closes it
// soon.
func WatchReachability(ctx context.Context, conn StateWatcher, limit time.Duration) error {
	wasUp := false
	answered := time.Now()
	for {
		state := conn.GetState()
		switch state {
		case connectivity.Shutdown:
			return nil
		case connectivity.Idle:
			// The state after a connection is lost: gRPC waits for a call, we do not.
			conn.Connect()
		}

		up := state == connectivity.Ready && !conn.Refused()
		if last := conn.LastAnswer(); last.After(answered) {
			answered = last
		}
		switch {
		case up && !wasUp:
			klog.InfoS("Connected to oxide-backend")
			connected.Set(1)
		case !up && wasUp:
			klog.InfoS("Lost the connection to oxide-backend, reconnecting",
				"silent", time.Since(answered))
			connected.Set(0)
		}
		wasUp = up

		wait, stop := ctx, context.CancelFunc(func() {})
		if !up && limit > 0 {
			wait, stop = context.WithDeadline(ctx, answered.Add(limit))
		}
		changed := conn.WaitForStateChange(wait, state)
		stop()
		switch {
		case ctx.Err() != nil:
			return nil //nolint:nilerr // a requested end is no failure
		case !changed && !conn.LastAnswer().After(answered):
			return ErrUnreachable
		}
	}
}

// AwaitFirst waits until the connection is made, until the context ends, or for as long as `limit`;
// a limit of zero means for ever.
func AwaitFirst(ctx context.Context, conn StateWatcher, limit time.Duration) {
	if limit > 0 {
		var stop context.CancelFunc
		ctx, stop = context.WithTimeout(ctx, limit)
		defer stop()
	}
	for state := conn.GetState(); state != connectivity.Ready; state = conn.GetState() {
		if state == connectivity.Idle {
			conn.Connect()
		}
		if !conn.WaitForStateChange(ctx, state) {
			return
		}
	}
}
