// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package services

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	coreinformers "k8s.io/client-go/informers/core/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/util/workqueue"
	cloudprovider "k8s.io/cloud-provider"
	"k8s.io/cloud-provider/api"
	servicehelpers "k8s.io/cloud-provider/service/helpers"
	"k8s.io/klog/v2"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/shim/annotations"
)

// ClassName is the name of the controller of classes under --controllers, of its Kubernetes client, and
// of the field manager of finalizers.
const ClassName = "oxide-load-balancer-class-controller"

const (
	// firstFailure and lastFailure bound the pauses before a Service is tried again, as those of the
	// framework's service controller.
	firstFailure = 5 * time.Second
	lastFailure  = 5 * time.Minute

	// refreshDelay is how long the cache may take to show a Service as it is now.
	refreshDelay = 200 * time.Millisecond
)

// The reasons of the events that the framework's service controller records, too.
const (
	ensuring = "EnsuringLoadBalancer"
	ensured  = "EnsuredLoadBalancer"
	deleting = "DeletingLoadBalancer"
	deleted  = "DeletedLoadBalancer"
)

// ClassController does for Services with a class of this provider what the framework's service
// controller does for those without a class: it puts a finalizer on them, has their load balancers made
// and released, takes the finalizer off, and records the same events. It also ends what has changed its
// class for one of somebody else, and takes off what finalizers are left where the class has changed.
// Where its Services go, and what they publish, is the Controller's business as for all others.
type ClassController struct {
	c       *Controller
	client  kubernetes.Interface
	workers int
	queue   workqueue.TypedRateLimitingInterface[string]
	synced  cache.InformerSynced

	mu sync.Mutex
	// ensured are the Services that load balancers were made for, as they were then.
	ensured map[string]*v1.Service
}

// NewClassController returns a ClassController of so many workers. It follows Services by the informer,
// which must not have started yet, and does nothing until it runs.
func NewClassController(
	c *Controller, client kubernetes.Interface, services coreinformers.ServiceInformer, workers int,
) (*ClassController, error) {
	k := &ClassController{
		c: c, client: client, workers: workers, ensured: make(map[string]*v1.Service),
		queue: workqueue.NewTypedRateLimitingQueueWithConfig(
			workqueue.NewTypedItemExponentialFailureRateLimiter[string](firstFailure, lastFailure),
			workqueue.TypedRateLimitingQueueConfig[string]{Name: "load_balancer_class"}),
	}
	added, err := services.Informer().AddEventHandler(c.HoldEnds(handler(k.changed)))
	if err != nil {
		return nil, fmt.Errorf("cannot follow Services: %w", err)
	}
	k.synced = added.HasSynced
	return k, nil
}

// Name returns the controller's name; the framework asks for it.
func (k *ClassController) Name() string { return ClassName }

// Run works until the context ends.
func (k *ClassController) Run(ctx context.Context) {
	defer utilruntime.HandleCrashWithContext(ctx)
	var workers sync.WaitGroup
	defer workers.Wait()
	defer k.queue.ShutDown()
	if !cache.WaitForCacheSync(ctx.Done(), k.synced) {
		return
	}
	for range k.workers {
		workers.Go(func() { work(k.queue, func(key string) { k.process(ctx, key) }) })
	}
	<-ctx.Done()
}

// changed has a Service synchronized if there is something to do.
func (k *ClassController) changed(before, now *v1.Service) {
	switch {
	case now == nil:
		if k.remembered(keyOf(before)) != nil {
			k.queue.Add(keyOf(before))
		}
	case k.concerns(now) && k.differs(before, now):
		k.queue.Add(keyOf(now))
	}
}

// concerns reports whether there may be something to do for a Service.
func (k *ClassController) concerns(service *v1.Service) bool {
	return hasOwnFinalizer(service) || k.isServed(service) ||
		k.c.isEnding(service) && !k.c.isFrameworks(service)
}

// isServed reports whether a Service is to have a load balancer by its class.
func (k *ClassController) isServed(service *v1.Service) bool {
	return k.c.isDesired(service) && annotations.IsOurClass(service)
}

// differs reports whether there is more to do for a Service than before. Neither its status nor its
// finalizers, once they are there, are what it asks for.
func (k *ClassController) differs(before, now *v1.Service) bool {
	return before == nil || before.UID != now.UID || !k.isServed(before) || !k.isServed(now) ||
		!hasOwnFinalizer(now) && hasOwnFinalizer(before) ||
		!maps.Equal(before.Annotations, now.Annotations) ||
		!equality.Semantic.DeepEqual(before.Spec, now.Spec)
}

// process synchronizes a Service, and has that tried again if it fails.
func (k *ClassController) process(ctx context.Context, key string) {
	err := k.sync(ctx, key)
	var retry *api.RetryError
	switch {
	case err == nil:
		k.queue.Forget(key)
	case ctx.Err() != nil:
	case apierrors.IsConflict(err), errors.Is(err, errChanged):
		k.queue.AddAfter(key, refreshDelay)
	case errors.As(err, &retry):
		klog.InfoS("Cannot synchronize a load balancer yet", "load_balancer", key, "why", err.Error(),
			"retry_after", retry.RetryAfter())
		k.queue.AddAfter(key, retry.RetryAfter())
	default:
		klog.ErrorS(err, "Cannot synchronize a load balancer", "load_balancer", key)
		k.queue.AddRateLimited(key)
	}
}

// sync does what there is to do for a Service as it is in the cache.
func (k *ClassController) sync(ctx context.Context, key string) error {
	service, last := k.c.cached(key), k.remembered(key)
	if last != nil && (service == nil || service.UID != last.UID) {
		if err := k.end(ctx, last, change{}); err != nil {
			return err
		}
	}
	if service == nil {
		return nil
	}
	frameworkHolds := k.c.isFrameworks(service) && servicehelpers.HasLBFinalizer(service)
	switch {
	case k.isServed(service):
		return k.ensure(ctx, service)
	case k.c.isEnding(service) && !frameworkHolds:
		return k.end(ctx, service, k.ended(service))
	case frameworkHolds:
		k.forget(key)
		return k.write(ctx, service, change{remove: own(service)})
	}
	k.forget(key)
	return nil
}

// ensure has the load balancer of a Service made, which is held by the finalizer before.
func (k *ClassController) ensure(ctx context.Context, service *v1.Service) error {
	k.clear(service, ensuring, ensured, deleting, deleted)
	k.c.record(service, v1.EventTypeNormal, ensuring, "", "Ensuring load balancer")
	held := change{remove: k.frameworks(service)}
	if !hasOwnFinalizer(service) {
		held.add = []string{Finalizer}
	}
	if err := k.write(ctx, service, held); err != nil {
		return k.failed(ctx, service, "failed to add load balancer cleanup finalizer", err)
	}
	k.remember(service)
	switch _, err := k.c.EnsureLoadBalancer(ctx, "", service, nil); {
	case errors.Is(err, cloudprovider.ImplementedElsewhere):
		k.clear(service, syncFailed) // events and the condition say why it is not served
	case err != nil:
		return k.failed(ctx, service, "failed to ensure load balancer", err)
	default:
		k.clear(service, syncFailed)
		k.c.record(service, v1.EventTypeNormal, ensured, "", "Ensured load balancer")
	}
	return nil
}

// end has everything of a Service released, and then makes the change that takes its finalizers off. Of
// one that has gone without, because somebody has taken them off, there is nothing to change.
func (k *ClassController) end(ctx context.Context, service *v1.Service, last change) error {
	k.clear(service, ensuring, ensured)
	k.c.record(service, v1.EventTypeNormal, deleting, "", "Deleting load balancer")
	if err := k.c.release(ctx, service, func(*v1.Service) bool { return false }); err != nil {
		return k.failed(ctx, service, "failed to delete load balancer", err)
	}
	if err := k.write(ctx, service, last); err != nil {
		return k.failed(ctx, service, "failed to remove load balancer cleanup finalizer", err)
	}
	k.forget(keyOf(service))
	k.c.record(service, v1.EventTypeNormal, deleted, "", "Deleted load balancer")
	if now := k.c.cached(keyOf(service)); now == nil || now.UID != service.UID ||
		!now.DeletionTimestamp.IsZero() {
		k.c.config.Reporter.Forget(service.UID)
	}
	return nil
}

// failed records that something has failed, and returns it as an error.
func (k *ClassController) failed(
	ctx context.Context, service *v1.Service, what string, err error,
) error {
	err = fmt.Errorf("%s: %w", what, err)
	if ctx.Err() == nil && !apierrors.IsConflict(err) && !errors.Is(err, errChanged) {
		k.c.warn(service, syncFailed, err.Error(), "Error syncing load balancer: "+err.Error())
	}
	return err
}

// clear lets events be recorded again.
func (k *ClassController) clear(service *v1.Service, reasons ...string) {
	for _, reason := range reasons {
		k.c.config.Reporter.Clear(service.UID, reason)
	}
}

// remembered returns the Service of a name that a load balancer was made for; nil: there is none.
func (k *ClassController) remembered(key string) *v1.Service {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.ensured[key]
}

func (k *ClassController) remember(service *v1.Service) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.ensured[keyOf(service)] = service
}

func (k *ClassController) forget(key string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.ensured, key)
}
