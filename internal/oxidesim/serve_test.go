// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package oxidesim_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/oxidesim"
)

// OXIDE_API.md §1: a rack's certificate comes from a private CA.
func TestTLS(t *testing.T) {
	srv := oxidesim.StartWith(t, oxidesim.Config{}, oxidesim.ServeOptions{
		TLS: true, TLSNames: []string{"demo.sys.rack.example"},
	})
	client := func(pool *x509.CertPool, name string) *http.Client {
		c := &http.Client{Transport: &http.Transport{
			TLSClientConfig: &tls.Config{RootCAs: pool, ServerName: name},
		}}
		t.Cleanup(c.CloseIdleConnections)
		return c
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(srv.CAPEM) {
		t.Fatal("the CA is no PEM")
	}
	for _, name := range []string{"", "localhost", "demo.sys.rack.example"} {
		resp, err := client(pool, name).Get(srv.URL + "/v1/ping")
		if err != nil {
			t.Fatalf("name %q: %v", name, err)
		}
		resp.Body.Close()
	}
	if !strings.HasPrefix(srv.URL, "https://127.0.0.1:") {
		t.Errorf("URL %s", srv.URL)
	}
	if _, err := client(x509.NewCertPool(), "").Get(srv.URL + "/v1/ping"); err == nil {
		t.Error("an unknown CA was trusted")
	}
	if _, err := client(pool, "other.example").Get(srv.URL + "/v1/ping"); err == nil {
		t.Error("another name was accepted")
	}
}

// OXIDE_API.md §1: DNS returns several Nexus addresses, of which some are dead.
func TestSeveralAddresses(t *testing.T) {
	srv := oxidesim.StartWith(t, oxidesim.Config{}, oxidesim.ServeOptions{
		Listen: []string{"127.0.0.1:0", "127.0.0.1:0"},
		Hang:   []string{"127.0.0.1:0"},
		Dead:   []string{"127.0.0.1:0"},
	})
	client := &http.Client{
		Timeout: 200 * time.Millisecond, Transport: &http.Transport{DisableKeepAlives: true},
	}
	ping := func(url string) error {
		resp, err := client.Get(url + "/v1/ping")
		if err == nil {
			resp.Body.Close()
		}
		return err
	}
	for _, url := range srv.URLs {
		if err := ping(url); err != nil {
			t.Errorf("%s: %v", url, err)
		}
	}
	if err := ping(srv.DeadURLs[0]); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("hanging address: %v", err)
	}
	if err := ping(srv.DeadURLs[1]); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("dead address: %v", err)
	}
	if l, err := net.Listen("tcp", strings.TrimPrefix(srv.DeadURLs[1], "http://")); err == nil {
		l.Close()
		t.Error("somebody else could listen on the dead address")
	}

	second := strings.TrimPrefix(srv.URLs[1], "http://")
	must(t, srv.StopListening(second))
	if err := ping(srv.URLs[1]); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("stopped address: %v", err)
	}
	if err := ping(srv.URLs[0]); err != nil {
		t.Errorf("the other address: %v", err)
	}
	must(t, srv.ResumeListening(second))
	if err := ping(srv.URLs[1]); err != nil {
		t.Errorf("resumed address: %v", err)
	}
	if err := srv.ResumeListening(second); err == nil {
		t.Error("resumed twice")
	}
}

// syncBuffer may be written to by many.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// One line per request, and never a credential; one count per request.
func TestRequestLogAndCounters(t *testing.T) {
	var log syncBuffer
	r := startRack(t, oxidesim.Config{RequestLog: &log})
	r.header.Set("User-Agent", "tester/1")
	a := r.get("/v1/projects?limit=5")
	r.get("/v1/instances/nobody?project=demo").want(404, "ObjectNotFound")
	r.get("/nowhere").want(404, "")
	r.get("/_sim/state")
	eventually(t, "three lines", func() bool { return strings.Count(log.String(), "\n") == 3 })
	line, _, _ := strings.Cut(log.String(), "\n")
	for _, want := range []string{
		"method=GET", "path=/v1/projects", `query="limit=5"`, "operation=project_list", "status=200",
		"duration=", "user_agent=tester/1", "request_id=" + a.header.Get("X-Request-Id"),
	} {
		if !strings.Contains(line, want) {
			t.Errorf("no %s in %s", want, line)
		}
	}
	if strings.Contains(log.String(), oxidesim.DefaultToken) {
		t.Error("the log has the token")
	}
	got := r.Counters()
	if got["project_list"][200] != 1 || got["instance_view"][404] != 1 || got["unknown"][404] != 1 {
		t.Errorf("counters %v", got)
	}
}

// Latency is added to every request, unscaled.
func TestLatency(t *testing.T) {
	r := startRack(t, oxidesim.Config{Latency: 30 * time.Millisecond})
	began := time.Now()
	r.get("/v1/ping").ok(200)
	if took := time.Since(began); took < 30*time.Millisecond {
		t.Errorf("took %v", took)
	}
}

// A configuration or a seed that makes no sense is refused, with what is wrong.
func TestBadConfig(t *testing.T) {
	for name, cfg := range map[string]oxidesim.Config{
		"time scale":  {TimeScale: -1},
		"API version": {APIVersion: "v20"},
		"unknown silo": {Seed: &oxidesim.Seed{Pools: []oxidesim.PoolSeed{{
			Name: "p", Silos: []oxidesim.PoolLinkSeed{{Silo: "nope"}},
		}}}},
		"role": {Seed: &oxidesim.Seed{Silos: []oxidesim.SiloSeed{{
			Name: "s", Users: []oxidesim.UserSeed{{Name: "u", SiloRole: "king"}},
		}}}},
	} {
		if s, err := oxidesim.New(cfg); err == nil {
			s.Close()
			t.Errorf("%s: taken", name)
		}
	}
}
