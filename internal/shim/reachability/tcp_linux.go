// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package reachability

import (
	"context"
	"net"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// The most connections that are kept: one for each node of the largest cluster that Kubernetes
// supports, and at most half of the descriptors that the process may have.
const maxKept = 5000

// restingIdle is how long a connection must have been idle before the kernel sends a keep-alive
// segment on its own: always longer than until the next question. askingIdle makes it send one at
// once, or when the last segment of the host is a second old.
const (
	restingIdle = time.Hour
	askingIdle  = time.Second
)

// freshAnswer is how old the last segment of the host may be to be an answer by itself. It is longer
// than what the kernel's clock is off by (up to 10 ms, twice).
const freshAnswer = askingIdle / 2

// The state of a connection is read for the answer after firstPause, and then at growing intervals.
const (
	firstPause   = 8 * time.Millisecond
	longestPause = 200 * time.Millisecond
)

// keepAlive lets a connection rest. The kernel sends one segment a second while one is unanswered, and
// would give the connection up after so many.
var keepAlive = net.KeepAliveConfig{Enable: true, Idle: restingIdle, Interval: time.Second, Count: 100}

// keptLimit is how many connections are kept. Beyond it each question is a connection of its own.
func keptLimit() int {
	var files unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &files); err != nil {
		return 0
	}
	return int(min(maxKept, files.Cur/2))
}

// askKept asks by a keep-alive segment in an established connection. Inconclusive means that the
// connection has ended.
func askKept(ctx context.Context, conn *net.TCPConn) Answer {
	raw, err := conn.SyscallConn()
	if err != nil {
		return Inconclusive
	}
	before, established := lastAnswer(raw)
	switch {
	case !established:
		return Inconclusive
	case before < freshAnswer:
		return Answered
	}
	asked := time.Now()
	if setIdle(raw, askingIdle) != nil {
		return Inconclusive
	}
	// The answer comes within a millisecond or two, after the kernel's next tick has sent the segment.
	pause := max(0, askingIdle-before) + firstPause
	timer := time.NewTimer(pause)
	defer timer.Stop()
	for {
		var ended bool
		select {
		case <-ctx.Done():
			ended = true
		case <-timer.C:
		}
		age, established := lastAnswer(raw)
		switch {
		case !established:
			return Inconclusive
		case age < time.Since(asked)+before/2:
			if setIdle(raw, restingIdle) != nil {
				return Inconclusive
			}
			return Answered
		case ended:
			return answerOf(context.Cause(ctx))
		}
		pause = min(3*pause, longestPause)
		timer.Reset(pause)
	}
}

// lastAnswer returns how long ago the last segment of the host arrived, and whether the connection
// is established still.
func lastAnswer(raw syscall.RawConn) (ago time.Duration, established bool) {
	var info *unix.TCPInfo
	var failure error
	if err := raw.Control(func(fd uintptr) {
		info, failure = unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
	}); err != nil || failure != nil || info.State != unix.BPF_TCP_ESTABLISHED {
		return 0, false
	}
	return time.Duration(info.Last_ack_recv) * time.Millisecond, true
}

// setIdle sets how long the connection must be idle before a keep-alive segment is sent, which is at
// once if it has been for so long already.
func setIdle(raw syscall.RawConn, idle time.Duration) error {
	var failure error
	err := raw.Control(func(fd uintptr) {
		failure = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, int(idle.Seconds()))
	})
	if err != nil {
		return err
	}
	return failure
}
