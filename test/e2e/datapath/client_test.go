// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

//go:build e2edatapath

package datapath

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// The kinds of clients: each request on a connection or from a port of its own, or all on the same.
const (
	newTCP, keptTCP = "TCP, new connections", "TCP, kept connection"
	newUDP, keptUDP = "UDP, new ports", "UDP, kept port"
)

// What becomes of a request. A report of number notRun is none: the clients were not run between its
// times, since the machine was too busy.
const (
	answered, timedOut, refused, reset = "answered", "timed out", "refused", "reset"
	notRun                             = -1
)

// order is what a client has to do: a request every interval, each answered within limit.
type order struct {
	Kind, Address   string
	Source          string // the local address; empty: any
	Interval, Limit time.Duration
}

// request is one that a client has made. Of an answered one, Greeting says who has answered; on a
// kept TCP connection, who did when it was opened.
type request struct {
	Order        int
	Began, Ended time.Time
	Outcome      string
	Greeting     greeting
}

// caller carries out one order.
type caller struct {
	order
	number int
	write  func(request)
}

// runClient is the whole of a process that only calls. It reports each request to out, and ends when
// in does, so it never outlives who started it.
func runClient(text []byte, in io.Reader, out io.Writer) error {
	var orders []order
	if err := json.Unmarshal(text, &orders); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var mu sync.Mutex
	buffer := bufio.NewWriter(out)
	encoder := json.NewEncoder(buffer)
	write := func(r request) {
		mu.Lock()
		defer mu.Unlock()
		_ = encoder.Encode(r)
		_ = buffer.Flush()
	}
	var working sync.WaitGroup
	working.Go(func() {
		last := time.Now()
		for range ticks(ctx, stallTick) {
			now := time.Now()
			if now.Sub(last) > stallLimit {
				write(request{Order: notRun, Began: last, Ended: now})
			}
			last = now
		}
	})
	for i, o := range orders {
		c := &caller{order: o, number: i, write: write}
		do, known := map[string]func(context.Context){
			newTCP: c.each(c.connect), newUDP: c.each(c.send), keptTCP: c.keepTCP, keptUDP: c.keepUDP,
		}[o.Kind]
		if !known {
			return fmt.Errorf("no kind of client: %q", o.Kind)
		}
		working.Go(func() { do(ctx) })
	}
	_, _ = io.Copy(io.Discard, in)
	cancel()
	working.Wait()
	return nil
}

// each makes requests that do not wait for one another.
func (c *caller) each(do func() (greeting, error)) func(context.Context) {
	return func(ctx context.Context) {
		var open sync.WaitGroup
		defer open.Wait()
		for range ticks(ctx, c.Interval) {
			open.Go(func() {
				began := time.Now()
				g, err := do()
				c.report(began, g, err)
			})
		}
	}
}

// ticks delivers a value every interval until ctx ends.
func ticks(ctx context.Context, interval time.Duration) func(func(time.Time) bool) {
	return func(yield func(time.Time) bool) {
		ticker := time.NewTicker(interval)
		defer ticker.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case at := <-ticker.C:
				if ctx.Err() != nil || !yield(at) {
					return
				}
			}
		}
	}
}

func (c *caller) report(began time.Time, g greeting, err error) {
	c.write(request{
		Order: c.number, Began: began, Ended: time.Now(), Outcome: outcome(err), Greeting: g,
	})
}

// outcome is what an error says of a request.
func outcome(err error) string {
	var timeout net.Error
	switch {
	case err == nil:
		return answered
	case errors.As(err, &timeout) && timeout.Timeout():
		return timedOut
	case errors.Is(err, syscall.ECONNREFUSED):
		return refused
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, io.EOF), errors.Is(err, syscall.EPIPE):
		return reset
	}
	return err.Error()
}

// dial connects, and has everything on the connection end after the limit.
func (c *caller) dial(network string) (net.Conn, error) {
	dialer := net.Dialer{Timeout: c.Limit}
	if c.Source != "" {
		var err error
		address := net.JoinHostPort(c.Source, "0")
		if network == "tcp" {
			dialer.LocalAddr, err = net.ResolveTCPAddr(network, address)
		} else {
			dialer.LocalAddr, err = net.ResolveUDPAddr(network, address)
		}
		if err != nil {
			return nil, err
		}
	}
	deadline := time.Now().Add(c.Limit)
	conn, err := dialer.Dial(network, c.Address)
	if err != nil {
		return nil, err
	}
	// Else the port that it was made from would be in use for a minute more.
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	return conn, conn.SetDeadline(deadline)
}

// connect makes one request on a connection of its own.
func (c *caller) connect() (g greeting, err error) {
	conn, err := c.dial("tcp")
	if err != nil {
		return g, err
	}
	defer conn.Close()
	line, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil {
		return g, err
	}
	g, _, err = parseGreeting(line)
	return g, err
}

// send makes one request from a port of its own.
func (c *caller) send() (g greeting, err error) {
	conn, err := c.dial("udp")
	if err != nil {
		return g, err
	}
	defer conn.Close()
	if _, err := conn.Write([]byte("0")); err != nil {
		return g, err
	}
	buffer := make([]byte, 512)
	n, err := conn.Read(buffer)
	if err != nil {
		return g, err
	}
	g, _, err = parseGreeting(string(buffer[:n]))
	return g, err
}

// keepTCP makes requests on one connection, one after the other, and on a new one when a request has
// failed.
func (c *caller) keepTCP(ctx context.Context) {
	var conn net.Conn
	var lines *bufio.Reader
	var g greeting
	ask := func() (err error) {
		if conn == nil {
			if conn, err = c.dial("tcp"); err != nil {
				conn = nil
				return err
			}
			lines = bufio.NewReader(conn)
			line, err := lines.ReadString('\n')
			if err != nil {
				return err
			}
			if g, _, err = parseGreeting(line); err != nil {
				return err
			}
		}
		if err := conn.SetDeadline(time.Now().Add(c.Limit)); err != nil {
			return err
		}
		if _, err := fmt.Fprintln(conn, "request"); err != nil {
			return err
		}
		_, err = lines.ReadString('\n')
		return err
	}
	for range ticks(ctx, c.Interval) {
		began := time.Now()
		err := ask()
		c.report(began, g, err)
		if err != nil && conn != nil {
			conn.Close()
			conn = nil
		}
	}
	if conn != nil {
		conn.Close()
	}
}

// keepUDP sends from one port, and does not wait for answers.
func (c *caller) keepUDP(ctx context.Context) {
	conn, err := c.dial("udp")
	if err == nil {
		err = conn.SetDeadline(time.Time{})
	}
	if err != nil {
		c.report(time.Now(), greeting{}, err)
		return
	}
	u := &unanswered{began: map[int]time.Time{}}
	var reading sync.WaitGroup
	reading.Go(func() { c.readUDP(conn, u) })
	number := 0
	for range ticks(ctx, c.Interval) {
		at := time.Now() // a tick may have waited
		number++
		u.add(number, at)
		if _, err := fmt.Fprintf(conn, "%d", number); err != nil {
			u.end(number)
			c.report(at, greeting{}, err)
		}
		c.giveUp(u, at)
	}
	time.Sleep(c.Limit) // for the last answers
	c.giveUp(u, time.Now())
	conn.Close()
	reading.Wait()
}

// readUDP reports the answers until the port is closed.
func (c *caller) readUDP(conn net.Conn, u *unanswered) {
	buffer := make([]byte, 512)
	for {
		n, err := conn.Read(buffer)
		if errors.Is(err, net.ErrClosed) || errors.Is(err, os.ErrClosed) {
			return
		}
		if err != nil {
			c.report(time.Now(), greeting{}, err)
			continue
		}
		g, rest, err := parseGreeting(string(buffer[:n]))
		number, _ := strconv.Atoi(strings.TrimSpace(rest))
		if began, found := u.end(number); found {
			c.report(began, g, err)
		}
	}
}

// giveUp reports the requests that are older than the limit.
func (c *caller) giveUp(u *unanswered, now time.Time) {
	for _, began := range u.olderThan(now.Add(-c.Limit)) {
		c.report(began, greeting{}, os.ErrDeadlineExceeded)
	}
}

// unanswered are the requests that wait for an answer.
type unanswered struct {
	mu    sync.Mutex
	began map[int]time.Time
}

func (u *unanswered) add(number int, at time.Time) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.began[number] = at
}

// end removes one that is answered, false if it is none of them.
func (u *unanswered) end(number int) (began time.Time, found bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	began, found = u.began[number]
	delete(u.began, number)
	return began, found
}

// olderThan removes those that began before a time, and returns when.
func (u *unanswered) olderThan(limit time.Time) []time.Time {
	u.mu.Lock()
	defer u.mu.Unlock()
	var all []time.Time
	for number, began := range u.began {
		if began.Before(limit) {
			all = append(all, began)
			delete(u.began, number)
		}
	}
	return all
}
