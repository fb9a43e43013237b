// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package provider

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"google.golang.org/grpc/codes"
	v1 "k8s.io/api/core/v1"
	"k8s.io/component-base/metrics/legacyregistry"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/shim/backendtest"
	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

func TestWhyANodeIsKeptIsToldOnceForEachCause(t *testing.T) {
	b, p := newPeer(t, instance(id2, "worker-2", "172.30.0.12"))
	kept := node("worker-1", id1)
	listNodes(t, p, kept, node("worker-2", id2))
	unavailable := func(text string) error {
		return backendtest.Fail(codes.Unavailable, backendv1.ErrorReason_ERROR_REASON_OXIDE_UNAVAILABLE, text)
	}
	for i, step := range []struct {
		failure error
		// news is a part of the event that is sent, empty: none is.
		news string
	}{
		{unavailable("Oxide does not answer"), "Oxide does not answer"},
		{unavailable("Oxide does not answer"), ""},
		{unavailable("Oxide still does not answer"), ""},
		{backendtest.Fail(codes.FailedPrecondition,
			backendv1.ErrorReason_ERROR_REASON_OXIDE_CREDENTIALS_REJECTED, "the token expired"),
			"the token expired"},
		{unavailable("Oxide does not answer"), ""},
	} {
		before := len(b.events.Sent())
		b.failure = step.failure
		if exists, err := p.InstanceExists(t.Context(), kept); err == nil {
			t.Fatalf("step %d: exists: %v", i, exists)
		}
		news := b.events.Sent()[before:]
		if step.news == "" && len(news) > 0 {
			t.Errorf("step %d: it is told again: %q", i, news)
		}
		if step.news != "" && (len(news) != 1 || !strings.Contains(news[0], step.news)) {
			t.Errorf("step %d: the events are %q, want %q", i, news, step.news)
		}
	}

	// Once the instance was seen, the same trouble is news.
	b.failure = nil
	b.instances = append(b.instances, instance(id1, "worker-1", "172.30.0.11"))
	if exists, err := p.InstanceExists(t.Context(), kept); !exists {
		t.Fatal(err)
	}
	before := len(b.events.Sent())
	b.failure = unavailable("Oxide does not answer")
	_, _ = p.InstanceExists(t.Context(), kept)
	if news := b.events.Sent()[before:]; len(news) != 1 {
		t.Errorf("the events are %q", news)
	}

	// A Node that is deleted leaves nothing behind.
	p.forget(kept)
	_, _ = p.InstanceExists(t.Context(), kept)
	if news := b.events.Sent()[before:]; len(news) != 2 {
		t.Errorf("after the deletion of the Node the events are %q", news)
	}
}

// Invariant 1: removals beyond three, or a tenth of the nodes, are paced, and looked at again.
func TestInvariant1ManyRemovalsArePaced(t *testing.T) {
	const all = 40
	b, p := newPeer(t)
	var nodes []*v1.Node
	for i := range all {
		id := fmt.Sprintf("%08d-1111-4111-8111-111111111111", i)
		nodes = append(nodes, node(fmt.Sprintf("worker-%d", i), id))
		if i >= 10 {
			b.instances = append(b.instances, instance(id, nodes[i].Name, "172.30.0.11"))
		}
	}
	listNodes(t, p, nodes...)
	registration.Do(p.RegisterMetrics)
	before := served(t)
	for i, n := range nodes[:10] {
		exists, err := p.InstanceExists(t.Context(), n)
		if removed := !exists && err == nil; removed != (i < all/10) {
			t.Errorf("node %d is removed: %v, %v", i, removed, err)
		}
	}
	events := b.events.Sent()
	for i, event := range events {
		want := fmt.Sprintf("worker-%d Normal InstanceGone ", i)
		if i >= all/10 {
			want = fmt.Sprintf("worker-%d Warning NodeRemovalPaced ", i)
		}
		if !strings.HasPrefix(event, want) {
			t.Errorf("event %d is %q, want %q", i, event, want)
		}
	}
	if len(events) != 10 {
		t.Errorf("%d events, want one for each node", len(events))
	}
	if got := p.removals.Waiting(); got != 6 {
		t.Errorf("%d nodes wait, want 6", got)
	}

	after := served(t)
	for name, want := range map[string]float64{
		"oxide_ccm_node_removals_total": 4, "oxide_ccm_node_removals_paced_total": 6,
	} {
		if got := after[name] - before[name]; got != want {
			t.Errorf("%s grew by %v, want %v", name, got, want)
		}
	}
	if _, ok := after["oxide_ccm_node_removals_waiting"]; !ok {
		t.Error("there is no metric of how many wait")
	}

	// As long as it is not their turn nothing is asked, nothing told.
	_, requests := b.last()
	for _, n := range nodes[4:10] {
		if exists, err := p.InstanceExists(t.Context(), n); exists || err == nil {
			t.Errorf("%s: %v, %v", n.Name, exists, err)
		}
	}
	if _, now := b.last(); now != requests || len(b.events.Sent()) != len(events) {
		t.Errorf("%d more requests, events %q", now-requests, b.events.Sent()[len(events):])
	}
}

// registration is done once: the registry is the whole process's.
var registration sync.Once

// served returns the values of this program's metrics without labels, by name.
func served(t *testing.T) map[string]float64 {
	t.Helper()
	families, err := legacyregistry.DefaultGatherer.Gather()
	if err != nil {
		t.Fatal(err)
	}
	all := make(map[string]float64)
	for _, family := range families {
		for _, metric := range family.GetMetric() {
			if strings.HasPrefix(family.GetName(), "oxide_ccm_") && len(metric.GetLabel()) == 0 {
				all[family.GetName()] = metric.GetCounter().GetValue() + metric.GetGauge().GetValue()
			}
		}
	}
	return all
}
