// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package tracing

import (
	"context"
	"strings"
	"sync/atomic"

	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"
)

// scope is the instrumentation scope of all spans.
const scope = "github.com/oxidecomputer/oxide-cloud-controller-manager"

// active is what the spans are made by; nil: tracing is off. It is the process's own instead of
// OpenTelemetry's global one, by which libraries would begin traces of their own.
var active atomic.Pointer[setup]

type setup struct {
	provider trace.TracerProvider
	tracer   trace.Tracer
}

// Enable makes spans by a provider until disable is called.
func Enable(provider trace.TracerProvider) (disable func()) {
	active.Store(&setup{provider, provider.Tracer(scope)})
	return func() { active.Store(nil) }
}

// none is the span of what is not traced.
var none trace.Span = noop.Span{}

// Enabled reports whether spans are made. Start may be called without asking; what is prepared for
// a span alone need not be prepared without one.
func Enabled() bool { return active.Load() != nil }

// Provider returns the provider of the spans, for instrumentation of libraries; nil: tracing is
// off.
func Provider() trace.TracerProvider {
	if s := active.Load(); s != nil {
		return s.provider
	}
	return nil
}

// Start starts a span below that of the context, or a trace if there is none. The span must be
// ended. Where it is called often, what is prepared for a span is set only on one that IsRecording.
func Start(
	ctx context.Context, name string, options ...trace.SpanStartOption,
) (context.Context, trace.Span) {
	s := active.Load()
	if s == nil {
		return ctx, none
	}
	return s.tracer.Start(ctx, name, options...)
}

// StartChild is Start, but begins no trace: what nobody's trace is about is not traced. The kind is
// not an option, which would be allocated although tracing is off.
func StartChild(
	ctx context.Context, name string, kind trace.SpanKind,
) (context.Context, trace.Span) {
	if !Enabled() || !trace.SpanContextFromContext(ctx).IsValid() {
		return ctx, none
	}
	return Start(ctx, name, trace.WithSpanKind(kind))
}

// Below returns a context whose spans are below a span of another context, or process. Without one
// the context is returned as it is.
func Below(ctx context.Context, parent trace.SpanContext) context.Context {
	if !parent.IsValid() || !Enabled() {
		return ctx
	}
	return trace.ContextWithRemoteSpanContext(ctx, parent)
}

// End ends a span, as one that failed if there is an error, whose text must be fit for people.
func End(span trace.Span, err error) {
	if err != nil && span.IsRecording() {
		Fail(span, err.Error())
	}
	span.End()
}

// maxDescription bounds the description of a failure, in bytes.
const maxDescription = 400

// Fail says that what a span is about failed.
func Fail(span trace.Span, why string) {
	why = strings.Join(strings.Fields(why), " ")
	if len(why) > maxDescription {
		why = strings.ToValidUTF8(why[:maxDescription], "") + "…"
	}
	span.SetStatus(codes.Error, why)
}

// ID returns the id of the trace that a context belongs to, for logs; empty: there is none.
func ID(ctx context.Context) string {
	if !Enabled() {
		return ""
	}
	if span := trace.SpanContextFromContext(ctx); span.IsValid() {
		return span.TraceID().String()
	}
	return ""
}
