// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package reachability

import (
	"context"
	"net"
	"slices"
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

// freshAnswer is how old the last segment of the host may be to be an answer by itself: it is younger
// than the last question, which came a period ago.
const freshAnswer = 900 * time.Millisecond

// The state of a connection is read for the answer after firstPause, and then at growing intervals, but
// at the ticks of the prober only: so the process wakes up once for all that it waits for.
const (
	firstPause   = 8 * time.Millisecond
	longestPause = 200 * time.Millisecond
)

// untilTick returns the time until the first tick that comes after the pause at the soonest. The
// deadline is a tick.
func untilTick(ctx context.Context, pause time.Duration) time.Duration {
	deadline, _ := ctx.Deadline()
	rest := time.Until(deadline)
	return rest - max(0, rest-pause).Truncate(tick)
}

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

// askKept asks by keep-alive segments in established connections, and reports each answer.
// Inconclusive means that the connection has ended.
func askKept(ctx context.Context, questions []*question, report func(*question, Answer)) {
	// The answer comes within a millisecond or two, after the kernel's next tick has sent the segment.
	pause := time.Duration(0)
	questions = slices.DeleteFunc(questions, func(q *question) bool {
		answer, known := q.ask()
		if known {
			report(q, answer)
		}
		pause = max(pause, askingIdle-q.before)
		return known
	})
	for pause += firstPause; len(questions) > 0; pause = min(3*pause, longestPause) {
		timer := time.NewTimer(untilTick(ctx, pause))
		select {
		case <-ctx.Done():
		case <-timer.C:
		}
		timer.Stop()
		ended := ctx.Err()
		questions = slices.DeleteFunc(questions, func(q *question) bool {
			answer, known := q.answer()
			if !known && ended != nil {
				answer, known = answerOf(ended), true
			}
			if known {
				report(q, answer)
			}
			return known
		})
	}
}

// ask sends the question, unless the answer is known already.
func (q *question) ask() (answer Answer, known bool) {
	q.asked = time.Now()
	err := q.control(func(fd int) error {
		info, err := established(fd)
		if err != nil {
			return err
		}
		q.before = sinceAnswer(info)
		if q.before < freshAnswer {
			return nil
		}
		return setIdle(fd, askingIdle)
	})
	if err != nil {
		return Inconclusive, true
	}
	return Answered, q.before < freshAnswer
}

// answer returns the answer, if it is there. It lets the connection rest then.
func (q *question) answer() (answer Answer, known bool) {
	err := q.control(func(fd int) error {
		info, err := established(fd)
		if err != nil {
			return err
		}
		if known = sinceAnswer(info) < time.Since(q.asked)+q.before/2; !known {
			return nil
		}
		return setIdle(fd, restingIdle)
	})
	if err != nil {
		return Inconclusive, true
	}
	return Answered, known
}

// control calls a function with the descriptor of the connection.
func (c *connection) control(do func(fd int) error) error {
	var failure error
	if err := c.raw.Control(func(fd uintptr) { failure = do(int(fd)) }); err != nil {
		return err
	}
	return failure
}

// established returns the state of a connection, or an error if it is not established any more.
func established(fd int) (*unix.TCPInfo, error) {
	info, err := unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO)
	if err == nil && info.State != unix.BPF_TCP_ESTABLISHED {
		err = net.ErrClosed
	}
	return info, err
}

// sinceAnswer is how long ago the last segment of the host came.
func sinceAnswer(info *unix.TCPInfo) time.Duration {
	return time.Duration(info.Last_ack_recv) * time.Millisecond
}

// setIdle sets how long the connection must be idle before a keep-alive segment is sent, which is at
// once if it has been for so long already.
func setIdle(fd int, idle time.Duration) error {
	return unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, int(idle.Seconds()))
}
