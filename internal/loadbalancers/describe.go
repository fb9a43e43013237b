// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package loadbalancers

import (
	"cmp"
	"context"
	"slices"
)

// Get returns the state of one load balancer.
func (m *Manager) Get(ctx context.Context, key Key) (LoadBalancer, error) {
	f, err := m.read(ctx)
	if err != nil {
		return LoadBalancer{}, err
	}
	owned := f.of(map[string]bool{key.Scope: true}, key.Name)
	if len(owned) == 0 {
		return LoadBalancer{}, fail(ReasonNotFound, nil,
			"no address is marked with the load balancer %s in the scope %s", key.Name, key.Scope)
	}
	return f.describe(key, owned), nil
}

// List returns the load balancers of a scope, or of every scope if it is empty, whose keys follow
// the given one, ordered by key, at most limit of them. It reports whether there are more.
func (m *Manager) List(
	ctx context.Context, scope string, after Key, limit int,
) ([]LoadBalancer, bool, error) {
	f, err := m.read(ctx)
	if err != nil {
		return nil, false, err
	}
	byKey := make(map[Key][]*fact)
	for _, ip := range f.sorted() {
		key := ip.Marker.Key
		if ip.Marked && (scope == "" || key.Scope == scope) && compareKeys(key, after) > 0 {
			byKey[key] = append(byKey[key], ip)
		}
	}
	balancers := f.describeAll(byKey)
	more := len(balancers) > limit
	if more {
		balancers = balancers[:limit]
	}
	return balancers, more, nil
}

// read reads the floating IPs, and where packets for them arrive.
func (m *Manager) read(ctx context.Context) (facts, error) {
	l, err := m.list(ctx)
	if err != nil {
		return facts{}, err
	}
	f, err := m.around(ctx, l, Cluster{}, nil)
	if err != nil {
		return facts{}, err
	}
	m.memory.mu.Lock()
	defer m.memory.mu.Unlock()
	f.ips = m.memory.overlay(l)
	return f, nil
}

// describeAll describes load balancers, ordered by key.
func (f facts) describeAll(byKey map[Key][]*fact) []LoadBalancer {
	balancers := make([]LoadBalancer, 0, len(byKey))
	for key, owned := range byKey {
		balancers = append(balancers, f.describe(key, owned))
	}
	slices.SortFunc(balancers, func(a, b LoadBalancer) int { return compareKeys(a.Key, b.Key) })
	return balancers
}

// describe describes a load balancer by the addresses that are marked as its own.
func (f facts) describe(key Key, owned []*fact) LoadBalancer {
	lb := LoadBalancer{Key: key, OwnerUID: owned[0].Marker.OwnerUID}
	for _, ip := range owned {
		at := f.attachment(ip.InstanceID, ip.family())
		lb.Addresses = append(lb.Addresses, f.address(ip, at, at, true))
	}
	sortAddresses(lb.Addresses)
	return lb
}

func (f facts) address(ip *fact, at, planned Attachment, managed bool) Address {
	return Address{
		Family: ip.family(), Addr: ip.Addr, ID: ip.ID, Name: ip.Name,
		Managed: managed, Retained: ip.Marker.Retained, Attached: at, Planned: planned,
	}
}

func (f facts) attachment(instanceID string, family Family) Attachment {
	if instanceID == "" {
		return Attachment{}
	}
	return Attachment{InstanceID: instanceID, PrivateAddr: f.privateAddr(instanceID, family)}
}

func sortAddresses(addresses []Address) {
	slices.SortFunc(addresses, func(a, b Address) int {
		return cmp.Or(cmp.Compare(a.Family, b.Family), a.Addr.Compare(b.Addr))
	})
}

func compareKeys(a, b Key) int {
	return cmp.Or(cmp.Compare(a.Scope, b.Scope), cmp.Compare(a.Name, b.Name))
}
