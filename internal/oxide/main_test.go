// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package oxide_test

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/oxide"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/oxidesim"
)

// tokenPrefix is how every token of these tests begins; it must not be in any log line or error.
const tokenPrefix = "oxide-token-"

// TestMain holds two promises over the whole run: no goroutine outlives the tests, and no token
// gets into anything that was logged.
func TestMain(m *testing.M) {
	var logged lockedBuffer
	slog.SetDefault(slog.New(slog.NewTextHandler(&logged, &slog.HandlerOptions{
		Level: slog.LevelDebug,
	})))
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		if strings.Contains(logged.String(), tokenPrefix) {
			fmt.Fprintln(os.Stderr, "FAIL: a token was logged:\n"+logged.String())
			code = 1
		}
		os.Exit(code)
	}))
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// anID is a well-formed id that nothing has.
const anID = "6a0f4a2c-52b1-4f8e-9d6e-2f1a5a3c7b10"

// rig is a simulated rack and a client of it.
type rig struct {
	*oxidesim.Server
	*oxide.Client
	metrics *prometheus.Registry
	t       testing.TB
}

func start(t testing.TB, cfg oxidesim.Config, edit ...func(*oxide.Config)) *rig {
	t.Helper()
	rack := oxidesim.Start(t, cfg)
	client, registry := newClient(t, rack.URL, edit...)
	return &rig{Server: rack, Client: client, metrics: registry, t: t}
}

// startBehind is a rig whose client reaches the rack through a handler.
func startBehind(t testing.TB, front func(rack http.Handler) http.Handler) *rig {
	t.Helper()
	rack := oxidesim.Start(t, oxidesim.Config{})
	client, registry := newClient(t, serve(t, front(rack.Handler())))
	return &rig{Server: rack, Client: client, metrics: registry, t: t}
}

// serve serves a handler on loopback until the test ends, and gives its URL.
func serve(t testing.TB, handler http.Handler) string {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	return server.URL
}

func newClient(
	t testing.TB, host string, edit ...func(*oxide.Config),
) (*oxide.Client, *prometheus.Registry) {
	t.Helper()
	parsed, err := oxide.ParseHost(host)
	if err != nil {
		t.Fatal(err)
	}
	return newClientAt(t, parsed, edit...)
}

func newClientAt(
	t testing.TB, host *url.URL, edit ...func(*oxide.Config),
) (*oxide.Client, *prometheus.Registry) {
	t.Helper()
	cfg := oxide.Config{
		Host: host, Token: static(t, oxidesim.DefaultToken), Project: oxidesim.DefaultProject,
		UserAgent: "test",
	}
	for _, f := range edit {
		f(&cfg)
	}
	registry := prometheus.NewRegistry()
	client, err := oxide.New(cfg, registry)
	if err != nil {
		t.Fatal(err)
	}
	return client, registry
}

func static(t testing.TB, token string) *oxide.TokenSource {
	t.Helper()
	source, err := oxide.StaticToken(token)
	if err != nil {
		t.Fatal(err)
	}
	return source
}

func withToken(source *oxide.TokenSource) func(*oxide.Config) {
	return func(cfg *oxide.Config) { cfg.Token = source }
}

// instance adds a running instance.
func (r *rig) instance(w oxidesim.InstanceSeed) oxidesim.Instance {
	r.t.Helper()
	if w.Name == "" {
		w.Name = "node-1"
	}
	added, err := r.AddInstance(oxidesim.DefaultProject, w)
	if err != nil {
		r.t.Fatal(err)
	}
	return added
}

// fault adds a fault rule.
func (r *rig) fault(f oxidesim.Fault) {
	r.t.Helper()
	if _, err := r.AddFault(f); err != nil {
		r.t.Fatal(err)
	}
}

// retries is the metric of retried reads.
func (r *rig) retries(operation string) int {
	r.t.Helper()
	families, err := r.metrics.Gather()
	if err != nil {
		r.t.Fatal(err)
	}
	for _, family := range families {
		if family.GetName() != "oxide_backend_oxide_request_retries_total" {
			continue
		}
		for _, metric := range family.GetMetric() {
			if metric.GetLabel()[0].GetValue() == operation {
				return int(metric.GetCounter().GetValue())
			}
		}
	}
	return 0
}

// await waits until a condition holds.
func await(t testing.TB, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !condition(); {
		if time.Now().After(deadline) {
			t.Fatal("the condition never held")
		}
		time.Sleep(time.Millisecond)
	}
}

// wantKind checks what an error means, and what holds for the text of every error.
func wantKind(t testing.TB, err error, kind oxide.Kind) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error, want kind %d", kind)
	}
	var e *oxide.Error
	if !errors.As(err, &e) || e.Kind != kind {
		t.Errorf("error %q (%T), want kind %d", err, err, kind)
	}
	checkText(t, err)
}

// checkText holds what is promised of the text of every error: one line of at most about 500
// characters, with the request's id if there is one, without token, header or URL.
func checkText(t testing.TB, err error) {
	t.Helper()
	text := err.Error()
	if strings.ContainsAny(text, "\n\r\t") || len(text) > 500 {
		t.Errorf("not one short line (%d bytes): %q", len(text), text)
	}
	for _, never := range []string{
		tokenPrefix, "Bearer", "Authorization", "http://", "https://", "Content-Type", "%!",
	} {
		if strings.Contains(text, never) {
			t.Errorf("holds %q: %s", never, text)
		}
	}
	var e *oxide.Error
	if errors.As(err, &e) && e.RequestID != "" && strings.Contains(text, e.RequestID) {
		t.Errorf("has the request id %s, by which no two are alike: %s", e.RequestID, text)
	}
}
