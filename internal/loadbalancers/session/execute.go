// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package session

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/ownership"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/plan"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/oxide"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/tracing"
)

const (
	// requestTimeout bounds one request: Oxide waits about a minute for a sled that does not
	// answer.
	requestTimeout = 90 * time.Second
	// quickAnswer is within what time a refusal says something about the address, and not about a
	// sled that did not answer.
	quickAnswer = 2 * time.Second
	// owedWithin is how long after the end of its session a detachment may succeed for the
	// attachment that belongs to it to follow.
	owedWithin = 5 * time.Second
)

// request is a change that is about to be made, and why.
type request struct {
	plan.Action
	// description is what create and mark write; desired what create allocates.
	description string
	desired     plan.Desired
	// reserve: what is created is nobody's but the caller's.
	reserve bool
	// next is where the address goes once it is detached; empty: nowhere.
	next  string
	cause time.Time
}

// blame is what a failure is about.
type blame int

const (
	// blameAddress: the address, or its load balancer.
	blameAddress blame = iota
	// blameInstance: the instance takes no change for now.
	blameInstance
	// blameOxide: Oxide as a whole, or the credentials.
	blameOxide
)

// outcome is what came of a request.
type outcome struct {
	request
	op    *operation
	err   error
	blame blame
	// unknown: the request may have taken effect all the same.
	unknown bool
	endedAt time.Time
}

// run makes a request, writes what came of it through, and delivers it to its session. If that has
// ended by then, the attachment that is owed follows a detachment.
func (m *Manager) run(ctx context.Context, s *Session, op *operation, q request) {
	requestCtx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	o := m.do(requestCtx, op, q)
	m.log(requestCtx, o)
	if ended := s.endedAt(); o.err == nil && q.Type == plan.ActionDetach && q.next != "" &&
		!ended.IsZero() && o.endedAt.Sub(ended) <= owedWithin {
		attach := m.operations.moveOn(op, o.endedAt)
		owed := q
		owed.Type, owed.Instance, owed.From = plan.ActionAttach, q.next, q.Instance
		m.run(ctx, s, attach, owed)
		return
	}
	m.operations.finish(op, o.endedAt, o.err == nil, o.blame == blameInstance)
	if !s.deliver(o) {
		m.operations.done(op)
	}
	m.wake()
}

// log logs a change that was made.
func (m *Manager) log(ctx context.Context, o outcome) {
	if o.err != nil {
		return
	}
	attrs := []any{
		"action", o.Type.String(), "scope", o.op.scope, "load_balancer", o.op.key.Name,
		"kind", o.Kind, "resource", o.Name, "address", o.Addr, "instance", o.Instance, "why", o.Why,
		"duration", o.endedAt.Sub(o.op.began),
	}
	if id := tracing.ID(ctx); id != "" {
		attrs = append(attrs, "trace_id", id)
	}
	slog.InfoContext(ctx, "changed a resource in Oxide", attrs...)
}

// do makes a request and says what its answer means.
func (m *Manager) do(ctx context.Context, op *operation, q request) outcome {
	o := outcome{request: q, op: op}
	ctx, span := q.startSpan(ctx)
	defer func() { tracing.End(span, o.err) }()
	began := time.Now()
	list := m.addresses[q.Kind]
	var ip plan.Address
	switch q.Type {
	case plan.ActionCreate:
		if ip, o.err = m.create(ctx, q); o.err == nil {
			o.ID, o.Name, o.Addr = ip.ID, ip.Name, ip.Addr
			list.record(ip)
		}
	case plan.ActionMark:
		if ip, o.err = list.describe(ctx, q.ID, q.description); o.err == nil {
			list.record(ip)
		}
	case plan.ActionAttach:
		if ip, o.err = list.attach(ctx, q.ID, q.Instance); o.err == nil {
			ip.InstanceID = q.Instance
			list.record(ip)
		}
	case plan.ActionDetach:
		if o.err = list.detach(ctx, q.ID); o.err == nil {
			list.recordDetached(q.ID)
		}
	case plan.ActionDelete:
		o.err = list.remove(ctx, q.ID)
		if oxide.IsKind(o.err, oxide.KindNotFound) {
			o.err = nil
		}
		if o.err == nil {
			list.recordDeleted(q.ID)
		}
	}
	o.endedAt = time.Now()
	if o.err != nil {
		m.explain(ctx, &o, o.endedAt.Sub(began))
		list.doubt(q.ID)
	}
	return o
}

// explain says what a failure is about.
func (m *Manager) explain(ctx context.Context, o *outcome, took time.Duration) {
	moves := o.Type == plan.ActionAttach || o.Type == plan.ActionDetach
	timedOut := oxide.IsKind(o.err, oxide.KindEnded)
	if timedOut {
		o.err = &oxide.Error{
			Operation: "finish the request", Kind: oxide.KindUnavailable, Detail: "no answer in time",
		}
	}
	switch {
	case moves && oxide.IsKind(o.err, oxide.KindRefused):
		o.blame = m.explainRefusal(ctx, o)
	case moves && oxide.IsKind(o.err, oxide.KindInternal):
		o.unknown = true
		o.blame = m.explainRefusal(ctx, o)
	case oxide.IsKind(o.err, oxide.KindUnavailable):
		o.unknown = true
		o.blame = blameOxide
		if moves && isAnswer(o.err) {
			o.blame = m.blameFor503(ctx, o, took)
		} else if moves && timedOut {
			o.blame = blameInstance
		}
	case oxide.IsKind(o.err, oxide.KindInternal), oxide.IsKind(o.err, oxide.KindBadResponse):
		o.unknown = true
	case oxide.IsKind(o.err, oxide.KindUnauthorized), oxide.IsKind(o.err, oxide.KindForbidden),
		oxide.IsKind(o.err, oxide.KindProjectNotFound), oxide.IsKind(o.err, oxide.KindReadOnly),
		oxide.IsKind(o.err, oxide.KindVersionUnsupported):
		o.blame = blameOxide
	}
}

// isAnswer reports whether an error is what Oxide answered, and not the lack of an answer.
func isAnswer(err error) bool {
	e, ok := asOxide(err)
	return ok && e.Status != 0
}

// blameFor503 says what a 503 is about: after a while it is the sled that does not answer; at once
// it is an instance on its way from one state to another, or else the address itself.
func (m *Manager) blameFor503(ctx context.Context, o *outcome, took time.Duration) blame {
	if took > quickAnswer {
		return blameInstance
	}
	instance, err := m.inventory.Read(ctx, o.Instance)
	if err == nil && instance.RunState == oxide.RunStateRunning {
		return blameAddress
	}
	return blameInstance
}

// explainRefusal reads the state of the instance: Oxide refuses for many reasons and distinguishes
// them only in words. An instance that has failed, or is about to, is answered with 400, and one at the
// end of a stop with 500; both pass, and say nothing about the address.
func (m *Manager) explainRefusal(ctx context.Context, o *outcome) blame {
	instance, err := m.inventory.Read(ctx, o.Instance)
	if err != nil {
		return blameInstance // its state may be the reason
	}
	switch instance.RunState {
	case oxide.RunStateRunning, oxide.RunStateRebooting, oxide.RunStateStopped:
		if oxide.IsKind(o.err, oxide.KindRefused) {
			o.err = failf(ReasonRefused, o.err, "%s", o.err.Error())
		}
		return blameAddress
	}
	o.err = failf(ReasonNotOperable, o.err, "instance %s is %s, and Oxide neither attaches nor "+
		"detaches addresses until it runs or is stopped", instance.Name, instance.RunState)
	return blameInstance
}

// create makes an address. If the name is taken, then by another backend that made the same
// address a moment ago, or by an earlier try whose answer was lost, and it bears our marker; or by
// somebody else.
func (m *Manager) create(ctx context.Context, q request) (plan.Address, error) {
	made, err := m.allocate(ctx, q)
	if q.reserve || !oxide.IsKind(err, oxide.KindAlreadyExists) {
		return made, err
	}
	existing, err := m.addresses[q.Kind].byName(ctx, q.Name)
	if err != nil {
		return existing, err
	}
	marker, marked := ownership.ParseMarker(existing.Description)
	if !marked || marker.Key != q.Key {
		return existing, failf(ReasonNotOwned, nil, "%s", plan.NameTaken(q.Kind, q.Name))
	}
	return existing, nil
}

// allocate makes an address, and says why it is not to be had. It returns KindAlreadyExists where the
// name is taken.
func (m *Manager) allocate(ctx context.Context, q request) (plan.Address, error) {
	source := q.desired.Source
	made, err := m.addresses[q.Kind].create(ctx, q.Name, q.description, q.desired)
	switch {
	case err == nil:
		return made, m.checkFamily(ctx, made, q.desired)
	case oxide.IsKind(err, oxide.KindNotFound):
		return made, failf(ReasonPoolNotFound, err, "%s", m.noPool(ctx, q.desired))
	case oxide.IsKind(err, oxide.KindNoCapacity):
		return made, m.noRoom(ctx, q.desired, err)
	case oxide.IsKind(err, oxide.KindRefused) && q.Kind == ownership.ExternalSubnet && source.IsDefault():
		return made, failf(ReasonPoolNotFound, err, "the silo has no default subnet pool for IP%s addresses, "+
			"or that has no free one (which, only viewers of the silo can see); ask its administrator for one",
			q.desired.Family)
	case oxide.IsKind(err, oxide.KindRefused) && source.Addr.IsValid():
		return made, failf(ReasonRefused, err, "the desired address %s is taken, or in no pool that "+
			"is linked to the silo", source.Addr)
	}
	return made, err
}

// noRoom says that a pool has no free address, or that the release of the rack cannot allocate one, and
// which other pools there are.
func (m *Manager) noRoom(ctx context.Context, want plan.Desired, refusal error) error {
	e, _ := asOxide(refusal)
	if e == nil || !e.OldRelease {
		return failf(ReasonPoolExhausted, refusal, "%s has no free address", plan.PoolOf(want))
	}
	remedy := "update the rack"
	if others := m.otherPools(ctx, want); len(others) > 0 {
		remedy += ", or ask for one of its other subnet pools: " + strings.Join(others, ", ")
	}
	return failf(ReasonPoolExhausted, refusal, "racks before release 21, as this one is, allocate no "+
		"external subnet of a single address next to another, and %s has no other free one; %s",
		plan.PoolOf(want), remedy)
}

// otherPools returns the names of the pools of the silo from which a desired address could come besides
// the one that it names, as far as they can be read.
func (m *Manager) otherPools(ctx context.Context, want plan.Desired) []string {
	pools, err := m.siloPools(ctx, want.Source.Kind)
	if err != nil {
		return nil
	}
	var names []string
	for _, pool := range pools {
		asked := pool.name == want.Source.Pool || pool.ID == want.Source.Pool ||
			want.Source.Pool == "" && pool.isDefault
		if pool.Family == want.Family && pool.Unicast && !asked {
			names = append(names, pool.name)
		}
	}
	slices.Sort(names)
	return names
}

// checkFamily releases an address that came from a pool of the other IP family.
func (m *Manager) checkFamily(ctx context.Context, made plan.Address, want plan.Desired) error {
	if made.Family() == want.Family {
		return nil
	}
	if err := m.addresses[made.Kind].remove(ctx, made.ID); err != nil {
		return err
	}
	return failf(ReasonInvalid, nil, "%s has no IP%s addresses", plan.PoolOf(want), want.Family)
}

// noPool says that there is no such pool, and of the default pools which others there are.
func (m *Manager) noPool(ctx context.Context, want plan.Desired) string {
	if want.Source.Pool != "" {
		return plan.PoolOf(want) + " does not exist, or is not linked to the silo"
	}
	pool, err := m.readPool(ctx, want)
	return plan.NoDefaultPool(want, toPool(pool, err).Others)
}
