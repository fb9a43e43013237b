// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package oxide_test

import (
	"fmt"
	"strings"
	"testing"

	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/oxide"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/oxidesim"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/tracing"
)

func record(t *testing.T) *tracetest.SpanRecorder {
	recorder := tracetest.NewSpanRecorder()
	t.Cleanup(tracing.Enable(sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(recorder))))
	return recorder
}

func attributesOf(span sdktrace.ReadOnlySpan) map[string]string {
	all := make(map[string]string)
	for _, pair := range span.Attributes() {
		all[string(pair.Key)] = pair.Value.String()
	}
	return all
}

func TestEachTryOfACallIsASpanWithTheRequestIdOfOxide(t *testing.T) {
	spans := record(t)
	r := start(t, oxidesim.Config{})
	node := r.instance(oxidesim.InstanceSeed{})
	r.fault(oxidesim.Fault{
		Operation: "instance_view", Status: 503, ErrorCode: "ServiceNotAvailable", Times: 1,
	})
	ctx, root := tracing.Start(t.Context(), "root")
	if _, err := r.InstanceByID(ctx, node.ID); err != nil {
		t.Fatal(err)
	}
	root.End()
	ended := spans.Ended()
	if len(ended) != 3 {
		t.Fatalf("%d spans, want two tries and the root", len(ended))
	}
	for i, try := range ended[:2] {
		about := attributesOf(try)
		wantStatus, wantResent := [...]string{"503", "200"}[i], [...]string{"", "1"}[i]
		if try.Name() != "instance_view" || try.Parent().SpanID() != root.SpanContext().SpanID() ||
			about["http.response.status_code"] != wantStatus || !oxide.ValidID(about["oxide.request_id"]) ||
			about["http.request.resend_count"] != wantResent {
			t.Errorf("try %d: %s %v", i+1, try.Name(), about)
		}
		if failed := try.Status().Code == codes.Error; failed != (i == 0) {
			t.Errorf("try %d: %+v", i+1, try.Status())
		}
	}
	first := attributesOf(ended[0])["oxide.request_id"]
	if first == attributesOf(ended[1])["oxide.request_id"] {
		t.Errorf("both tries have the request id %s", first)
	}
}

func TestCallsThatNobodyTracesHaveNoSpan(t *testing.T) {
	spans := record(t)
	r := start(t, oxidesim.Config{})
	if _, err := r.Instances(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := len(spans.Started()); n != 0 {
		t.Errorf("%d spans", n)
	}
}

// Whatever Oxide, or something in between, answers: spans go to others than the log.
func TestNoSpanHoldsATokenOrAURL(t *testing.T) {
	spans := record(t)
	r := start(t, oxidesim.Config{})
	answers := []oxidesim.Fault{
		{Status: 400, ErrorCode: "InvalidRequest", Body: fmt.Sprintf(
			`{"error_code":"InvalidRequest","message":"token %s","request_id":"x"}`, oxidesim.DefaultToken)},
		{Status: 401}, {Status: 403}, {Status: 404}, {Status: 500}, {Status: 507}, {Reset: true},
		{Status: 302}, {Status: 502, Body: "<html>" + oxidesim.DefaultToken, ContentType: "text/html"},
	}
	ctx, root := tracing.Start(t.Context(), "root")
	for _, answer := range answers {
		for operation, call := range mutations {
			answer.Operation, answer.Times = operation, 1
			r.fault(answer)
			_ = call(ctx, r.Client)
		}
	}
	for _, call := range reads {
		_ = call(ctx, r.Client)
	}
	root.End()
	if n := len(spans.Ended()); n < len(answers)*len(mutations) {
		t.Fatalf("%d spans: the test checks the wrong thing", n)
	}
	for _, span := range spans.Ended() {
		text := fmt.Sprint(span.Name(), attributesOf(span), span.Status(), span.Events())
		for _, never := range []string{
			oxidesim.DefaultToken, tokenPrefix, "Bearer", "http://", "https://", "/v1/",
		} {
			if strings.Contains(text, never) {
				t.Errorf("a span holds %q: %s", never, text)
			}
		}
	}
}
