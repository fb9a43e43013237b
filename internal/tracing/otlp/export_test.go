// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package otlp

import (
	"bytes"
	"context"
	"errors"
	"net"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	coltracepb "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/tracing"
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

// collector keeps what is exported to it.
type collector struct {
	coltracepb.UnimplementedTraceServiceServer

	mu       sync.Mutex
	requests []*coltracepb.ExportTraceServiceRequest
	headers  metadata.MD
}

func (c *collector) Export(
	ctx context.Context, req *coltracepb.ExportTraceServiceRequest,
) (*coltracepb.ExportTraceServiceResponse, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.requests = append(c.requests, req)
	c.headers, _ = metadata.FromIncomingContext(ctx)
	return new(coltracepb.ExportTraceServiceResponse), nil
}

func startCollector(t *testing.T) (c *collector, endpoint string) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c, server := new(collector), grpc.NewServer()
	coltracepb.RegisterTraceServiceServer(server, c)
	var served sync.WaitGroup
	served.Go(func() { _ = server.Serve(listener) })
	t.Cleanup(func() {
		server.Stop()
		served.Wait()
	})
	return c, "http://" + listener.Addr().String()
}

func TestSpansArriveWithWhoMadeThem(t *testing.T) {
	c, endpoint := startCollector(t)
	t.Setenv("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20abc")
	t.Setenv("OTEL_RESOURCE_ATTRIBUTES", "k8s.pod.name=pod-1")
	config, err := FromEnvironment(environment(endpointVariable, endpoint))
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
	if tracing.Enabled() {
		t.Error("tracing goes on")
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.requests) != 1 || len(c.requests[0].GetResourceSpans()) != 1 {
		t.Fatalf("%d requests came: %v", len(c.requests), c.requests)
	}
	of := c.requests[0].GetResourceSpans()[0]
	about := make(map[string]string)
	for _, pair := range of.GetResource().GetAttributes() {
		about[pair.GetKey()] = pair.GetValue().GetStringValue()
	}
	for name, want := range map[string]string{
		"service.name": "ccm-shim", "service.version": "v1", "k8s.pod.name": "pod-1",
	} {
		if about[name] != want {
			t.Errorf("%s is %q, want %q", name, about[name], want)
		}
	}
	spans := of.GetScopeSpans()[0].GetSpans()
	if len(spans) != 2 || !bytes.Equal(spans[0].GetParentSpanId(), spans[1].GetSpanId()) ||
		spans[0].GetStatus().GetMessage() != "no room" {
		t.Errorf("these came: %v", spans)
	}
	if got := c.headers.Get("authorization"); !slices.Equal(got, []string{"Bearer abc"}) {
		t.Errorf("authorization %v", got)
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
