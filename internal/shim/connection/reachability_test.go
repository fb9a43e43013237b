// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package connection

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/connectivity"
)

// states is a connection whose state the test sets.
type states struct {
	mu       sync.Mutex
	state    connectivity.State
	changed  chan struct{}
	connects int
	answered time.Time
	refused  bool
}

func newStates(state connectivity.State) *states {
	return &states{state: state, changed: make(chan struct{})}
}

func (s *states) set(state connectivity.State) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state == connectivity.Ready || state == connectivity.Ready {
		s.answered = time.Now()
	}
	s.changeLocked(state)
}

// change sets the state, without an answer that counts.
func (s *states) change(state connectivity.State) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.changeLocked(state)
}

func (s *states) changeLocked(state connectivity.State) {
	s.state = state
	close(s.changed)
	s.changed = make(chan struct{})
}

func (s *states) Refused() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.refused
}

func (s *states) GetState() connectivity.State {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state
}

func (s *states) WaitForStateChange(ctx context.Context, from connectivity.State) bool {
	for {
		s.mu.Lock()
		state, changed := s.state, s.changed
		s.mu.Unlock()
		if state != from {
			return true
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return false
		}
	}
}

func (s *states) Connect() {
	s.mu.Lock()
	s.connects++
	s.mu.Unlock()
}

// freeze loses the connection of a backend that has not answered since `last`.
func (s *states) freeze(last time.Time) {
	s.set(connectivity.Idle)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answered = last
}

func (s *states) LastAnswer() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.answered
}

// limit is the longest that a backend may be silent in these tests.
const limit = 30 * time.Second

var outages = []struct {
	name  string
	limit time.Duration
	play  func(*states)
	// want is when the watch gives up, counted from its start; 0 means never.
	want time.Duration
}{
	{"a backend that never comes", limit, func(*states) {}, limit},
	{"a backend that stays", limit, func(s *states) {
		s.set(connectivity.Ready)
	}, 0},
	{"attempts that fail do not prolong the wait", limit, func(s *states) {
		for range 29 {
			time.Sleep(time.Second)
			s.set(connectivity.Connecting)
			s.set(connectivity.TransientFailure)
		}
	}, limit},
	{"a backend that goes away for good", limit, func(s *states) {
		s.set(connectivity.Ready)
		time.Sleep(time.Minute)
		s.set(connectivity.Idle)
	}, time.Minute + limit},
	{"outages that end in time are not added up", limit, func(s *states) {
		for range 5 {
			s.set(connectivity.Ready)
			time.Sleep(time.Minute)
			s.set(connectivity.TransientFailure)
			time.Sleep(limit - time.Second)
		}
		s.set(connectivity.Ready)
	}, 0},
	{"a backend that was silent before its connection was lost", limit, func(s *states) {
		s.set(connectivity.Ready)
		last := time.Now()
		time.Sleep(20 * time.Second)
		s.freeze(last)
	}, limit},
	{"a backend that answers between two changes of state", limit, func(s *states) {
		time.Sleep(limit - time.Second)
		s.mu.Lock()
		s.answered = time.Now()
		s.mu.Unlock()
	}, 2*limit - time.Second},
	{"no limit", 0, func(*states) {}, 0},
	{"a connection that is closed", limit, func(s *states) {
		s.set(connectivity.Shutdown)
	}, 0},
}

// A connection on which every call is refused is none, however long it is there.
func TestABackendThatRefusesThisProcessIsUnreachable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		conn := newStates(connectivity.Connecting)
		conn.refused = true
		ctx, stop := context.WithTimeout(t.Context(), time.Hour)
		defer stop()
		start := time.Now()
		result := make(chan error, 1)
		go func() { result <- WatchReachability(ctx, conn, 30*time.Second) }()
		synctest.Wait()
		conn.change(connectivity.Ready)
		if err := <-result; !errors.Is(err, ErrUnreachable) || time.Since(start) != 30*time.Second {
			t.Errorf("ended with %v after %s, want ErrUnreachable after 30 s", err, time.Since(start))
		}
	})
}

func TestABackendThatDoesNotAnswerForTooLongIsUnreachable(t *testing.T) {
	for _, tt := range outages {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				conn := newStates(connectivity.Connecting)
				ctx, stop := context.WithTimeout(t.Context(), time.Hour)
				defer stop()
				start := time.Now()
				result := make(chan error, 1)
				var gaveUp time.Duration
				go func() {
					err := WatchReachability(ctx, conn, tt.limit)
					gaveUp = time.Since(start)
					result <- err
				}()
				synctest.Wait()
				tt.play(conn)
				err := <-result
				switch {
				case tt.want == 0 && err != nil:
					t.Errorf("gave up after %s: %v", gaveUp, err)
				case tt.want > 0 && !errors.Is(err, ErrUnreachable):
					t.Errorf("ended with %v, want ErrUnreachable", err)
				case tt.want > 0 && gaveUp != tt.want:
					t.Errorf("gave up after %s, want %s", gaveUp, tt.want)
				}
			})
		})
	}
}

func TestALostConnectionIsMadeAgainWithoutACall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		conn := newStates(connectivity.Ready)
		ctx, stop := context.WithCancel(t.Context())
		result := make(chan error, 1)
		go func() { result <- WatchReachability(ctx, conn, time.Minute) }()
		synctest.Wait()
		conn.set(connectivity.Idle)
		synctest.Wait()
		if conn.connects == 0 {
			t.Error("an idle connection is left idle")
		}
		stop()
		if err := <-result; err != nil {
			t.Errorf("the end of the context is an error: %v", err)
		}
	})
}

func TestAwaitFirst(t *testing.T) {
	for _, tt := range []struct {
		name string
		play func(*states, context.CancelFunc)
		want time.Duration
	}{
		{"until the connection is made", func(s *states, _ context.CancelFunc) {
			time.Sleep(2 * time.Second)
			s.set(connectivity.Ready)
		}, 2 * time.Second},
		{"no longer than the limit", func(*states, context.CancelFunc) {}, 30 * time.Second},
		{"no longer than the context", func(_ *states, end context.CancelFunc) {
			time.Sleep(time.Second)
			end()
		}, time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				conn := newStates(connectivity.Idle)
				ctx, end := context.WithCancel(t.Context())
				defer end()
				start := time.Now()
				done := make(chan time.Duration, 1)
				go func() {
					AwaitFirst(ctx, conn, 30*time.Second)
					done <- time.Since(start)
				}()
				tt.play(conn, end)
				if got := <-done; got != tt.want {
					t.Errorf("waited %s, want %s", got, tt.want)
				}
			})
		})
	}
}
