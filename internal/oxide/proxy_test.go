// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package oxide_test

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/oxide"
)

func TestAFailureOfTheProxyNamesTheProxy(t *testing.T) {
	answering := func(status int) string {
		return serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(status)
		}))
	}
	closing := listen(t, func(c net.Conn) { _ = c.Close() })
	noTLS := strings.Replace(answering(200), "http://", "https://", 1)
	for _, tt := range []struct{ name, proxy, want string }{
		{"nothing listens", "http://u:" + tokenPrefix + "p@" + closedPort(t),
			"is not there: nothing listens at its address (connection refused); correct HTTPS_PROXY"},
		{"no such host", "http://" + strings.Repeat("x", 64) + ".example:3128",
			".example does not resolve; correct HTTPS_PROXY"},
		{"it forbids", answering(403), "does not let this machine reach the API (HTTP 403); have the proxy"},
		{"it wants a password", answering(407), "(HTTP 407); put them into HTTPS_PROXY"},
		{"it does not reach the API", answering(502), "cannot reach the API (HTTP 502); see"},
		{"no URL", "http://u:" + tokenPrefix + "p@h:x:y", "HTTPS_PROXY is not the URL of a proxy"},
		{"no proxy's URL", "ftp://h:21", "HTTPS_PROXY is not the URL of a proxy"},
		{"it closes the connection", closing, "before all of its answer had come (through the proxy"},
		{"it speaks no TLS", noTLS, "cannot be reached; correct HTTPS_PROXY"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Setenv("HTTPS_PROXY", tt.proxy)
			t.Setenv("NO_PROXY", "")
			client, _ := newClientAt(t, &url.URL{Scheme: "https", Host: "rack.example.com"})
			defer client.Close()
			_, err := client.Contact(t.Context())
			wantKind(t, err, oxide.KindUnavailable)
			if !strings.Contains(err.Error(), "HTTPS_PROXY") || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("it says %v\nwant %s", err, tt.want)
			}
			if proxy, parseErr := url.Parse(tt.proxy); parseErr == nil && proxy.Scheme != "ftp" &&
				!strings.Contains(err.Error(), "the proxy "+proxy.Host+" in HTTPS_PROXY") {
				t.Errorf("the proxy %s is not named: %v", proxy.Host, err)
			}
		})
	}
}

func TestATLSPortIsNotCalledWithoutTLS(t *testing.T) {
	server := httptest.NewTLSServer(http.NotFoundHandler())
	defer server.Close()
	host := &url.URL{Scheme: "http", Host: server.Listener.Addr().String()}
	client, _ := newClientAt(t, host)
	defer client.Close()
	_, err := client.Contact(t.Context())
	wantKind(t, err, oxide.KindBadResponse)
	if !strings.Contains(err.Error(), "use https in --oxide-host or OXIDE_HOST") {
		t.Error(err)
	}
}

// listen has each connection to an address of loopback handled, and returns the URL of a proxy there.
func listen(t testing.TB, handle func(net.Conn)) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var connections []net.Conn
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			connection, err := listener.Accept()
			if err != nil {
				return
			}
			connections = append(connections, connection)
			handle(connection)
		}
	}()
	t.Cleanup(func() {
		_ = listener.Close()
		<-done
		for _, connection := range connections {
			_ = connection.Close()
		}
	})
	return "http://" + listener.Addr().String()
}

func TestAProxyThatIsSilentIsNamed(t *testing.T) {
	proxy := listen(t, func(net.Conn) {})
	t.Setenv("HTTPS_PROXY", proxy)
	t.Setenv("NO_PROXY", "")
	client, _ := newClientAt(t, &url.URL{Scheme: "https", Host: "rack.example.com"})
	defer client.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	_, err := client.Contact(ctx)
	wantKind(t, err, oxide.KindEnded)
	want := "the time for it was up (through the proxy " + strings.TrimPrefix(proxy, "http://") +
		" in HTTPS_PROXY); see the proxy's log, and that the host in --oxide-host or OXIDE_HOST is right"
	if err == nil || !strings.HasSuffix(err.Error(), want) {
		t.Errorf("it says %v\nwant … %s", err, want)
	}
}
