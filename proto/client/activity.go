// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package client

import (
	"context"
	"errors"
	"io"
	"net"
	"sync/atomic"
	"time"
)

// Activity records when a backend last answered. Its zero value is ready to use.
type Activity struct {
	last atomic.Pointer[time.Time]
}

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
}

// dial makes a connection whose activity is recorded.
func (a *Activity) dial(ctx context.Context, dial func(context.Context) (net.Conn, error),
) (net.Conn, error) {
	conn, err := dial(ctx)
	if err != nil {
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
	}
	return n, err
}

// closedHere reports whether reading ended because this side closed the connection or ran out of
// time.
func closedHere(err error) bool {
	var timeout net.Error
	return errors.Is(err, net.ErrClosed) || errors.Is(err, io.ErrClosedPipe) ||
		errors.As(err, &timeout) && timeout.Timeout()
}
