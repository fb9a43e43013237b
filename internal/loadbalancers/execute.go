// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package loadbalancers

import (
	"context"
	"log/slog"
	"time"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/oxide"
)

// carryOut carries out the plan for one load balancer, unless it is a dry run, and tells what came of
// it. What is no longer wanted is let go only once all that is wanted is there.
func (m *Manager) carryOut(
	ctx context.Context, f facts, b *balancer, changes *queue, dryRun bool,
) Result {
	result := Result{LoadBalancer: LoadBalancer{
		Key: b.want.Key, OwnerUID: b.want.OwnerUID, Conditions: b.conditions,
	}}
	for _, c := range b.claims {
		now, actions := fact{}, c.actions()
		if c.ip != nil {
			now = *c.ip
		}
		if !dryRun && result.Err == nil {
			now, actions, result.Err = m.execute(ctx, f, now, actions, changes)
			if c.ip == nil && now.ID != "" {
				b.learn(c, now.Addr)
			}
		} else if !dryRun {
			actions = nil
		}
		result.Actions = append(result.Actions, actions...)
		if address, ok := f.outcome(c, now, dryRun); ok {
			result.LoadBalancer.Addresses = append(result.LoadBalancer.Addresses, address)
		}
	}
	for _, ip := range b.kept {
		at := f.attachment(ip.InstanceID, ip.family())
		result.LoadBalancer.Addresses = append(result.LoadBalancer.Addresses,
			f.address(ip, at, at, ip.Marked))
	}
	sortAddresses(result.LoadBalancer.Addresses)
	released := b.releases
	if !dryRun {
		released = nil
		if result.Err == nil {
			released, result.Err = m.giveBack(ctx, f, b.releases, changes, func() bool {
				return m.memory.isStillDesired(b.want)
			})
		}
		if result.Err == nil && b.isSettled() {
			m.memory.hold(b.want.Key, b.want.Ports)
		}
	}
	result.Actions = append(result.Actions, released...)
	if result.Err == nil {
		result.Err = b.problem
	}
	return result
}

// outcome describes an address as it is now. It is nothing if its creation failed.
func (f facts) outcome(c *claim, now fact, dryRun bool) (Address, bool) {
	if now.ID == "" && !dryRun {
		return Address{}, false
	}
	family := c.wanted.Family
	at := f.attachment(now.InstanceID, family)
	planned := at
	if dryRun {
		planned = f.attachment(c.target, family)
	}
	if now.ID == "" {
		return Address{
			Family: family, Addr: now.Addr, Name: c.prepare[0].Name, Managed: true, Planned: planned,
		}, true
	}
	address := f.address(&now, at, planned, c.managed)
	address.Family = family
	return address, true
}

// execute carries out actions, one after the other, and stops at the first that fails: everything is
// read anew before the next attempt. The first ones are about the current floating IP, which may be
// yet to be created; others are found among the facts. It returns the last one as the answers show
// it, and what was done.
func (m *Manager) execute(
	ctx context.Context, f facts, current fact, actions []Action, changes *queue,
) (fact, []Action, error) {
	var done []Action
	for _, a := range actions {
		switch known := f.ips[a.ID]; {
		case a.ID == "" && a.Type != Create:
			a.ID, a.Name, a.Addr = current.ID, current.Name, current.Addr
		case a.ID != current.ID && known != nil:
			current = *known
		}
		concerned := ""
		if a.Type == Attach || a.Type == Detach {
			concerned = a.InstanceID
		}
		err := changes.run(ctx, concerned, func() (err error) {
			current, a, err = m.step(ctx, current, a)
			return err
		})
		if err != nil {
			return current, done, err
		}
		a.EndTime = time.Now()
		done = append(done, a)
		slog.InfoContext(ctx, "changed a floating IP",
			"action", a.Type.String(), "scope", a.Key.Scope, "load_balancer", a.Key.Name,
			"floating_ip", a.Name, "address", a.Addr, "instance", a.InstanceID, "why", a.Why)
	}
	return current, done, nil
}

// giveBack carries out actions that end addresses. One that cannot be given back yet holds up no other.
// To detach one may take as long as an instance does not answer, so before each action is asked whether
// it is still right: what was wanted no more may be wanted again by then.
func (m *Manager) giveBack(
	ctx context.Context, f facts, actions []Action, changes *queue, isRight func() bool,
) (done []Action, err error) {
	stuck := make(map[string]bool)
	for _, a := range actions {
		switch {
		case stuck[a.ID]:
			continue
		case ctx.Err() != nil && err == nil:
			return done, endedError(ctx)
		case ctx.Err() != nil:
			return done, err
		case !isRight():
			return done, fail(ReasonBusy, nil, "the load balancer %s is desired in another way meanwhile",
				a.Key)
		}
		_, did, failed := m.execute(ctx, f, fact{}, []Action{a}, changes)
		done, stuck[a.ID] = append(done, did...), failed != nil
		if err == nil {
			err = failed
		}
	}
	return done, err
}

// step carries out one action, and remembers what came of it. The answer counts as a reading: only
// that of a detach shows the instance from before. When it fails, the address is as it was, as far
// as is known.
func (m *Manager) step(ctx context.Context, before fact, a Action) (fact, Action, error) {
	after := before
	var err error
	switch a.Type {
	case Create:
		after, err = m.create(ctx, a)
		a.ID, a.Name, a.Addr = after.ID, after.Name, after.Addr
	case Mark:
		var ip oxide.FloatingIP
		if ip, err = m.api.DescribeFloatingIP(ctx, a.ID, a.Description); err == nil {
			after = newFact(ip)
		}
	case Attach:
		err = m.onInstance(ctx, a, func() error {
			ip, err := m.api.AttachFloatingIP(ctx, a.ID, a.InstanceID)
			if err == nil {
				after = newFact(ip)
				after.InstanceID = a.InstanceID
			}
			return err
		})
	case Detach:
		err = m.onInstance(ctx, a, func() error { return m.api.DetachFloatingIP(ctx, a.ID) })
		after.InstanceID = ""
	case Delete:
		if err = m.api.DeleteFloatingIP(ctx, a.ID); oxide.IsKind(err, oxide.KindNotFound) {
			err = nil
		}
		if err == nil {
			m.memory.record(a.ID, nil)
			return fact{}, a, nil
		}
	}
	if err != nil {
		return before, a, err
	}
	m.memory.record(a.ID, &after)
	return after, a, nil
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
	case oxide.IsKind(err, oxide.KindNoCapacity):
		return fact{}, fail(ReasonPoolExhausted, err, "%s has no free address", poolOf(a.Wanted))
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

// poolOf says which pool a wanted address is of, for people.
func poolOf(w Wanted) string {
	if w.Source.Pool != "" {
		return "the pool " + w.Source.Pool
	}
	return "the silo's default pool for IP" + string(w.Family) + " addresses"
}

func poolRemedy(w Wanted) string {
	if w.Source.Pool != "" {
		return "the pool " + w.Source.Pool + " does not exist, or is not linked to the silo"
	}
	return "the silo has no default pool for IP" + string(w.Family) +
		" addresses; ask its administrator for one"
}

// onInstance makes a change that involves an instance, unless another one is in flight there: a sled
// that does not answer makes each of them wait for a minute, and they would all be waited for.
func (m *Manager) onInstance(ctx context.Context, a Action, change func() error) error {
	unlock, ok := m.instances.lock(ctx, a.InstanceID, instancePatience)
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
	state, stateErr := m.inventory.RunState(ctx, a.InstanceID)
	if stateErr == nil && (state == oxide.RunStateFailed || state == oxide.RunStateCreating) {
		return fail(ReasonNotOperable, err, "instance %s is %s, and Oxide neither attaches nor "+
			"detaches addresses until it runs or is stopped", a.InstanceID, state)
	}
	return fail(ReasonRefused, err, "%s", err.Error())
}

// isStuck reports whether an error says that an instance takes no change for now.
func isStuck(err error) bool {
	return oxide.IsKind(err, oxide.KindUnavailable) || IsReason(err, ReasonNotOperable)
}
