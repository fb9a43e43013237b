// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package services

import (
	"context"
	"errors"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/protobuf/proto"
	v1 "k8s.io/api/core/v1"
	cloudprovider "k8s.io/cloud-provider"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/tracing"
	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

// maxChange is for how long what is done for a Service belongs to one trace: attempts that fail for
// longer get another one.
const maxChange = 10 * time.Minute

// tracedChange is what is traced of a Service: the span that began the change that is under way,
// whichever of the framework, the informer and the backend was first.
type tracedChange struct {
	span  trace.SpanContext
	since time.Time
	// item is what was desired last, without what changes by itself; unsent: it was not sent yet.
	item   *backendv1.DesiredLoadBalancer
	unsent bool
}

// parent is the span that further ones are below.
func (c *tracedChange) parent() trace.SpanContext {
	if time.Since(c.since) > maxChange {
		return trace.SpanContext{}
	}
	return c.span
}

// begin makes a span the beginning of a change, unless one is under way.
func (c *tracedChange) begin(span trace.SpanContext) {
	if span.IsValid() && !c.parent().IsValid() {
		c.span, c.since = span, time.Now()
	}
}

// describe takes what is desired over. A publication alone begins no change.
func (c *tracedChange) describe(desired *backendv1.DesiredLoadBalancer) {
	if !tracing.Enabled() {
		return
	}
	item := proto.Clone(desired).(*backendv1.DesiredLoadBalancer)
	item.PublishedAddresses, item.Generation = nil, 0
	if !proto.Equal(c.item, item) {
		c.item, c.unsent = item, true
	}
}

// startSpan starts the span of a call of the framework about a Service, which is tracked from then
// on.
func (c *Controller) startSpan(
	ctx context.Context, name string, service *v1.Service,
) (context.Context, trace.Span) {
	if !tracing.Enabled() {
		return tracing.Start(ctx, name)
	}
	var parent trace.SpanContext
	c.track(service, func(t *tracked) { parent = t.change.parent() })
	ctx, span := tracing.Start(tracing.Below(ctx, parent), name,
		trace.WithAttributes(serviceAttributes(service.Namespace, service.Name)...))
	c.track(service, func(t *tracked) { t.change.begin(span.SpanContext()) })
	return ctx, span
}

func serviceAttributes(namespace, name string) []attribute.KeyValue {
	return []attribute.KeyValue{
		attribute.String("k8s.namespace.name", namespace), attribute.String("k8s.service.name", name),
	}
}

// traceItem gives an item that is about to be sent a span of its own: below the change that is
// under way, or as the beginning of one. The first snapshot of a stream changes nothing.
func (c *Controller) traceItem(request *backendv1.SyncLoadBalancersRequest) {
	if !tracing.Enabled() {
		return
	}
	switch item := request.GetItem().(type) {
	case *backendv1.SyncLoadBalancersRequest_Open:
		c.inSnapshot.Store(true)
	case *backendv1.SyncLoadBalancersRequest_InSync:
		c.inSnapshot.Store(false)
	case *backendv1.SyncLoadBalancersRequest_Candidate:
		request.TraceParent = c.traceCandidate(item.Candidate.GetInstanceId(),
			attribute.String("k8s.node.name", item.Candidate.GetDisplayName()),
			attribute.String("oxide.readiness", item.Candidate.GetReadiness().String()),
			attribute.String("oxide.reachability", item.Candidate.GetReachability().String()),
			attribute.Bool("oxide.cordoned", item.Candidate.GetCordoned()))
	case *backendv1.SyncLoadBalancersRequest_CandidateRemoved:
		request.TraceParent = c.traceCandidate(item.CandidateRemoved.GetInstanceId(),
			attribute.Bool("oxide.removed", true))
	case *backendv1.SyncLoadBalancersRequest_LoadBalancer:
		request.TraceParent = c.traceLoadBalancer(item.LoadBalancer)
	}
}

func (c *Controller) traceCandidate(instanceID string, about ...attribute.KeyValue) string {
	if c.inSnapshot.Load() {
		return ""
	}
	ctx, span := tracing.Start(c.ctx, "observe node",
		trace.WithAttributes(append(about, attribute.String("oxide.instance_id", instanceID))...))
	span.End()
	return tracing.Format(ctx, span.SpanContext())
}

func (c *Controller) traceLoadBalancer(item *backendv1.DesiredLoadBalancer) (traceParent string) {
	c.update(item.GetKey().GetName(), item.GetOwnerUid(), func(t *tracked) {
		parent := t.change.parent()
		begins := t.change.unsent && !c.inSnapshot.Load()
		t.change.unsent = false
		if !parent.IsValid() && !begins {
			return
		}
		ctx, span := tracing.Start(tracing.Below(c.ctx, parent), "send load balancer", trace.WithAttributes(
			attribute.String("oxide.load_balancer", item.GetKey().GetName()),
			attribute.Int64("oxide.generation", item.GetGeneration())))
		span.End()
		t.change.begin(span.SpanContext())
		traceParent = tracing.Format(ctx, span.SpanContext())
	})
	return traceParent
}

// followChange makes what the backend does of itself, for example a failover, a change of the
// Service, and ends the change once everything is as desired and published.
func (t *tracked) followChange(ctx context.Context, state *backendv1.LoadBalancerState, published bool) {
	switch {
	case published && state.GetPhase() == backendv1.Phase_PHASE_READY &&
		state.GetGeneration() >= t.generation:
		t.change.span = trace.SpanContext{}
	case !published:
		t.change.begin(tracing.Parse(ctx, state.GetTraceParent()))
	}
}

// publication starts the span of a write of a status, below what it belongs to.
func (c *Controller) publication(
	ctx context.Context, service *v1.Service, state *backendv1.LoadBalancerState,
) (context.Context, trace.Span) {
	parent := tracing.Parse(ctx, state.GetTraceParent())
	if !parent.IsValid() {
		c.update(keyOf(service), string(service.UID), func(t *tracked) { parent = t.change.parent() })
	}
	ctx, span := tracing.StartChild(tracing.Below(ctx, parent), "publish addresses", trace.SpanKindInternal)
	if span.IsRecording() {
		span.SetAttributes(serviceAttributes(service.Namespace, service.Name)...)
		span.SetAttributes(attribute.StringSlice("oxide.addresses", state.GetPublish()))
	}
	return ctx, span
}

// endSpan ends the span of a call of the framework. That an address has no place yet is no failure.
func endSpan(span trace.Span, err error) {
	if errors.Is(err, cloudprovider.ImplementedElsewhere) {
		err = nil
	}
	tracing.End(span, err)
}
