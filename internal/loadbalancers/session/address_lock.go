// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package session

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/ownership"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/plan"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/oxide"
)

// lockedAddress is an address that a call has locked: nobody else in this process changes it meanwhile.
type lockedAddress struct {
	m  *Manager
	op *operation
	// address is as it was read while it was locked, or as it was changed since.
	address plan.Address
}

// lockAddress waits until no other change of an address is under way, and returns it locked, as it is
// now. It fails if a load balancer has it. Whoever asks for an address that is not to be had by calls
// delays no session: it is locked only once it looks as if it were.
func (m *Manager) lockAddress(
	ctx context.Context, kind ownership.Kind, id string,
) (*lockedAddress, error) {
	ip, known := m.addresses[kind].get(id)
	if !known || m.mayChange(ctx, &ip) != nil {
		var err error
		if ip, err = m.readAddress(ctx, kind, id); err != nil {
			return nil, err
		}
		if err := m.mayChange(ctx, &ip); err != nil {
			return nil, err
		}
	}
	op := &operation{subject: id, family: ip.Family()}
	if _, err := m.operations.lock(ctx, op); err != nil {
		return nil, err
	}
	l := &lockedAddress{m: m, op: op}
	if err := l.read(ctx, kind, id); err != nil {
		l.unlock()
		return nil, err
	}
	if err := m.mayChange(ctx, &l.address); err != nil {
		l.unlock()
		return nil, err
	}
	return l, nil
}

// read reads the address again.
func (l *lockedAddress) read(ctx context.Context, kind ownership.Kind, id string) error {
	began := time.Now()
	ip, err := l.m.readAddress(ctx, kind, id)
	if err != nil {
		return err
	}
	l.address = ip
	l.m.addresses[kind].takeOne(ip, began)
	return nil
}

// unlock lets others change the address, and sessions plan with what became of it.
func (l *lockedAddress) unlock() {
	l.m.operations.done(l.op)
	l.m.wake()
}

// errAbsent: there is no such address, and the project was readable right after Oxide said so.
var errAbsent = errors.New("it does not exist")

// readAddress reads an address of the project. Errors: ReasonResourceNotFound.
func (m *Manager) readAddress(
	ctx context.Context, kind ownership.Kind, id string,
) (plan.Address, error) {
	identity, err := m.api.Identity(ctx)
	if err != nil {
		return plan.Address{}, err
	}
	ip, err := m.addresses[kind].byID(ctx, id)
	switch {
	case oxide.IsKind(err, oxide.KindNotFound):
		// Without a role on the project, nothing in it is found.
		if err := m.api.ProjectReadable(ctx, identity.ProjectID); err != nil {
			return plan.Address{}, err
		}
		return plan.Address{}, failf(ReasonResourceNotFound, errAbsent, "there is no %s with the id %s in "+
			"the project", kind, id)
	case err != nil:
		return plan.Address{}, err
	case ip.ProjectID != identity.ProjectID:
		return plan.Address{}, failf(ReasonResourceNotFound, nil, "the %s with the id %s is in another "+
			"project (%s) than the one in oxide-project", kind, id, ip.ProjectID)
	}
	ip.ReadMarker()
	return ip, nil
}

// mayChange fails if an address is not to be changed by a call: it is a load balancer's, or may be.
// Errors: ReasonNotOwned, ReasonInUse, ReasonSessionRequired.
func (m *Manager) mayChange(ctx context.Context, ip *plan.Address) error {
	switch {
	case ip.Marked:
		return m.mayChangeMarked(ctx, ip)
	case ownership.BearsMarker(ip.Description):
		return failf(ReasonNotOwned, nil, "the %s %s bears the marker of a load balancer, which was edited: "+
			"if it is nobody's, remove the line %q… from its description", ip.Kind, ip.Name,
			ownership.MarkerPrefix)
	case ip.Description == ownership.LegacyDescription:
		return failf(ReasonNotOwned, nil, "the existing Oxide cloud controller manager made the %s %s: if it "+
			"is nobody's any more, change its description", ip.Kind, ip.Name)
	}
	user, err := m.userOrHolder(ctx, ip)
	if err == nil && user != (ownership.Key{}) {
		err = failf(ReasonInUse, nil, "the load balancer %s uses the %s %s: let it name another one "+
			"first", user, ip.Kind, ip.Name)
	}
	return err
}

// mayChangeMarked fails unless the session of the scope of a marker knows the address as an orphan.
func (m *Manager) mayChangeMarked(ctx context.Context, ip *plan.Address) error {
	key := ip.Marker.Key
	orphans, err := m.Orphans(ctx, m.adopterOf(key.Scope))
	if err == nil && !isAmong(orphans, ip.ID) {
		err = failf(ReasonNotOwned, nil, "the %s %s is of the load balancer %s in the scope %s: release it "+
			"there first", ip.Kind, ip.Name, key, key.Scope)
	}
	return err
}

// adopterOf returns the scope of the acting session that has the addresses of a scope: its own, or one
// that takes over from it. Without either it is the scope itself.
func (m *Manager) adopterOf(scope string) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.acting[scope] != nil {
		return scope
	}
	for other, s := range m.acting {
		if slices.Contains(s.opening.Adopted, scope) {
			return other
		}
	}
	return scope
}

// userOrHolder returns a load balancer of an acting session that names an address as the user's own, or
// has it without a marker: one that was lost, or is yet to be written. The zero value: none.
func (m *Manager) userOrHolder(ctx context.Context, ip *plan.Address) (ownership.Key, error) {
	var user ownership.Key
	for _, s := range m.actingSessions() {
		err := s.ask(ctx, func(l *loop) {
			for key, b := range l.balancers {
				if !b.released && (b.namesExisting(ip) || b.has(ip.ID)) {
					user = key
				}
			}
		})
		// What a session knew that has ended meanwhile, nobody knows any more.
		if err != nil && !IsReason(err, ReasonSessionRequired) {
			return ownership.Key{}, err
		}
	}
	return user, nil
}

// namesExisting reports whether a load balancer names an address as the user's own.
func (b *balancer) namesExisting(ip *plan.Address) bool {
	return slices.ContainsFunc(b.lb.Desired, func(d plan.Desired) bool {
		return d.Source.Names(ip.Kind, ip.ID, ip.Name)
	})
}

// has reports whether the last state of a load balancer has an address.
func (b *balancer) has(id string) bool {
	return b.sent != nil &&
		slices.ContainsFunc(b.sent.Addresses, func(a Address) bool { return a.ID == id })
}

// errReadOnly is the error of calls that would change something.
var errReadOnly = failf(ReasonReadOnly, nil, "this backend was started with --read-only, and changes "+
	"nothing")

// request makes a request about the locked address, once the instance has a slot for it. The address is
// read again if it had to wait for that and the request is only right where the address was. Once it is
// sent, the end of the call does not end it.
func (l *lockedAddress) request(
	ctx context.Context, typ plan.ActionType, instance, next string,
) (outcome, error) {
	ip := &l.address
	op, waited, err := l.m.operations.enter(ctx, l.op, typ, instance, next)
	if err != nil {
		return outcome{}, err
	}
	l.op = op
	if waited && typ == plan.ActionDetach {
		if err := l.readAt(ctx, instance); err != nil {
			l.m.operations.finish(op, time.Now(), false, false)
			return outcome{}, err
		}
	}
	o := l.m.doByCall(ctx, op, request{Action: plan.Action{
		Type: typ, Kind: ip.Kind, ID: ip.ID, Name: ip.Name, Addr: ip.Addr, Instance: instance, Why: byCall,
	}, next: next})
	l.m.log(ctx, o)
	if o.err == nil {
		switch typ {
		case plan.ActionAttach:
			ip.InstanceID = instance
		case plan.ActionDetach:
			ip.InstanceID = ""
		}
	}
	return o, o.err
}

// readAt reads the address again, and fails if it is not attached to an instance any more.
func (l *lockedAddress) readAt(ctx context.Context, instance string) error {
	if err := l.read(ctx, l.address.Kind, l.address.ID); err != nil {
		return err
	}
	if l.address.InstanceID != instance {
		return failf(ReasonInUse, nil, "the %s %s is not attached to instance %s any more: look again where "+
			"it is", l.address.Kind, l.address.Name, instance)
	}
	return nil
}

// doByCall makes a request that has entered the table, and finishes it there.
func (m *Manager) doByCall(ctx context.Context, op *operation, q request) outcome {
	m.requests.Add(1)
	defer m.requests.Done()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), requestTimeout)
	defer cancel()
	o := m.do(ctx, op, q)
	m.operations.finish(op, o.endedAt, o.err == nil, o.blame == blameInstance)
	return o
}
