// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package reachability

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"sync"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"k8s.io/klog/v2"
)

// maxLease is how long an answer about a Lease may be; one is about 1 KiB long.
const maxLease = 256 << 10

// seenFor is for how long a Lease that is not read any more is remembered.
const seenFor = time.Minute

// A kubelet renews its Lease when a quarter of its duration has passed since it last has, or up to a
// twenty-fifth of that later, and a renewal takes a moment: one that is late by a fifth is overdue. The
// duration is 40 s by default; a shorter one makes nothing overdue earlier.
const (
	renewFraction = 4
	usualDuration = 40 * time.Second
)

// Lease is what was read of the Lease of a node.
type Lease struct {
	// Age is how long ago it was renewed, and Limit after how long it is overdue.
	Age, Limit time.Duration
}

// limitOf returns after how long a Lease is overdue that has a duration of so many seconds.
func limitOf(seconds *int32) time.Duration {
	duration := usualDuration
	if seconds != nil {
		duration = max(duration, time.Duration(*seconds)*time.Second)
	}
	every := duration / renewFraction
	return every + every/5
}

// errNoTimes: the answer does not say when the Lease was renewed by the API server's clock.
var errNoTimes = errors.New("no times of the API server")

// Leases reads how long ago nodes renewed their Leases, by the clock of the API server alone: a Lease
// says it by the node's. The API server notes in managedFields when it took a renewal, and in the
// header Date when it answered, both in whole seconds. Where one of them is missing, what counts is
// for how long this process has seen the Lease unchanged.
//
// Several API servers are taken for one, so their clocks must agree to a second or so.
type Leases struct {
	client *http.Client
	base   *url.URL

	mu sync.Mutex
	// seen are the Leases read within seenFor, by node.
	seen map[string]seenLease
	// logged are the causes of failures since the last success.
	logged map[string]bool
}

// seenLease is what was read of a Lease, since when it was read unchanged, and when it last was.
type seenLease struct {
	version         string
	since, lastRead time.Time
}

// NewLeases returns a reader of the Leases in kube-node-lease. It has connections of its own, by
// HTTP/1.1: one in which an answer did not come in time is closed then. The node that is silent may be
// the one of the API server that the other clients are connected to, and in HTTP/2 a request goes on
// into such a connection until its pings have failed, which takes 45 s.
func NewLeases(config *rest.Config) (*Leases, error) {
	config = rest.CopyConfig(config)
	config.NextProtos = []string{"http/1.1"}
	base, _, err := rest.DefaultServerUrlFor(config)
	if err != nil {
		return nil, fmt.Errorf("the API server's address: %w", err)
	}
	client, err := rest.HTTPClientFor(config)
	if err != nil {
		return nil, fmt.Errorf("the API server's client: %w", err)
	}
	return &Leases{
		client: client, base: base,
		seen: make(map[string]seenLease), logged: make(map[string]bool),
	}, nil
}

// Lease returns how long ago a node renewed its Lease, to a second, and when it is overdue. After an
// error nothing is known, also if there is no Lease.
func (l *Leases) Lease(ctx context.Context, node string) (Lease, error) {
	lease, date, err := l.read(ctx, node)
	if err != nil {
		l.logOnce(ctx, node, err)
		return Lease{}, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	clear(l.logged)
	unchanged := l.unchangedFor(node, lease)
	limit := limitOf(lease.Spec.LeaseDurationSeconds)
	age, err := serverAge(lease, date)
	if err != nil {
		return Lease{unchanged, limit}, nil // what this process has seen is the other way to know it
	}
	return Lease{age, limit}, nil
}

// statusError is an answer of the API server that is not the Lease.
type statusError struct{ status int }

func (e *statusError) Error() string {
	text := fmt.Sprintf("the API server answers %d %s", e.status, http.StatusText(e.status))
	switch e.status {
	case http.StatusUnauthorized, http.StatusForbidden:
		text += "; ccm-shim needs a Role in the namespace " + corev1.NamespaceNodeLease +
			" that allows it to get leases, bound to its service account"
	}
	return text
}

// read returns the Lease of a node, and what time it was for the API server.
func (l *Leases) read(ctx context.Context, node string) (*coordinationv1.Lease, time.Time, error) {
	address := l.base.JoinPath("apis/coordination.k8s.io/v1/namespaces", corev1.NamespaceNodeLease,
		"leases", url.PathEscape(node))
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address.String(), nil)
	if err != nil {
		return nil, time.Time{}, err
	}
	request.Header.Set("Accept", "application/json")
	response, err := l.client.Do(request)
	if err != nil {
		return nil, time.Time{}, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return nil, time.Time{}, &statusError{response.StatusCode}
	}
	body, err := io.ReadAll(io.LimitReader(response.Body, maxLease))
	if err != nil {
		return nil, time.Time{}, err
	}
	lease := &coordinationv1.Lease{}
	if err := json.Unmarshal(body, lease); err != nil {
		return nil, time.Time{}, fmt.Errorf("the API server's answer is no Lease: %w", err)
	}
	date, _ := http.ParseTime(response.Header.Get("Date"))
	return lease, date, nil
}

// serverAge returns the time from when the API server took the last renewal until it answered.
func serverAge(lease *coordinationv1.Lease, date time.Time) (time.Duration, error) {
	var renewed time.Time
	for _, entry := range lease.ManagedFields {
		if entry.Time != nil && entry.Subresource == "" && entry.Time.After(renewed) && ownsRenewTime(entry) {
			renewed = entry.Time.Time
		}
	}
	if renewed.IsZero() || date.IsZero() {
		return 0, errNoTimes
	}
	return max(0, date.Sub(renewed)), nil
}

// ownsRenewTime says whether an entry is that of the last renewal: whoever writes a field owns it.
func ownsRenewTime(entry metav1.ManagedFieldsEntry) bool {
	return entry.FieldsV1 != nil && bytes.Contains(entry.FieldsV1.GetRawBytes(), []byte(`"f:renewTime"`))
}

// unchangedFor returns for how long this process has seen a Lease as it is, and forgets those that
// are not read any more.
func (l *Leases) unchangedFor(node string, lease *coordinationv1.Lease) time.Duration {
	now := time.Now()
	for other, seen := range l.seen {
		if now.Sub(seen.lastRead) > seenFor {
			delete(l.seen, other)
		}
	}
	seen := l.seen[node]
	if version := string(lease.UID) + "/" + lease.ResourceVersion; seen.version != version {
		seen = seenLease{version: version, since: now}
	}
	seen.lastRead = now
	l.seen[node] = seen
	return now.Sub(seen.since)
}

// logOnce logs a failure whose cause is not known from an earlier one since the last success. A Lease
// that does not exist is no failure.
func (l *Leases) logOnce(ctx context.Context, node string, failure error) {
	cause := "other"
	var status *statusError
	switch {
	case errors.As(failure, &status):
		if status.status == http.StatusNotFound {
			return
		}
		cause = http.StatusText(status.status)
	case errors.Is(ctx.Err(), context.Canceled):
		return
	case errors.Is(failure, context.DeadlineExceeded):
		cause = "timeout"
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.logged[cause] {
		return
	}
	l.logged[cause] = true
	klog.ErrorS(failure, "The Lease of a silent node cannot be read, so the node is not called "+
		"unreachable; logged once until one can be read", "lease", klog.KRef(corev1.NamespaceNodeLease, node))
}
