// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package conformance_test

import (
	"context"
	"crypto/tls"
	"net"
	"path/filepath"
	"testing"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/backend/access/accesstest"
)

// tlsReader returns the flags by which a backend is reached over TLS on loopback by a client that may only
// read, and how that connects.
func tlsReader(t *testing.T) (flags []string, dial func(context.Context) (net.Conn, error)) {
	t.Helper()
	own := accesstest.NewAuthority(t)
	dir := t.TempDir()
	certificate, key := filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key")
	authorities := filepath.Join(dir, "ca.crt")
	own.Write(t, own.Issue(t, "", "backend.example.com", ""), certificate, key, authorities)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String()
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	dialer := &tls.Dialer{Config: &tls.Config{
		RootCAs: own.Pool(), ServerName: "backend.example.com", MinVersion: tls.VersionTLS13,
		Certificates: []tls.Certificate{own.Issue(t, "", "reader.example.com", "")},
		NextProtos:   []string{"h2"},
	}}
	return []string{
			"--tls-listen", address, "--tls-cert-file", certificate, "--tls-private-key-file", key,
			"--client-ca-file", authorities, "--client", "reader.example.com=read",
		}, func(ctx context.Context) (net.Conn, error) {
			return dialer.DialContext(ctx, "tcp", address)
		}
}
