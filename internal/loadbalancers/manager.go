// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package loadbalancers

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/coalesce"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/instances"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/oxide"
)

// API is what this package needs of Oxide.
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
	IPPool(ctx context.Context, nameOrID string) (oxide.IPPool, error)
	FirewallRules(ctx context.Context, vpcID string) ([]oxide.FirewallRule, error)
}

// Inventory is what this package needs to know of instances.
type Inventory interface {
	// Endpoints returns where packets arrive on instances, for those that have a network interface.
	Endpoints(ctx context.Context, ids []string) (map[string]instances.Endpoint, error)
	// RunState returns what the instance does now, in Oxide's words.
	RunState(ctx context.Context, instanceID string) (string, error)
}

const (
	// poolMaxAge and firewallMaxAge bound the age of what changes rarely.
	poolMaxAge     = 5 * time.Minute
	firewallMaxAge = time.Minute
	// missingMaxAge is how long a pool or firewall that could not be read is not asked for again.
	missingMaxAge = 10 * time.Second
	// lockPatience is how long a change waits for another one of the same load balancer to end.
	lockPatience = time.Second
	// instancePatience is the same for another one on the same instance: some of those that are
	// quick come to an end meanwhile, and one that waits for a dead sled holds nobody up.
	instancePatience = time.Second / 2
)

// Manager carries out the operations on load balancers. It is safe for concurrent use.
type Manager struct {
	api       API
	inventory Inventory
	listings  coalesce.Reader[[]oxide.FloatingIP]
	pools     aged[oxide.IPPool]
	firewalls aged[[]oxide.FirewallRule]
	balancers locks[Key]
	instances locks[string]
	memory    memory
}

// NewManager returns a Manager.
func NewManager(api API) *Manager {
	m := &Manager{api: api}
	m.listings.Doing, m.listings.Read = "list the floating IPs", api.FloatingIPs
	m.pools.maxAge, m.pools.failureMaxAge = poolMaxAge, missingMaxAge
	m.firewalls.maxAge, m.firewalls.failureMaxAge = firewallMaxAge, missingMaxAge
	return m
}

// UseInventory gives the manager the inventory, which itself asks the manager for the addresses of
// load balancers. It is called once, before anything else.
func (m *Manager) UseInventory(inventory Inventory) { m.inventory = inventory }

// IsLoadBalancerAddress reports whether a floating IP is, or was meant to be, the address of a load
// balancer, here or of the existing Oxide CCM. Such an address belongs to no instance, whichever one
// carries it for now, and a damaged marker does not change that.
func (m *Manager) IsLoadBalancerAddress(ip oxide.FloatingIP) bool {
	return ip.Description == legacyDescription || bearsMarker(ip.Description) ||
		m.memory.wantsExisting(ip) || m.memory.isPublished(ip) || m.memory.isFormer(ip)
}

// AllLoadBalancersKnown reports whether a full set was told since the start: before that, an address
// without a marker may turn out to be one that a load balancer names as the user's own.
func (m *Manager) AllLoadBalancersKnown() bool { return m.memory.complete() }

// EnsureOptions say how far Ensure goes.
type EnsureOptions struct {
	// DryRun changes nothing, and tells what would be.
	DryRun bool
	// LeaveAttached leaves every address that is attached where it is, and releases none. If the owner
	// publishes addresses already, it attaches none either.
	LeaveAttached bool
}

// Ensure makes a load balancer as desired, or in a dry run tells what it would do.
func (m *Manager) Ensure(
	ctx context.Context, cluster Cluster, want Desired, options EnsureOptions,
) (Result, error) {
	dryRun := options.DryRun
	if !dryRun {
		unlock, err := m.lock(ctx, want.Key)
		if err != nil {
			return Result{}, err
		}
		defer unlock()
	}
	drawn, err := m.draw(ctx, drawing{
		cluster: cluster, dryRun: dryRun, keys: []Key{want.Key},
		set: func(s *scope) []Desired {
			if !dryRun {
				s.tell(want)
			}
			return s.with(want)
		},
		prepare: func(p *planner) { p.leave[want.Key] = options.LeaveAttached },
	})
	if err != nil {
		return Result{}, err
	}
	defer m.memory.land(drawn.allFlights()...)
	b := drawn.plans[want.Key]
	switch {
	case b.problem != nil:
		return Result{}, b.problem
	case b.needsFullSet() && !drawn.complete:
		return Result{}, errFullSetRequired
	}
	result := m.carryOut(ctx, drawn.facts, b, nil, dryRun)
	if result.Err == nil && !dryRun {
		result.Err = b.refusal()
	}
	return result, result.Err
}

// drawn is a plan and what it was made of.
type drawn struct {
	facts    facts
	planner  *planner
	plans    map[Key]*balancer
	complete bool
	// flights are those of the plans that are about to be carried out.
	flights map[Key]*flight
}

func (d drawn) allFlights() []*flight {
	return slices.Collect(maps.Values(d.flights))
}

// drawing is what a plan is to be made of.
type drawing struct {
	cluster Cluster
	dryRun  bool
	// set returns the load balancers to plan. It is asked twice: for what has to be read, and, once
	// that is done, for the plan.
	set func(*scope) []Desired
	// keys are the load balancers whose plans are about to be carried out.
	keys []Key
	// prepare may change what the plan is made of.
	prepare func(*planner)
	// level spreads addresses evenly; soon: if that was asked for lately.
	level, soon bool
}

// draw reads the facts and makes the plan for a set. Unless it is a dry run, the places that the
// plans of the given keys lead to are taken from now on, until their flights are landed.
func (m *Manager) draw(ctx context.Context, want drawing) (drawn, error) {
	cluster := want.cluster
	m.memory.mu.Lock()
	set := want.set(m.memory.scope(cluster.Scope))
	m.memory.mu.Unlock()
	l, err := m.list(ctx)
	if err != nil {
		return drawn{}, err
	}
	f, err := m.around(ctx, l, cluster, set)
	if err != nil {
		return drawn{}, err
	}
	m.memory.mu.Lock()
	defer m.memory.mu.Unlock()
	known := m.memory.scope(cluster.Scope)
	known.seeCluster(cluster)
	f.ips = m.memory.overlay(l)
	own := make(map[Key]bool, len(want.keys))
	for _, key := range want.keys {
		own[key] = true
	}
	d := drawn{facts: f, flights: make(map[Key]*flight)}
	d.planner = newPlanner(f, cluster, want.set(known), known, m.memory.inFlight(own, l.began))
	if want.prepare != nil {
		want.prepare(d.planner)
	}
	if !want.dryRun {
		d.planner.changes = own
	}
	asked := want.soon && time.Now().Before(known.levelUntil)
	var levelled bool
	d.plans, levelled = d.planner.plan(want.level || asked)
	if asked && !levelled {
		known.levelUntil = time.Time{}
	}
	d.complete = known.complete
	for _, b := range d.plans {
		if told, isTold := known.set[b.want.Key]; isTold && slices.Equal(told.Ports, b.want.Ports) {
			d.planner.rememberPlace(b) // a dry run may try other ports
		}
		if !want.dryRun && own[b.want.Key] {
			flight := b.flight()
			m.memory.take(flight)
			d.flights[b.want.Key] = flight
		}
	}
	return d, nil
}

// rememberPlace remembers with which ports a load balancer stays where it is. One that is left where
// it is may yet have to make way.
func (p *planner) rememberPlace(b *balancer) {
	stays := len(b.claims) > 0 && !slices.ContainsFunc(b.claims, func(c *claim) bool {
		return c.left || c.target == "" || c.target != c.current()
	})
	if stays {
		p.held[b.want.Key] = b.want.Ports
	}
}

// Delete releases the addresses of a load balancer. It succeeds if there are none.
func (m *Manager) Delete(ctx context.Context, gone Deletion, dryRun bool) ([]Action, error) {
	if !dryRun {
		unlock, err := m.lock(ctx, gone.Key)
		if err != nil {
			return nil, err
		}
		defer unlock()
	}
	began := time.Now()
	l, err := m.list(ctx)
	if err != nil {
		return nil, err
	}
	f, err := m.around(ctx, l, Cluster{}, nil)
	if err != nil {
		return nil, err
	}
	m.memory.mu.Lock()
	f.ips = m.memory.overlay(l)
	actions, err := planDelete(f, gone, m.memory.scope(gone.Key.Scope))
	m.memory.scope(gone.Key.Scope).seeFormer(f, actions)
	m.memory.mu.Unlock()
	if err != nil || dryRun {
		return actions, err
	}
	done, err := m.giveBack(ctx, f, actions, nil, func() bool {
		return !m.memory.isWantedSince(gone.Key, began)
	})
	if err == nil {
		m.memory.forget(gone.Key, gone.OwnerUID)
	}
	return done, err
}

// lock makes sure that one change of a load balancer is in flight at a time.
func (m *Manager) lock(ctx context.Context, key Key) (unlock func(), err error) {
	unlock, ok := m.balancers.lock(ctx, key, lockPatience)
	if !ok {
		return nil, busyError(key)
	}
	return unlock, nil
}

func busyError(key Key) error {
	return fail(ReasonBusy, nil, "another change of the load balancer %s is under way", key)
}
