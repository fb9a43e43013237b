// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package client

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/codes"

	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

// Activity records when a backend last answered, and whether it refuses this process. Its zero value is
// ready to use.
type Activity struct {
	last atomic.Pointer[time.Time]

	// refused: the last call that was answered was refused because of the user of this process.
	refused atomic.Bool

	// unreachable is why no connection could be made; nil: the last one could.
	unreachable atomic.Pointer[string]

	// hangsUp: the last connection was closed by the other side before it sent anything.
	hangsUp atomic.Bool

	mu sync.Mutex
	// shutOut: the last attempt to connect failed because this process may not open the socket.
	shutOut bool
	// connecting are the calls that may wait for a connection.
	connecting map[*context.CancelCauseFunc]struct{}
}

// Why a backend that is there cannot be reached.
const (
	mayNotOpen = "the socket of oxide-backend may not be opened by this user: " +
		"run as the user that oxide-backend runs as"
	hangsUp = "oxide-backend closes the connection without an answer, as it does to other users: " +
		"run as the user that oxide-backend runs as"
)

// errShutOut ends calls that wait for a connection that this process may not make.
var errShutOut = errors.New(mayNotOpen)

// LastAnswer is when the backend last sent anything, or closed a connection by itself; zero: never.
// While the connection is up that was at most 20 seconds ago, whether there are calls or not. What it
// sends while it refuses this process does not count.
func (a *Activity) LastAnswer() time.Time {
	if last := a.last.Load(); last != nil {
		return *last
	}
	return time.Time{}
}

// Refused reports whether the last call that was answered was refused because this process belongs to
// another user than the backend.
func (a *Activity) Refused() bool { return a.refused.Load() }

func (a *Activity) record() {
	a.hangsUp.Store(false)
	if !a.refused.Load() {
		now := time.Now()
		a.last.Store(&now)
	}
}

// dial makes a connection whose activity is recorded.
func (a *Activity) dial(ctx context.Context, dial func(context.Context) (net.Conn, error),
) (net.Conn, error) {
	conn, err := dial(ctx)
	a.setShutOut(errors.Is(err, fs.ErrPermission))
	if err != nil {
		why := OneLine("oxide-backend is not there (" + err.Error() + "): see whether it runs, and its log")
		a.unreachable.Store(&why)
		a.hangsUp.Store(false)
		return nil, err
	}
	a.unreachable.Store(nil)
	return &activeConn{Conn: conn, activity: a}, nil
}

// setShutOut records whether this process may not open the socket, which ends all calls that wait for a
// connection.
func (a *Activity) setShutOut(shutOut bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.shutOut = shutOut; shutOut {
		for end := range a.connecting {
			(*end)(errShutOut)
		}
		a.connecting = nil
	}
}

// whileConnecting returns a context for a call that ends at once where this process may not open the
// socket, until connected is called. The call must end it by cancel.
func (a *Activity) whileConnecting(ctx context.Context) (_ context.Context, connected, cancel func()) {
	ctx, end := context.WithCancelCause(ctx)
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.shutOut {
		end(errShutOut)
	} else {
		if a.connecting == nil {
			a.connecting = make(map[*context.CancelCauseFunc]struct{})
		}
		a.connecting[&end] = struct{}{}
	}
	connected = func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		delete(a.connecting, &end)
	}
	return ctx, connected, func() { end(nil) }
}

// activeConn records what is read from it.
type activeConn struct {
	net.Conn
	activity *Activity

	// answered is whether anything was read.
	answered atomic.Bool
}

// Read implements net.Conn.
func (c *activeConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	switch {
	case n > 0:
		c.answered.Store(true)
		c.activity.record()
	case err != nil && c.answered.Load() && !closedHere(err):
		// The process at the other end was alive until now.
		c.activity.record()
	case err != nil:
		c.unanswered(err)
	}
	return n, err
}

// Write implements net.Conn.
func (c *activeConn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	if err != nil {
		c.unanswered(err)
	}
	return n, err
}

// unanswered records a connection that the other side has closed before it sent anything.
func (c *activeConn) unanswered(err error) {
	if !c.answered.Load() && !closedHere(err) {
		c.activity.hangsUp.Store(true)
	}
}

// asError is AsError for a call with a context of whileConnecting: it also says why there is no
// connection.
func (a *Activity) asError(ctx context.Context, err error) error {
	if err != nil && errors.Is(context.Cause(ctx), errShutOut) {
		return &Error{
			Code: codes.PermissionDenied, Message: mayNotOpen,
			Reason: backendv1.ErrorReason_ERROR_REASON_CLIENT_DENIED,
		}
	}
	err = a.received(err)
	e, ok := FromError(err)
	if !ok || e.Reason != 0 || e.Code != codes.Unavailable && e.Code != codes.DeadlineExceeded {
		return err
	}
	if why := a.unreachable.Load(); why != nil {
		e.Message = *why
	}
	if a.hangsUp.Load() {
		e.Message = hangsUp
	}
	return err
}

// received is AsError for what a call has received, which shows whether the backend refuses this
// process.
func (a *Activity) received(err error) error {
	err = AsError(err)
	if e, ok := FromError(err); !ok || e.Reason != 0 {
		a.refused.Store(errors.Is(err, ErrClientDenied))
	}
	return err
}

// closedHere reports whether reading ended because this side closed the connection or ran out of
// time.
func closedHere(err error) bool {
	var timeout net.Error
	return errors.Is(err, net.ErrClosed) || errors.Is(err, io.ErrClosedPipe) ||
		errors.As(err, &timeout) && timeout.Timeout()
}
