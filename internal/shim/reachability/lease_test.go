// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package reachability

import (
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-logr/logr/funcr"
	"github.com/google/go-cmp/cmp"
	"k8s.io/client-go/rest"
	"k8s.io/klog/v2"
)

// apiServer answers requests for Leases in place of the network.
type apiServer struct {
	status   int
	date     time.Time
	body     string
	failure  error
	requests []string
}

// RoundTrip implements http.RoundTripper.
func (s *apiServer) RoundTrip(request *http.Request) (*http.Response, error) {
	s.requests = append(s.requests, request.Method+" "+request.URL.String())
	if errors.Is(s.failure, errHangs) {
		<-request.Context().Done()
		return nil, request.Context().Err()
	}
	if s.failure != nil {
		return nil, s.failure
	}
	header := http.Header{}
	if !s.date.IsZero() {
		header.Set("Date", s.date.UTC().Format(http.TimeFormat))
	}
	return &http.Response{
		StatusCode: s.status, Header: header, Body: io.NopCloser(strings.NewReader(s.body)), Request: request,
	}, nil
}

// lease makes the answer a Lease with this version, by the node's clock renewed in another year.
func (s *apiServer) lease(version int, managedFields ...string) {
	s.status = http.StatusOK
	s.body = fmt.Sprintf(`{"apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
		"metadata": {"name": "node-1", "uid": "u", "resourceVersion": "%d", "managedFields": [%s]},
		"spec": {"renewTime": "1999-12-31T23:59:59.000000Z"}}`, version, strings.Join(managedFields, ", "))
}

// entry is one of managedFields.
func entry(manager, at, field, subresource string) string {
	return fmt.Sprintf(`{"manager": %q, "operation": "Update", "apiVersion": "coordination.k8s.io/v1",
		"time": %q, "fieldsType": "FieldsV1", "fieldsV1": {%s}, "subresource": %q}`,
		manager, at, field, subresource)
}

const renewal = `"f:spec": {"f:renewTime": {}}`

func newLeases(t *testing.T) (*Leases, *apiServer) {
	t.Helper()
	server := &apiServer{date: time.Date(2031, time.March, 1, 12, 0, 30, 0, time.UTC)}
	leases, err := NewLeases(&rest.Config{Host: "http://api.example.com/prefix", Transport: server})
	if err != nil {
		t.Fatal(err)
	}
	return leases, server
}

// Only the API server's clock counts: neither that of the node, which is in renewTime, nor our own.
func TestTheAgeOfALeaseIsByTheClockOfTheAPIServer(t *testing.T) {
	const own, theirs = `"f:spec": {"f:leaseDurationSeconds": {}}`, `"f:metadata": {"f:labels": {}}`
	for _, tc := range []struct {
		name          string
		managedFields []string
		want          time.Duration
	}{
		{"seven seconds", []string{entry("kubelet", "2031-03-01T12:00:23Z", renewal, "")}, 7 * time.Second},
		{"now", []string{entry("kubelet", "2031-03-01T12:00:30Z", renewal, "")}, 0},
		{"another API server's clock is ahead", []string{entry("kubelet", "2031-03-01T12:00:33Z", renewal, "")}, 0},
		{"whatever the program is called", []string{entry("k3s", "2031-03-01T12:00:20Z", renewal, "")}, 10 * time.Second},
		{
			"what others wrote later is no renewal",
			[]string{
				entry("kubectl-label", "2031-03-01T12:00:29Z", theirs, ""),
				entry("kubelet", "2031-03-01T12:00:15Z", renewal, ""),
				entry("other", "2031-03-01T12:00:28Z", own, ""),
				entry("other", "2031-03-01T12:00:28Z", renewal, "status"),
			},
			15 * time.Second,
		},
		{
			"the last of those that wrote it",
			[]string{
				entry("kubelet", "2031-03-01T11:00:00Z", renewal, ""),
				entry("kubectl-edit", "2031-03-01T12:00:25Z", renewal, ""),
				entry("kubectl-patch", "2031-03-01T11:30:00Z", renewal, ""),
			},
			5 * time.Second,
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			leases, server := newLeases(t)
			server.lease(1, tc.managedFields...)
			got, err := leases.Lease(t.Context(), "node-1")
			if err != nil || got.Age != tc.want {
				t.Errorf("%s, %v", got.Age, err)
			}
			want := []string{
				"GET http://api.example.com/prefix/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/node-1",
			}
			if diff := cmp.Diff(want, server.requests); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// An API server that fell silent is asked by a new connection, which may end at another one.
func TestAConnectionThatFellSilentIsNotUsedAgain(t *testing.T) {
	var mu sync.Mutex
	var from []string
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		from = append(from, r.Proto+" "+r.RemoteAddr)
		first := len(from) == 2
		mu.Unlock()
		if first {
			<-r.Context().Done()
			return
		}
		fmt.Fprint(w, `{"metadata": {"name": "node-1"}}`)
	}))
	server.EnableHTTP2 = true
	server.StartTLS()
	defer server.Close()
	config := &rest.Config{Host: server.URL}
	config.CAData = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	leases, err := NewLeases(config)
	if err != nil {
		t.Fatal(err)
	}
	defer leases.client.CloseIdleConnections()
	for i, limit := range []time.Duration{10 * time.Second, time.Second, 10 * time.Second} {
		ctx, cancel := context.WithTimeout(t.Context(), limit)
		if _, err := leases.Lease(ctx, "node-1"); (err != nil) != (i == 1) {
			t.Errorf("request %d: %v", i, err)
		}
		cancel()
	}
	mu.Lock()
	defer mu.Unlock()
	if len(from) != 3 || from[0] != from[1] || from[1] == from[2] {
		t.Errorf("connections: %q", from)
	}
}

// Where the API server does not say when, what counts is for how long this process has seen the Lease
// unchanged.
func TestWithoutTimesOfTheAPIServerAnUnchangedLeaseAges(t *testing.T) {
	for _, tc := range []struct {
		name   string
		noDate bool
		fields []string
	}{
		{"no managedFields", false, nil},
		{"none of a renewal", false, []string{entry("x", "2031-03-01T12:00:00Z", `"f:metadata": {}`, "")}},
		{"no Date", true, []string{entry("kubelet", "2031-03-01T12:00:00Z", renewal, "")}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				leases, server := newLeases(t)
				if tc.noDate {
					server.date = time.Time{}
				}
				for _, step := range []struct {
					version     int
					after, want time.Duration
				}{
					{1, 0, 0},
					{1, 9 * time.Second, 9 * time.Second},
					{1, 3 * time.Second, 12 * time.Second},
					{2, time.Second, 0},
					{2, 11 * time.Second, 11 * time.Second},
					// Nobody asked for so long: the node was not silent meanwhile.
					{2, 2 * seenFor, 0},
				} {
					time.Sleep(step.after)
					server.lease(step.version, tc.fields...)
					got, err := leases.Lease(t.Context(), "node-1")
					if err != nil || got.Age != step.want {
						t.Errorf("%+v: %s, %v", step, got.Age, err)
					}
				}
				for i := range 100 {
					leases.Lease(t.Context(), nameOf(i))
				}
				time.Sleep(2 * seenFor)
				leases.Lease(t.Context(), "node-1")
				if len(leases.seen) != 1 {
					t.Errorf("%d Leases are remembered", len(leases.seen))
				}
			})
		})
	}
}

// A Lease that cannot be read has no age, and the log says why, once for each cause until one can be
// read again. That there is none is no failure.
func TestALeaseThatCannotBeReadIsLoggedOnce(t *testing.T) {
	var logged []string
	klog.SetLogger(funcr.New(func(_, args string) { logged = append(logged, args) }, funcr.Options{}))
	defer klog.ClearLogger()
	fresh := entry("kubelet", "2031-03-01T12:00:23Z", renewal, "")
	for _, tc := range []struct {
		name    string
		answer  func(*apiServer)
		lines   int
		mention string
	}{
		{"forbidden", func(s *apiServer) { s.status = http.StatusForbidden }, 1, "needs a Role in the namespace kube-node-lease"},
		{"failing", func(s *apiServer) { s.status = http.StatusInternalServerError }, 1, "500"},
		{"unreachable", func(s *apiServer) { s.failure = errors.New("no route") }, 1, "no route"},
		{"hanging", func(s *apiServer) { s.failure = errHangs }, 1, "deadline"},
		{"not a Lease", func(s *apiServer) { s.status, s.body = http.StatusOK, "<html>" }, 1, "is no Lease"},
		{"too long", func(s *apiServer) { s.status, s.body = http.StatusOK, strings.Repeat(" ", maxLease)+"{}" }, 1, "is no Lease"},
		{"absent", func(s *apiServer) { s.status = http.StatusNotFound }, 0, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				logged = nil
				leases, server := newLeases(t)
				read := func(readable bool) {
					t.Helper()
					*server = apiServer{date: server.date}
					if tc.answer(server); readable {
						*server = apiServer{date: server.date}
						server.lease(1, fresh)
					}
					ctx, cancel := context.WithTimeout(t.Context(), time.Second)
					defer cancel()
					if lease, err := leases.Lease(ctx, "node-1"); (err == nil) != readable {
						t.Errorf("%s, %v", lease.Age, err)
					}
				}
				for range 5 {
					read(false)
				}
				if len(logged) != tc.lines || tc.lines > 0 && !strings.Contains(logged[0], tc.mention) {
					t.Errorf("logged: %q", logged)
				}
				read(true)
				read(false)
				if len(logged) != 2*tc.lines {
					t.Errorf("logged in the end: %q", logged)
				}
			})
		})
	}
}

// The end of this process is no failure of the API server.
func TestTheEndIsNotLoggedAsAFailure(t *testing.T) {
	var logged []string
	klog.SetLogger(funcr.New(func(_, args string) { logged = append(logged, args) }, funcr.Options{}))
	defer klog.ClearLogger()
	leases, server := newLeases(t)
	server.failure = errHangs
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := leases.Lease(ctx, "node-1"); err == nil || len(logged) > 0 {
		t.Errorf("%v, logged: %q", err, logged)
	}
}
