// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package access

import (
	"fmt"
	"net"
	"sync"
)

const (
	// maxConnections is how many connections a client may have at a time that is not the own user.
	maxConnections = 64

	// maxDeniedConnections is how many all clients without any right may have together.
	maxDeniedConnections = 16
)

// connections counts the open connections of each client. Its zero value is ready to use.
type connections struct {
	mu   sync.Mutex
	open map[string]int
}

// add counts a connection until it is closed. It refuses one more than the most that a client may have.
func (c *connections) add(conn net.Conn, client string, most int) (net.Conn, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.open[client] >= most {
		return nil, fmt.Errorf("a client has %d connections, the most that it may have at a time", most)
	}
	if c.open == nil {
		c.open = make(map[string]int)
	}
	c.open[client]++
	return &countedConn{Conn: conn, closed: sync.OnceFunc(func() { c.remove(client) })}, nil
}

func (c *connections) remove(client string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.open[client]--; c.open[client] == 0 {
		delete(c.open, client)
	}
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
