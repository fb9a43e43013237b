// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package session

import (
	"context"
	"fmt"
	"time"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/ownership"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/plan"
)

// What operators do by hand. No controller calls these.

// Outcome is what an operation on one address by hand found and did.
type Outcome struct {
	Address Address
	Actions []Action
}

// Release replaces the marker of an address, by name or id, by a line that says so: it belongs
// to the user from then on, and stays attached. The address of a load balancer that desires it is
// not released. Errors: ReasonResourceNotFound, ReasonInUse, ReasonSessionRequired.
func (m *Manager) Release(ctx context.Context, named plan.Named, dryRun bool) (Outcome, error) {
	l, ip, err := m.find(ctx, named)
	if err != nil {
		return Outcome{}, err
	}
	if !ownership.BearsMarker(ip.Description) {
		return Outcome{Address: l.address(ip, false, ip.InstanceID)}, nil
	}
	if ip.Marked && m.userOf(ctx, ip) != ip.Marker.Key {
		desired := false
		err := m.askActing(ctx, ip.Marker.Key.Scope, func(l *loop) { desired = l.desires(ip.Marker.Key) })
		switch {
		case err != nil:
			return Outcome{}, err
		case desired:
			return Outcome{}, failf(ReasonInUse, nil, "the load balancer %s uses the %s %s: let it "+
				"name that as the user's own existing one, which releases it", ip.Marker.Key, ip.Kind, ip.Name)
		}
	}
	description, err := ownership.WithReleased(ip.Description, ip.Marker.Key)
	if err != nil {
		return Outcome{}, failf(ReasonInvalid, err, "%s", err)
	}
	return m.describeByHand(ctx, l, ip, ip.Marker.Key, description, "it was released by hand", dryRun)
}

// desires reports whether a load balancer of the session is not ending.
func (l *loop) desires(key ownership.Key) bool {
	b := l.balancers[key]
	return b != nil && !b.released
}

// userOf returns a load balancer of an acting session that names an address as the user's own;
// the zero value: none does.
func (m *Manager) userOf(ctx context.Context, ip *plan.Address) ownership.Key {
	var user ownership.Key
	for _, s := range m.actingSessions() {
		_ = s.ask(ctx, func(l *loop) {
			for key, b := range l.balancers {
				if b.namesExisting(ip) && !b.released {
					user = key
				}
			}
		})
	}
	return user
}

// Orphans returns the addresses that are marked with a scope, or with one that it adopts, while no
// load balancer of its session claims them, each as the load balancer that its marker names.
// Errors: ReasonSessionRequired.
func (m *Manager) Orphans(ctx context.Context, scope string) ([]LoadBalancer, error) {
	if err := m.listAll(ctx); err != nil {
		return nil, err
	}
	var orphans []LoadBalancer
	return orphans, m.askActing(ctx, scope, func(l *loop) {
		now := time.Now()
		l.refresh(now)
		what := *l
		orphans = what.orphansOf(plan.Make(what.input(now)))
	})
}

// DeleteOrphan detaches and deletes one orphan, by its id. It succeeds if there is no address
// with this id. Errors: ReasonNotOwned, ReasonSessionRequired.
func (m *Manager) DeleteOrphan(
	ctx context.Context, scope, id string, dryRun bool,
) ([]Action, error) {
	orphans, err := m.Orphans(ctx, scope)
	if err != nil {
		return nil, err
	}
	l, ip, err := m.findByID(ctx, id)
	if IsReason(err, ReasonResourceNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if !isAmong(orphans, id) {
		return nil, failf(ReasonNotOwned, nil, "the %s %s is no orphan of the scope %s: delete only what is "+
			"listed as one", ip.Kind, ip.Name, scope)
	}
	const why = "it is an orphan, deleted by hand"
	base := plan.Action{Key: ip.Marker.Key, Kind: ip.Kind, ID: id, Name: ip.Name, Addr: ip.Addr, Why: why}
	var done []Action
	for _, typ := range []plan.ActionType{plan.ActionDetach, plan.ActionDelete} {
		a := base
		if a.Type = typ; typ == plan.ActionDetach {
			if a.Instance = ip.InstanceID; a.Instance == "" {
				continue
			}
		}
		action, err := m.byHand(ctx, l, request{Action: a}, dryRun)
		if err != nil {
			return done, err
		}
		done = append(done, action)
	}
	return done, nil
}

func isAmong(orphans []LoadBalancer, id string) bool {
	for _, lb := range orphans {
		for _, a := range lb.Addresses {
			if a.ID == id {
				return true
			}
		}
	}
	return false
}

// askActing asks the acting session of a scope, if it is in sync.
func (m *Manager) askActing(ctx context.Context, scope string, question func(*loop)) error {
	s := m.session(scope)
	if s == nil {
		return errSessionRequired(scope)
	}
	synced := false
	err := s.ask(ctx, func(l *loop) {
		if synced = l.inSync && l.isComplete(); synced {
			question(l)
		}
	})
	if err == nil && !synced {
		return errSessionRequired(scope)
	}
	return err
}

// find reads all addresses, and returns the one with a name or an id.
func (m *Manager) find(ctx context.Context, named plan.Named) (*loop, *plan.Address, error) {
	l, err := m.snapshot(ctx, Opening{}, nil)
	if err != nil {
		return nil, nil, err
	}
	if ip := l.observed.addresses.Find(named.Kind, named.NameOrID); ip != nil {
		return l, ip, nil
	}
	remedy := fmt.Sprintf("name one of the %ss that are there, or its id", named.Kind)
	for _, kind := range kinds {
		if kind != named.Kind && l.observed.addresses.Find(kind, named.NameOrID) != nil {
			remedy = fmt.Sprintf("but a %s: ask for that kind", kind)
			if kind == ownership.ExternalSubnet {
				remedy = fmt.Sprintf("but an %s: ask for that kind", kind)
			}
		}
	}
	return nil, nil, failf(ReasonResourceNotFound, nil, "there is no %s %s in the project; %s",
		named.Kind, named.NameOrID, remedy)
}

func (m *Manager) findByID(ctx context.Context, id string) (*loop, *plan.Address, error) {
	l, err := m.snapshot(ctx, Opening{}, nil)
	if err != nil {
		return nil, nil, err
	}
	ip := l.observed.addresses.ByID(id)
	if ip == nil {
		return nil, nil, failf(ReasonResourceNotFound, nil, "there is no address with the id %s in the "+
			"project", id)
	}
	return l, ip, nil
}

// describeByHand writes the description of an address.
func (m *Manager) describeByHand(
	ctx context.Context, l *loop, ip *plan.Address, key ownership.Key, description, why string,
	dryRun bool,
) (Outcome, error) {
	action, err := m.byHand(ctx, l, request{
		Action: plan.Action{
			Type: plan.ActionMark, Key: key, Kind: ip.Kind, ID: ip.ID, Name: ip.Name, Addr: ip.Addr, Why: why,
		},
		description: description,
	}, dryRun)
	if err != nil {
		return Outcome{}, err
	}
	_, marked := ownership.ParseMarker(description)
	if dryRun {
		marked = ip.Marked
	}
	return Outcome{
		Address: l.address(ip, marked, ip.InstanceID), Actions: []Action{action},
	}, nil
}

// byHand makes a request, unless another one about the same address is under way.
func (m *Manager) byHand(ctx context.Context, l *loop, q request, dryRun bool) (Action, error) {
	if dryRun {
		action := Action{Action: q.Action, Planned: true}
		action.Summary = l.summary(&action)
		return action, nil
	}
	if m.config.ReadOnly {
		return Action{}, errReadOnly
	}
	op := &operation{
		scope: q.Key.Scope, key: q.Key, typ: q.Type, subject: q.ID, instance: q.Instance,
		family: ownership.FamilyOf(q.Addr),
	}
	if began, _ := m.operations.start(op, time.Now(), func() bool { return true }); !began {
		return Action{}, failf(ReasonUnreadable, nil, "another change of the %s %s, or of one on "+
			"the same instance, is under way", q.Kind, q.Name)
	}
	o := m.doByCall(ctx, op, q)
	m.operations.done(op)
	m.wake()
	return *l.action(o), o.err
}
