// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package access

import (
	"context"
	"fmt"
	"net"
	"sync"

	"google.golang.org/grpc/tap"
)

const (
	// maxConnections is how many connections a client may have at a time that is not the own user.
	maxConnections = 64

	// maxDeniedConnections is how many all clients without any right may have together.
	maxDeniedConnections = 16

	// maxHandshakes is how many TLS handshakes may be under way: until theirs has ended clients are not
	// known, and the descriptors that they hold are all clients', those of the unix sockets included.
	maxHandshakes = 256

	// maxCalls is how many calls and streams a client may have at a time, over all its connections.
	maxCalls = 100

	// maxDeniedCalls is how many all clients without any right may have together.
	maxDeniedCalls = 16
)

// counts are how many of something each client has at a time. Its zero value is ready to use.
type counts struct {
	mu   sync.Mutex
	held map[string]int
}

// take counts one more for a client until it is released, and reports false if it has the most already.
func (c *counts) take(client string, most int) (release func(), ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.held[client] >= most {
		return nil, false
	}
	if c.held == nil {
		c.held = make(map[string]int)
	}
	c.held[client]++
	return sync.OnceFunc(func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.held[client]--; c.held[client] == 0 {
			delete(c.held, client)
		}
	}), true
}

// keep counts a connection of a client that is not the own user, and refuses one too many.
func (c *serverCredentials) keep(conn net.Conn, names Identities) (net.Conn, error) {
	client, most := names.String(), maxConnections
	if _, known := c.policy.Clients.of(names); !known {
		c.policy.refuse(client)
		client, most = "", maxDeniedConnections
	}
	closed, ok := c.open.take(client, most)
	if !ok {
		return nil, fmt.Errorf("a client has %d connections, the most that it may have at a time", most)
	}
	return &countedConn{Conn: conn, closed: closed}, nil
}

// admit has a call begin, unless its client has as many as it may have; nothing of the request has
// been read by then. The own user has no such limit: nobody else takes its place.
func (c *serverCredentials) admit(ctx context.Context, _ *tap.Info) (context.Context, error) {
	var names Identities
	switch info := authInfo(ctx).(type) {
	case processInfo:
		if info.uid == c.policy.UID {
			return ctx, nil
		}
		names = identityOfUID(info.uid)
	case certificateInfo:
		names = info.names
	}
	client, most := names.String(), maxCalls
	if _, known := c.policy.Clients.of(names); !known {
		client, most = "", maxDeniedCalls
	}
	done, ok := c.calls.take(client, most)
	if !ok {
		return ctx, c.tooMany
	}
	context.AfterFunc(ctx, done)
	return ctx, nil
}

// countedConn is a connection that is counted until it is closed.
type countedConn struct {
	net.Conn
	closed func()
}

// Close implements net.Conn.
func (c *countedConn) Close() error {
	c.closed()
	return c.Conn.Close()
}
