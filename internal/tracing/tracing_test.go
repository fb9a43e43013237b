// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package tracing

import (
	"context"
	"errors"
	"runtime"
	"strings"
	"testing"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"
)

// traced does as code does that is traced: what is for the span alone is prepared only for one.
func traced(ctx context.Context, name string, err error) {
	ctx, span := StartChild(ctx, name, trace.SpanKindClient)
	if span.IsRecording() {
		span.SetAttributes(attribute.String("oxide.resource", name))
	}
	_, inner := Start(ctx, "inner")
	End(inner, err)
	End(span, err)
}

func TestTracingThatIsOffCostsNothing(t *testing.T) {
	err := errors.New("failed")
	before := runtime.NumGoroutine()
	ctx := t.Context()
	if n := testing.AllocsPerRun(1000, func() { traced(ctx, "floating_ip_attach", err) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
	if after := runtime.NumGoroutine(); after > before {
		t.Errorf("%d goroutines, %d before", after, before)
	}
	if id := ID(ctx); id != "" {
		t.Errorf("a trace %s", id)
	}
	if span := Parse(ctx, "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"); span.IsValid() {
		t.Error("a span is parsed")
	}
}

func BenchmarkOff(b *testing.B) {
	ctx := b.Context()
	b.ReportAllocs()
	for b.Loop() {
		traced(ctx, "floating_ip_attach", nil)
	}
}

func BenchmarkOn(b *testing.B) {
	provider := sdktrace.NewTracerProvider()
	defer Enable(provider)()
	ctx, span := Start(b.Context(), "root")
	defer span.End()
	b.ReportAllocs()
	for b.Loop() {
		traced(ctx, "floating_ip_attach", nil)
	}
}

func record(t *testing.T) *tracetest.SpanRecorder {
	recorder := tracetest.NewSpanRecorder()
	t.Cleanup(Enable(sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(recorder))))
	return recorder
}

func TestWhatIsNobodysTraceHasNoSpan(t *testing.T) {
	recorder := record(t)
	_, span := StartChild(t.Context(), "list", trace.SpanKindInternal)
	span.End()
	if ended := recorder.Ended(); len(ended) != 0 {
		t.Errorf("%d spans", len(ended))
	}
	traced(Below(t.Context(), trace.SpanContext{}), "list", nil)
	if ended := recorder.Ended(); len(ended) != 1 || ended[0].Name() != "inner" {
		t.Errorf("%d spans", len(ended))
	}
}

func TestATraceGoesOnInAnotherProcess(t *testing.T) {
	recorder := record(t)
	ctx, span := Start(t.Context(), "here")
	text := Format(ctx, span.SpanContext())
	span.End()
	there := Below(t.Context(), Parse(t.Context(), text))
	traced(there, "there", errors.New("no\n room "+strings.Repeat("ü", maxDescription)))
	ended := recorder.Ended()
	if len(ended) != 3 {
		t.Fatalf("%d spans", len(ended))
	}
	for _, one := range ended {
		if got, want := one.SpanContext().TraceID(), span.SpanContext().TraceID(); got != want {
			t.Errorf("%s: trace %s, want %s", one.Name(), got, want)
		}
	}
	last := ended[2]
	if last.Parent().SpanID() != span.SpanContext().SpanID() || last.SpanKind() != trace.SpanKindClient {
		t.Errorf("the span there is below %s", last.Parent().SpanID())
	}
	status := last.Status()
	if status.Code != codes.Error || !strings.HasPrefix(status.Description, "no room ü") ||
		len(status.Description) > maxDescription+len("…") {
		t.Errorf("status %+v", status)
	}
}

func TestWhatIsNoTraceparentIsIgnored(t *testing.T) {
	record(t)
	for _, text := range []string{
		"", "00", strings.Repeat("x", 1<<20), "00-00000000000000000000000000000000-b7ad6b7169203331-01",
		"ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
		"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
	} {
		if span := Parse(t.Context(), text); span.IsValid() {
			t.Errorf("%.60q is a span", text)
		}
	}
	if text := Format(t.Context(), trace.SpanContext{}); text != "" {
		t.Errorf("no span is written as %q", text)
	}
}
