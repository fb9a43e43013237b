// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package backend_test

import (
	"crypto/tls"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/grpc"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/backend/access/accesstest"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/oxidesim"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/proto/client"
	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

// A client elsewhere may do what its certificate gives it, and a refusal has a reason and a remedy.
func TestAClientOverTLSMayDoWhatItsNameGives(t *testing.T) {
	rack := oxidesim.Start(t, oxidesim.Config{})
	own := accesstest.NewAuthority(t)
	dir := t.TempDir()
	files := [3]string{filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key"), filepath.Join(dir, "ca.crt")}
	own.Write(t, own.Issue(t, "", "backend.example.com", ""), files[0], files[1], files[2])
	address := freeAddress(t)
	p := start(t, rack.URL, "--tls-listen", address, "--tls-cert-file", files[0],
		"--tls-private-key-file", files[1], "--client-ca-file", files[2],
		"--client", "reader.example.com=read", "--client", "spiffe://example.com/edge=addresses")
	p.awaitReady()
	dial := func(dnsName, uri string) *grpc.ClientConn {
		conn, err := client.DialTLS(address, &tls.Config{
			RootCAs: own.Pool(), ServerName: "backend.example.com", MinVersion: tls.VersionTLS13,
			Certificates: []tls.Certificate{own.Issue(t, "", dnsName, uri)},
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		return conn
	}
	reserve := &backendv1.ReserveAddressRequest{
		Name: "edge", Source: backendv1.AddressSource_ADDRESS_SOURCE_FLOATING_IP,
		Family: backendv1.IpFamily_IP_FAMILY_IPV4,
	}
	reader := dial("reader.example.com", "")
	if _, err := backendv1.NewBackendServiceClient(reader).
		GetInfo(t.Context(), new(backendv1.GetInfoRequest)); err != nil {
		t.Errorf("a client that may read: %v", err)
	}
	_, err := backendv1.NewAddressServiceClient(reader).ReserveAddress(t.Context(), reserve)
	expectDenied(t, err, "lacks the right addresses")
	edge := dial("", "spiffe://example.com/edge")
	if _, err := backendv1.NewAddressServiceClient(edge).ReserveAddress(t.Context(), reserve); err != nil {
		t.Errorf("a client that may reserve addresses: %v", err)
	}
	stranger := dial("stranger.example.com", "")
	_, err = backendv1.NewBackendServiceClient(stranger).GetInfo(t.Context(), new(backendv1.GetInfoRequest))
	expectDenied(t, err, "stranger.example.com")
	if text := p.log.String(); strings.Contains(text, "PRIVATE KEY") {
		t.Error("the log shows a key")
	}
}

func expectDenied(t *testing.T, err error, says string) {
	t.Helper()
	if !client.HasReason(err, backendv1.ErrorReason_ERROR_REASON_CLIENT_DENIED) ||
		!strings.Contains(err.Error(), says) || !strings.Contains(err.Error(), "--client") {
		t.Errorf("got %v, want CLIENT_DENIED with %q", err, says)
	}
}

// What is reachable by more than the own user takes somebody who may use it, and reverse.
func TestFlagsOfAccessAreCheckedTogether(t *testing.T) {
	for _, tt := range []struct {
		name string
		args []string
		want []string
	}{
		{"nobody may call", []string{"--shared-listen", "unix:///tmp/x/s.sock"},
			[]string{"--client: it names nobody"}},
		{"nowhere to call", []string{"--client", "uid:1=read"}, []string{"--client: it is for --shared-listen"}},
		{"the same socket", []string{"--listen", "/tmp/x/s.sock", "--shared-listen", "/tmp/x/s.sock",
			"--client", "uid:1=read"}, []string{"--shared-listen: it is the socket of --listen"}},
		{"no socket", []string{"--shared-listen", "x", "--client", "uid:1=read"}, []string{"--shared-listen: "}},
		{"no certificate", []string{"--tls-listen", ":1", "--client", "a=read"},
			[]string{"--tls-cert-file: ", "--tls-private-key-file: ", "--client-ca-file: "}},
		{"no port", []string{"--tls-listen", "x", "--client", "a=read"}, []string{`--tls-listen: "x" is not of the form`}},
		{"certificates for nothing", []string{"--client-ca-file", "x"}, []string{"which is not given"}},
		{"all faulty clients", []string{"--tls-listen", ":1", "--client", "a=x", "--client", "b"},
			[]string{`--client: "x" is no right`, `--client: "b" is not of the form`}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var log logBuffer
			cmd := command(&log, []string{"OXIDE_HOST=http://127.0.0.1:1", "OXIDE_TOKEN=" + oxidesim.DefaultToken,
				"OXIDE_PROJECT=demo"}, tt.args...)
			if err := cmd.Run(); cmd.ProcessState.ExitCode() != 2 {
				t.Errorf("%v, want exit code 2", err)
			}
			for _, want := range tt.want {
				if !strings.Contains(log.String(), want) {
					t.Errorf("%q is not in:\n%s", want, log.String())
				}
			}
		})
	}
}
