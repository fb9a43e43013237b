// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

// Package collector is a collector of spans: it serves OTLP by gRPC on loopback, and keeps what
// both programs send to it. It imports nothing of them.
package collector

import (
	"context"
	"encoding/hex"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	coltracepb "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	commonpb "go.opentelemetry.io/proto/otlp/common/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/encoding/prototext"
)

// Span is what a test asks of a span.
type Span struct {
	Service, Name     string
	Trace, ID, Parent string
	Kind              tracepb.Span_SpanKind
	Attributes        map[string]string
	// Links are the ids of the traces that it is linked with.
	Links              []string
	Failed             bool
	Message            string
	StartNano, EndNano uint64
}

// Collector keeps the spans that it is sent.
type Collector struct {
	coltracepb.UnimplementedTraceServiceServer

	// Endpoint is its URL.
	Endpoint string

	mu    sync.Mutex
	spans []Span
	text  strings.Builder
}

// Start serves until the test ends.
func Start(t testing.TB) *Collector {
	t.Helper()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &Collector{Endpoint: "http://" + listener.Addr().String()}
	server := grpc.NewServer()
	coltracepb.RegisterTraceServiceServer(server, c)
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = server.Serve(listener)
	}()
	t.Cleanup(func() {
		server.Stop()
		<-served
	})
	return c
}

// Export implements OTLP.
func (c *Collector) Export(
	_ context.Context, req *coltracepb.ExportTraceServiceRequest,
) (*coltracepb.ExportTraceServiceResponse, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.text.WriteString(prototext.Format(req))
	for _, resource := range req.GetResourceSpans() {
		service := attributes(resource.GetResource().GetAttributes())["service.name"]
		for _, scope := range resource.GetScopeSpans() {
			for _, span := range scope.GetSpans() {
				c.spans = append(c.spans, convert(service, span))
			}
		}
	}
	return new(coltracepb.ExportTraceServiceResponse), nil
}

func convert(service string, span *tracepb.Span) Span {
	s := Span{
		Service: service, Name: span.GetName(), Kind: span.GetKind(),
		Trace: hex.EncodeToString(span.GetTraceId()), ID: hex.EncodeToString(span.GetSpanId()),
		Parent:     hex.EncodeToString(span.GetParentSpanId()),
		Attributes: attributes(span.GetAttributes()),
		Failed:     span.GetStatus().GetCode() == tracepb.Status_STATUS_CODE_ERROR,
		Message:    span.GetStatus().GetMessage(),
		StartNano:  span.GetStartTimeUnixNano(), EndNano: span.GetEndTimeUnixNano(),
	}
	for _, link := range span.GetLinks() {
		s.Links = append(s.Links, hex.EncodeToString(link.GetTraceId()))
	}
	return s
}

func attributes(pairs []*commonpb.KeyValue) map[string]string {
	all := make(map[string]string)
	for _, pair := range pairs {
		switch value := pair.GetValue().GetValue().(type) {
		case *commonpb.AnyValue_StringValue:
			all[pair.GetKey()] = value.StringValue
		case *commonpb.AnyValue_IntValue:
			all[pair.GetKey()] = strconv.FormatInt(value.IntValue, 10)
		case *commonpb.AnyValue_BoolValue:
			all[pair.GetKey()] = strconv.FormatBool(value.BoolValue)
		default:
			all[pair.GetKey()] = pair.GetValue().String()
		}
	}
	return all
}

// Spans returns what was sent so far.
func (c *Collector) Spans() []Span {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.spans)
}

// Text returns all that was sent, as text, to search in.
func (c *Collector) Text() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.text.String()
}

// Named returns the spans of a name.
func Named(spans []Span, name string) (found []Span) {
	for _, span := range spans {
		if span.Name == name {
			found = append(found, span)
		}
	}
	return found
}

// Path returns the names from the beginning of its trace to a span, as far as all of them are
// there.
func Path(spans []Span, of Span) (names []string) {
	byID := make(map[string]Span)
	for _, span := range spans {
		byID[span.ID] = span
	}
	for span, found := of, true; found; span, found = byID[span.Parent] {
		names = append(names, span.Service+": "+span.Name)
	}
	slices.Reverse(names)
	return names
}

// Tree writes spans as trees, for people.
func Tree(spans []Span) string {
	var text strings.Builder
	ids := make(map[string]bool)
	for _, span := range spans {
		ids[span.ID] = true
	}
	slices.SortFunc(spans, func(a, b Span) int { return int(int64(a.StartNano) - int64(b.StartNano)) })
	var write func(parent Span, depth int)
	write = func(span Span, depth int) {
		fmt.Fprintf(&text, "%s%s: %s %v", strings.Repeat("  ", depth), span.Service, span.Name,
			span.Attributes)
		if span.Failed {
			fmt.Fprintf(&text, " failed: %s", span.Message)
		}
		text.WriteString("\n")
		for _, other := range spans {
			if other.Parent == span.ID {
				write(other, depth+1)
			}
		}
	}
	for _, span := range spans {
		if !ids[span.Parent] {
			fmt.Fprintf(&text, "trace %s parent %q links %v\n", span.Trace, span.Parent, span.Links)
			write(span, 1)
		}
	}
	return text.String()
}
