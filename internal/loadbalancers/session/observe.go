// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package session

import (
	"context"
	"log/slog"
	"maps"
	"net/netip"
	"time"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/firewall"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/instances"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/health"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/ownership"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/plan"
)

const (
	// endpointMaxAge is how old the private addresses of instances get.
	endpointMaxAge = time.Minute
	// readTimeout bounds the reading of instances.
	readTimeout = time.Minute
	// attemptAge is longer than anything waits to be tried again.
	attemptAge = time.Hour
	// concurrentChecks bounds the direct reads of instances and of addresses that no list shows, over all
	// sessions.
	concurrentChecks = 8
)

// observed is what a session knows of Oxide.
type observed struct {
	addresses *plan.Addresses
	// readAt is when each address was read, by id.
	readAt map[string]time.Time
	// lists is what was taken over of the list of each kind.
	lists [2]listed

	instances map[string]plan.Instance
	// networkErr is why instances could not be read the last time, networkAt when they were.
	networkErr     error
	networkAt      time.Time
	readingNetwork bool
	// networkBackoff is that of reading them, missingBackoff that of finding those that are missing.
	networkBackoff, missingBackoff backoff
	// asked are the instances that the last reading was about: those that it did not show are
	// missing.
	asked          map[string]bool
	networkKnown   bool
	states         map[string]health.Instance
	names          map[string]string
	statesComplete bool
	// checking are the instances that are being read directly; overtaken: a list has shown one meanwhile.
	// destroyed are those that the list shows as destroyed.
	checking, overtaken map[string]bool
	destroyed           map[string]*backoff
}

// listed is what was taken over of a list of addresses.
type listed struct {
	version uint64
	// listedAt is when the last one began that succeeded, err why a later one failed.
	listedAt time.Time
	err      error
}

func newObserved() observed {
	return observed{
		addresses: plan.NewAddresses(), readAt: make(map[string]time.Time),
		instances: make(map[string]plan.Instance), states: make(map[string]health.Instance),
		names:    make(map[string]string),
		checking: make(map[string]bool), overtaken: make(map[string]bool),
		destroyed: make(map[string]*backoff),
	}
}

// privateAddr returns where packets arrive on an instance; invalid if it is not known.
func (o *observed) privateAddr(instance string, family ownership.Family) netip.Addr {
	return o.instances[instance].Addr(family)
}

// isComplete reports whether everything was read that it takes to change something. Without load
// balancers nothing has to be known of the networks.
func (l *loop) isComplete() bool {
	o := &l.observed
	return !o.lists[ownership.FloatingIP].listedAt.IsZero() && o.statesComplete &&
		(o.networkKnown || len(l.balancers) == 0)
}

// problem is why nothing can be changed for now; nil: only time is needed.
func (o *observed) problem() error {
	if err := o.lists[ownership.FloatingIP].err; err != nil {
		return err
	}
	return o.networkErr
}

// refresh takes over what was read since the last step, and has read again what is too old.
func (l *loop) refresh(now time.Time) {
	for _, kind := range kinds {
		l.refreshList(kind, now)
	}
	l.refreshNetwork(now)
	l.checkDoubtful(now)
}

// refreshList takes over what was read of the addresses of a kind, and has them listed again. Those of a
// kind that nobody uses are listed later, and seldom: there may be some of which a load balancer that is
// gone left nothing else to know them by.
func (l *loop) refreshList(kind ownership.Kind, now time.Time) {
	list := &l.observed.lists[kind]
	view := l.m.addresses[kind].since(list.version)
	list.version, list.listedAt, list.err = view.version, view.listedAt, view.err
	if view.known != nil {
		l.takeAddresses(kind, view.known)
	}
	due := list.listedAt.Add(l.m.timings.relist)
	if !l.uses(kind) {
		if due = list.listedAt.Add(unusedRelist * l.m.timings.relist); list.listedAt.IsZero() {
			due = l.began.Add(l.m.timings.relist)
		}
	}
	switch {
	case now.Before(view.retryAt):
		l.at(view.retryAt)
	case !now.Before(due), list.err != nil && l.uses(kind):
		l.m.addresses[kind].want(l.m.ctx, now)
		l.at(now.Add(l.m.timings.relist))
	default:
		l.at(due)
	}
}

// uses reports whether addresses of a kind are followed as those in use are. Floating IPs always are.
func (l *loop) uses(kind ownership.Kind) bool {
	return kind == ownership.FloatingIP || l.isInUse(kind)
}

// isInUse reports whether a load balancer of the session has or desires addresses of a kind.
func (l *loop) isInUse(kind ownership.Kind) bool {
	for _, b := range l.balancers {
		if l.usedBy(b, kind) {
			return true
		}
	}
	return false
}

// usedBy reports whether a load balancer has or desires addresses of a kind.
func (l *loop) usedBy(b *balancer, kind ownership.Kind) bool {
	if l.needs(b, kind, false) {
		return true
	}
	for id := range b.places {
		if ip := l.observed.addresses.ByID(id); ip != nil && ip.Kind == kind {
			return true
		}
	}
	return false
}

// forgetAttempts forgets when addresses were last tried that nobody tries any more.
func (l *loop) forgetAttempts() {
	if len(l.attempts) > 2*(len(l.observed.readAt)+len(l.balancers))+64 {
		maps.DeleteFunc(l.attempts, func(_ string, at time.Time) bool { return time.Since(at) > attemptAge })
	}
}

// takeAddresses brings the index up to date.
func (l *loop) takeAddresses(kind ownership.Kind, known map[string]knownAddress) {
	o := &l.observed
	l.forgetAttempts()
	for id := range o.readAt {
		ip := o.addresses.ByID(id)
		if _, there := known[id]; !there && ip != nil && ip.Kind == kind {
			o.addresses.Delete(id)
			delete(o.readAt, id)
			delete(l.attempts, id)
			l.poolsMayHaveRoom()
		}
	}
	for id, ip := range known {
		o.readAt[id] = ip.readAt
		o.addresses.Upsert(ip.Address)
	}
}

// poolsMayHaveRoom lets load balancers that found no free address try again at once.
func (l *loop) poolsMayHaveRoom() {
	for _, b := range l.balancers {
		b.forgive(ReasonPoolExhausted, time.Now())
	}
}

// concerned returns the instances that a plan has to know: candidates, and those that carry an
// address. Unread: of one of them the network was never asked for; missing: it was not found.
func (l *loop) concerned() (ids []string, unread, missing bool) {
	seen := make(map[string]bool)
	add := func(id string) {
		if id == "" || seen[id] {
			return
		}
		seen[id] = true
		ids = append(ids, id)
		if _, known := l.observed.instances[id]; !known && !l.observed.states[id].Gone {
			missing = true
			unread = unread || !l.observed.asked[id]
		}
	}
	for id := range l.candidates {
		add(id)
	}
	for _, ip := range l.observed.addresses.All() {
		add(ip.InstanceID)
	}
	return ids, unread, missing
}

// refreshNetwork has the private addresses of instances read, where they are missing or too old.
func (l *loop) refreshNetwork(now time.Time) {
	o := &l.observed
	if until := o.networkBackoff.until; now.Before(until) {
		l.at(until)
		return
	}
	if o.readingNetwork || !l.inSync || len(l.balancers) == 0 {
		return
	}
	ids, unread, missing := l.concerned()
	due := o.networkAt.Add(endpointMaxAge)
	if missing && o.missingBackoff.until.Before(due) {
		due = o.missingBackoff.until
	}
	if o.networkKnown && !unread && now.Before(due) {
		l.at(due)
		return
	}
	o.readingNetwork, o.asked = true, make(map[string]bool, len(ids))
	for _, id := range ids {
		o.asked[id] = true
	}
	go func() {
		ctx, cancel := context.WithTimeout(l.m.ctx, readTimeout)
		defer cancel()
		found, err := l.m.inventory.Endpoints(ctx, ids)
		l.session.observe(func(l *loop) { l.takeNetwork(found, err, now) })
	}()
}

// takeNetwork takes over what was read of the instances' networks.
func (l *loop) takeNetwork(found map[string]instances.Endpoint, err error, began time.Time) {
	o := &l.observed
	o.readingNetwork, o.networkErr = false, err
	if err != nil {
		o.networkBackoff.fail(began, err, l.m.timings.retry, l.m.timings.maxReadRetry)
		o.asked = nil
		return
	}
	o.networkAt, o.networkKnown, o.networkBackoff = began, true, backoff{}
	for id, e := range found {
		o.instances[id] = o.fromEndpoint(e)
	}
	if _, _, missing := l.concerned(); !missing {
		o.missingBackoff = backoff{}
	} else {
		o.missingBackoff.fail(began, nil, l.m.timings.retry, endpointMaxAge)
	}
}

// fromEndpoint translates what was read of an instance's network. That may know nothing of an
// instance yet but its id, while others have read its name.
func (o *observed) fromEndpoint(e instances.Endpoint) plan.Instance {
	name := e.Name
	if known := o.names[e.InstanceID]; known != "" && name == e.InstanceID {
		name = known
	}
	return plan.Instance{
		Name: name, Addrs: e.Addrs, Ephemeral: e.Ephemeral, EphemeralKnown: e.EphemeralKnown,
		Interface: firewall.Interface{
			InstanceName: name, VPCID: e.VPCID, VPCName: e.VPCName, SubnetName: e.SubnetName,
			Addrs: e.Addrs,
		},
	}
}

// takeName takes over what an instance is called: firewall rules go by that, and people.
func (o *observed) takeName(id, name string) {
	o.names[id] = name
	if instance, known := o.instances[id]; known {
		instance.Name, instance.Interface.InstanceName = name, name
		o.instances[id] = instance
	}
}

// followInstances follows the instances until the session ends, over as many watches as it takes.
func (l *loop) followInstances(ctx context.Context) {
	for ctx.Err() == nil {
		err := l.m.watcher.Watch(ctx, false, func(event instances.Event) error {
			l.session.observe(func(l *loop) { l.takeInstance(event) })
			return nil
		}, func(time.Duration) {})
		if ctx.Err() == nil {
			slog.WarnContext(ctx, "cannot follow the instances", "scope", l.opening.Scope, "error", err)
			l.session.observe(func(l *loop) { l.observed.networkErr = err })
			rest(ctx, l.m.timings.retry)
		}
	}
}

// firewallRules returns the rules of a VPC, nil if they could not be read, and whether that was tried
// yet. A session does not end while they are being read for the first time.
func (l *loop) firewallRules(now time.Time, vpc string) ([]firewall.Rule, bool) {
	state := l.m.firewalls.Get(vpc, now)
	l.busy = l.busy || !state.Known
	if state.Err != nil {
		return nil, state.Known
	}
	return state.Rules, state.Known
}
