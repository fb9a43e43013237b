// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package oxide_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/oxide"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/oxidesim"
)

// certificate makes one that is its own authority, for 127.0.0.1, and its PEM.
func certificate(t testing.TB, from, until time.Time) (tls.Certificate, []byte) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: "rack"},
		NotBefore: from, NotAfter: until, IsCA: true, BasicConstraintsValid: true,
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, text
}

// serveWith serves a rack with a certificate.
func serveWith(t testing.TB, certificate tls.Certificate) *url.URL {
	t.Helper()
	server := httptest.NewUnstartedServer(oxidesim.Start(t, oxidesim.Config{}).Handler())
	server.TLS = &tls.Config{Certificates: []tls.Certificate{certificate}}
	server.StartTLS()
	t.Cleanup(server.Close)
	host, err := oxide.ParseHost(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	return host
}

func writeFile(t testing.TB, file string, content []byte) {
	t.Helper()
	if err := os.WriteFile(file, content, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestAChangedCAFileIsUsedWithoutARestart(t *testing.T) {
	year := time.Now().AddDate(1, 0, 0)
	_, oldText := certificate(t, time.Time{}, year)
	renewed, newText := certificate(t, time.Time{}, year)
	file := filepath.Join(t.TempDir(), "ca.pem")
	writeFile(t, file, oldText)
	client, _ := newClientAt(t, serveWith(t, renewed), func(cfg *oxide.Config) {
		cfg.Authorities = loadRoots(t, file)
	})
	defer client.Close()
	_, err := client.User(t.Context())
	wantKind(t, err, oxide.KindUnavailable)
	want := "its certificate is signed by an authority that is not in " + file +
		"; put the authority's certificate into that file, which is read again without a restart"
	if err == nil || !strings.HasSuffix(err.Error(), want) {
		t.Errorf("it says %v\nwant … %s", err, want)
	}
	for _, broken := range []string{"", "half of a certif"} {
		writeFile(t, file, []byte(broken))
		_, err := client.User(t.Context())
		wantKind(t, err, oxide.KindUnavailable)
	}
	writeFile(t, file, newText)
	if _, err := client.User(t.Context()); err != nil {
		t.Errorf("the very next call: %v", err)
	}
}

// What is taken out of the file is trusted for a minute more, and what is put in is trusted at once.
func TestACAFileIsReadAgainAfterAMinute(t *testing.T) {
	file := filepath.Join(t.TempDir(), "ca.pem")
	synctest.Test(t, func(t *testing.T) {
		year := time.Now().AddDate(1, 0, 0)
		first, firstText := certificate(t, time.Time{}, year)
		second, secondText := certificate(t, time.Time{}, year)
		writeFile(t, file, firstText)
		authorities := loadRoots(t, file)
		want := func(when string, certificate tls.Certificate, trusted bool) {
			t.Helper()
			leaf, err := x509.ParseCertificate(certificate.Certificate[0])
			if err != nil {
				t.Fatal(err)
			}
			if got := authorities.Trusts(leaf, "127.0.0.1"); got != trusted {
				t.Errorf("%s: trusted %t, want %t", when, got, trusted)
			}
		}
		writeFile(t, file, secondText)
		time.Sleep(time.Minute - time.Nanosecond)
		want("taken out, before a minute is over", first, true)
		time.Sleep(time.Nanosecond)
		want("taken out, after a minute", first, false)
		want("put in", second, true)

		writeFile(t, file, firstText)
		want("put in again", first, true)

		if err := os.Remove(file); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour)
		want("when the file has vanished", first, true)
		writeFile(t, file, []byte("half of a certif"))
		time.Sleep(time.Hour)
		want("when half of the file is written", first, true)
		writeFile(t, file, secondText)
		time.Sleep(time.Minute)
		want("taken out once the file is back", first, false)
	})
}

func TestTheCertificateMustBeForTheHost(t *testing.T) {
	certificate, text := certificate(t, time.Time{}, time.Now().AddDate(1, 0, 0))
	file := filepath.Join(t.TempDir(), "ca.pem")
	writeFile(t, file, text)
	host := serveWith(t, certificate)
	host.Host = "localhost:" + host.Port()
	client, _ := newClientAt(t, host, func(cfg *oxide.Config) { cfg.Authorities = loadRoots(t, file) })
	defer client.Close()
	_, err := client.User(t.Context())
	wantKind(t, err, oxide.KindUnavailable)
	if err == nil || !strings.Contains(err.Error(), "its certificate is for another host name") {
		t.Error(err)
	}
	// With an address there is no server name in the handshake.
	leaf, err := x509.ParseCertificate(certificate.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	for address, want := range map[string]bool{"127.0.0.1": true, "127.0.0.2": false} {
		if got := loadRoots(t, file).Trusts(leaf, address); got != want {
			t.Errorf("for %s it is trusted: %t, want %t", address, got, want)
		}
	}
}

func TestACertificateOutOfItsTimeShowsBothClocks(t *testing.T) {
	now := time.Now()
	for _, tt := range []struct {
		name        string
		from, until time.Time
		want        string
	}{
		{"expired", now.AddDate(-1, 0, 0), now.Add(-48 * time.Hour), "its certificate expired at " +
			now.Add(-48*time.Hour).UTC().Format("2006-01-02 15:04 MST")},
		{"not yet valid", now.Add(48 * time.Hour), now.AddDate(1, 0, 0), "its certificate is not valid before " +
			now.Add(48*time.Hour).UTC().Format("2006-01-02 15:04 MST")},
	} {
		for _, private := range []bool{true, false} {
			t.Run(tt.name, func(t *testing.T) {
				certificate, text := certificate(t, tt.from, tt.until)
				file := filepath.Join(t.TempDir(), "ca.pem")
				writeFile(t, file, text)
				client, _ := newClientAt(t, serveWith(t, certificate), func(cfg *oxide.Config) {
					if private {
						cfg.Authorities = loadRoots(t, file)
					}
				})
				defer client.Close()
				_, err := client.User(t.Context())
				wantKind(t, err, oxide.KindUnavailable)
				clock := "and this machine's clock says " + time.Now().UTC().Format("2006-01-02 15h MST")
				if !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), clock) {
					t.Errorf("it says %v\nwant %s and %s", err, tt.want, clock)
				}
			})
		}
	}
}
