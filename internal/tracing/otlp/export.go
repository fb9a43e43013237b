// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package otlp

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/go-logr/logr"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/tracing"
)

const (
	// flushTimeout is how long the end of a program may wait for its last spans.
	flushTimeout = 2 * time.Second
	// reportEvery is how often it is said that spans cannot be sent.
	reportEvery = 5 * time.Minute
)

// Program is who makes the spans.
type Program struct {
	Name, Version string
	// Report is called with what is wrong with sending spans, once and then not more often than every
	// five minutes.
	Report func(problem string)
}

// Start begins to send spans, until stop is called, which waits a moment for the last ones. Without
// a configuration it does nothing. A collector that is not there does not matter: spans that wait
// for it are bounded, and dropped beyond that.
func Start(ctx context.Context, config *Config, program Program) (stop func(), err error) {
	if config == nil {
		return func() {}, nil
	}
	// The errors of settings were found before, and without their values.
	otel.SetLogger(logr.Discard())
	report := newReporter(config, program.Report)
	otel.SetErrorHandler(report)
	exporter, err := otlptracegrpc.New(ctx, otlptracegrpc.WithEndpointURL(config.endpoint))
	if err != nil {
		return nil, fmt.Errorf("%s: spans cannot be sent to %s: %w", config.setting, config.endpoint, err)
	}
	provider := sdktrace.NewTracerProvider(sdktrace.WithBatcher(&sender{exporter, report}),
		sdktrace.WithResource(about(ctx, program)))
	disable := tracing.Enable(provider)
	ctx = context.WithoutCancel(ctx)
	return func() {
		disable()
		ctx, cancel := context.WithTimeout(ctx, flushTimeout)
		defer cancel()
		if err := provider.Shutdown(ctx); err != nil {
			report.Handle(err)
			report.end()
			_ = exporter.Shutdown(ctx) // which ends what is still being sent
		}
	}, nil
}

// sender reports by itself what went wrong.
type sender struct {
	sdktrace.SpanExporter
	report *reporter
}

// ExportSpans implements sdktrace.SpanExporter.
func (s *sender) ExportSpans(ctx context.Context, spans []sdktrace.ReadOnlySpan) error {
	s.report.Handle(s.SpanExporter.ExportSpans(ctx, spans))
	return nil
}

// about describes a program; OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES win.
func about(ctx context.Context, program Program) *resource.Resource {
	own := []attribute.KeyValue{
		attribute.String("service.name", program.Name), attribute.String("service.version", program.Version),
	}
	if host, err := os.Hostname(); err == nil {
		own = append(own, attribute.String("host.name", host))
	}
	// What is wrong in the environment is reported, and what is right there counts all the same.
	res, err := resource.New(ctx, resource.WithTelemetrySDK(), resource.WithAttributes(own...),
		resource.WithFromEnv())
	if err != nil {
		otel.Handle(err)
	}
	return res
}

// reporter says what the exporter complains about.
type reporter struct {
	config *Config
	report func(problem string)
	every  time.Duration

	mu    sync.Mutex
	last  time.Time
	ended bool
}

// end keeps it from saying anything further.
func (r *reporter) end() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ended = true
}

func newReporter(config *Config, report func(string)) *reporter {
	return &reporter{config: config, report: report, every: reportEvery}
}

// Handle implements otel.ErrorHandler.
func (r *reporter) Handle(err error) {
	if err == nil || errors.Is(err, context.Canceled) {
		return
	}
	r.mu.Lock()
	now := time.Now()
	due := !r.ended && (r.last.IsZero() || now.Sub(r.last) >= r.every)
	if due {
		r.last = now
	}
	r.mu.Unlock()
	if due && r.report != nil {
		r.report(fmt.Sprintf("cannot send spans to %s, named by %s; they are dropped: %s",
			r.config.endpoint, r.config.setting, strings.Join(strings.Fields(err.Error()), " ")))
	}
}
