// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package oxide

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync/atomic"
	"time"
)

const (
	// dialTimeout bounds an attempt to connect, by all addresses.
	dialTimeout = 10 * time.Second
	// dialStagger is how long one address may keep the next one waiting.
	dialStagger = 300 * time.Millisecond
)

// dialer connects to a host that may have several addresses: a rack answers DNS with all its API
// servers, and offers no address that moves. Each connection begins with another of them, so that
// one that accepts connections and is silent then does not get every attempt, and an address that
// does not answer delays the next one only a moment.
type dialer struct {
	lookup func(ctx context.Context, network, host string) ([]netip.Addr, error)
	dial   func(ctx context.Context, network, address string) (net.Conn, error)
	next   atomic.Uint32
}

func newDialer() *dialer {
	return &dialer{
		lookup: net.DefaultResolver.LookupNetIP,
		dial:   (&net.Dialer{KeepAlive: 15 * time.Second}).DialContext,
	}
}

// DialContext connects to an address in the form host:port.
func (d *dialer) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	if _, err := netip.ParseAddr(host); err == nil {
		return d.dial(ctx, network, address)
	}
	addresses, err := d.lookup(ctx, "ip", host)
	if err != nil {
		return nil, &net.OpError{Op: "dial", Net: network, Err: err}
	}
	first := int(d.next.Add(1)-1) % max(len(addresses), 1)
	rotated := make([]string, 0, len(addresses))
	for i := range addresses {
		address := addresses[(first+i)%len(addresses)].Unmap()
		rotated = append(rotated, net.JoinHostPort(address.String(), port))
	}
	return d.race(ctx, network, rotated)
}

// race tries one address after the other, the next one as soon as one has failed or has not answered for
// a moment, and returns the first connection.
func (d *dialer) race(ctx context.Context, network string, addresses []string) (net.Conn, error) {
	type result struct {
		conn net.Conn
		err  error
	}
	ctx, cancel := context.WithCancel(ctx)
	results := make(chan result)
	started, pending := 0, 0
	start := func() {
		address := addresses[started]
		started, pending = started+1, pending+1
		go func() {
			conn, err := d.dial(ctx, network, address)
			results <- result{conn, err}
		}()
	}
	defer func() {
		cancel()
		go func(pending int) {
			for range pending {
				if late := <-results; late.conn != nil {
					_ = late.conn.Close()
				}
			}
		}(pending)
	}()
	failed := errors.New("the host name has no address")
	stagger := time.NewTicker(dialStagger)
	defer stagger.Stop()
	if len(addresses) > 0 {
		start()
	}
	for pending > 0 {
		select {
		case r := <-results:
			pending--
			if r.err == nil {
				return r.conn, nil
			}
			failed = r.err
			if started < len(addresses) {
				start()
			}
		case <-stagger.C:
			if started < len(addresses) {
				start()
			}
		}
	}
	return nil, failed
}
