// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package session_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/health"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/session"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/oxidesim"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/tracing"
)

// The spans of the client's items, as W3C writes them.
const (
	desiredTrace  = "0af7651916cd43dd8448eb211c80319c"
	observedTrace = "1af7651916cd43dd8448eb211c80319d"
	spanSuffix    = "-b7ad6b7169203331-01"
)

// recorded is what is traced.
type recorded struct{ *tracetest.SpanRecorder }

func record(t *testing.T) recorded {
	recorder := tracetest.NewSpanRecorder()
	t.Cleanup(tracing.Enable(sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(recorder))))
	return recorded{recorder}
}

// named returns the spans of a name that have ended.
func (r recorded) named(name string) (found []sdktrace.ReadOnlySpan) {
	for _, span := range r.Ended() {
		if span.Name() == name {
			found = append(found, span)
		}
	}
	return found
}

// path returns the names of a span and of those above it that were made here, from the top.
func (r recorded) path(span sdktrace.ReadOnlySpan) (names []string) {
	for names = append(names, span.Name()); ; names = append(names, span.Name()) {
		i := slices.IndexFunc(r.Ended(), func(s sdktrace.ReadOnlySpan) bool {
			return s.SpanContext().SpanID() == span.Parent().SpanID()
		})
		if i < 0 {
			slices.Reverse(names)
			return names
		}
		span = r.Ended()[i]
	}
}

func attributeOf(span sdktrace.ReadOnlySpan, name string) string {
	for _, pair := range span.Attributes() {
		if string(pair.Key) == name {
			return pair.Value.String()
		}
	}
	return ""
}

func TestWhatAnItemCausesIsTracedBelowItToEachCallOfOxide(t *testing.T) {
	spans := record(t)
	inWorld(t, 2, func(w *world) {
		o := w.open().sync()
		defer o.close()
		key := o.want("default/web", nil, 80)
		d := *o.desired[key]
		o.send(session.Item{LoadBalancer: &d, TraceParent: "00-" + desiredTrace + spanSuffix})
		o.settled(key)
		work := spans.named("reconcile load balancer")
		if len(work) != 1 {
			t.Fatalf("%d spans of work", len(work))
		}
		if got := work[0].SpanContext().TraceID().String(); got != desiredTrace {
			t.Errorf("the work is in the trace %s, want the item's", got)
		}
		if text := attributeOf(work[0], "oxide.explanation"); !strings.Contains(text, " is on node-") {
			t.Errorf("explanation %q", text)
		}
		for operation, action := range map[string]string{
			"floating_ip_create": "create address", "floating_ip_attach": "attach address",
		} {
			calls := spans.named(operation)
			if len(calls) != 1 {
				t.Fatalf("%d spans of %s", len(calls), operation)
			}
			want := []string{"reconcile load balancer", action, operation}
			if got := spans.path(calls[0]); !slices.Equal(got, want) {
				t.Errorf("path %v, want %v", got, want)
			}
			if calls[0].SpanKind() != trace.SpanKindClient || attributeOf(calls[0], "oxide.request_id") == "" {
				t.Errorf("%s has no request id: %v", operation, calls[0].Attributes())
			}
		}
		state := o.state(key)
		if state.TraceParent == "" || !strings.Contains(state.TraceParent, desiredTrace) {
			t.Errorf("the last state is of the span %q", state.TraceParent)
		}
	})
}

func TestAMoveIsOneTraceThatIsLinkedWithWhatCausedIt(t *testing.T) {
	spans := record(t)
	inWorld(t, 2, func(w *world) {
		o := w.open().sync()
		defer o.close()
		key := o.want("default/web", nil, 80)
		before := o.settled(key)
		began := len(spans.Ended())
		from := w.node(before.Attached.InstanceID)
		o.send(session.Item{
			TraceParent: "00-" + observedTrace + spanSuffix,
			Candidate: &health.Observation{
				InstanceID: o.nodes[from], Name: nodeName(from), Readiness: health.Unknown,
			},
		})
		o.left(key, before)
		moves := spans.named("move address")
		if len(moves) != 1 {
			t.Fatalf("%d moves are traced", len(moves))
		}
		links := moves[0].Links()
		if len(links) != 1 || links[0].SpanContext.TraceID().String() != observedTrace {
			t.Errorf("links %+v, want the observation's", links)
		}
		var names []string
		for _, span := range spans.Ended()[began:] {
			if span.SpanContext().TraceID() != moves[0].SpanContext().TraceID() {
				t.Errorf("%s is in another trace", span.Name())
			}
			names = append(names, span.Name())
		}
		for _, want := range []string{
			"detach address", "floating_ip_detach", "attach address", "floating_ip_attach",
		} {
			if !slices.Contains(names, want) {
				t.Errorf("%s is not among %v", want, names)
			}
		}
	})
}

func TestWhatFailsIsAFailedSpanAndTriedAgainByAnother(t *testing.T) {
	spans := record(t)
	inWorld(t, 1, func(w *world) {
		w.must(func() error {
			_, err := w.sim.AddFault(oxidesim.Fault{Operation: "floating_ip_attach", Status: 503, Times: 2})
			return err
		}())
		o := w.open().sync()
		defer o.close()
		o.settled(o.want("default/web", nil, 80))
		calls := spans.named("floating_ip_attach")
		if len(calls) != 3 {
			t.Fatalf("%d spans of attachments, want one for each", len(calls))
		}
		for i, call := range calls {
			if failed := call.Status().Code == codes.Error; failed != (i < 2) {
				t.Errorf("attempt %d: %+v", i+1, call.Status())
			}
		}
		if got := attributeOf(calls[0], "http.response.status_code"); got != "503" {
			t.Errorf("status %q", got)
		}
	})
}

func TestNothingToDoIsNoSpan(t *testing.T) {
	spans := record(t)
	inWorld(t, 2, func(w *world) {
		o := w.open().sync()
		key := o.want("default/web", nil, 80)
		o.settled(key)
		began := len(spans.Ended())
		time.Sleep(10 * time.Minute) // it is listed again and again
		o.observe(1-w.node(o.state(key).Addresses[0].Attached.InstanceID), silent)
		time.Sleep(time.Minute)
		o.close()
		if more := spans.Ended()[began:]; len(more) != 0 {
			t.Errorf("%d spans, the first %s", len(more), more[0].Name())
		}
		if started, ended := len(spans.Started()), len(spans.Ended()); started != ended {
			t.Errorf("%d spans began, %d ended", started, ended)
		}
	})
}
