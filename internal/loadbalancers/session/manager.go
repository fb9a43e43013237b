// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package session

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/coalesce"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/firewall/ruleset"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/instances"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/ownership"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/plan"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/rules"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/oxide"
)

// API is what this package needs of Oxide.
type API interface {
	Identity(ctx context.Context) (oxide.Identity, error)
	ProjectReadable(ctx context.Context, id string) error
	FloatingIPByID(ctx context.Context, id string) (oxide.FloatingIP, error)
	FloatingIPByName(ctx context.Context, name string) (oxide.FloatingIP, error)
	CreateFloatingIP(
		ctx context.Context, name, description string, allocator oxide.IPAllocator,
	) (oxide.FloatingIP, error)
	DescribeFloatingIP(ctx context.Context, id, description string) (oxide.FloatingIP, error)
	DeleteFloatingIP(ctx context.Context, id string) error
	AttachFloatingIP(ctx context.Context, id, instanceID string) (oxide.FloatingIP, error)
	DetachFloatingIP(ctx context.Context, id string) error
	ExternalSubnetByID(ctx context.Context, id string) (oxide.ExternalSubnet, error)
	ExternalSubnetByName(ctx context.Context, name string) (oxide.ExternalSubnet, error)
	CreateExternalSubnet(
		ctx context.Context, name, description string, allocator oxide.SubnetAllocator,
	) (oxide.ExternalSubnet, error)
	DescribeExternalSubnet(ctx context.Context, id, description string) (oxide.ExternalSubnet, error)
	DeleteExternalSubnet(ctx context.Context, id string) error
	AttachExternalSubnet(ctx context.Context, id, instanceID string) (oxide.ExternalSubnet, error)
	DetachExternalSubnet(ctx context.Context, id string) error
	ExternalSubnets(ctx context.Context) ([]oxide.ExternalSubnet, error)
	IPPool(ctx context.Context, nameOrID string) (oxide.IPPool, error)
	IPPools(ctx context.Context) ([]oxide.IPPool, error)
	SubnetPool(ctx context.Context, nameOrID string) (oxide.SubnetPool, error)
	SubnetPools(ctx context.Context) ([]oxide.SubnetPool, error)
	rules.API
}

// Inventory is what this package needs to know of instances.
type Inventory interface {
	// Endpoints returns where packets arrive on instances, for those that have a network interface.
	Endpoints(ctx context.Context, ids []string) (map[string]instances.Endpoint, error)
	// Read reads an instance directly, without its network. Errors: instances.ErrNotFound.
	Read(ctx context.Context, id string) (instances.Instance, error)
}

// Watcher follows the instances.
type Watcher interface {
	// Watch calls send for each instance, once for the end of the snapshot, and then for each
	// change.
	Watch(
		ctx context.Context, racks bool, send func(instances.Event) error, lag func(time.Duration),
	) error
	// Refresh has the instances listed again soon.
	Refresh()
}

// Config is what a Manager is made of.
type Config struct {
	API       API
	Inventory Inventory
	Watcher   Watcher
	// FloatingIPs are the readings of the floating IPs of the project.
	FloatingIPs *coalesce.Reader[[]oxide.FloatingIP]
	// Registry is given what sessions know of addresses without a marker.
	Registry *ownership.Registry
	// ReadOnly opens no acting session.
	ReadOnly bool
	// ManageFirewall keeps rules in the firewalls of VPCs for the load balancers of acting sessions,
	// FirewallPriority is theirs.
	ManageFirewall   bool
	FirewallPriority int
	// Registerer takes the metrics; nil: there are none.
	Registerer prometheus.Registerer
	// TimeScale multiplies everything that is waited for; 0 means 1. Tests that do very much use
	// it.
	TimeScale float64
}

// Manager has the sessions of the process, and what they share. It is safe for concurrent use.
type Manager struct {
	config    Config
	api       API
	inventory Inventory
	watcher   Watcher
	registry  *ownership.Registry
	timings   timings

	// ctx is that of every request to Oxide: those under way go on when their session ends.
	ctx  context.Context //nolint:containedctx // it is the process's, not a caller's
	stop context.CancelFunc

	// addresses are those of each kind.
	addresses  [2]*addressList
	operations *operationTable
	places     *placeTable
	candidates *candidateTable
	pools      *ttlCache[plan.Pool]
	firewalls  *rules.Keeper
	// checks has a token for each instance or address that is being read because no list shows it.
	checks chan struct{}
	// plans has a token for each plan that is being made for a call.
	plans chan struct{}

	mu       sync.Mutex
	sessions map[*Session]bool
	acting   map[string]*Session
	stopping bool
	requests sync.WaitGroup
}

// timings are how long things are waited for.
type timings struct {
	// announce is how long a place is published before an address arrives or leaves: every Service
	// proxy has taken it up by then.
	announce time.Duration
	// moveInterval is the least time between two moves of one load balancer.
	moveInterval time.Duration
	// attachTimeout is how long a published place waits for its address.
	attachTimeout time.Duration
	// relist is how often addresses are listed although nothing seems to have changed.
	relist time.Duration
	// retry is how long is waited at first after a failed reading, and after a failed change.
	retry time.Duration
	// maxReadRetry bounds the exponential backoff of readings, and of changes while Oxide is away;
	// maxRetry that of a load balancer's own failures.
	maxReadRetry, maxRetry time.Duration
	// keepOld is for how long a place that an address has left is published until it has arrived
	// elsewhere.
	keepOld time.Duration
	// unblock is how long an address waits for its next place while another one still has that.
	unblock time.Duration
	// opening is how long the first publication of an address waits for the firewall.
	opening time.Duration
}

func newTimings(scale float64) timings {
	return timings{
		announce: scaled(time.Second, scale), moveInterval: scaled(30*time.Second, scale),
		attachTimeout: scaled(30*time.Second, scale), relist: scaled(time.Minute, scale),
		retry: scaled(5*time.Second, scale), maxReadRetry: scaled(30*time.Second, scale),
		maxRetry: scaled(5*time.Minute, scale),
		keepOld:  scaled(5*time.Second, scale), unblock: scaled(2*time.Second, scale),
		opening: scaled(10*time.Second, scale),
	}
}

const (
	poolMaxAge = 5 * time.Minute
	// missingMaxAge is how long a pool that could not be read is not read again: less than the 30 s within
	// which everything works again after an outage in which it was not found.
	missingMaxAge = 20 * time.Second
	// listSpacing is the least time from one list of external subnets to the next.
	listSpacing = time.Second / 2
	// unusedRelist is how many times more seldom the addresses of a kind are listed that nobody uses.
	unusedRelist = 10
)

// NewManager returns a Manager, which reads nothing before a session is opened. It goes on when ctx
// ends, until Stop.
func NewManager(ctx context.Context, config Config) *Manager {
	ctx, stop := context.WithCancel(context.WithoutCancel(ctx))
	m := &Manager{
		config: config, api: config.API, inventory: config.Inventory, watcher: config.Watcher,
		registry: config.Registry, timings: newTimings(config.TimeScale),
		ctx: ctx, stop: stop,
		operations: newOperationTable(config.TimeScale), places: newPlaceTable(),
		candidates: newCandidateTable(),
		pools:      newTTLCache[plan.Pool](poolMaxAge, missingMaxAge),
		checks:     make(chan struct{}, concurrentChecks),
		plans:      make(chan struct{}, concurrentPlans),
		sessions:   make(map[*Session]bool), acting: make(map[string]*Session),
	}
	m.firewalls = rules.NewKeeper(ctx, rules.Config{
		API: config.API, Changed: m.wake, TimeScale: config.TimeScale, Registerer: config.Registerer,
	})
	subnets := &coalesce.Reader[[]oxide.ExternalSubnet]{
		Doing: "list the external subnets", Read: config.API.ExternalSubnets, Spacing: listSpacing,
	}
	m.addresses = [2]*addressList{
		newAddressList(ownership.FloatingIP, &floatingIPs{config.API, config.FloatingIPs}, m.timings, m.wake),
		newAddressList(ownership.ExternalSubnet, &externalSubnets{config.API, subnets}, m.timings, m.wake),
	}
	return m
}

const (
	// maxActing bounds the scopes that have an acting session, and maxObserving the sessions that
	// observe: each holds memory, and plans whenever something changes.
	maxActing    = 32
	maxObserving = 16
	// concurrentPlans bounds the plans that are made for calls at a time: each takes memory.
	concurrentPlans = 2
)

// Open opens a session. One that acts ends the acting session that there is for its scope. Errors:
// ReasonReadOnly, ReasonStopping, ReasonTooMany.
func (m *Manager) Open(opening Opening) (*Session, error) {
	if m.config.ReadOnly && !opening.ObserveOnly {
		return nil, failf(ReasonReadOnly, nil, "this backend was started with --read-only, and changes "+
			"nothing: open the session with observe_only")
	}
	m.mu.Lock()
	if m.stopping {
		m.mu.Unlock()
		return nil, errStopping
	}
	if err := m.roomFor(opening); err != nil {
		m.mu.Unlock()
		return nil, err
	}
	s := newSession(m, opening)
	var older *Session
	for _, scope := range opening.Adopted {
		if other := m.acting[scope]; other != nil && scope != opening.Scope {
			slog.Warn("a scope is adopted that has an acting session here: its addresses are left alone",
				"scope", opening.Scope, "adopted", scope)
		}
	}
	if !opening.ObserveOnly {
		older = m.acting[opening.Scope]
		m.acting[opening.Scope] = s
		m.firewalls.Begin(opening.Scope, time.Now())
	}
	m.sessions[s] = true
	m.mu.Unlock()
	if older != nil {
		older.end(failf(ReasonSuperseded, nil, "a newer session of the scope %s began", opening.Scope))
	}
	s.start()
	return s, nil
}

// roomFor fails if there are too many sessions already for another one; the lock is held. One that
// acts always takes the place of its predecessor.
func (m *Manager) roomFor(opening Opening) error {
	observing := 0
	for s := range m.sessions {
		if s.opening.ObserveOnly {
			observing++
		}
	}
	switch {
	case opening.ObserveOnly && observing >= maxObserving:
		return failf(ReasonTooMany, nil, "this backend has %d sessions that observe already, and takes no "+
			"more", observing)
	case !opening.ObserveOnly && m.acting[opening.Scope] == nil && len(m.acting) >= maxActing:
		return failf(ReasonTooMany, nil, "this backend has acting sessions of %d scopes already, and "+
			"takes no more", len(m.acting))
	}
	return nil
}

var errStopping = failf(ReasonStopping, nil, "the backend is about to stop")

// Stop ends all sessions with ReasonStopping, and waits for the requests that are under way, until
// ctx ends: those that are left go on in Oxide.
func (m *Manager) Stop(ctx context.Context) {
	m.mu.Lock()
	m.stopping = true
	open := make([]*Session, 0, len(m.sessions))
	for s := range m.sessions {
		open = append(open, s)
	}
	m.mu.Unlock()
	for _, s := range open {
		s.end(errStopping)
	}
	finished := make(chan struct{})
	go func() {
		m.firewalls.Stop(ctx)
		m.requests.Wait()
		close(finished)
	}()
	select {
	case <-finished:
	case <-ctx.Done():
	}
	m.stop()
}

// wake makes every session take its next step.
func (m *Manager) wake() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for s := range m.sessions {
		s.wake()
	}
}

// wakeOthers makes every session but one take its next step.
func (m *Manager) wakeOthers(but *Session) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for s := range m.sessions {
		if s != but {
			s.wake()
		}
	}
}

// remove forgets a session that has ended.
func (m *Manager) remove(s *Session) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.sessions, s)
	if m.acting[s.opening.Scope] == s {
		delete(m.acting, s.opening.Scope)
		m.places.set(s.opening.Scope, nil)
		m.candidates.set(s.opening.Scope, nil)
		m.registry.Remove(s.opening.Scope)
		m.firewalls.End(s.opening.Scope, time.Now())
	}
}

// adoptable returns the scopes that an opening adopts, but those that have an acting session here:
// their clusters live, and their addresses are not to be had.
func (m *Manager) adoptable(opening Opening) []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	var free []string
	for _, scope := range opening.Adopted {
		if scope == opening.Scope || m.acting[scope] == nil {
			free = append(free, scope)
		}
	}
	return free
}

// ActingScopes returns the scopes that have an acting session here, in alphabetical order.
func (m *Manager) ActingScopes() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Sorted(maps.Keys(m.acting))
}

// desireRules has the firewall rules kept that the acting session of a scope desires.
func (m *Manager) desireRules(s *Session, desired map[string]ruleset.Desired, now time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.acting[s.opening.Scope] == s {
		m.firewalls.Desire(s.opening.Scope, desired, now)
	}
}

// session returns the acting session of a scope; nil: there is none.
func (m *Manager) session(scope string) *Session {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.acting[scope]
}

// actingSessions returns all sessions that act.
func (m *Manager) actingSessions() []*Session {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Collect(maps.Values(m.acting))
}
