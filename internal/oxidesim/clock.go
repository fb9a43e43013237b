// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package oxidesim

import (
	"sync"
	"time"
)

// clock is the only source of time in the package. Durations that the simulated hardware
// and control plane take are multiplied by one factor, so that a story that lasts minutes on
// a rack lasts milliseconds in a test. Closing it ends every wait and every pending timer.
type clock struct {
	scale  float64
	closed chan struct{}

	mu     sync.Mutex
	timers map[*time.Timer]struct{}
	wg     sync.WaitGroup
}

func newClock(scale float64) *clock {
	return &clock{
		scale:  scale,
		closed: make(chan struct{}),
		timers: make(map[*time.Timer]struct{}),
	}
}

// now is the time as Oxide stores it: UTC, in microseconds.
func (c *clock) now() time.Time { return time.Now().UTC().Truncate(time.Microsecond) }

// scaled is how long something that lasts d on a rack lasts here.
func (c *clock) scaled(d time.Duration) time.Duration {
	return time.Duration(float64(d) * c.scale)
}

// after runs f once, in a goroutine of its own, when the scaled d has passed.
func (c *clock) after(d time.Duration, f func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	select {
	case <-c.closed:
		return
	default:
	}
	c.wg.Add(1)
	var t *time.Timer
	ready := make(chan struct{})
	t = time.AfterFunc(c.scaled(d), func() {
		defer c.wg.Done()
		<-ready
		c.mu.Lock()
		delete(c.timers, t)
		c.mu.Unlock()
		f()
	})
	close(ready)
	c.timers[t] = struct{}{}
}

// close ends all waits, drops all timers and returns when no timer function runs any more.
func (c *clock) close() {
	c.mu.Lock()
	select {
	case <-c.closed:
	default:
		close(c.closed)
	}
	for t := range c.timers {
		if t.Stop() {
			c.wg.Done()
		}
		delete(c.timers, t)
	}
	c.mu.Unlock()
	c.wg.Wait()
}
