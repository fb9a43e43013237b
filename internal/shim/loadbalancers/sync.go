// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package loadbalancers

import (
	"context"
	"maps"
	"slices"

	v1 "k8s.io/api/core/v1"
	"k8s.io/klog/v2"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/shim/provider"
	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

// Ensure secures the address of a Service, and attaches the first one, while nothing is published. It
// returns a status that has what is published already and what is true now: what is published too
// much is taken away by a look, which knows whether an address is about to move. What has no place is
// told by an event, and is no error: a look will find one. An error that only time mends is one that
// the framework retries after a fixed delay.
func (c *Controller) Ensure(
	ctx context.Context, service *v1.Service,
) (*v1.LoadBalancerStatus, error) {
	defer c.wake()
	c.tellAboutWishes(service)
	c.awaitBeginning(ctx) // the first attachment must not be to an instance that is stopped, either
	facts, err := c.look(ctx)
	if err != nil {
		return nil, retriable(err)
	}
	want, err := facts.desired(service)
	if err != nil {
		return nil, retriable(err)
	}
	response, err := withFullSet(ctx, c, func() (*backendv1.EnsureLoadBalancerResponse, error) {
		return c.config.Backend.EnsureLoadBalancer(ctx, &backendv1.EnsureLoadBalancerRequest{
			Cluster: c.clusterOf(facts), LoadBalancer: want, LeaveAttached: true,
		})
	})
	c.setEnsured(service, err == nil || isUnplaced(err))
	switch {
	case isUnplaced(err):
		c.warn(service, ReasonPortConflict, err.Error(), err.Error())
		return service.Status.LoadBalancer.DeepCopy(), nil
	case err != nil:
		return nil, retriable(withRemedy(err, service, want))
	}
	logActions(response.GetActions())
	c.tellReplaced(service, response.GetActions())
	lb := response.GetLoadBalancer()
	c.tellConditions(service, lb.GetConditions(), facts)
	if isForeign(lb) {
		// The private address of its instance must not be published: it would be taken for proof
		// that the instance is ours.
		return service.Status.LoadBalancer.DeepCopy(), nil
	}
	status, err := loadBalancerStatus(lb)
	if err != nil {
		return nil, err
	}
	return union(status, &service.Status.LoadBalancer), nil
}

// isUnplaced reports whether an error says that an address is reserved and that no node takes it.
func isUnplaced(err error) bool {
	return provider.HasReason(err, backendv1.ErrorReason_ERROR_REASON_PORT_CONFLICT) ||
		provider.HasReason(err, backendv1.ErrorReason_ERROR_REASON_INSTANCE_LIMIT_REACHED)
}

// Update is told of another set of Nodes. It moves nothing itself: a look does.
func (c *Controller) Update(context.Context, *v1.Service) error {
	c.wake()
	return nil
}

// Release gives back, or retains, everything that a Service has in Oxide. It succeeds if there is
// nothing. Where it is not clear whether an address is to be retained, it is.
func (c *Controller) Release(ctx context.Context, service *v1.Service) error {
	facts, err := c.look(ctx)
	if err != nil {
		return err
	}
	retain, _ := retains(service)
	request := &backendv1.DeleteLoadBalancerRequest{
		Key: key(facts.scope, service), OwnerUid: string(service.UID), RetainAddresses: retain,
		Cluster: c.clusterOf(facts), PublishedAddresses: published(c.lastPublished(service)),
	}
	if want, err := desiredAddress(service); err == nil {
		request.Addresses = []*backendv1.WantedAddress{want}
	}
	response, err := withFullSet(ctx, c, func() (*backendv1.DeleteLoadBalancerResponse, error) {
		return c.config.Backend.DeleteLoadBalancer(ctx, request)
	})
	if err != nil {
		return err
	}
	logActions(response.GetActions())
	c.config.Reporter.Forget(service.UID)
	c.setFact(service, nil)
	c.wake() // what another Service waits for may be free now
	return nil
}

// lastPublished returns a Service with what it published last: the API server empties the status of one
// that wants no load balancer any more, and yet it proves that a user's own address is to be detached.
func (c *Controller) lastPublished(service *v1.Service) *v1.Service {
	if len(service.Status.LoadBalancer.Ingress) > 0 {
		return service
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	known, ok := c.byName[loadBalancerName(service)]
	if !ok || known.fact == nil {
		return service
	}
	service = service.DeepCopy()
	service.Status.LoadBalancer = *known.fact
	return service
}

// withFullSet makes a call, and makes it once more after the backend was told the full set, if it
// asks for that.
func withFullSet[T any](ctx context.Context, c *Controller, call func() (T, error)) (T, error) {
	response, err := call()
	if err = provider.AsBackendError(err); !provider.HasReason(err,
		backendv1.ErrorReason_ERROR_REASON_FULL_SET_REQUIRED) {
		return response, err
	}
	if err := c.tellFullSet(ctx); err != nil {
		return response, err
	}
	response, err = call()
	return response, provider.AsBackendError(err)
}

// tellFullSet tells the backend all load balancers of the cluster, without letting it change any.
func (c *Controller) tellFullSet(ctx context.Context) error {
	facts, err := c.look(ctx)
	if err != nil {
		return err
	}
	_, err = c.reconcile(ctx, facts, true, nil)
	if err == nil {
		klog.InfoS("Told the backend all load balancers, as it asked")
	}
	return err
}

// confinement names the load balancers that may be changed, with the instances on which their addresses
// may be after that; nil: on any.
type confinement map[string]*backendv1.InstanceSet

func (c confinement) names() []string { return slices.Sorted(maps.Keys(c)) }

// confine leaves a load balancer only some of the instances that it may use.
func confine(want *backendv1.DesiredLoadBalancer, to *backendv1.InstanceSet) {
	eligible := want.GetEligibleInstances()
	set := &backendv1.InstanceSet{}
	for _, id := range to.GetInstanceIds() {
		if eligible == nil || slices.Contains(eligible.GetInstanceIds(), id) {
			set.InstanceIds = append(set.InstanceIds, id)
		}
	}
	want.EligibleInstances = set
}

// reconcile sends the full set. Only, if not nil, confines what may be changed.
func (c *Controller) reconcile(
	ctx context.Context, f facts, dryRun bool, only confinement,
) (*backendv1.ReconcileLoadBalancersResponse, error) {
	request := &backendv1.ReconcileLoadBalancersRequest{
		Cluster: c.clusterOf(f), LoadBalancers: f.set(), Terminating: c.terminating(f),
		DryRun: dryRun,
	}
	if only != nil {
		request.Only = &backendv1.LoadBalancerNames{Names: only.names()}
		for _, want := range request.GetLoadBalancers() {
			if to := only[want.GetKey().GetName()]; to != nil {
				confine(want, to)
			}
		}
	}
	response, err := c.config.Backend.ReconcileLoadBalancers(ctx, request)
	return response, provider.AsBackendError(err)
}
