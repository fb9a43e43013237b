// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package instances_test

import (
	"context"
	"net"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/oxidesim"
)

// inBubble runs a test against a simulated rack in virtual time: hours cost nothing, and nothing
// happens but what the test waits for. The rack is reached through pipes in memory, because
// virtual time stands still while somebody waits for a real network.
func inBubble(t *testing.T, test func(t *testing.T, w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		rack, err := oxidesim.New(oxidesim.Config{TimeScale: oxidesim.TestTimeScale})
		if err != nil {
			t.Fatal(err)
		}
		defer rack.Close()
		w := &world{t: t, rack: rack, project: oxidesim.DefaultProject, host: "http://127.0.0.1"}
		w.handle(rack.Handler().ServeHTTP)
		pipes := &pipes{conns: make(chan net.Conn), closed: make(chan struct{})}
		server := &http.Server{Handler: http.HandlerFunc(
			func(rw http.ResponseWriter, r *http.Request) { (*w.enter.Load())(rw, r) },
		)}
		served := make(chan struct{})
		go func() {
			defer close(served)
			_ = server.Serve(pipes)
		}()
		w.dial = pipes.dial
		w.connect(oxidesim.DefaultToken)
		defer func() {
			w.client.Close()
			_ = server.Close()
			<-served
		}()
		test(t, w)
	})
}

// pipes is a network of two, without any delay.
type pipes struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func (p *pipes) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	ours, theirs := net.Pipe()
	select {
	case p.conns <- theirs:
		return ours, nil
	case <-p.closed:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Accept implements net.Listener.
func (p *pipes) Accept() (net.Conn, error) {
	select {
	case conn := <-p.conns:
		return conn, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (p *pipes) Close() error {
	p.once.Do(func() { close(p.closed) })
	return nil
}

// Addr implements net.Listener.
func (p *pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipe", Net: "unix"} }
