// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package loadbalancers

import (
	"context"
	"log/slog"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/oxide"
)

// execute carries out actions on one address, one after the other. The first failure ends it: every
// action is safe to repeat, so the next plan goes on from what was reached. It returns the address
// as it is now, and what was done.
//
// The answer to a change counts as its reading. In particular a detach that Oxide accepted counts
// as done, although its answer still shows the old instance.
func (m *Manager) execute(
	ctx context.Context, current fact, actions []Action,
) (fact, []Action, error) {
	var done []Action
	for _, a := range actions {
		if a.Type != Create && a.ID == "" {
			a.ID, a.Name, a.Addr = current.ID, current.Name, current.Addr
		}
		next, did, err := m.step(ctx, current, a)
		if err != nil {
			return current, done, err
		}
		current = next
		done = append(done, did)
		slog.InfoContext(ctx, "changed a floating IP",
			"action", did.Type.String(), "scope", a.Key.Scope, "load_balancer", a.Key.Name,
			"floating_ip", did.Name, "address", did.Addr, "instance", did.InstanceID, "why", a.Why)
	}
	return current, done, nil
}

func (m *Manager) step(ctx context.Context, current fact, a Action) (fact, Action, error) {
	switch a.Type {
	case Create:
		ip, err := m.create(ctx, a)
		a.ID, a.Name, a.Addr = ip.ID, ip.Name, ip.Addr
		return ip, a, err
	case Mark:
		ip, err := m.api.DescribeFloatingIP(ctx, a.ID, a.Description)
		return newFact(ip), a, err
	case Attach:
		err := m.onInstance(ctx, a, func() error {
			_, err := m.api.AttachFloatingIP(ctx, a.ID, a.InstanceID)
			return err
		})
		current.InstanceID = a.InstanceID
		return current, a, err
	case Detach:
		err := m.onInstance(ctx, a, func() error { return m.api.DetachFloatingIP(ctx, a.ID) })
		current.InstanceID = ""
		return current, a, err
	case Delete:
		err := m.api.DeleteFloatingIP(ctx, a.ID)
		if oxide.IsKind(err, oxide.KindNotFound) {
			err = nil
		}
		return fact{}, a, err
	}
	return current, a, fail(ReasonInvalid, nil, "there is no action %d", a.Type)
}

// create makes a floating IP. If the name is taken, then by another backend that made the same
// address a moment ago, or by an earlier try whose answer was lost, and it bears our marker; or by
// somebody else.
func (m *Manager) create(ctx context.Context, a Action) (fact, error) {
	allocator := oxide.IPAllocator{
		Addr: a.Wanted.Source.Addr, Pool: a.Wanted.Source.Pool,
		DefaultPool4: a.Wanted.Family == IPv4, DefaultPool6: a.Wanted.Family == IPv6,
	}
	ip, err := m.api.CreateFloatingIP(ctx, a.Name, a.Description, allocator)
	switch {
	case err == nil:
		return newFact(ip), m.checkFamily(ctx, ip, a.Wanted)
	case oxide.IsKind(err, oxide.KindNotFound):
		return fact{}, fail(ReasonPoolNotFound, err, "%s", poolRemedy(a.Wanted))
	case oxide.IsKind(err, oxide.KindRefused) && a.Wanted.Source.Addr.IsValid():
		return fact{}, fail(ReasonRefused, err, "the wanted address %s is taken, or in no pool that "+
			"is linked to the silo", a.Wanted.Source.Addr)
	case !oxide.IsKind(err, oxide.KindAlreadyExists):
		return fact{}, err
	}
	existing, err := m.api.FloatingIPByName(ctx, a.Name)
	if err != nil {
		return fact{}, err
	}
	found := newFact(existing)
	if !found.Marked || found.Marker.Key != a.Key {
		return fact{}, fail(ReasonNotOwned, nil,
			"the name %s is taken by a floating IP that is not marked as this load balancer's; "+
				"rename or delete it", a.Name)
	}
	return found, nil
}

// checkFamily gives an address back that came from a pool of the other IP family.
func (m *Manager) checkFamily(ctx context.Context, ip oxide.FloatingIP, w Wanted) error {
	if familyOf(ip.Addr) == w.Family {
		return nil
	}
	if err := m.api.DeleteFloatingIP(ctx, ip.ID); err != nil {
		return err
	}
	return fail(ReasonInvalid, nil, "the pool %s has no IP%s addresses", w.Source.Pool, w.Family)
}

func poolRemedy(w Wanted) string {
	if w.Source.Pool != "" {
		return "the pool " + w.Source.Pool + " does not exist, or is not linked to the silo"
	}
	return "the silo has no default pool for IP" + string(w.Family) +
		" addresses; ask its administrator for one, or name a pool"
}

// onInstance makes a change that involves an instance, unless another one is in flight there: a sled
// that does not answer makes each of them wait for a minute, and they would all be waited for.
func (m *Manager) onInstance(ctx context.Context, a Action, change func() error) error {
	unlock, ok := m.instances.tryLock(a.InstanceID)
	if !ok {
		return fail(ReasonBusy, nil,
			"another address is being attached to or detached from instance %s", a.InstanceID)
	}
	defer unlock()
	err := change()
	if !oxide.IsKind(err, oxide.KindRefused) {
		return err
	}
	// Oxide refuses for many reasons and tells them apart only in words, so the state is read.
	state, stateErr := m.finder.RunState(ctx, a.InstanceID)
	if stateErr == nil && (state == oxide.RunStateFailed || state == oxide.RunStateCreating) {
		return fail(ReasonNotOperable, err, "instance %s is %s, and Oxide neither attaches nor "+
			"detaches addresses until it runs or is stopped", a.InstanceID, state)
	}
	return fail(ReasonRefused, err, "%s", err.Error())
}
