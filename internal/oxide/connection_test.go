// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package oxide_test

import (
	"crypto/tls"
	"encoding/pem"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/oxide"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/oxidesim"
)

// serveTLS serves the rack with a certificate for 127.0.0.1 and example.com, signed by itself. It
// gives the URL and a file with the certificate.
func serveTLS(t testing.TB, rack *oxidesim.Server) (*url.URL, string) {
	t.Helper()
	server := httptest.NewTLSServer(rack.Handler())
	t.Cleanup(server.Close)
	host, err := oxide.ParseHost(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "ca.pem")
	block := &pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}
	if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
		t.Fatal(err)
	}
	return host, file
}

func loadRoots(t testing.TB, file string) *oxide.Authorities {
	t.Helper()
	roots, err := oxide.CAFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return roots
}

func TestCAFileMakesAPrivateAuthorityTrusted(t *testing.T) {
	host, file := serveTLS(t, oxidesim.Start(t, oxidesim.Config{}))
	client, _ := newClientAt(t, host, func(cfg *oxide.Config) {
		cfg.Authorities = loadRoots(t, file)
	})
	if _, err := client.Identity(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestFailedConnectionNamesTheSettingToMend(t *testing.T) {
	rack := oxidesim.Start(t, oxidesim.Config{})
	tlsHost, caFile := serveTLS(t, rack)
	plain, err := url.Parse(rack.URL)
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name string
		host url.URL
		ca   string
		want string
	}{
		{
			"unknown authority", *tlsHost, "",
			"could not read who the token belongs to: Oxide could not be reached: " +
				"its certificate is signed by an unknown authority; " +
				"give the authority's certificate with --oxide-ca-file or OXIDE_CA_FILE",
		},
		{
			"certificate of another host",
			url.URL{Scheme: "https", Host: "localhost:" + tlsHost.Port()}, caFile,
			"could not read who the token belongs to: Oxide could not be reached: " +
				"its certificate is for another host name; " +
				"use the silo's own host name in --oxide-host or OXIDE_HOST",
		},
		{
			"name that does not resolve",
			// A label of 64 characters: no resolver needs to be asked.
			url.URL{Scheme: "https", Host: strings.Repeat("x", 64) + ".example"}, "",
			"could not read who the token belongs to: Oxide could not be reached: " +
				"the host name " + strings.Repeat("x", 64) + ".example in --oxide-host or " +
				"OXIDE_HOST does not resolve",
		},
		{
			"nobody listens", url.URL{Scheme: "https", Host: closedPort(t)}, "",
			"could not read who the token belongs to: Oxide could not be reached: " +
				"nothing listens at the address in --oxide-host or OXIDE_HOST " +
				"(connection refused)",
		},
		{
			"no TLS", url.URL{Scheme: "https", Host: plain.Host}, "",
			"could not read who the token belongs to: Oxide could not be reached: " +
				"it does not speak TLS at the port in --oxide-host or OXIDE_HOST",
		},
		{
			"TLS not expected", url.URL{Scheme: "http", Host: tlsHost.Host}, "",
			"could not read who the token belongs to: Oxide's answer cannot be understood: " +
				"HTTP 400 Bad Request; if that port speaks TLS, use https in --oxide-host or OXIDE_HOST",
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			client, _ := newClientAt(t, &tc.host, func(cfg *oxide.Config) {
				if tc.ca != "" {
					cfg.Authorities = loadRoots(t, tc.ca)
				}
			})
			_, err := client.Identity(t.Context())
			kind := oxide.KindUnavailable
			if tc.host.Scheme == "http" {
				kind = oxide.KindBadResponse
			}
			wantKind(t, err, kind)
			if err.Error() != tc.want {
				t.Errorf("got  %s\nwant %s", err, tc.want)
			}
		})
	}
}

// closedPort is an address of loopback at which nobody listens.
func closedPort(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func TestMutationOnAFailedConnectionIsUnavailable(t *testing.T) {
	host := &url.URL{Scheme: "http", Host: closedPort(t)}
	client, _ := newClientAt(t, host)
	wantKind(t, client.DetachFloatingIP(t.Context(), anID), oxide.KindUnavailable)
}

func TestCAFileRefusesWhatIsNoCertificate(t *testing.T) {
	dir := t.TempDir()
	if _, err := oxide.CAFile(filepath.Join(dir, "nothing")); err == nil ||
		err.Error() != "no such file or directory" {
		t.Errorf("missing file: %v", err)
	}
	file := filepath.Join(dir, "ca.pem")
	if err := os.WriteFile(file, []byte("no certificate\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := oxide.CAFile(file); err == nil ||
		err.Error() != "it holds no PEM certificate" {
		t.Errorf("no certificate: %v", err)
	}
}

func TestRedirectIsNotFollowed(t *testing.T) {
	var followed atomic.Int32
	thief := serve(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		followed.Add(1)
	}))
	for _, status := range []int{301, 302, 303, 307, 308} {
		for where, location := range map[string]string{
			"elsewhere": thief + "/v1/me", "nowhere": "http://%zz", "without location": "",
		} {
			front := serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				if location != "" {
					w.Header().Set("Location", location)
				}
				w.WriteHeader(status)
			}))
			for name, call := range map[string]func(*oxide.Client) error{
				"read":     func(c *oxide.Client) error { return reads["instance_view"](t.Context(), c) },
				"mutation": func(c *oxide.Client) error { return c.DetachFloatingIP(t.Context(), anID) },
				"delete":   func(c *oxide.Client) error { return c.DeleteFloatingIP(t.Context(), anID) },
			} {
				t.Run(http.StatusText(status)+" "+where+"/"+name, func(t *testing.T) {
					client, _ := newClient(t, front)
					wantKind(t, call(client), oxide.KindBadResponse)
				})
			}
		}
	}
	if n := followed.Load(); n > 0 {
		t.Errorf("%d requests went to where the redirect pointed", n)
	}
}

func TestASignOfLifeShowsTheCertificate(t *testing.T) {
	rack := oxidesim.Start(t, oxidesim.Config{})
	host, file := serveTLS(t, rack)
	client, _ := newClientAt(t, host, func(cfg *oxide.Config) { cfg.Authorities = loadRoots(t, file) })
	defer client.Close()
	contact, err := client.Contact(t.Context())
	if err != nil || contact.Certificate == nil || contact.Certificate.NotAfter.IsZero() {
		t.Errorf("got %+v, %v", contact, err)
	}
	plain, _ := newClient(t, rack.URL, withToken(static(t, tokenPrefix+"unknown")))
	defer plain.Close()
	if contact, err := plain.Contact(t.Context()); err != nil || contact.Certificate != nil {
		t.Errorf("without TLS, and with any token: got %+v, %v", contact, err)
	}
	client, _ = newClient(t, serve(t, http.HandlerFunc(
		func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			_, _ = io.WriteString(w, `{"status": "fine"}`)
		})))
	_, err = client.Contact(t.Context())
	wantKind(t, err, oxide.KindBadResponse)
}

// The library's own words hold ports and numbers of streams, which differ each time.
func TestABrokenConnectionIsDescribedAlikeEachTime(t *testing.T) {
	const begin = "could not read who the token belongs to: Oxide could not be reached: "
	rack := oxidesim.StartWith(t, oxidesim.Config{}, oxidesim.ServeOptions{TLS: true})
	if _, err := rack.AddFault(oxidesim.Fault{Operation: "*", Reset: true}); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "ca.pem")
	writeFile(t, file, rack.CAPEM)
	streams, err := oxide.ParseHost(rack.URL)
	if err != nil {
		t.Fatal(err)
	}
	closing, err := url.Parse(strings.Replace(listen(t, func(c net.Conn) {
		_ = c.(*net.TCPConn).SetLinger(0) // a reset, not an end
		_ = c.Close()
	}), "http:", "https:", 1))
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		host *url.URL
		want string
	}{
		{streams, begin + "it broke the request off (HTTP/2 INTERNAL_ERROR)"},
		{closing, begin + "the connection was closed before all of its answer had come"},
	} {
		client, _ := newClientAt(t, tt.host, func(cfg *oxide.Config) { cfg.Authorities = loadRoots(t, file) })
		for range 2 {
			if _, err := client.User(t.Context()); err == nil || err.Error() != tt.want {
				t.Errorf("it says %v\nwant %s", err, tt.want)
			}
		}
		client.Close()
	}
}

// The token goes to nobody who cannot do better than TLS 1.1, with a CA file and without one.
func TestNoOlderTLSThan12IsSpoken(t *testing.T) {
	rack := oxidesim.Start(t, oxidesim.Config{})
	for _, version := range []uint16{tls.VersionTLS10, tls.VersionTLS11, tls.VersionTLS12, tls.VersionTLS13} {
		t.Run(tls.VersionName(version), func(t *testing.T) {
			var requests atomic.Int64
			server := httptest.NewUnstartedServer(http.HandlerFunc(
				func(w http.ResponseWriter, r *http.Request) {
					requests.Add(1)
					rack.Handler().ServeHTTP(w, r)
				}))
			server.Config.ErrorLog = log.New(io.Discard, "", 0)
			own, text := certificate(t, time.Time{}, time.Now().AddDate(1, 0, 0))
			server.TLS = &tls.Config{
				MinVersion: version, MaxVersion: version,
				Certificates: []tls.Certificate{own},
			}
			server.StartTLS()
			t.Cleanup(server.Close)
			host, err := oxide.ParseHost(server.URL)
			if err != nil {
				t.Fatal(err)
			}
			file := filepath.Join(t.TempDir(), "ca.pem")
			writeFile(t, file, text)
			withFile, _ := newClientAt(t, host, func(cfg *oxide.Config) { cfg.Authorities = loadRoots(t, file) })
			defer withFile.Close()
			_, err = withFile.User(t.Context())
			if version >= tls.VersionTLS12 {
				if err != nil || requests.Load() != 1 {
					t.Errorf("%d requests: %v", requests.Load(), err)
				}
				return
			}
			wantKind(t, err, oxide.KindUnavailable)
			withoutFile, _ := newClientAt(t, host)
			defer withoutFile.Close()
			_, err = withoutFile.User(t.Context())
			wantKind(t, err, oxide.KindUnavailable)
			for _, words := range []string{"unknown authority", "not in " + file} {
				if strings.Contains(err.Error(), words) {
					t.Errorf("it got as far as the certificate: %v", err)
				}
			}
			if n := requests.Load(); n != 0 {
				t.Errorf("%d requests were sent", n)
			}
		})
	}
}
