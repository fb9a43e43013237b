// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package tracing

import (
	"context"

	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
)

// Propagator carries traces from process to process, in the form of W3C Trace Context.
func Propagator() propagation.TextMapPropagator { return propagation.TraceContext{} }

// traceParent is the name of the form's first header.
const traceParent = "traceparent"

// Format writes a span as W3C's traceparent; empty: there is none.
func Format(ctx context.Context, span trace.SpanContext) string {
	if !span.IsValid() {
		return ""
	}
	carrier := propagation.MapCarrier{}
	Propagator().Inject(trace.ContextWithSpanContext(ctx, span), carrier)
	return carrier[traceParent]
}

// Parse reads what Format writes. What is no traceparent is no span, as W3C asks for, and neither
// is anything while tracing is off.
func Parse(ctx context.Context, text string) trace.SpanContext {
	if text == "" || !Enabled() {
		return trace.SpanContext{}
	}
	carrier := propagation.MapCarrier{traceParent: text}
	ctx = trace.ContextWithSpanContext(ctx, trace.SpanContext{})
	return trace.SpanContextFromContext(Propagator().Extract(ctx, carrier))
}
