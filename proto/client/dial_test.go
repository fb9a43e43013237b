// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package client

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

func getInstance(ctx context.Context, conn grpc.ClientConnInterface) error {
	_, err := backendv1.NewInstanceServiceClient(conn).
		GetInstance(ctx, &backendv1.GetInstanceRequest{})
	return err
}

func change(ctx context.Context, conn grpc.ClientConnInterface) error {
	_, err := backendv1.NewLoadBalancerServiceClient(conn).
		RebalanceLoadBalancers(ctx, &backendv1.RebalanceLoadBalancersRequest{})
	return err
}

// lose stops the server and waits until the connection has noticed. A call may have succeeded on a
// connection that calls itself ready only later, so that is awaited first.
func lose(t *testing.T, s *server, conn *grpc.ClientConn) {
	t.Helper()
	ctx := within(t, 5*time.Second)
	await := func(ready bool) {
		for state := conn.GetState(); (state == connectivity.Ready) != ready; state = conn.GetState() {
			if !conn.WaitForStateChange(ctx, state) {
				t.Fatalf("the connection stays %s", state)
			}
		}
	}
	await(true)
	s.stop()
	await(false)
}

func TestACallWaitsForABackendThatStartsLate(t *testing.T) {
	s := newServer(t, nil)
	conn := s.dial(t)
	result := make(chan error, 1)
	go func() { result <- getInstance(within(t, 10*time.Second), conn) }()
	// The connection has failed at least once when the backend comes.
	ctx := within(t, 5*time.Second)
	for state := conn.GetState(); state != connectivity.TransientFailure; state = conn.GetState() {
		if !conn.WaitForStateChange(ctx, state) {
			t.Fatalf("the connection is %s, without a backend", state)
		}
	}
	s.start(t)
	if err := <-result; err != nil {
		t.Errorf("a call with ten seconds to spare failed: %v", err)
	}
}

func TestNoCallFailsWhoseDeadlineOutlastsAnOutage(t *testing.T) {
	t.Parallel()
	s := newServer(t, nil)
	s.start(t)
	conn := s.dial(t)
	if err := getInstance(within(t, 10*time.Second), conn); err != nil {
		t.Fatal(err)
	}
	// The second one is long enough for pauses that grow without a bound to be noticed.
	for _, outage := range []time.Duration{500 * time.Millisecond, 8 * time.Second} {
		lose(t, s, conn)
		reads, changes := make(chan error, 1), make(chan error, 1)
		go func() { reads <- getInstance(within(t, outage+5*time.Second), conn) }()
		go func() { changes <- change(within(t, outage+5*time.Second), conn) }()
		<-time.After(outage)
		s.start(t)
		back := time.Now()
		for name, result := range map[string]chan error{"read": reads, "change": changes} {
			if err := <-result; err != nil {
				t.Errorf("a %s that was begun during the outage failed: %v", name, err)
			}
		}
		if took := time.Since(back); took > 2*time.Second {
			t.Errorf("the first success came %s after the backend did, want 2 s at most", took)
		}
	}
}

func TestACallInFlightWhenTheBackendDies(t *testing.T) {
	for _, tt := range []struct {
		name string
		call func(context.Context, grpc.ClientConnInterface) error
		want codes.Code
		// calls is how often the call arrives in all.
		calls int
	}{
		{"a read is repeated and succeeds", getInstance, codes.OK, 2},
		{"a change is not repeated: its outcome is unknown", change, codes.Unavailable, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			arrived := make(chan struct{})
			s := newServer(t, func(ctx context.Context, nth int) error {
				if nth == 1 {
					close(arrived)
					<-ctx.Done()
				}
				return nil
			})
			s.start(t)
			conn := s.dial(t)
			result := make(chan error, 1)
			go func() { result <- tt.call(within(t, 10*time.Second), conn) }()
			<-arrived
			s.stop()
			s.start(t)
			if got := status.Code(<-result); got != tt.want {
				t.Errorf("the call ended with %s, want %s", got, tt.want)
			}
			if got := s.calls(); got != tt.calls {
				t.Errorf("the call arrived %d times, want %d", got, tt.calls)
			}
		})
	}
}

func TestTheBackendsOwnUnavailableIsNotRepeated(t *testing.T) {
	for _, tt := range []struct {
		name     string
		pushback bool
		calls    int
	}{
		{"with the pushback that the backend sends", true, 1},
		{"without one, as from a transport that fails", false, 5},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newServer(t, func(ctx context.Context, _ int) error {
				if tt.pushback {
					err := grpc.SetTrailer(ctx, metadata.Pairs("grpc-retry-pushback-ms", "-1"))
					if err != nil {
						t.Error(err)
					}
				}
				return status.Error(codes.Unavailable, "Oxide is away")
			})
			s.start(t)
			err := getInstance(within(t, 20*time.Second), s.dial(t))
			if status.Code(err) != codes.Unavailable {
				t.Errorf("the call ended with %v", err)
			}
			if got := s.calls(); got != tt.calls {
				t.Errorf("the call arrived %d times, want %d", got, tt.calls)
			}
		})
	}
}

// Whoever may not use the backend learns so, and not that it does not answer.
func TestAnotherUserIsToldWhyThereIsNoConnection(t *testing.T) {
	socket := filepath.Join(socketDir(t), "b.sock")
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			_ = conn.Close()
		}
	}()
	for _, tt := range []struct {
		name string
		dial func(context.Context) (net.Conn, error)
		want string
	}{
		{"the backend hangs up", func(ctx context.Context) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", socket)
		}, "closes the connection without an answer"},
		{"nobody listens", func(context.Context) (net.Conn, error) {
			return nil, syscall.ECONNREFUSED
		}, "is not there (connection refused): see whether it runs"},
		{"there is no such socket", func(ctx context.Context) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", socket+"-wrong")
		}, "b.sock-wrong: connect: no such file or directory): see whether it runs"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			conn, err := Dial("/nowhere/b.sock", WithDialer(tt.dial))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = conn.Close() })
			err = getInstance(within(t, 500*time.Millisecond), conn)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("the call fails with %v, want %q in it", err, tt.want)
			}
		})
	}
}

// What waits for a connection when the socket turns out to be closed to this user fails at once, and so
// does every further call, until it is open.
func TestAUserWhoMayNotOpenTheSocketIsRefusedAtOnce(t *testing.T) {
	s := newServer(t, nil)
	s.start(t)
	attempt, open := make(chan struct{}), new(atomic.Bool)
	conn, err := Dial(s.socket, WithDialer(func(ctx context.Context) (net.Conn, error) {
		if !open.Load() {
			<-attempt
			return nil, &net.OpError{Op: "dial", Net: "unix", Err: os.NewSyscallError("connect", syscall.EACCES)}
		}
		return new(net.Dialer).DialContext(ctx, "unix", s.socket)
	}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	began := time.Now()
	refused := func(what string, err error) {
		t.Helper()
		if !errors.Is(err, ErrClientDenied) || status.Code(err) != codes.PermissionDenied ||
			!strings.Contains(err.Error(), "run as the user that oxide-backend runs as") {
			t.Errorf("%s fails with %v", what, err)
		}
	}
	waiting := make(chan error, 2)
	go func() { waiting <- getInstance(within(t, patience), conn) }()
	go func() {
		_, err := backendv1.NewInstanceServiceClient(conn).
			WatchInstances(within(t, patience), new(backendv1.WatchInstancesRequest))
		waiting <- err
	}()
	close(attempt)
	refused("a call that waits", <-waiting)
	refused("a call that waits", <-waiting)
	refused("a further call", getInstance(within(t, patience), conn))
	if took := time.Since(began); took > patience/2 {
		t.Errorf("it took %s", took)
	}
	open.Store(true)
	for getInstance(within(t, patience), conn) != nil {
		if time.Since(began) > patience {
			t.Fatal("calls fail although the socket is open")
		}
	}
}

// A backend that refuses this process answers, but not as one that works: whoever watches over it must not
// take it for that.
func TestARefusalIsNoAnswer(t *testing.T) {
	var refuses atomic.Bool
	s := newServer(t, func(context.Context, int) error {
		if refuses.Load() {
			return (&Error{
				Code: codes.PermissionDenied, Reason: backendv1.ErrorReason(ErrClientDenied), Message: "no",
			}).GRPCStatus().Err()
		}
		return nil
	})
	s.start(t)
	activity := new(Activity)
	conn, err := Dial(s.socket, WithActivity(activity))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	for _, now := range []bool{true, false} {
		refuses.Store(now)
		if err := getInstance(within(t, patience), conn); errors.Is(err, ErrClientDenied) != now {
			t.Fatal(err)
		}
		if activity.Refused() != now {
			t.Errorf("refused: %t, want %t", activity.Refused(), now)
		}
		last := activity.LastAnswer()
		_ = getInstance(within(t, patience), conn)
		if counts := activity.LastAnswer().After(last); counts == now {
			t.Errorf("refused: %t; an answer counts: %t", now, counts)
		}
	}
}

func TestSocketPathsWithSpecialCharacters(t *testing.T) {
	for _, name := range []string{"a b", "50%", "what?", "#1", "%2F", "ü"} {
		t.Run(name, func(t *testing.T) {
			s := newServer(t, nil)
			s.socket = filepath.Join(filepath.Dir(s.socket), name)
			s.start(t)
			if err := getInstance(within(t, 5*time.Second), s.dial(t)); err != nil {
				t.Errorf("the backend at %q is not reached: %v", s.socket, err)
			}
		})
	}
}

func TestUnaryCallsAreObserved(t *testing.T) {
	s := newServer(t, func(context.Context, int) error {
		return status.Error(codes.FailedPrecondition, "no")
	})
	s.start(t)
	var observed []string
	conn, err := Dial(s.socket, WithUnaryObserver(
		func(method string, code codes.Code, elapsed time.Duration) {
			if elapsed <= 0 {
				t.Errorf("the call took %s", elapsed)
			}
			observed = append(observed, method+" "+code.String())
		}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if err := change(within(t, 5*time.Second), conn); err == nil {
		t.Fatal("the call succeeded")
	}
	want := []string{
		backendv1.LoadBalancerService_RebalanceLoadBalancers_FullMethodName + " FailedPrecondition",
	}
	if diff := cmp.Diff(want, observed); diff != "" {
		t.Errorf("observed (-want +got):\n%s", diff)
	}
}

func TestTheLastAnswerIsRecorded(t *testing.T) {
	s := newServer(t, nil)
	s.start(t)
	activity := new(Activity)
	before := time.Now()
	if last := activity.LastAnswer(); !last.IsZero() {
		t.Errorf("it answered at %s, before there was a connection", last)
	}
	conn, err := Dial(s.socket, WithActivity(activity))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if err := getInstance(within(t, 5*time.Second), conn); err != nil {
		t.Fatal(err)
	}
	answered := activity.LastAnswer()
	if answered.Before(before) {
		t.Errorf("an answer at %s is recorded, want one after %s", answered, before)
	}
	// A process whose connection is closed by its end was alive until then.
	lose(t, s, conn)
	lost := activity.LastAnswer()
	if !lost.After(answered) {
		t.Errorf("the end of the connection is not recorded")
	}
	if err := conn.Close(); err != nil {
		t.Fatal(err)
	}
	if last := activity.LastAnswer(); !last.Equal(lost) {
		t.Error("an end by this side counts as an answer")
	}
}

func TestManyOutagesLeakNothing(t *testing.T) {
	s := newServer(t, nil)
	s.start(t)
	conn := s.dial(t)
	open := func() int {
		entries, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Skip("no /proc here")
		}
		return len(entries)
	}
	if err := getInstance(within(t, 10*time.Second), conn); err != nil {
		t.Fatal(err)
	}
	before := open()
	for range 20 {
		s.stop()
		s.start(t)
		if err := getInstance(within(t, 10*time.Second), conn); err != nil {
			t.Fatal(err)
		}
	}
	if after := open(); after > before+2 {
		t.Errorf("%d file descriptors are open after twenty outages, %d before", after, before)
	}
}

func TestDialTLSRefusesWhatCannotWork(t *testing.T) {
	own := &tls.Config{MinVersion: tls.VersionTLS12, Certificates: make([]tls.Certificate, 1)}
	for _, tt := range []struct {
		name, address string
		config        *tls.Config
		want          string
	}{
		{"no port", "backend.example.com", own, "not of the form HOST:PORT"},
		{"a socket", "unix:///run/b.sock", own, "not of the form HOST:PORT"},
		{"no certificate", "127.0.0.1:1", &tls.Config{MinVersion: tls.VersionTLS12}, "takes a certificate"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			conn, err := DialTLS(tt.address, tt.config)
			if err == nil {
				_ = conn.Close()
			}
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}
