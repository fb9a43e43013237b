// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package provider

import (
	"context"
	"errors"
	"fmt"

	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/cloud-provider/api"
	servicehelpers "k8s.io/cloud-provider/service/helpers"
	"k8s.io/klog/v2"

	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

// errNoCandidate marks an outcome in which the address is reserved but no node can carry it.
var errNoCandidate = errors.New("no candidate")

// GetLoadBalancerName returns "NAMESPACE/NAME", the name under which the backend knows the load
// balancer in the scope of the cluster. The framework itself has no use for it.
func (p *Provider) GetLoadBalancerName(_ context.Context, _ string, service *v1.Service) string {
	return loadBalancerName(service)
}

// GetLoadBalancer tells whether a Service has anything in Oxide. Before a deletion the framework
// asks this first, and on "no" drops its finalizer without deleting anything; so then the answer is
// yes without asking, and the deletion, which is idempotent, finds out.
func (p *Provider) GetLoadBalancer(ctx context.Context, _ string, service *v1.Service,
) (*v1.LoadBalancerStatus, bool, error) {
	if !wanted(service) {
		return service.Status.LoadBalancer.DeepCopy(), true, nil
	}
	scope, err := p.cluster.get(ctx)
	if err != nil {
		return nil, false, err
	}
	response, err := p.loadBalancers.GetLoadBalancer(ctx, &backendv1.GetLoadBalancerRequest{
		Key: &backendv1.LoadBalancerKey{Scope: scope, Name: loadBalancerName(service)},
	})
	if err = backendError(err); err != nil {
		if hasReason(err, backendv1.ErrorReason_ERROR_REASON_LOAD_BALANCER_NOT_FOUND) {
			return nil, false, nil
		}
		return nil, false, err
	}
	status, _, err := loadBalancerStatus(response.GetLoadBalancer())
	if err != nil {
		return nil, false, err
	}
	return status, true, nil
}

// EnsureLoadBalancer gives a Service its address, on a node that is ready, and returns the status
// to publish. It is never empty: the framework takes an empty one for success and does not ask
// again. Where only time helps, a node that becomes ready included, the error is one that the
// framework retries after a fixed delay.
func (p *Provider) EnsureLoadBalancer(ctx context.Context, _ string, service *v1.Service,
	nodes []*v1.Node,
) (*v1.LoadBalancerStatus, error) {
	status, err := p.ensure(ctx, service, nodes)
	if err != nil {
		return nil, loadBalancerError(err)
	}
	return status, nil
}

// UpdateLoadBalancer does the same for another set of nodes. The framework passes a Service of the
// time of its last full sync, so the current one is used instead. It writes no status afterwards
// either: if the address is on another node now, the status is wrong, and the error makes the
// framework sync the whole Service at once, which writes it.
func (p *Provider) UpdateLoadBalancer(ctx context.Context, _ string, service *v1.Service,
	nodes []*v1.Node,
) error {
	current, err := p.current(service)
	if err != nil {
		return err
	}
	if current == nil || !wanted(current) {
		// It is going away, or is somebody else by now: that has a sync of its own.
		return nil
	}
	status, err := p.ensure(ctx, current, nodes)
	switch {
	case errors.Is(err, errNoCandidate):
		klog.InfoS("No node can carry the address, which stays reserved", serviceKeys(current,
			"reason", err.Error())...)
		return nil
	case err != nil:
		return loadBalancerError(err)
	case !servicehelpers.LoadBalancerStatusEqual(status, &current.Status.LoadBalancer):
		return errors.New("the address moved to another node, its status is about to be renewed")
	}
	return nil
}

// EnsureLoadBalancerDeleted releases everything that a Service has in Oxide. It succeeds if there
// is nothing.
func (p *Provider) EnsureLoadBalancerDeleted(ctx context.Context, _ string, service *v1.Service,
) error {
	scope, err := p.cluster.get(ctx)
	if err != nil {
		return err
	}
	response, err := p.loadBalancers.DeleteLoadBalancer(ctx, &backendv1.DeleteLoadBalancerRequest{
		Key:      &backendv1.LoadBalancerKey{Scope: scope, Name: loadBalancerName(service)},
		OwnerUid: string(service.UID),
	})
	if err != nil {
		return backendError(err)
	}
	logActions(service, response.GetActions())
	return nil
}

// ensure sends the desired state and returns the status that the answer amounts to.
func (p *Provider) ensure(ctx context.Context, service *v1.Service, nodes []*v1.Node,
) (*v1.LoadBalancerStatus, error) {
	scope, err := p.cluster.get(ctx)
	if err != nil {
		return nil, err
	}
	desired, err := desiredLoadBalancer(scope, service)
	if err != nil {
		return nil, err
	}
	list, excluded := candidates(nodes)
	response, err := p.loadBalancers.EnsureLoadBalancer(ctx, &backendv1.EnsureLoadBalancerRequest{
		Cluster:      &backendv1.Cluster{Scope: scope, Candidates: list},
		LoadBalancer: desired,
	})
	if err != nil {
		return nil, backendError(err)
	}
	logActions(service, response.GetActions())
	for _, condition := range response.GetLoadBalancer().GetConditions() {
		klog.InfoS("Condition of the load balancer", serviceKeys(service,
			"condition", condition.GetType(), "message", oneLine(condition.GetMessage()))...)
	}
	return outcome(response.GetLoadBalancer(), excluded)
}

// outcome returns the status that a state amounts to, or an error that says what is missing.
func outcome(lb *backendv1.LoadBalancer, excluded []exclusion) (*v1.LoadBalancerStatus, error) {
	status, detached, err := loadBalancerStatus(lb)
	if err != nil {
		return nil, err
	}
	if pending := findCondition(lb, backendv1.ConditionType_CONDITION_TYPE_PENDING); pending != nil {
		return nil, retryLater(oneLine(pending.GetMessage()), nil)
	}
	if detached == nil && len(status.Ingress) > 0 {
		return status, nil
	}
	address := ""
	if detached.GetAddress() != "" {
		address = fmt.Sprintf(" (%s is reserved)", detached.GetAddress())
	}
	noCandidate := findCondition(lb, backendv1.ConditionType_CONDITION_TYPE_NO_CANDIDATE)
	conflict := findCondition(lb, backendv1.ConditionType_CONDITION_TYPE_PORT_CONFLICT)
	switch {
	case noCandidate != nil:
		return nil, retryLater(explainNoCandidate(excluded)+address, errNoCandidate)
	case conflict != nil:
		// Only an edit of one of the Services helps.
		return nil, errors.New(oneLine(conflict.GetMessage()) + address)
	}
	return nil, retryLater("no address is attached yet"+address, nil)
}

// retryLater returns an error that is retried after the default delay; cause may be nil.
func retryLater(message string, cause error) error {
	retry := api.NewRetryError(message, defaultRetryDelay)
	if cause == nil {
		return retry
	}
	return &retryCause{RetryError: retry, cause: cause}
}

// retryCause is a RetryError, text and delay, that can also be told by its cause.
type retryCause struct {
	*api.RetryError
	cause error
}

// Unwrap makes both the RetryError and the cause found.
func (e *retryCause) Unwrap() []error { return []error{e.RetryError, e.cause} }

// wanted tells whether a Service is to have a load balancer of this provider.
func wanted(service *v1.Service) bool {
	return service.DeletionTimestamp.IsZero() &&
		service.Spec.Type == v1.ServiceTypeLoadBalancer &&
		service.Spec.LoadBalancerClass == nil
}

// current returns the Service as it is now, or nil if it is gone, or if another has its name.
func (p *Provider) current(service *v1.Service) (*v1.Service, error) {
	if p.services == nil {
		return service, nil
	}
	current, err := p.services.Services(service.Namespace).Get(service.Name)
	switch {
	case apierrors.IsNotFound(err):
		return nil, nil
	case err != nil:
		return nil, err
	case current.UID != service.UID:
		return nil, nil
	}
	return current, nil
}

// logActions tells what the backend changed for a Service.
func logActions(service *v1.Service, actions []*backendv1.Action) {
	for _, action := range actions {
		klog.InfoS("Changed in Oxide", serviceKeys(service,
			"action", action.GetType(), "address", action.GetAddress(),
			"resource", action.GetResourceName(), "instance", action.GetInstanceId(),
			"why", oneLine(action.GetWhy()))...)
	}
}

// serviceKeys returns log keys that name a Service, followed by others.
func serviceKeys(service *v1.Service, more ...any) []any {
	return append([]any{
		"namespace", service.Namespace, "service", service.Name,
		"load_balancer", loadBalancerName(service),
	}, more...)
}
