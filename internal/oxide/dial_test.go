// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package oxide

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// testDialer returns a dialer of a name with three addresses, at which dial answers.
func testDialer(dial func(ctx context.Context, address string) error) *dialer {
	return &dialer{
		lookup: func(context.Context, string, string) ([]netip.Addr, error) {
			return []netip.Addr{
				netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2"),
				netip.MustParseAddr("192.0.2.3"),
			}, nil
		},
		dial: func(ctx context.Context, _, address string) (net.Conn, error) {
			if err := dial(ctx, address); err != nil {
				return nil, err
			}
			here, there := net.Pipe()
			_ = there.Close()
			return here, nil
		},
	}
}

// An API server that accepts connections and is silent then does not get every attempt: each connection
// begins with another address.
func TestConnectionsBeginWithEachAddressInTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var tried []string
		d := testDialer(func(_ context.Context, address string) error {
			tried = append(tried, address)
			return nil
		})
		for range 4 {
			conn, err := d.DialContext(t.Context(), "tcp", "rack.example:443")
			if err != nil {
				t.Fatal(err)
			}
			_ = conn.Close()
		}
		want := []string{"192.0.2.1:443", "192.0.2.2:443", "192.0.2.3:443", "192.0.2.1:443"}
		if diff := cmp.Diff(want, tried); diff != "" {
			t.Errorf("addresses tried (-want +got):\n%s", diff)
		}
	})
}

// One API server that is off delays a connection by less than a second, and one that refuses not at all.
// The connections that come too late are closed.
func TestADeadAddressOfSeveralDelaysOnlyAMoment(t *testing.T) {
	refused := errors.New("refused")
	for _, tt := range []struct {
		name  string
		first func(context.Context) error
		want  time.Duration
	}{
		{"off", func(ctx context.Context) error {
			<-ctx.Done()
			return ctx.Err()
		}, dialStagger},
		{"slow", func(context.Context) error {
			time.Sleep(time.Second)
			return nil
		}, dialStagger},
		{"refusing", func(context.Context) error { return refused }, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := testDialer(func(ctx context.Context, address string) error {
					if address == "192.0.2.1:443" {
						return tt.first(ctx)
					}
					return nil
				})
				began := time.Now()
				conn, err := d.DialContext(t.Context(), "tcp", "rack.example:443")
				if err != nil {
					t.Fatal(err)
				}
				_ = conn.Close()
				if took := time.Since(began); took != tt.want {
					t.Errorf("it took %s, want %s", took, tt.want)
				}
				time.Sleep(time.Minute)
			})
		})
	}
}

// Where no address answers the attempt ends in time, with the cause.
func TestAllAddressesDeadEndsInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := testDialer(func(ctx context.Context, _ string) error {
			<-ctx.Done()
			return ctx.Err()
		})
		began := time.Now()
		_, err := d.DialContext(t.Context(), "tcp", "rack.example:443")
		if took := time.Since(began); took != dialTimeout || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("after %s: %v, want the deadline's error after %s", took, err, dialTimeout)
		}
	})
}
