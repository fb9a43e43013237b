// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package session

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/instances"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/health"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/ownership"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/plan"
)

// Get returns the state of one load balancer: as its session knows it, or as the markers in Oxide
// show it. Errors: ReasonNotFound.
func (m *Manager) Get(ctx context.Context, key ownership.Key) (LoadBalancer, error) {
	all, err := m.all(ctx, key.Scope)
	if err != nil {
		return LoadBalancer{}, err
	}
	if lb, found := all[key]; found {
		return lb, nil
	}
	return LoadBalancer{}, failf(ReasonNotFound, nil, "no address is marked with the load balancer %s in "+
		"the scope %s", key, key.Scope)
}

// List returns the load balancers of a scope, or of every scope if it is empty, whose keys follow
// the given one, ordered by key, at most limit of them. It reports whether there are more.
func (m *Manager) List(
	ctx context.Context, scope string, after ownership.Key, limit int,
) ([]LoadBalancer, bool, error) {
	all, err := m.all(ctx, scope)
	if err != nil {
		return nil, false, err
	}
	var found []LoadBalancer
	for _, key := range slices.SortedFunc(maps.Keys(all), ownership.CompareKeys) {
		if ownership.CompareKeys(key, after) > 0 {
			found = append(found, all[key])
		}
	}
	more := len(found) > limit
	if more {
		found = found[:limit]
	}
	return found, more, nil
}

// all returns the load balancers of a scope, or of every one, by key.
func (m *Manager) all(ctx context.Context, scope string) (map[ownership.Key]LoadBalancer, error) {
	l, err := m.snapshot(ctx, Opening{}, nil)
	if err != nil {
		return nil, err
	}
	marked := make(map[ownership.Key][]*plan.Address)
	for _, ip := range l.observed.addresses.All() {
		if ip.Marked && (scope == "" || ip.Marker.Key.Scope == scope) {
			marked[ip.Marker.Key] = append(marked[ip.Marker.Key], ip)
		}
	}
	all := make(map[ownership.Key]LoadBalancer, len(marked))
	for key, addresses := range marked {
		all[key] = l.describe(key, addresses)
	}
	for _, s := range m.actingSessions() {
		if scope != "" && s.opening.Scope != scope {
			continue
		}
		// A session that ends meanwhile is left out: what the markers show is true as well.
		_ = s.ask(ctx, func(l *loop) {
			for key, b := range l.balancers {
				if b.sent != nil && l.announcedSync && !b.released && len(b.sent.Addresses) > 0 {
					all[key] = b.sent.loadBalancer()
				}
			}
		})
	}
	return all, ctx.Err()
}

func (s *State) loadBalancer() LoadBalancer {
	return LoadBalancer{
		Key: s.Key, OwnerUID: s.OwnerUID, Addresses: s.Addresses, Conditions: s.Conditions,
		Problem: s.Problem, Explanation: s.Explanation, Phase: s.Phase,
	}
}

// Plan returns what would be done, and changes nothing. Errors: ReasonSessionRequired.
func (m *Manager) Plan(ctx context.Context, request PlanRequest) (PlanResponse, error) {
	select {
	case m.plans <- struct{}{}:
		defer func() { <-m.plans }()
	case <-ctx.Done():
		return PlanResponse{}, ctx.Err()
	}
	if request.Set != nil {
		return m.planSet(ctx, request)
	}
	s := m.session(request.Scope)
	if s == nil {
		return PlanResponse{}, errSessionRequired(request.Scope)
	}
	var (
		response PlanResponse
		err      error
	)
	asked := s.ask(ctx, func(l *loop) {
		if !l.inSync || !l.isComplete() {
			err = errSessionRequired(request.Scope)
			return
		}
		response = l.planFor(request, time.Now())
	})
	if asked != nil {
		return PlanResponse{}, asked // the answer may be being made even now
	}
	return response, err
}

// Rebalance returns what it takes to spread the addresses of a scope evenly, and unless it is a dry
// run makes it part of the session's state.
func (m *Manager) Rebalance(ctx context.Context, scope string, dryRun bool) (PlanResponse, error) {
	response, err := m.Plan(ctx, PlanRequest{Scope: scope, Rebalance: true})
	s := m.session(scope)
	if err != nil || dryRun || s == nil {
		return response, err
	}
	return response, s.ask(ctx, func(l *loop) {
		l.rebalance = Rebalance{Expires: time.Now().Add(rebalanceWithin)}
		l.session.send(Event{Rebalance: &Rebalance{Expires: l.rebalance.Expires}})
	})
}

// rebalanceWithin is how long a rebalance is pursued. It ends before, once there is nothing left to
// move.
const rebalanceWithin = 10 * time.Minute

// planSet plans a set that no session has.
func (m *Manager) planSet(ctx context.Context, request PlanRequest) (PlanResponse, error) {
	set := request.Set
	states, err := m.instanceStates(ctx)
	if err != nil {
		return PlanResponse{}, err
	}
	var ids []string
	for _, c := range set.Candidates {
		ids = append(ids, c.InstanceID)
	}
	l, err := m.snapshot(ctx, set.Opening, ids)
	if err != nil {
		return PlanResponse{}, err
	}
	now := time.Now()
	l.observed.states = states
	l.take(Item{Reserved: &set.Reserved}, now)
	for _, c := range set.Candidates {
		l.take(Item{Candidate: &c}, now)
		if err := m.complete(ctx, l, c.InstanceID); err != nil {
			return PlanResponse{}, err
		}
	}
	for _, d := range set.LoadBalancers {
		l.take(Item{LoadBalancer: &d}, now)
		for _, want := range d.Addresses {
			if want.Source.Pool != "" || want.Source.IsDefault() {
				_, _ = m.readPool(ctx, want) // a failure is part of the plan
			}
		}
	}
	if err := m.findUnseen(ctx, l); err != nil {
		return PlanResponse{}, err
	}
	response := l.planFor(request, now)
	if m.session(set.Opening.Scope) != nil {
		response.Orphans = nil // they are those of the session
	}
	return response, ctx.Err()
}

// findUnseen reads the addresses that load balancers may have and that the list did not show.
func (m *Manager) findUnseen(ctx context.Context, l *loop) error {
	for _, b := range l.balancers {
		names, _ := l.unseenNames(b)
		for _, name := range names {
			if err := m.addresses[name.Kind].find(ctx, name.NameOrID); err != nil {
				return err
			}
		}
	}
	l.takeAll()
	return nil
}

// takeAll takes over what is known of the addresses of all kinds.
func (l *loop) takeAll() {
	for _, kind := range kinds {
		l.takeAddresses(kind, l.m.addresses[kind].since(0).known)
	}
}

// listAll lists the addresses of all kinds.
func (m *Manager) listAll(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	for _, kind := range kinds {
		group.Go(func() error { return m.addresses[kind].listNow(ctx) })
	}
	return group.Wait()
}

// instanceStates returns what all instances do, as one list shows it.
func (m *Manager) instanceStates(ctx context.Context) (map[string]health.Instance, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	states := make(map[string]health.Instance)
	complete := errors.New("the list is complete")
	err := m.watcher.Watch(ctx, false, func(event instances.Event) error {
		switch {
		case event.Instance != nil:
			states[event.Instance.ID] = health.Instance{RunState: event.Instance.RunState}
		case !event.Complete.IsZero():
			return complete
		}
		return nil
	}, func(time.Duration) {})
	if errors.Is(err, complete) {
		err = nil
	}
	return states, err
}

// complete reads what else a plan has to know of a candidate: the firewall, and whether it is gone
// if the list does not show it.
func (m *Manager) complete(ctx context.Context, l *loop, id string) error {
	if vpc := l.observed.instances[id].Interface.VPCID; vpc != "" {
		_, _ = m.firewalls.Fresh(ctx, vpc, time.Now()) // without it nothing is said of closed ports
	}
	if _, listed := l.observed.states[id]; listed {
		return nil
	}
	instance, err := m.inventory.Read(ctx, id)
	switch {
	case errors.Is(err, instances.ErrNotFound):
		l.observed.states[id] = health.Instance{Gone: true}
	case err != nil:
		return err
	default:
		l.observed.states[id] = health.Instance{RunState: instance.RunState}
	}
	return nil
}

// snapshot returns a loop that nobody runs, with the addresses as they are now, and where
// packets arrive for them and for the given instances.
func (m *Manager) snapshot(ctx context.Context, opening Opening, ids []string) (*loop, error) {
	opening.ObserveOnly = true
	l := newLoop(newSession(m, opening))
	if err := m.listAll(ctx); err != nil {
		return nil, err
	}
	l.takeAll()
	all := make(map[string]bool)
	for _, id := range ids {
		all[id] = true
	}
	for _, ip := range l.observed.addresses.All() {
		if ip.InstanceID != "" {
			all[ip.InstanceID] = true
		}
	}
	endpoints, err := m.inventory.Endpoints(ctx, slices.Sorted(maps.Keys(all)))
	if err != nil {
		return nil, err
	}
	l.takeNetwork(endpoints, nil, time.Now())
	return l, nil
}

// planFor plans with what a request adds, in a copy of what is known: nothing of it stays.
func (l *loop) planFor(request PlanRequest, now time.Time) PlanResponse {
	what := *l
	what.candidates = maps.Clone(l.candidates)
	if len(request.Without) > 0 {
		what.observed.instances = maps.Clone(l.observed.instances)
	}
	for _, id := range request.Without {
		if instance, known := what.observed.instances[id]; known {
			instance.Name = l.nameOf(id) // people know it by that of the candidate
			what.observed.instances[id] = instance
		}
		delete(what.candidates, id)
	}
	for _, id := range request.Cordon {
		if c := what.candidates[id]; c != nil {
			cordoned := *c
			cordoned.Cordoned, cordoned.CordonObserved = true, true
			what.candidates[id] = &cordoned
		}
	}
	in := what.input(now)
	if request.Rebalance {
		in.Rebalance = true
		for i, lb := range in.LoadBalancers {
			// What moved a moment ago moves again later.
			movable := *lb
			movable.MayMove = true
			in.LoadBalancers[i] = &movable
		}
	}
	in.Explain = make(map[string]bool)
	for _, name := range request.Explain {
		in.Explain[name] = true
	}
	return what.response(in, plan.Make(in))
}

func (l *loop) response(in *plan.Input, result *plan.Result) PlanResponse {
	response := PlanResponse{Orphans: l.orphansOf(result), Candidates: l.plannedCandidates(in, result)}
	for _, planned := range result.LoadBalancers {
		lb := l.plannedLoadBalancer(planned)
		if b := l.balancers[lb.Key]; b != nil && in.Explain[lb.Key.Name] {
			lb.State = b.sent
		}
		response.LoadBalancers = append(response.LoadBalancers, lb)
	}
	slices.SortFunc(response.LoadBalancers, func(a, b PlannedLoadBalancer) int {
		return ownership.CompareKeys(a.Key, b.Key)
	})
	for _, a := range result.Actions() {
		action := Action{Action: a, Planned: true}
		action.Summary = l.summary(&action)
		response.Actions = append(response.Actions, action)
	}
	return response
}

// plannedCandidates returns what a plan makes of each candidate, ordered by name.
func (l *loop) plannedCandidates(in *plan.Input, result *plan.Result) []PlannedCandidate {
	carried := make(map[string]int)
	for _, ip := range l.observed.addresses.All() {
		carried[ip.InstanceID]++
	}
	all := make([]PlannedCandidate, 0, len(in.Candidates))
	for i := range in.Candidates {
		c := &in.Candidates[i]
		planned := PlannedCandidate{
			InstanceID: c.InstanceID, Name: c.Name, Addresses: carried[c.InstanceID],
			Planned: result.Loads[c.InstanceID], LastChoice: c.IsLastChoice(),
			InstanceName: cmp.Or(l.observed.names[c.InstanceID], in.Instances[c.InstanceID].Name),
		}
		if !c.TakesAddresses() {
			planned.Why = cmp.Or(c.Why, plan.NotHealthy)
		}
		all = append(all, planned)
	}
	slices.SortFunc(all, func(a, b PlannedCandidate) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.InstanceID, b.InstanceID))
	})
	return all
}

func (l *loop) plannedLoadBalancer(planned *plan.Planned) PlannedLoadBalancer {
	lb := PlannedLoadBalancer{
		LoadBalancer: LoadBalancer{
			Key: planned.LoadBalancer.Key, OwnerUID: planned.LoadBalancer.OwnerUID,
			Problem: fromPlan(planned.Problem),
		},
		Verdicts: planned.Verdicts,
	}
	for _, c := range planned.Claims {
		if c.Address == nil {
			lb.Addresses = append(lb.Addresses, Address{
				Kind: c.Kind(), Family: c.Desired.Family, Addr: c.Desired.Source.Addr, Name: c.Create.Name,
				Managed: true, Planned: l.attachment(c.Target, c.Desired.Family),
			})
			continue
		}
		lb.Addresses = append(lb.Addresses, l.address(c.Address, c.Managed, c.Target))
	}
	sortAddresses(lb.Addresses)
	for _, c := range planned.Conditions {
		lb.Conditions = append(lb.Conditions, Condition{planConditions[c.Type], c.Message})
	}
	return lb
}

// answer answers questions for a while, and leaves the others for after the next step: whoever asks
// much delays no failover. What nobody waits for any more is not answered.
func (l *loop) answer(questions []question, began time.Time) {
	for i, q := range questions {
		if q.ctx.Err() != nil {
			continue
		}
		if time.Since(began) > maxAnswering {
			s := l.session
			s.mu.Lock()
			s.questions = append(questions[i:len(questions):len(questions)], s.questions...)
			s.mu.Unlock()
			s.wake()
			return
		}
		q.answer(l)
	}
}

// Load is how many addresses of a kind any one instance carries at most, and can carry.
type Load struct {
	Kind        ownership.Kind
	Most, Limit int
}

// Load returns the load of the fullest instance by kind, as far as addresses are known: no list is read
// for it.
func (m *Manager) Load() []Load {
	loads := make([]Load, 0, len(kinds))
	for _, kind := range kinds {
		loads = append(loads, Load{kind, m.addresses[kind].most(), plan.Limit(kind)})
	}
	return loads
}
