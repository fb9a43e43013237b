// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package otlp

import (
	"errors"
	"net"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/tracing"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/tracing/otlptest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestWithoutAnEndpointNothingRuns(t *testing.T) {
	before := runtime.NumGoroutine()
	stop, err := Start(t.Context(), nil, Program{Name: "x"})
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	if after := runtime.NumGoroutine(); after > before || tracing.Enabled() {
		t.Errorf("%d goroutines, %d before", after, before)
	}
	if ServerOptions() != nil || DialOptions() != nil {
		t.Error("calls are traced")
	}
}

func TestSpansArriveWithWhoMadeThem(t *testing.T) {
	collector := otlptest.Start(t)
	t.Setenv(endpointVariable, collector.Endpoint)
	t.Setenv("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20abc")
	t.Setenv("OTEL_RESOURCE_ATTRIBUTES", "k8s.pod.name=pod-1")
	config, err := FromEnvironment(environment(endpointVariable, collector.Endpoint))
	if err != nil {
		t.Fatal(err)
	}
	stop, err := Start(t.Context(), config, Program{
		Name: "ccm-shim", Version: "v1", Report: func(problem string) { t.Error(problem) },
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, outer := tracing.Start(t.Context(), "outer")
	_, inner := tracing.Start(ctx, "inner")
	tracing.End(inner, errors.New("no room"))
	outer.End()
	stop() // sends the last ones
	spans := collector.Spans()
	if len(spans) != 2 {
		t.Fatalf("these came:\n%s", otlptest.Tree(spans))
	}
	child := otlptest.Named(spans, "inner")[0]
	if got := otlptest.Path(spans, child); !slices.Equal(got, []string{"ccm-shim: outer", "ccm-shim: inner"}) {
		t.Errorf("path %v", got)
	}
	if !child.Failed || child.Message != "no room" {
		t.Errorf("%+v is no failure", child)
	}
	text := collector.Text()
	for _, want := range []string{"service.version", "k8s.pod.name", "pod-1", "host.name"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not in what came", want)
		}
	}
	if got := collector.Header("authorization"); !slices.Equal(got, []string{"Bearer abc"}) {
		t.Errorf("authorization %v", got)
	}
	if tracing.Enabled() {
		t.Error("tracing goes on")
	}
}

func TestACollectorThatIsNotThereCostsOneLineAndALittleTimeAtTheEnd(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	endpoint := "http://" + listener.Addr().String()
	_ = listener.Close()
	config, err := FromEnvironment(environment(endpointVariable, endpoint))
	if err != nil {
		t.Fatal(err)
	}
	problems := make(chan string, 100)
	stop, err := Start(t.Context(), config, Program{Name: "x", Report: func(p string) { problems <- p }})
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	for range 5000 { // more than may wait
		_, span := tracing.Start(t.Context(), "lost")
		span.End()
	}
	if took := time.Since(began); took > time.Second {
		t.Errorf("the spans took %s", took)
	}
	began = time.Now()
	stop()
	if took := time.Since(began); took > flushTimeout+time.Second {
		t.Errorf("the end took %s", took)
	}
	close(problems)
	var lines []string
	for line := range problems {
		lines = append(lines, line)
	}
	if len(lines) != 1 || !strings.HasPrefix(lines[0], "cannot send spans to "+endpoint+", named by "+
		endpointVariable+"; they are dropped: ") || strings.Contains(lines[0], "\n") {
		t.Errorf("lines: %q", lines)
	}
}

func TestWhatTheExporterComplainsAboutIsSaidOnceAWhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var said []time.Duration
		start := time.Now()
		r := newReporter(&Config{}, func(string) { said = append(said, time.Since(start)) })
		r.Handle(nil)
		for range 60 * 11 {
			r.Handle(errors.New("connection refused"))
			time.Sleep(time.Second)
		}
		if want := []time.Duration{0, reportEvery, 2 * reportEvery}; !slices.Equal(said, want) {
			t.Errorf("said after %v, want %v", said, want)
		}
	})
}
