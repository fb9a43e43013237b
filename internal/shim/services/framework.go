// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package services

import (
	"context"
	"errors"
	"time"

	"google.golang.org/grpc/codes"
	v1 "k8s.io/api/core/v1"
	cloudprovider "k8s.io/cloud-provider"
	"k8s.io/cloud-provider/api"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/shim/annotations"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/proto/client"
	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

// awaitTimeout is how long the framework's calls wait for the backend.
const awaitTimeout = 10 * time.Second

// GetLoadBalancerName implements cloudprovider.LoadBalancer. The framework has no use for it.
func (c *Controller) GetLoadBalancerName(_ context.Context, _ string, service *v1.Service) string {
	return keyOf(service)
}

// GetLoadBalancer returns what a Service publishes, and always that something of it remains: whether
// it does is found out by EnsureLoadBalancerDeleted. The framework asks in two places, and in both
// "no" does harm. Before a deletion it makes it drop its finalizer without deleting anything. After
// an update that failed it makes it forget the failure, and no marker in Oxide says anything about
// an address that is the user's own, or a predecessor's.
func (c *Controller) GetLoadBalancer(
	_ context.Context, _ string, service *v1.Service,
) (*v1.LoadBalancerStatus, bool, error) {
	return service.Status.LoadBalancer.DeepCopy(), true, nil
}

// EnsureLoadBalancer has the load balancer of a Service made, and returns its status as soon as it
// is known where its address will be. An address that is not served is no failure, and no success:
// events and the condition say why. The Nodes do not matter: of those that may carry an address, and
// of those that may not, all must be known.
func (c *Controller) EnsureLoadBalancer(
	ctx context.Context, _ string, service *v1.Service, _ []*v1.Node,
) (_ *v1.LoadBalancerStatus, err error) {
	ctx, cancel := context.WithTimeout(ctx, awaitTimeout)
	defer cancel()
	if !c.awaitStart(ctx) {
		return nil, c.unanswered("")
	}
	ctx, span := c.startSpan(ctx, "EnsureLoadBalancer", service)
	defer func() { endSpan(span, err) }()
	key := keyOf(service)
	c.track(service, func(t *tracked) { t.ensured, t.accepted = true, false })
	sent := c.syncService(key)
	switch {
	case sent == nil || sent.GetOwnerUid() != string(service.UID) ||
		sent.GetEnding() != backendv1.Ending_ENDING_UNSPECIFIED:
		return nil, api.NewRetryError("the Service has changed meanwhile", minRetryDelay)
	case sent.mistakes != nil:
		return nil, errors.New(client.OneLine(sent.mistakes.Error()))
	}
	state, err := c.session.AwaitState(ctx, sent.GetKey(), func(s *backendv1.LoadBalancerState) bool {
		return c.isCurrent(s) && !c.remembered(service).waits && isAnswer(s)
	})
	if err != nil {
		return nil, c.unanswered(key)
	}
	status, err := outcome(service, state)
	c.update(key, string(service.UID), func(t *tracked) {
		t.accepted = err == nil || errors.Is(err, cloudprovider.ImplementedElsewhere)
	})
	c.statuses.Add(key) // what no event of the framework says is recorded now
	return status, err
}

// awaitStart waits until Run has begun; false: the context has ended.
func (c *Controller) awaitStart(ctx context.Context) bool {
	select {
	case <-c.started:
		return true
	case <-ctx.Done():
		return false
	}
}

// unanswered is the error of a call that waited in vain.
func (c *Controller) unanswered(key string) error {
	why := "oxide-backend has not answered yet"
	if waits := c.waits.Load(); waits != nil {
		why = *waits
	} else if key != "" {
		switch state, ok := c.session.State(c.lbKey(key)); {
		case !ok:
		case state.GetProblem() != nil:
			why = state.GetProblem().GetMessage()
		case state.GetExplanation() != "":
			why = "the address has no place yet: " + state.GetExplanation()
		}
	}
	return api.NewRetryError(client.OneLine(why), defaultRetryDelay)
}

// isCurrent reports whether a state takes into account what was sent of a Service last.
func (c *Controller) isCurrent(state *backendv1.LoadBalancerState) (is bool) {
	c.update(state.GetKey().GetName(), state.GetOwnerUid(), func(t *tracked) {
		is = state.GetGeneration() >= t.generation
	})
	return is
}

// isPending reports whether nothing is changed for now, and whether that is all that is known.
func isPending(state *backendv1.LoadBalancerState) (pending, unknown bool) {
	pending = state.GetPhase() == backendv1.Phase_PHASE_PENDING
	return pending, pending && len(state.GetConditions()) == 0
}

// isAnswer reports whether a state says what is to be published, what is wrong, or that an address
// is reserved and has no place.
func isAnswer(state *backendv1.LoadBalancerState) bool {
	if len(state.GetPublish()) > 0 && state.GetProblem() == nil {
		_, unknown := isPending(state)
		return !unknown
	}
	attached, planned := places(state)
	return state.GetProblem() != nil || attached || len(state.GetAddresses()) > 0 && !planned
}

// places reports whether any address has a place, and whether one is planned for any.
func places(state *backendv1.LoadBalancerState) (attached, planned bool) {
	for _, address := range state.GetAddresses() {
		attached = attached || address.GetAttachment() != nil
		planned = planned || address.GetPlannedAttachment() != nil
	}
	return attached, planned
}

// outcome is what EnsureLoadBalancer returns for a state. Of an address that is not served the
// framework must record no success: the status is written all the same, by this package. An address
// that is attached and not to be published leaves the status as it is.
func outcome(
	service *v1.Service, state *backendv1.LoadBalancerState,
) (*v1.LoadBalancerStatus, error) {
	problem := state.GetProblem()
	attached, _ := places(state)
	switch {
	case problem != nil && !isPlacement(problem.GetReason()):
		return nil, problemError(service, problem)
	case isUnserved(state):
		return nil, cloudprovider.ImplementedElsewhere
	case len(state.GetPublish()) > 0:
		return statusOf(state.GetPublish()), nil
	case attached:
		return service.Status.LoadBalancer.DeepCopy(), nil
	}
	return nil, cloudprovider.ImplementedElsewhere
}

// UpdateLoadBalancer does nothing, and has no success recorded: Nodes are followed anyway, and it is not
// known here whether a Service is served.
func (c *Controller) UpdateLoadBalancer(context.Context, string, *v1.Service, []*v1.Node) error {
	return cloudprovider.ImplementedElsewhere
}

// EnsureLoadBalancerDeleted has everything released that a Service has in Oxide. What has a class by
// now is not the framework's business any more, whatever it remembers of it.
func (c *Controller) EnsureLoadBalancerDeleted(
	ctx context.Context, _ string, service *v1.Service,
) error {
	return c.release(ctx, service, func(now *v1.Service) bool { return now.Spec.LoadBalancerClass != nil })
}

// errChanged is the error about a Service that is to have a load balancer again.
var errChanged = errors.New("the Service has changed meanwhile")

// release has everything released, or retained, that a Service has in Oxide. It succeeds if there is
// nothing, or if as the Service is now somebody else sees to it, and fails at once if what there is has
// to wait for Oxide or a person.
func (c *Controller) release(
	ctx context.Context, service *v1.Service, isElsewhere func(now *v1.Service) bool,
) (err error) {
	ctx, cancel := context.WithTimeout(ctx, awaitTimeout)
	defer cancel()
	if !c.awaitStart(ctx) {
		return c.unanswered("")
	}
	key := keyOf(service)
	if cached := c.cached(key); cached != nil && cached.UID == service.UID {
		switch service = cached; {
		case isElsewhere(service):
			return nil
		case c.isDesired(service):
			return errChanged
		}
	}
	ctx, span := c.startSpan(ctx, "EnsureLoadBalancerDeleted", service)
	defer func() { endSpan(span, err) }()
	c.pushing.Lock()
	sent := c.push(c.ending(service), service)
	c.update(key, string(service.UID), func(t *tracked) { t.releasing = true })
	c.pushing.Unlock()
	defer c.changed.Add(key)
	defer c.update(key, string(service.UID), func(t *tracked) { t.releasing = false })
	state, err := c.session.AwaitReleasedOr(ctx, sent.GetKey(), sent.GetOwnerUid(), c.isStopped)
	switch {
	case err != nil:
		return c.unanswered(key)
	case state.GetProblem() != nil:
		return errors.New(client.OneLine(state.GetProblem().GetMessage()))
	case state != nil:
		return errors.New(client.OneLine(state.GetConditions()[0].GetMessage()))
	}
	return nil
}

const (
	// defaultRetryDelay is used where the backend has not answered.
	defaultRetryDelay = 10 * time.Second

	// minRetryDelay and maxRetryDelay bound what the backend recommends.
	minRetryDelay = time.Second
	maxRetryDelay = 5 * time.Minute
)

// isPlacement reports whether a problem says that an address is reserved and has no place. A
// condition says so, too, and it is no failure.
func isPlacement(reason backendv1.ErrorReason) bool {
	return reason == backendv1.ErrorReason_ERROR_REASON_PORT_CONFLICT ||
		reason == backendv1.ErrorReason_ERROR_REASON_INSTANCE_LIMIT_REACHED
}

// problemError makes an error of a problem. Where waiting helps the framework is to retry after a
// fixed delay; otherwise it does so with growing ones.
func problemError(service *v1.Service, problem *backendv1.Problem) error {
	message := client.OneLine(problem.GetMessage()) + remedy(service, problem)
	delay := problem.GetRetryDelay().AsDuration()
	if delay <= 0 {
		return errors.New(message)
	}
	return api.NewRetryError(message, min(max(delay, minRetryDelay), maxRetryDelay))
}

// remedy says which field or annotation of the Service asks for what cannot be had, and what to
// write there: the backend knows nothing of these. Empty: the problem is about something else.
func remedy(service *v1.Service, problem *backendv1.Problem) string {
	if codes.Code(problem.GetCode()) == codes.Unavailable {
		return ""
	}
	ofPool := problem.GetReason() == backendv1.ErrorReason_ERROR_REASON_POOL_NOT_FOUND ||
		problem.GetReason() == backendv1.ErrorReason_ERROR_REASON_POOL_EXHAUSTED
	what := annotations.Remedy(service, problem.GetMessage(), ofPool)
	if what == "" {
		return ""
	}
	return "; " + what
}
