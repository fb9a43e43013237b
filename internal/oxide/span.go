// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package oxide

import (
	"context"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/tracing"
)

// startSpan starts the span of one try of a call, named as Oxide names that. What nobody traces,
// for example the lists that are read again and again, has none.
func startSpan(ctx context.Context, op operation) (context.Context, trace.Span) {
	return tracing.StartChild(ctx, op.id, trace.SpanKindClient)
}

// endSpan ends the span of a try: its URL is not in it, and neither is anything of the answer but
// its status and the id by which Oxide's own log has the request.
func endSpan(span trace.Span, x *exchange, tries int, err error) {
	if !span.IsRecording() {
		return
	}
	if x.requestID != "" {
		span.SetAttributes(attribute.String("oxide.request_id", x.requestID))
	}
	if x.status != 0 {
		span.SetAttributes(attribute.Int("http.response.status_code", x.status))
	}
	if resent := tries - 1 + x.resent; resent > 0 {
		span.SetAttributes(attribute.Int("http.request.resend_count", resent))
	}
	tracing.End(span, err)
}
