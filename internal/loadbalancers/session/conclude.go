// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package session

import (
	"fmt"
	"time"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/plan"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/oxide"
)

// conclude takes over what came of a request.
func (l *loop) conclude(o outcome) {
	l.m.operations.done(o.op)
	b := l.balancers[o.op.key]
	if b == nil {
		return
	}
	if o.err == nil {
		l.succeeded(b, o)
	} else {
		l.failed(b, o)
	}
}

func (l *loop) succeeded(b *balancer, o outcome) {
	delete(b.retries, o.op.subject)
	delete(b.waits, o.ID)
	switch o.Type {
	case plan.ActionCreate:
		delete(b.refused, o.desired.Family)
		if b.creations[o.Name] == nil {
			b.creations[o.Name] = &backoff{}
		}
		b.creations[o.Name].fail(o.endedAt, nil, l.m.timings.announce, l.m.timings.maxRetry)
	case plan.ActionAttach:
		delete(b.uncertain, o.ID)
		if o.From != "" && o.From != o.Instance {
			b.movedAt = o.endedAt
		}
	case plan.ActionDetach:
		if m := b.moves[o.ID]; m != nil {
			m.detached, m.detachedAt = true, o.endedAt
		}
	case plan.ActionMark, plan.ActionDelete:
	}
	l.session.send(Event{Action: l.action(o)})
}

func (l *loop) failed(b *balancer, o outcome) {
	if o.Type == plan.ActionAttach && o.unknown {
		b.uncertain[o.ID] = o.Instance
	}
	if o.ID != "" {
		b.waits[o.ID] = o.err.Error()
	}
	if o.blame == blameInstance {
		return // the instance has a backoff of its own
	}
	if o.Type == plan.ActionCreate &&
		(IsReason(o.err, ReasonPoolNotFound) || IsReason(o.err, ReasonPoolExhausted)) {
		b.refused[o.desired.Family] = o.endedAt
	}
	if b.retries[o.op.subject] == nil {
		b.retries[o.op.subject] = &backoff{}
	}
	first, most := l.m.timings.retry, l.m.timings.maxRetry
	if oxide.IsKind(o.err, oxide.KindUnavailable) {
		first, most = l.m.timings.announce, l.m.timings.maxReadRetry
	}
	b.retries[o.op.subject].fail(o.endedAt, o.err, first, most)
	b.retries[o.op.subject].instance = o.op.instance
}

// failedFor reports whether something failed for a reason the last time.
func (b *balancer) failedFor(reason Reason) bool {
	for _, r := range b.retries {
		if IsReason(r.err, reason) {
			return true
		}
	}
	return false
}

// forgive lets what failed for a reason, before a time, be tried again at once.
func (b *balancer) forgive(reason Reason, before time.Time) {
	for _, r := range b.retries {
		if IsReason(r.err, reason) && r.at.Before(before) {
			r.forgive()
		}
	}
}

// action returns an action that Oxide has done.
func (l *loop) action(o outcome) *Action {
	a := &Action{Action: o.Action, EndTime: o.endedAt}
	if o.From == o.Instance {
		a.From = ""
	}
	if o.Type == plan.ActionAttach && a.From != "" && !o.cause.IsZero() {
		// The time between is a monotonic clock's, and stays right if the other one is set meanwhile.
		a.CauseTime = o.endedAt.Add(-o.endedAt.Sub(o.cause))
	}
	a.Summary = l.summary(a)
	return a
}

// summary says in one line what an action is, or would be.
func (l *loop) summary(a *Action) string {
	text := l.whatWasDone(a)
	if a.Planned {
		text = l.whatIsPlanned(a)
	}
	if a.Why != "" {
		text += ": " + a.Why
	}
	return text
}

func (l *loop) whatIsPlanned(a *Action) string {
	switch a.Type {
	case plan.ActionCreate:
		return fmt.Sprintf("Allocate an address, as the %s %s", a.Kind, a.Name)
	case plan.ActionMark:
		return fmt.Sprintf("Write the description of the %s %s", a.Kind, a.Name)
	case plan.ActionAttach:
		return fmt.Sprintf("Attach the address %s to %s", l.addressOf(a), l.nameOf(a.Instance))
	case plan.ActionDetach:
		return fmt.Sprintf("Detach the address %s from %s", l.addressOf(a), l.nameOf(a.Instance))
	case plan.ActionDelete:
		return fmt.Sprintf("Delete the %s %s with the address %s", a.Kind, a.Name, a.Addr)
	}
	return ""
}

func (l *loop) whatWasDone(a *Action) string {
	switch {
	case a.Type == plan.ActionCreate:
		return fmt.Sprintf("Allocated the address %s", a.Addr)
	case a.Type == plan.ActionMark:
		return fmt.Sprintf("Wrote the description of the %s %s", a.Kind, a.Name)
	case a.Type == plan.ActionAttach && a.From != "":
		return fmt.Sprintf("Moved the address %s from %s to %s", a.Addr, l.nameOf(a.From),
			l.nameOf(a.Instance))
	case a.Type == plan.ActionAttach:
		return fmt.Sprintf("Attached the address %s to %s", a.Addr, l.nameOf(a.Instance))
	case a.Type == plan.ActionDetach:
		return fmt.Sprintf("Detached the address %s from %s", a.Addr, l.nameOf(a.Instance))
	case a.Type == plan.ActionDelete:
		return fmt.Sprintf("Deleted the %s %s with the address %s", a.Kind, a.Name, a.Addr)
	}
	return ""
}

func (l *loop) addressOf(a *Action) string {
	if a.Addr.IsValid() {
		return a.Addr.String()
	}
	return a.Name
}
