// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package oxidesim

import (
	"io"
	"log/slog"
	"maps"
	"net/http"
	"strconv"
	"sync"
	"time"
)

// counters count requests by operation and status; a dropped connection counts as 0.
type counters struct {
	mu sync.Mutex
	by map[string]map[int]int
}

func newCounters() *counters { return &counters{by: map[string]map[int]int{}} }

func (c *counters) add(operation string, status int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.by[operation] == nil {
		c.by[operation] = map[int]int{}
	}
	c.by[operation][status]++
}

// Counters is the number of API requests so far by operation (Oxide's operation ids, such as
// "floating_ip_attach") and by status; a connection dropped without an answer is status 0.
// Requests to unknown routes, or refused for their version, are under "unknown".
func (s *Simulator) Counters() map[string]map[int]int {
	s.count.mu.Lock()
	defer s.count.mu.Unlock()
	out := make(map[string]map[int]int, len(s.count.by))
	for op, by := range s.count.by {
		out[op] = maps.Clone(by)
	}
	return out
}

// Count is the number of requests to one operation so far, whatever their status.
func (s *Simulator) Count(operation string) int {
	s.count.mu.Lock()
	defer s.count.mu.Unlock()
	n := 0
	for _, k := range s.count.by[operation] {
		n += k
	}
	return n
}

// ResetCounters sets all counters to zero.
func (s *Simulator) ResetCounters() {
	s.count.mu.Lock()
	defer s.count.mu.Unlock()
	s.count.by = map[string]map[int]int{}
}

// requestLog writes one line per request. It never writes a header but the user agent.
type requestLog struct{ out *slog.Logger }

func newRequestLog(w io.Writer) *requestLog {
	if w == nil {
		return &requestLog{}
	}
	return &requestLog{slog.New(slog.NewTextHandler(w, nil))}
}

func (l *requestLog) line(
	r *http.Request, operation string, status int, took time.Duration, requestID string,
) {
	if l.out == nil {
		return
	}
	answer := strconv.Itoa(status)
	if status == 0 {
		answer = "dropped"
	}
	l.out.Info("request",
		"method", r.Method, "path", r.URL.Path, "query", r.URL.RawQuery,
		"operation", operation, "status", answer,
		"duration", took.Round(time.Microsecond), "user_agent", r.UserAgent(),
		"request_id", requestID)
}
