// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package session

import (
	"context"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/plan"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/tracing"
)

// work is the span of what is being done for a load balancer: from the step in which something has
// to be done for it to the one in which nothing has, or the rest waits for Oxide or a person. Nil:
// nothing is being done, or nothing is traced.
type work struct {
	span trace.Span
	// parent is the span, as a client is sent it.
	parent string
	// linked are the instances of whose observations it has a link.
	linked map[string]bool
}

// cause is the span of a client's item, and when that came.
type cause struct {
	span trace.SpanContext
	at   time.Time
}

// takeCause keeps the span of an item until what follows from it is traced.
func (l *loop) takeCause(item Item, now time.Time) {
	span := tracing.Parse(l.m.ctx, item.TraceParent)
	if !span.IsValid() {
		return
	}
	switch {
	case item.Candidate != nil:
		l.causes[item.Candidate.InstanceID] = cause{span, now}
	case item.CandidateRemoved != "":
		l.causes[item.CandidateRemoved] = cause{span, now}
	case item.LoadBalancer != nil:
		b := l.balancers[item.LoadBalancer.Key]
		if b.cause = span; b.work != nil {
			b.work.span.AddEvent("the desired state or its publication has changed")
		}
	}
}

// traceWork begins the span of what is to be done, and links it with what is known of its causes.
func (s *balancerStep) traceWork() {
	if !tracing.Enabled() || s.opening.ObserveOnly || !s.progressing {
		return
	}
	b := s.balancer
	if b.work == nil {
		ctx, span := tracing.Start(tracing.Below(s.m.ctx, b.cause), s.workName(), trace.WithAttributes(
			attribute.String("oxide.load_balancer", b.lb.Key.Name),
			attribute.String("oxide.scope", b.lb.Key.Scope)))
		b.work = &work{
			span: span, parent: tracing.Format(ctx, span.SpanContext()), linked: make(map[string]bool),
		}
	}
	for _, m := range b.moves {
		h, cause := s.healths[m.from], s.causes[m.from]
		if m.from == "" || b.work.linked[m.from] || !cause.span.IsValid() || cause.at.Before(h.Since) {
			continue // what is observed of the instance is older than what moves the address
		}
		b.work.linked[m.from] = true
		b.work.span.AddLink(trace.Link{SpanContext: cause.span, Attributes: []attribute.KeyValue{
			attribute.String("oxide.instance", s.nameOf(m.from)), attribute.String("oxide.why", h.Why),
		}})
	}
}

// workName says what kind of work is to be done.
func (s *balancerStep) workName() string {
	if s.lb.Ending != plan.NotEnding {
		return "release load balancer"
	}
	for _, m := range s.moves {
		if m.from != "" {
			return "move address"
		}
	}
	return "reconcile load balancer"
}

// endWork ends the span of what was done, once nothing is to be done. What waits for Oxide or a
// person, or has failed, is tried again by a span of its own, below the same cause.
func (s *balancerStep) endWork() {
	b := s.balancer
	if !s.unsettled && !s.progressing {
		b.cause = trace.SpanContext{}
	}
	if b.work == nil || s.progressing {
		return
	}
	if b.work.span.IsRecording() && b.sent != nil {
		b.work.span.SetAttributes(attribute.String("oxide.explanation", b.sent.Explanation))
		if b.sent.Problem != nil {
			tracing.Fail(b.work.span, b.sent.Problem.Error())
		}
	}
	b.work.end()
	b.work = nil
}

// endWorks ends the spans of what will not be done by this session.
func (l *loop) endWorks() {
	for _, b := range l.balancers {
		b.work.end()
	}
}

func (w *work) end() {
	if w != nil {
		w.span.End()
	}
}

// traceParent is the span for a client; empty: there is none.
func (w *work) traceParent() string {
	if w == nil {
		return ""
	}
	return w.parent
}

// below returns a context whose spans are below the work.
func (w *work) below(ctx context.Context) context.Context {
	if w == nil {
		return ctx
	}
	return tracing.Below(ctx, w.span.SpanContext())
}

var requestSpans = [...]string{
	plan.ActionCreate: "create address", plan.ActionMark: "mark address",
	plan.ActionAttach: "attach address", plan.ActionDetach: "detach address",
	plan.ActionDelete: "delete address",
}

// startSpan starts the span of a request.
func (q *request) startSpan(ctx context.Context) (context.Context, trace.Span) {
	ctx, span := tracing.StartChild(ctx, requestSpans[q.Type], trace.SpanKindInternal)
	if span.IsRecording() {
		span.SetAttributes(attribute.String("oxide.resource", q.Name), attribute.String("oxide.why", q.Why))
		if q.Addr.IsValid() {
			span.SetAttributes(attribute.String("oxide.address", q.Addr.String()))
		}
		if q.Instance != "" {
			span.SetAttributes(attribute.String("oxide.instance_id", q.Instance))
		}
	}
	return ctx, span
}
