// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package loadbalancers

import (
	"cmp"
	"context"
	"net/netip"
	"slices"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/oxide"
)

// API is what this package needs of Oxide's floating IPs.
type API interface {
	FloatingIPs(ctx context.Context) ([]oxide.FloatingIP, error)
	FloatingIPByName(ctx context.Context, name string) (oxide.FloatingIP, error)
	CreateFloatingIP(
		ctx context.Context, name, description string, allocator oxide.IPAllocator,
	) (oxide.FloatingIP, error)
	DescribeFloatingIP(ctx context.Context, id, description string) (oxide.FloatingIP, error)
	DeleteFloatingIP(ctx context.Context, id string) error
	AttachFloatingIP(ctx context.Context, id, instanceID string) (oxide.FloatingIP, error)
	DetachFloatingIP(ctx context.Context, id string) error
}

// Finder is what this package needs to know of instances.
type Finder interface {
	// PrivateAddress returns where packets arrive that are sent to a floating IP of the family, by
	// its length in bits; an invalid address if the instance has none.
	PrivateAddress(ctx context.Context, instanceID string, bits int) (netip.Addr, error)
	// RunState returns what the instance does now, in Oxide's words.
	RunState(ctx context.Context, instanceID string) (string, error)
}

// Manager carries out the operations on load balancers. It is safe for concurrent use, and remembers
// nothing but what is in flight.
type Manager struct {
	api       API
	finder    Finder
	balancers inflight[Key]
	instances inflight[string]
	arrivals  arrivals
}

// NewManager returns a Manager.
func NewManager(api API, finder Finder) *Manager {
	return &Manager{api: api, finder: finder}
}

// Ensure makes a load balancer as desired, or in a dry run tells what it would do.
func (m *Manager) Ensure(
	ctx context.Context, cluster Cluster, want Desired, dryRun bool,
) (Result, error) {
	unlock, err := m.lock(want.Key, dryRun)
	if err != nil {
		return Result{}, err
	}
	defer unlock()
	f, err := m.gather(ctx)
	if err != nil {
		return Result{}, err
	}
	p, done, err := m.arrivals.plan(func(arriving map[string]int) (plan, error) {
		return planEnsure(f, arriving, cluster, want)
	})
	if err != nil {
		return Result{}, err
	}
	defer done()
	result := Result{LoadBalancer: LoadBalancer{
		Key: want.Key, OwnerUID: want.OwnerUID, Conditions: p.conditions,
	}}
	for _, planned := range p.addresses {
		address, done, err := m.ensureAddress(ctx, planned, dryRun)
		if err != nil {
			return Result{}, err
		}
		result.Actions = append(result.Actions, done...)
		result.LoadBalancer.Addresses = append(result.LoadBalancer.Addresses, address)
	}
	sortAddresses(result.LoadBalancer.Addresses)
	released, err := m.run(ctx, p.releases, dryRun)
	result.Actions = append(result.Actions, released...)
	return result, err
}

// ensureAddress carries out the plan for one address, and tells what came of it. The private address
// of the target is read before anything is attached: without one Oxide would refuse.
func (m *Manager) ensureAddress(
	ctx context.Context, planned plannedAddress, dryRun bool,
) (Address, []Action, error) {
	var now fact
	if planned.found != nil {
		now = *planned.found
	}
	before := now.InstanceID
	target, err := m.attachment(ctx, planned.target, planned.wanted.Family)
	if err != nil {
		return Address{}, nil, err
	}
	if planned.target != "" && planned.target != before && !target.PrivateAddr.IsValid() {
		return Address{}, nil, fail(ReasonInvalid, nil, "the primary network interface of instance "+
			"%s has no IP%s address", planned.target, planned.wanted.Family)
	}
	done := planned.actions
	if !dryRun {
		if now, done, err = m.execute(ctx, now, planned.actions); err != nil {
			return Address{}, done, err
		}
	}
	address := Address{
		Family: planned.wanted.Family, Addr: now.Addr, ID: now.ID, Name: now.Name,
		Attached: target, Planned: target,
	}
	if dryRun {
		address.Name = cmp.Or(address.Name, planned.nameToCreate())
		if before != planned.target {
			address.Attached, err = m.attachment(ctx, before, planned.wanted.Family)
		}
	}
	return address, done, err
}

func (p plannedAddress) nameToCreate() string {
	if len(p.actions) > 0 && p.actions[0].Type == Create {
		return p.actions[0].Name
	}
	return ""
}

func (m *Manager) attachment(
	ctx context.Context, instanceID string, family Family,
) (Attachment, error) {
	if instanceID == "" {
		return Attachment{}, nil
	}
	addr, err := m.finder.PrivateAddress(ctx, instanceID, family.Bits())
	return Attachment{InstanceID: instanceID, PrivateAddr: addr}, err
}

// Delete releases the addresses of a load balancer. It succeeds if there are none.
func (m *Manager) Delete(
	ctx context.Context, key Key, ownerUID string, retainAddresses, dryRun bool,
) ([]Action, error) {
	unlock, err := m.lock(key, dryRun)
	if err != nil {
		return nil, err
	}
	defer unlock()
	f, err := m.gather(ctx)
	if err != nil {
		return nil, err
	}
	actions, err := planDelete(f, key, ownerUID, retainAddresses)
	if err != nil {
		return nil, err
	}
	return m.run(ctx, actions, dryRun)
}

// run executes actions on addresses that are being let go.
func (m *Manager) run(ctx context.Context, actions []Action, dryRun bool) ([]Action, error) {
	if dryRun {
		return actions, nil
	}
	_, done, err := m.execute(ctx, fact{}, actions)
	return done, err
}

// lock makes sure that one change of a load balancer is in flight at a time; a dry run changes
// nothing and needs no lock.
func (m *Manager) lock(key Key, dryRun bool) (unlock func(), err error) {
	if dryRun {
		return func() {}, nil
	}
	unlock, ok := m.balancers.tryLock(key)
	if !ok {
		return nil, fail(ReasonBusy, nil, "another change of the load balancer %s is under way", key)
	}
	return unlock, nil
}

// Get returns the state of one load balancer.
func (m *Manager) Get(ctx context.Context, key Key) (LoadBalancer, error) {
	f, err := m.gather(ctx)
	if err != nil {
		return LoadBalancer{}, err
	}
	owned := f.of(key)
	if len(owned) == 0 {
		return LoadBalancer{}, fail(ReasonNotFound, nil,
			"no address is marked with the load balancer %s in the scope %s", key.Name, key.Scope)
	}
	return m.describe(ctx, key, owned)
}

// List returns the load balancers of a scope, or of every scope if it is empty, whose keys follow
// the given one, ordered by key, at most limit of them. It reports whether there are more.
func (m *Manager) List(
	ctx context.Context, scope string, after Key, limit int,
) ([]LoadBalancer, bool, error) {
	f, err := m.gather(ctx)
	if err != nil {
		return nil, false, err
	}
	byKey := make(map[Key]facts)
	for _, ip := range f {
		key := ip.Marker.Key
		if ip.Marked && (scope == "" || key.Scope == scope) && compareKeys(key, after) > 0 {
			byKey[key] = append(byKey[key], ip)
		}
	}
	keys := make([]Key, 0, len(byKey))
	for key := range byKey {
		keys = append(keys, key)
	}
	slices.SortFunc(keys, compareKeys)
	more := len(keys) > limit
	if more {
		keys = keys[:limit]
	}
	balancers := make([]LoadBalancer, 0, len(keys))
	for _, key := range keys {
		lb, err := m.describe(ctx, key, byKey[key])
		if err != nil {
			return nil, false, err
		}
		balancers = append(balancers, lb)
	}
	return balancers, more, nil
}

func (m *Manager) describe(ctx context.Context, key Key, owned facts) (LoadBalancer, error) {
	lb := LoadBalancer{Key: key, OwnerUID: owned[0].Marker.OwnerUID}
	for _, ip := range owned {
		at, err := m.attachment(ctx, ip.InstanceID, ip.Marker.Family)
		if err != nil {
			return LoadBalancer{}, err
		}
		lb.Addresses = append(lb.Addresses, Address{
			Family: ip.Marker.Family, Addr: ip.Addr, ID: ip.ID, Name: ip.Name,
			Attached: at, Planned: at,
		})
	}
	sortAddresses(lb.Addresses)
	return lb, nil
}

func sortAddresses(addresses []Address) {
	slices.SortFunc(addresses, func(a, b Address) int {
		return cmp.Or(cmp.Compare(a.Family, b.Family), a.Addr.Compare(b.Addr))
	})
}

func compareKeys(a, b Key) int {
	return cmp.Or(cmp.Compare(a.Scope, b.Scope), cmp.Compare(a.Name, b.Name))
}
