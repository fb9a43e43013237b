// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package loadbalancers

import (
	"context"
	"maps"
	"slices"
	"time"

	"golang.org/x/time/rate"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	servicehelpers "k8s.io/cloud-provider/service/helpers"
	"k8s.io/klog/v2"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/shim/provider"
)

// Name is the name of the controller under --controllers, and of its Kubernetes client.
const Name = "oxide-load-balancer-controller"

// burst is how many looks may follow each other without a pause.
const burst = 10

// Pace is how fast things are done.
type Pace struct {
	// Patience is how long is waited at the beginning for what Oxide says of the instances: until then
	// a Node that calls itself ready may well be on an instance that was stopped.
	Patience time.Duration

	// Interval is how often all load balancers are looked at although nothing seems to have changed.
	Interval time.Duration

	// Debounce is how long is waited for further changes after one.
	Debounce time.Duration

	// Spacing is the least time between looks on average. Some may follow each other without a pause,
	// so that a failure is not found later because of something that happened just before.
	Spacing time.Duration

	// Lead is how long a status is published before an address moves there: the time in which every
	// Service proxy has taken it up.
	Lead time.Duration

	// MoveInterval is the least time between two moves of one Service.
	MoveInterval time.Duration

	// Retry is how long is waited after a failed look.
	Retry time.Duration
}

// DefaultPace returns the pace for production.
func DefaultPace() Pace {
	return Pace{
		Patience: 15 * time.Second, Interval: time.Minute,
		Debounce: 100 * time.Millisecond, Spacing: time.Second / 2, Lead: time.Second,
		MoveInterval: 30 * time.Second, Retry: 5 * time.Second,
	}
}

// times returns the pace with everything multiplied by a factor.
func (p Pace) times(factor float64) Pace {
	return Pace{
		Patience: p.Patience, Interval: scaled(p.Interval, factor),
		Debounce: scaled(p.Debounce, factor), Spacing: scaled(p.Spacing, factor),
		Lead: scaled(p.Lead, factor), MoveInterval: scaled(p.MoveInterval, factor),
		Retry: scaled(p.Retry, factor),
	}
}

// scaled returns a duration multiplied by a factor; the factor 0 means 1.
func scaled(d time.Duration, factor float64) time.Duration {
	if factor == 0 {
		return d
	}
	return time.Duration(float64(d) * factor)
}

// Run looks at all load balancers when it begins, when it is woken, and once in a while, until the
// context ends. It returns when the changes under way have ended.
func (c *Controller) Run(ctx context.Context, client kubernetes.Interface) {
	defer utilruntime.HandleCrashWithContext(ctx)
	defer c.changes.Wait()
	c.client = client
	c.slices.use(ctx, client)
	c.pods.follow(ctx, client)
	if !cache.WaitForCacheSync(ctx.Done(), c.synced...) {
		return
	}
	c.awaitInstances(ctx)
	close(c.begun)
	spacing := rate.NewLimiter(rate.Every(c.config.Pace.Spacing), burst)
	unasked := false
	for ctx.Err() == nil {
		began := time.Now()
		next, err := c.lookAround(ctx, unasked)
		if err != nil && ctx.Err() == nil {
			klog.ErrorS(err, "Could not look at the load balancers", "retry_in", c.config.Pace.Retry)
			next = began.Add(c.config.Pace.Retry)
		}
		unasked = !c.rest(ctx, spacing, next)
	}
}

// awaitInstances waits until Oxide has said what the instances do, but not for ever: an address may have
// to leave a Node that says itself that it is not fit.
func (c *Controller) awaitInstances(ctx context.Context) {
	patience := time.NewTimer(c.config.Pace.Patience)
	defer patience.Stop()
	for !c.config.Instances.Complete() {
		select {
		case <-ctx.Done():
			return
		case <-patience.C:
			klog.InfoS("Oxide has not said yet what the instances do: Nodes are judged by what they say " +
				"themselves")
			return
		case <-c.woken:
		}
	}
}

// awaitBeginning waits as long as Run does, if it does.
func (c *Controller) awaitBeginning(ctx context.Context) {
	if c.config.Instances.Complete() {
		return
	}
	select {
	case <-ctx.Done():
	case <-c.begun:
	case <-time.After(c.config.Pace.Patience):
	}
}

// rest waits until it is time for the next look, and reports whether somebody asked for it. Who asks
// waits for others to ask, too, and for the looks not to become too many.
func (c *Controller) rest(ctx context.Context, spacing *rate.Limiter, until time.Time) (asked bool) {
	timer := time.NewTimer(time.Until(until))
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	case <-c.woken:
		select {
		case <-ctx.Done():
		case <-time.After(c.config.Pace.Debounce):
		}
		_ = spacing.Wait(ctx) // fails only when the context ends
		select {
		case <-c.woken:
		default:
		}
		return true
	}
	return false
}

// wake asks for a look soon.
func (c *Controller) wake() {
	select {
	case c.woken <- struct{}{}:
	default:
	}
}

// Name returns the controller's name; the framework asks for it.
func (c *Controller) Name() string { return Name }

// hasPorts reports whether a Service has ports on Nodes: its own, or those of its address.
func hasPorts(service *v1.Service) bool {
	return service.Spec.Type == v1.ServiceTypeLoadBalancer || service.Spec.Type == v1.ServiceTypeNodePort
}

// serviceChanged wakes the controller if a Service that has ports on Nodes is new or another one now, or
// if its status is another one than is due: the framework writes it, too, from an older copy, and so may
// anybody.
func (c *Controller) serviceChanged(old, now any) {
	before, existed := old.(*v1.Service)
	service, ok := now.(*v1.Service)
	if !ok || !hasPorts(service) && (!existed || !hasPorts(before)) {
		return
	}
	if !existed || before.Generation != service.Generation ||
		!maps.Equal(before.Annotations, service.Annotations) ||
		!slices.Equal(before.Finalizers, service.Finalizers) ||
		before.DeletionTimestamp.IsZero() != service.DeletionTimestamp.IsZero() ||
		!servicehelpers.LoadBalancerStatusEqual(
			&before.Status.LoadBalancer, &service.Status.LoadBalancer) && !c.isDue(service) ||
		specChanged(before, service) {
		c.wake()
	}
}

// specChanged compares what matters here of a Service; Services have no generation everywhere.
func specChanged(before, now *v1.Service) bool {
	a, b := before.Spec, now.Spec
	return a.Type != b.Type || a.ExternalTrafficPolicy != b.ExternalTrafficPolicy ||
		a.LoadBalancerIP != b.LoadBalancerIP || !slices.Equal(a.Ports, b.Ports) ||
		!slices.Equal(a.IPFamilies, b.IPFamilies) || !maps.Equal(a.Selector, b.Selector) ||
		(a.LoadBalancerClass == nil) != (b.LoadBalancerClass == nil)
}

// isDue reports whether a Service has the status that it should have, or is about to get another one.
func (c *Controller) isDue(service *v1.Service) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	known, ok := c.byName[loadBalancerName(service)]
	return ok && (known.moving || known.fact != nil &&
		servicehelpers.LoadBalancerStatusEqual(known.fact, &service.Status.LoadBalancer))
}

// nodeChanged wakes the controller if a Node is fit for something else now.
func (c *Controller) nodeChanged(old, now any) {
	before, ok1 := old.(*v1.Node)
	node, ok2 := now.(*v1.Node)
	if ok1 && ok2 && (readiness(before) != readiness(node) || unfit(before) != unfit(node) ||
		before.Spec.ProviderID != node.Spec.ProviderID || !maps.Equal(before.Labels, node.Labels)) {
		c.wake()
	}
}

// endpointsChanged wakes the controller if it matters where the endpoints of a Service are.
func (c *Controller) endpointsChanged(namespace, name string) {
	if service, err := c.services.Services(namespace).Get(name); err == nil && isLocal(service) {
		c.wake()
	}
}

// instanceChanged wakes the controller if an instance is that of a Node, and lets changes on it be tried
// at once. Other machines of the project do not matter here.
func (c *Controller) instanceChanged(id string) {
	c.mu.Lock()
	_, waits := c.retryAt[id]
	delete(c.retryAt, id)
	if id == "" {
		c.toldNoneUntil = time.Time{} // a backend that has just come back knows nothing
	}
	c.mu.Unlock()
	if id == "" || waits || c.isOfNode(id) {
		c.wake()
	}
}

// isOfNode reports whether a Node names an instance.
func (c *Controller) isOfNode(instance string) bool {
	nodes, err := c.nodes.List(labels.Everything())
	return err != nil || slices.ContainsFunc(nodes, func(node *v1.Node) bool {
		id, ok := provider.InstanceID(node)
		return ok && id == instance
	})
}

// nodeNames returns the names of Nodes by the ids of their instances.
func (f facts) nodeNames() map[string]string {
	names := make(map[string]string, len(f.nodes))
	for _, node := range f.nodes {
		if id, ok := provider.InstanceID(node); ok {
			names[id] = node.Name
		}
	}
	return names
}
