// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package services

import (
	"testing"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/tracing"
	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

// moveTrace is the trace of a move that the backend makes of itself.
const moveTrace = "0af7651916cd43dd8448eb211c80319c"

func record(t *testing.T) *tracetest.SpanRecorder {
	recorder := tracetest.NewSpanRecorder()
	t.Cleanup(tracing.Enable(sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(recorder))))
	return recorder
}

func spansOf(recorder *tracetest.SpanRecorder, name string) (found []sdktrace.ReadOnlySpan) {
	for _, span := range recorder.Ended() {
		if span.Name() == name {
			found = append(found, span)
		}
	}
	return found
}

func traceOf(span sdktrace.ReadOnlySpan) string { return span.SpanContext().TraceID().String() }

func TestAChangeOfAServiceIsOneTraceOfTheCallWhatIsSentAndWhatIsPublished(t *testing.T) {
	spans := record(t)
	e := run(t, Config{}, service(finalized))
	e.inSync()
	changed := service(finalized, func(s *v1.Service) { s.Spec.Ports[0].Port = 81 })
	e.change("shop/web", func(s *v1.Service) { s.Spec = changed.Spec })
	e.item("shop/web", func(d *backendv1.DesiredLoadBalancer) bool {
		return d.GetPorts()[0].GetPort() == 81
	})
	e.peer.mu.Lock()
	sent := tracing.Parse(t.Context(), e.peer.traceParent)
	e.peer.mu.Unlock()
	if !sent.IsValid() {
		t.Fatal("the item has no span")
	}
	e.peer.answers(all(reserved, toPublish("198.51.100.9", "172.30.0.11")))
	if _, err := e.c.EnsureLoadBalancer(t.Context(), "", changed, nil); err != nil {
		t.Fatal(err)
	}
	e.status("shop/web", "198.51.100.9", "172.30.0.11")
	e.await("the publication", func() bool { return len(spansOf(spans, "publish addresses")) > 0 })
	e.stop()
	call := spansOf(spans, "EnsureLoadBalancer")[0]
	if call.Parent().SpanID() != sent.SpanID() {
		t.Error("the framework's call is not below what was sent before it")
	}
	for _, span := range spans.Ended() {
		if traceOf(span) != sent.TraceID().String() {
			t.Errorf("%s is in another trace", span.Name())
		}
	}
}

// A publication is no change of what is desired: the item that says so begins no trace.
func TestAPublicationAloneBeginsNoTrace(t *testing.T) {
	spans := record(t)
	e := run(t, Config{}, service(finalized))
	e.inSync()
	e.change("shop/web", publishing("203.0.113.1"))
	e.item("shop/web", func(d *backendv1.DesiredLoadBalancer) bool {
		return len(d.GetPublishedAddresses()) == 1
	})
	e.stop()
	if started := spans.Started(); len(started) != 0 {
		t.Errorf("%d spans, the first %s", len(started), started[0].Name())
	}
}

func TestWhatTheBackendMovesIsPublishedInTheTraceOfTheMove(t *testing.T) {
	spans := record(t)
	e := run(t, Config{}, service(finalized))
	e.inSync()
	e.peer.answers(all(attached, toPublish("198.51.100.9", "172.30.0.11")))
	e.status("shop/web", "198.51.100.9", "172.30.0.11")
	e.item("shop/web", func(d *backendv1.DesiredLoadBalancer) bool {
		return len(d.GetPublishedAddresses()) == 2
	})
	inTheMove := func(s *backendv1.LoadBalancerState) {
		s.TraceParent = "00-" + moveTrace + "-b7ad6b7169203331-01"
	}
	e.peer.answers(all(attached, toPublish("198.51.100.9", "172.30.0.12"), inTheMove))
	e.status("shop/web", "198.51.100.9", "172.30.0.12")
	e.await("the publication", func() bool {
		published := spansOf(spans, "publish addresses")
		return len(published) > 0 && traceOf(published[len(published)-1]) == moveTrace
	})
}

func TestAnObservationOfANodeIsATraceButNotInASnapshot(t *testing.T) {
	spans := record(t)
	e := run(t, Config{}, node("node-1", id1), node("node-2", id2), service(finalized))
	e.inSync()
	if n := len(spans.Started()); n != 0 {
		t.Errorf("%d spans of a snapshot", n)
	}
	n, err := e.client.CoreV1().Nodes().Get(t.Context(), "node-1", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	unready(n)
	if _, err := e.client.CoreV1().Nodes().Update(t.Context(), n, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	e.await("the observation", func() bool { return len(spansOf(spans, "observe node")) > 0 })
	e.stop()
	observed := spansOf(spans, "observe node")
	if len(observed) != 1 || observed[0].Parent().IsValid() {
		t.Fatalf("%d observations", len(observed))
	}
	about := make(map[string]string)
	for _, pair := range observed[0].Attributes() {
		about[string(pair.Key)] = pair.Value.String()
	}
	if about["k8s.node.name"] != "node-1" || about["oxide.instance_id"] != id1 {
		t.Errorf("about %v", about)
	}
}
