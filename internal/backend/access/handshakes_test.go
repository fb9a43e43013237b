// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package access

import (
	"net"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/backend/access/accesstest"
)

// Whoever connects over TCP and does not say who it is holds no more than some of the connections that
// the program can have, and keeps nobody away from its unix sockets.
func TestHandshakesAreBounded(t *testing.T) {
	own := accesstest.NewAuthority(t)
	files := certificatesIn(t.TempDir())
	write(t, files, own.Issue(t, "", "backend.example.com", ""), own)
	creds, err := files.Credentials()
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		server := &serverCredentials{tls: creds, policy: &Policy{}}
		var clients []net.Conn
		var failed atomic.Int64
		begin := func(n int) {
			for range n {
				client, raw := net.Pipe()
				clients = append(clients, client)
				go func() {
					defer func() { _ = raw.Close() }()
					if _, _, err := server.ServerHandshake(raw); err != nil {
						failed.Add(1)
					}
				}()
			}
			synctest.Wait()
		}
		begin(maxHandshakes)
		if n := failed.Load(); n != 0 {
			t.Errorf("%d of %d handshakes fail", n, maxHandshakes)
		}
		begin(1)
		if n := failed.Load(); n != 1 {
			t.Errorf("of one more %d fail, want 1", n)
		}
		_ = clients[0].Close() // its handshake fails
		synctest.Wait()
		begin(1)
		if n := failed.Load(); n != 2 {
			t.Errorf("after one has ended %d have failed, want 2", n)
		}
		for _, client := range clients {
			_ = client.Close()
		}
	})
}
