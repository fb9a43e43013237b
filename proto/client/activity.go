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
	"sync/atomic"
	"time"

	"google.golang.org/grpc/codes"
)

// Activity records when a backend last answered. Its zero value is ready to use.
type Activity struct {
	last atomic.Pointer[time.Time]

	// refused is why the backend lets this process make no connection; nil: it may make one.
	refused atomic.Pointer[string]
}

// Why a backend that is there cannot be reached.
var (
	mayNotOpen = "the socket of oxide-backend may not be opened by this user: " +
		"run as the user that oxide-backend runs as"
	hangsUp = "oxide-backend closes the connection without an answer, as it does to other users: " +
		"run as the user that oxide-backend runs as"
)

// LastAnswer is when the backend last sent anything, or closed a connection by itself; zero: never.
// While the connection is up that was at most 20 seconds ago, whether there are calls or not.
func (a *Activity) LastAnswer() time.Time {
	if last := a.last.Load(); last != nil {
		return *last
	}
	return time.Time{}
}

func (a *Activity) record() {
	now := time.Now()
	a.last.Store(&now)
	a.refused.Store(nil)
}

// dial makes a connection whose activity is recorded.
func (a *Activity) dial(ctx context.Context, dial func(context.Context) (net.Conn, error),
) (net.Conn, error) {
	conn, err := dial(ctx)
	switch {
	case errors.Is(err, fs.ErrPermission):
		a.refused.Store(&mayNotOpen)
		return nil, err
	case err != nil:
		a.refused.Store(nil)
		return nil, err
	}
	return &activeConn{Conn: conn, activity: a}, nil
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
		c.activity.refused.Store(&hangsUp)
	}
}

// asError is AsError, which also says why there is no connection.
func (a *Activity) asError(err error) error {
	err = AsError(err)
	var e *Error
	if refused := a.refused.Load(); refused != nil && errors.As(err, &e) && e.Reason == 0 &&
		(e.Code == codes.Unavailable || e.Code == codes.DeadlineExceeded) {
		e.Message = *refused
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
