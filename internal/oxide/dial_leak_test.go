// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package oxide

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// Whenever each address answers, and whenever the caller gives up, no connection stays open but the one
// that is returned.
func TestNoConnectionIsLeftOpenWhateverTheOrder(t *testing.T) {
	for seed := range uint64(300) {
		synctest.Test(t, func(t *testing.T) {
			random := rand.New(rand.NewPCG(seed, 1))
			type answer struct {
				after   time.Duration
				refuses bool
			}
			var (
				open      atomic.Int64
				addresses []netip.Addr
				answers   = make(map[string]answer)
			)
			for i := range 1 + random.IntN(5) {
				addr := netip.AddrFrom4([4]byte{192, 0, 2, byte(i)})
				addresses = append(addresses, addr)
				answers[netip.AddrPortFrom(addr, 443).String()] = answer{
					time.Duration(random.IntN(12)) * 100 * time.Millisecond, random.IntN(3) == 0,
				}
			}
			d := &dialer{
				lookup: func(context.Context, string, string) ([]netip.Addr, error) { return addresses, nil },
				dial: func(_ context.Context, _, address string) (net.Conn, error) {
					a := answers[address]
					time.Sleep(a.after) // whatever becomes of ctx: one may be made in the moment when it ends
					if a.refuses {
						return nil, errors.New("refused")
					}
					open.Add(1)
					return &countingConn{closed: &open}, nil
				},
			}
			limit := time.Duration(random.IntN(20)) * 100 * time.Millisecond
			ctx, cancel := context.WithTimeout(t.Context(), limit)
			defer cancel()
			conn, err := d.DialContext(ctx, "tcp", "rack.example:443")
			time.Sleep(time.Minute)
			synctest.Wait()
			want := int64(0)
			if err == nil {
				want = 1
			}
			if n := open.Load(); n != want || (conn == nil) == (err == nil) {
				t.Errorf("seed %d: %d connections are open, want %d: %v, %v", seed, n, want, conn, err)
			}
		})
	}
}

// countingConn is a connection that is counted while it is open.
type countingConn struct {
	net.Conn
	closed *atomic.Int64
}

func (c *countingConn) Close() error {
	c.closed.Add(-1)
	return nil
}
