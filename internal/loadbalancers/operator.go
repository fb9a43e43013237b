// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package loadbalancers

import "context"

// What operators do by hand. No controller calls these.

// Outcome is what an operation on one address by hand found and did.
type Outcome struct {
	Address Address
	Actions []Action
}

// Adopt marks a floating IP, by name or id, as the address of a load balancer. Its name and the text
// of its description stay.
func (m *Manager) Adopt(
	ctx context.Context, nameOrID string, key Key, ownerUID string, dryRun bool,
) (Outcome, error) {
	return m.byHand(ctx, nameOrID, dryRun, func(f facts, ip *fact) ([]Action, error) {
		switch {
		case ip.Marked && ip.Marker.Key != key:
			return nil, fail(ReasonNotOwned, nil, "the floating IP %s is %s: release it there first",
				ip.Name, ownerOf(ip))
		case ip.Marked && ip.Marker.OwnerUID == ownerUID && !ip.Marker.Retained:
			return nil, nil
		}
		if user := m.memory.userOf(ip.FloatingIP); user != key && user != (Key{}) {
			return nil, fail(ReasonInUse, nil, "the load balancer %s uses the floating IP %s as the "+
				"user's own: let it name another one first", user, ip.Name)
		}
		for _, other := range f.of(map[string]bool{key.Scope: true}, key.Name) {
			if other.ID != ip.ID && other.family() == ip.family() && !other.Marker.Retained {
				return nil, fail(ReasonInUse, nil, "the load balancer %s has the address %s (%s) "+
					"already: release that first, or one of them would be given back", key,
					other.Addr, other.Name)
			}
		}
		w := Wanted{Family: ip.family(), Source: Source{Addr: ip.Addr}}
		description, err := WithMarker(ip.Description, Marker{
			Key: key, OwnerUID: ownerUID, Family: w.Family, Source: w.Source.String(),
		})
		if err != nil {
			return nil, err
		}
		return []Action{markAction(ip, key, description, "it was adopted by hand")}, nil
	})
}

// Release removes the marker of a floating IP, by name or id, which belongs to the user from then
// on. It stays attached. The address of a load balancer that still wants it is not released: its
// marker would be taken for lost, and restored.
func (m *Manager) Release(ctx context.Context, nameOrID string, dryRun bool) (Outcome, error) {
	return m.byHand(ctx, nameOrID, dryRun, func(_ facts, ip *fact) ([]Action, error) {
		if !bearsMarker(ip.Description) {
			return nil, nil
		}
		if ip.Marked && m.memory.wants(ip.Marker.Key) && !m.memory.wantsExisting(ip.FloatingIP) {
			return nil, fail(ReasonInUse, nil, "the load balancer %s uses the floating IP %s: let it "+
				"name that as the user's own existing one, which releases it", ip.Marker.Key, ip.Name)
		}
		return []Action{markAction(ip, ip.Marker.Key, WithoutMarker(ip.Description),
			"it was released by hand")}, nil
	})
}

func markAction(ip *fact, key Key, description, why string) Action {
	return Action{
		Type: Mark, Key: key, ID: ip.ID, Name: ip.Name, Addr: ip.Addr, Description: description,
		Why: why,
	}
}

// byHand plans and carries out what an operator does to one floating IP. What it is about to change is
// read and planned once more when nobody else changes that load balancer.
func (m *Manager) byHand(
	ctx context.Context, nameOrID string, dryRun bool,
	plan func(facts, *fact) ([]Action, error),
) (Outcome, error) {
	f, now, actions, err := m.planByHand(ctx, nameOrID, plan)
	if err != nil {
		return Outcome{}, err
	}
	if !dryRun && len(actions) > 0 {
		unlock, err := m.lock(ctx, actions[0].Key)
		if err != nil {
			return Outcome{}, err
		}
		defer unlock()
		if f, now, actions, err = m.planByHand(ctx, nameOrID, plan); err != nil {
			return Outcome{}, err
		}
		if now, actions, err = m.execute(ctx, f, now, actions, nil); err != nil {
			return Outcome{}, err
		}
	}
	at := f.attachment(now.InstanceID, now.family())
	return Outcome{Address: f.address(&now, at, at, now.Marked), Actions: actions}, nil
}

func (m *Manager) planByHand(
	ctx context.Context, nameOrID string, plan func(facts, *fact) ([]Action, error),
) (facts, fact, []Action, error) {
	f, err := m.read(ctx)
	if err != nil {
		return facts{}, fact{}, nil, err
	}
	ip := f.find(nameOrID)
	if ip == nil {
		return facts{}, fact{}, nil, fail(ReasonResourceNotFound, nil,
			"there is no floating IP %s in the project", nameOrID)
	}
	actions, err := plan(f, ip)
	return f, *ip, actions, err
}

// Orphans returns the addresses that are marked with a scope, or with one that it adopts, while no
// load balancer of its last full set claims them, each as the load balancer that its marker names.
func (m *Manager) Orphans(ctx context.Context, scope string) ([]LoadBalancer, error) {
	f, orphans, err := m.orphans(ctx, scope)
	if err != nil {
		return nil, err
	}
	return f.describeAll(orphans), nil
}

func (m *Manager) orphans(ctx context.Context, scopeName string) (facts, map[Key][]*fact, error) {
	m.memory.mu.Lock()
	known := m.memory.scope(scopeName)
	complete, cluster := known.complete, known.cluster
	cluster.Scope = scopeName
	m.memory.mu.Unlock()
	if !complete {
		return facts{}, nil, errFullSetRequired
	}
	d, err := m.draw(ctx, drawing{cluster: cluster, dryRun: true, set: (*scope).all})
	if err != nil {
		return facts{}, nil, err
	}
	return d.facts, d.planner.orphans(), nil
}

// DeleteOrphan detaches and deletes one orphan, by its id. It succeeds if there is no floating IP
// with this id.
func (m *Manager) DeleteOrphan(
	ctx context.Context, scope, id string, dryRun bool,
) ([]Action, error) {
	_, actions, err := m.planOrphan(ctx, scope, id)
	if err != nil || dryRun || len(actions) == 0 {
		return actions, err
	}
	// The load balancer may come back at this moment, and claim what it left.
	key := Key{Scope: scope, Name: actions[0].Key.Name}
	unlock, err := m.lock(ctx, key)
	if err != nil {
		return nil, err
	}
	defer unlock()
	f, actions, err := m.planOrphan(ctx, scope, id)
	if err != nil {
		return nil, err
	}
	_, done, err := m.execute(ctx, f, fact{}, actions, nil)
	return done, err
}

func (m *Manager) planOrphan(ctx context.Context, scope, id string) (facts, []Action, error) {
	f, orphans, err := m.orphans(ctx, scope)
	if err != nil {
		return facts{}, nil, err
	}
	ip := f.ips[id]
	if ip == nil {
		return f, nil, nil
	}
	for key, owned := range orphans {
		for _, orphan := range owned {
			if orphan.ID != id {
				continue
			}
			owned := *orphan
			owned.Marker.Retained = false
			actions, err := release(&owned, key, false, "it is an orphan, deleted by hand")
			return f, actions, err
		}
	}
	return facts{}, nil, fail(ReasonNotOwned, nil, "the floating IP %s is no orphan of the scope %s",
		ip.Name, scope)
}
