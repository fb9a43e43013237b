// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package loadbalancers

import (
	"context"
	"slices"
	"time"

	v1 "k8s.io/api/core/v1"
	servicehelpers "k8s.io/cloud-provider/service/helpers"
	"k8s.io/klog/v2"

	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

// change is what is due for one Service.
type change struct {
	service *v1.Service
	// lb is the load balancer as the look found it, with where its addresses will be.
	lb      *backendv1.LoadBalancer
	actions []*backendv1.Action
}

// leaves returns an address that leaves an instance, and that; empty: none does.
func (c change) leaves() (address, instance string) {
	for _, action := range c.actions {
		if action.GetType() == backendv1.ActionType_ACTION_TYPE_DETACH {
			return action.GetAddress(), action.GetInstanceId()
		}
	}
	return "", ""
}

// instance returns the instance that is asked first; empty: none is.
func (c change) instance() string {
	for _, action := range c.actions {
		if action.GetInstanceId() != "" {
			return action.GetInstanceId()
		}
	}
	return ""
}

// moves reports whether an address leaves one instance for another.
func (c change) moves() bool {
	return slices.ContainsFunc(c.lb.GetAddresses(), func(a *backendv1.LoadBalancerAddress) bool {
		return a.GetAttachment() != nil && a.GetPlannedAttachment() != nil &&
			a.GetAttachment().GetInstanceId() != a.GetPlannedAttachment().GetInstanceId()
	})
}

// keeps reports whether an action is about an address that the load balancer keeps.
func (c change) keeps(action *backendv1.Action) bool {
	return slices.ContainsFunc(c.lb.GetAddresses(), func(a *backendv1.LoadBalancerAddress) bool {
		return a.GetResourceId() == action.GetResourceId()
	})
}

// ends reports whether an address is deleted or retained: it was marked, and no user's own.
func (c change) ends(resourceID string) bool {
	return slices.ContainsFunc(c.actions, func(a *backendv1.Action) bool {
		return a.GetResourceId() == resourceID && (a.GetType() == backendv1.ActionType_ACTION_TYPE_DELETE ||
			a.GetType() == backendv1.ActionType_ACTION_TYPE_MARK)
	})
}

// group is a set of changes that are made together: those that concern one instance, so that one which
// does not answer holds up no others.
type group struct {
	instance string
	// hasty: nothing is served there, and no client would be led astray, so the status need not lead.
	hasty bool
}

// lookAround asks the backend what is due for all load balancers, begins what is due, and mends
// statuses. It returns when to look again at the latest. Unasked: nothing has changed that would be a
// reason to look.
func (c *Controller) lookAround(ctx context.Context, unasked bool) (time.Time, error) {
	next := time.Now().Add(c.config.Pace.Interval)
	f, err := c.look(ctx)
	if err != nil {
		return next, err
	}
	if !slices.ContainsFunc(f.services, func(s *v1.Service) bool { return wanted(s) && isLocal(s) }) {
		c.slices.end()
	}
	none := !slices.ContainsFunc(f.services, wanted)
	if quiet := c.noneUntil(); none && time.Now().Before(quiet) {
		return quiet, nil // nodes that come and go cost nothing in a cluster without load balancers
	}
	response, err := c.reconcile(ctx, f, true, nil)
	if err != nil {
		return next, err
	}
	var until time.Time
	if none {
		until = next
	}
	c.setNoneUntil(until)
	c.tellOrphans(response.GetOrphans())
	soonest := func(at time.Time) {
		if !at.IsZero() && at.Before(next) {
			next = at
		}
	}
	soonest(f.next)
	due := c.due(ctx, f, response)
	observe(response, len(due), unasked)
	if c.config.ReadOnly {
		c.tellWould(due)
		return next, nil
	}
	groups := make(map[group][]change)
	for _, d := range due {
		if at := c.notBefore(d); time.Now().Before(at) {
			soonest(at)
			continue
		}
		g := group{d.instance(), c.isHasty(f, d)}
		groups[g] = append(groups[g], d)
	}
	for g, changes := range groups {
		if c.begin(changes) {
			c.changes.Go(func() { c.carryOut(ctx, f, g, changes) })
		}
	}
	return next, nil
}

// noneUntil returns until when the backend need not be told that there is no load balancer.
func (c *Controller) noneUntil() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.toldNoneUntil
}

func (c *Controller) setNoneUntil(until time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.toldNoneUntil = until
}

// due returns what is due, tells what there is to tell, and mends the statuses of Services for which
// nothing else is due.
func (c *Controller) due(
	ctx context.Context, f facts, response *backendv1.ReconcileLoadBalancersResponse,
) []change {
	services := make(map[string]*v1.Service, len(f.services))
	for _, service := range f.services {
		services[loadBalancerName(service)] = service
	}
	actions := actionsByName(response)
	var all []change
	for _, result := range response.GetResults() {
		lb := result.GetLoadBalancer()
		name := lb.GetKey().GetName()
		service := services[name]
		if service == nil || c.isMoving(name) {
			continue
		}
		if result.GetProblem().GetReason() == backendv1.ErrorReason_ERROR_REASON_BUSY {
			continue // another call is changing it: what was found is no whole truth
		}
		if !creates(actions[name]) { // an address that is not there yet is told of once it is
			c.tellConditions(service, c.untold(service, lb.GetConditions()), f)
		}
		c.tellHeld(service, lb, f)
		c.tellRenamed(service, lb)
		switch {
		case len(actions[name]) == 0:
			c.mend(ctx, service, result)
		case c.config.ReadOnly ||
			slices.Contains(service.Finalizers, servicehelpers.LoadBalancerCleanupFinalizer):
			all = append(all, change{service, lb, actions[name]})
		}
		// Before the framework has put its finalizer on, nothing may be made that nobody would delete.
	}
	return all
}

// actionsByName returns the actions about each load balancer.
func actionsByName(
	response *backendv1.ReconcileLoadBalancersResponse,
) map[string][]*backendv1.Action {
	actions := make(map[string][]*backendv1.Action)
	for _, action := range response.GetActions() {
		name := action.GetKey().GetName()
		actions[name] = append(actions[name], action)
	}
	return actions
}

// creates reports whether an address is yet to be secured.
func creates(actions []*backendv1.Action) bool {
	return slices.ContainsFunc(actions, func(a *backendv1.Action) bool {
		return a.GetType() == backendv1.ActionType_ACTION_TYPE_CREATE
	})
}

// mend writes the status of a Service for which nothing is due, if it is another one.
func (c *Controller) mend(
	ctx context.Context, service *v1.Service, result *backendv1.LoadBalancerResult,
) {
	lb := result.GetLoadBalancer()
	if isForeign(lb) {
		return // what is published says which instances are ours
	}
	status, err := loadBalancerStatus(lb)
	if err != nil {
		klog.ErrorS(err, "Cannot tell the status", serviceKeys(service)...)
		return
	}
	if problem := result.GetProblem(); problem != nil && !isPlacement(problem.GetReason()) {
		// What it had before it wished for what it cannot have is kept, and serves on.
		status = union(status, ofOtherFamily(service))
	}
	c.setFact(service, status)
	mending := []change{{service: service, lb: lb}}
	if c.config.ReadOnly || servicehelpers.LoadBalancerStatusEqual(status, &service.Status.LoadBalancer) ||
		!c.begin(mending) {
		return
	}
	c.changes.Go(func() {
		defer c.end(mending)
		if err := c.publish(ctx, service, status); err != nil && ctx.Err() == nil {
			klog.ErrorS(err, "Cannot mend the status", serviceKeys(service)...)
			time.AfterFunc(c.config.Pace.Retry, c.wake)
		}
	})
}

// isForeign reports whether an address is on an instance that is not of this cluster.
func isForeign(lb *backendv1.LoadBalancer) bool {
	return slices.ContainsFunc(lb.GetConditions(), func(c *backendv1.Condition) bool {
		return c.GetType() == backendv1.ConditionType_CONDITION_TYPE_FOREIGN_ATTACHMENT
	})
}

// progress returns what is known of a load balancer; the caller holds the lock.
func (c *Controller) progress(name string) *progress {
	known, ok := c.byName[name]
	if !ok {
		known = &progress{}
		c.byName[name] = known
	}
	return known
}

// setFact remembers which status a Service should have.
func (c *Controller) setFact(service *v1.Service, status *v1.LoadBalancerStatus) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.progress(loadBalancerName(service)).fact = status
}

// setEnsured remembers whether the framework's call about a Service succeeded.
func (c *Controller) setEnsured(service *v1.Service, ensured bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.progress(loadBalancerName(service)).ensured = ensured
}

func (c *Controller) isEnsured(service *v1.Service) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.progress(loadBalancerName(service)).ensured
}

func (c *Controller) isMoving(name string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	known, ok := c.byName[name]
	return ok && known.moving
}

// notBefore returns when a change may begin: not too soon after the last move, nor after a failure.
func (c *Controller) notBefore(d change) time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	at := c.retryAt[d.instance()]
	if moved := c.progress(loadBalancerName(d.service)).movedAt; d.moves() && !moved.IsZero() {
		if again := moved.Add(c.config.Pace.MoveInterval); again.After(at) {
			at = again
		}
	}
	return at
}

// isHasty reports whether the status need not lead: nothing is served where the address is now, and it
// has no UDP ports. A UDP client that sends to a node before that has the address in the status would
// stay lost there.
func (c *Controller) isHasty(f facts, d change) bool {
	if slices.ContainsFunc(d.service.Spec.Ports, func(p v1.ServicePort) bool {
		return orTCP(p.Protocol) != v1.ProtocolTCP
	}) {
		return false
	}
	_, leaves := d.leaves()
	if leaves == "" {
		return true
	}
	name, isNode := f.nodeNames()[leaves]
	return isNode && f.verdicts[name].dead
}

// begin notes that changes are under way; false: one of them was already.
func (c *Controller) begin(changes []change) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, d := range changes {
		if c.progress(loadBalancerName(d.service)).moving {
			return false
		}
	}
	for _, d := range changes {
		c.progress(loadBalancerName(d.service)).moving = true
	}
	return true
}

// end notes that changes have ended.
func (c *Controller) end(changes []change) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, d := range changes {
		c.progress(loadBalancerName(d.service)).moving = false
	}
}

// putOff lets changes on an instance wait for a while.
func (c *Controller) putOff(instance string, delay time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.retryAt[instance] = time.Now().Add(delay)
}
