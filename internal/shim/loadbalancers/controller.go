// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package loadbalancers

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/informers"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"
	cloudprovider "k8s.io/cloud-provider"
	servicehelpers "k8s.io/cloud-provider/service/helpers"
	"k8s.io/klog/v2"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/shim/events"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/shim/provider"
	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

// Config is what a Controller is made of.
type Config struct {
	// Backend is the service of the backend. Deadlines and repetitions are the connection's business.
	Backend backendv1.LoadBalancerServiceClient

	// ClusterID is the scope under which the cluster owns its addresses; empty means the UID of
	// the namespace kube-system. AdoptedClusterIDs are scopes that it takes over from.
	ClusterID         string
	AdoptedClusterIDs []string

	// LegacyClusterName is what the existing Oxide CCM called the cluster; empty: nothing is taken
	// over from it.
	LegacyClusterName string

	// ReservedPorts are never served by a load balancer.
	ReservedPorts []*backendv1.ReservedPorts

	// NodeName is the Node that this process is on, which carries an address only if no other can;
	// empty: not known.
	NodeName string

	// Reporter tells people about Services.
	Reporter *events.Reporter
}

// Controller gives Services of type LoadBalancer what the backend makes of them. The framework's
// service controller calls it, through the provider, about one Service at a time; by itself it tells
// the backend about all of them.
type Controller struct {
	config  Config
	cluster *clusterID

	// The informers are set by UseInformers, before any controller runs.
	nodes    corelisters.NodeLister
	services corelisters.ServiceLister
	synced   []cache.InformerSynced

	pods podCache

	// setRetry is how long is waited before the full set is told again after a failure.
	setRetry time.Duration
}

// New returns a Controller. It asks nothing of anybody until it is called or runs.
func New(config Config) *Controller {
	return &Controller{
		config: config, cluster: &clusterID{fixed: config.ClusterID, timeout: 10 * time.Second},
		setRetry: firstSetRetry,
	}
}

var _ provider.LoadBalancers = (*Controller)(nil)

// UseClients keeps the means to make a Kubernetes client.
func (c *Controller) UseClients(clients cloudprovider.ControllerClientBuilder) {
	c.cluster.clients = clients
}

// UseInformers keeps the listers of Nodes and Services.
func (c *Controller) UseInformers(factory informers.SharedInformerFactory) error {
	nodes, services := factory.Core().V1().Nodes(), factory.Core().V1().Services()
	_, err := services.Informer().AddEventHandler(
		cache.ResourceEventHandlerFuncs{DeleteFunc: c.forget})
	if err != nil {
		return fmt.Errorf("following the Services: %w", err)
	}
	c.nodes, c.services = nodes.Lister(), services.Lister()
	c.synced = []cache.InformerSynced{nodes.Informer().HasSynced, services.Informer().HasSynced}
	return nil
}

// forget forgets what was told of a Service that is gone.
func (c *Controller) forget(object any) {
	if unknown, ok := object.(cache.DeletedFinalStateUnknown); ok {
		object = unknown.Obj
	}
	if service, ok := object.(*v1.Service); ok {
		c.config.Reporter.Forget(service.UID)
	}
}

// Ensure gives a Service its address, on a node that is fit for it, and returns the status to publish.
// It is never empty: the framework takes an empty one for success and does not ask again. Where only
// time helps, a node that becomes ready included, the error is one that the framework retries after a
// fixed delay.
func (c *Controller) Ensure(
	ctx context.Context, service *v1.Service,
) (*v1.LoadBalancerStatus, error) {
	status, err := c.ensure(ctx, service)
	if err != nil {
		return nil, retriable(err)
	}
	return status, nil
}

// Update does the same for another set of nodes. The framework passes a Service of the time of its
// last full sync, so the current one is used instead. It writes no status afterwards either: if the
// address is on another node now, the status is wrong, and the error makes the framework sync the
// whole Service at once, which writes it. So does every other error, the lack of a candidate included:
// nobody calls again when a node becomes ready.
func (c *Controller) Update(ctx context.Context, service *v1.Service) error {
	current, err := c.current(service)
	if err != nil {
		return err
	}
	if current == nil || !wanted(current) {
		// It is going away, or is somebody else by now: that has a sync of its own.
		return nil
	}
	status, err := c.ensure(ctx, current)
	switch {
	case err != nil:
		return retriable(err)
	case !servicehelpers.LoadBalancerStatusEqual(status, &current.Status.LoadBalancer):
		return errors.New("the address moved to another node, its status is about to be renewed")
	}
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
	response, err := withFullSet(ctx, c, func() (*backendv1.DeleteLoadBalancerResponse, error) {
		return c.config.Backend.DeleteLoadBalancer(ctx, &backendv1.DeleteLoadBalancerRequest{
			Key: key(facts.scope, service), OwnerUid: string(service.UID), RetainAddresses: retain,
			Cluster: c.clusterOf(facts), PublishedAddresses: published(service),
		})
	})
	if err != nil {
		return err
	}
	logActions(response.GetActions())
	c.config.Reporter.Forget(service.UID)
	return nil
}

// ensure sends the desired state and returns the status that the answer amounts to.
func (c *Controller) ensure(
	ctx context.Context, service *v1.Service,
) (*v1.LoadBalancerStatus, error) {
	c.tellAboutWishes(service)
	facts, err := c.look(ctx)
	if err != nil {
		return nil, err
	}
	want, err := desired(facts.scope, service, facts.nodes)
	if err != nil {
		return nil, err
	}
	response, err := withFullSet(ctx, c, func() (*backendv1.EnsureLoadBalancerResponse, error) {
		return c.config.Backend.EnsureLoadBalancer(ctx, &backendv1.EnsureLoadBalancerRequest{
			Cluster: c.clusterOf(facts), LoadBalancer: want,
		})
	})
	if err != nil {
		return nil, err
	}
	logActions(response.GetActions())
	lb := response.GetLoadBalancer()
	c.tellConditions(service, lb.GetConditions())
	return outcome(lb, func() string { return explainNoCandidate(service, facts.nodes) })
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

// facts are what the caches say.
type facts struct {
	scope    string
	nodes    []*v1.Node
	services []*v1.Service
	pods     []*v1.Pod
}

func (c *Controller) look(ctx context.Context) (facts, error) {
	scope, err := c.cluster.get(ctx)
	if err != nil {
		return facts{}, err
	}
	f := facts{scope: scope, pods: c.pods.list(ctx)}
	if f.nodes, err = c.nodes.List(labels.Everything()); err != nil {
		return facts{}, err
	}
	if f.services, err = c.services.List(labels.Everything()); err != nil {
		return facts{}, err
	}
	slices.SortFunc(f.services, func(a, b *v1.Service) int {
		return cmp.Compare(loadBalancerName(a), loadBalancerName(b))
	})
	return f, nil
}

// clusterOf returns what all load balancers have in common.
func (c *Controller) clusterOf(f facts) *backendv1.Cluster {
	served := servedPorts(f.services)
	list, _ := candidates(f.nodes, c.config.NodeName)
	addUsedPorts(list, f.nodes, f.pods, f.services, served)
	return &backendv1.Cluster{
		Scope: f.scope, AdoptedScopes: c.config.AdoptedClusterIDs,
		LegacyName: c.config.LegacyClusterName, Candidates: list,
		ReservedPorts: slices.Concat(c.config.ReservedPorts, nodePorts(f.services, served)),
	}
}

// set returns all load balancers of the cluster. A Service that asks for what cannot be is in it, too:
// what it has must not be taken for an orphan, nor its ports for free.
func set(f facts) []*backendv1.DesiredLoadBalancer {
	var all []*backendv1.DesiredLoadBalancer
	for _, service := range f.services {
		if !wanted(service) {
			continue
		}
		want, err := desired(f.scope, service, f.nodes)
		if err != nil {
			want = held(f.scope, service, f.nodes)
		}
		if want != nil {
			all = append(all, want)
		}
	}
	return all
}

// tellFullSet tells the backend all load balancers of the cluster, without letting it change any: that
// is done Service by Service, because who changes one has to write its status.
func (c *Controller) tellFullSet(ctx context.Context) error {
	facts, err := c.look(ctx)
	if err != nil {
		return err
	}
	all := set(facts)
	response, err := c.config.Backend.ReconcileLoadBalancers(ctx,
		&backendv1.ReconcileLoadBalancersRequest{
			Cluster: c.clusterOf(facts), LoadBalancers: all, DryRun: true,
		})
	if err != nil {
		return provider.AsBackendError(err)
	}
	klog.InfoS("Told the backend all load balancers", "count", len(all),
		"changes_due", len(response.GetActions()), "orphans", len(response.GetOrphans()))
	for _, orphan := range response.GetOrphans() {
		for _, address := range orphan.GetAddresses() {
			klog.InfoS("No Service wants an address that is marked as this cluster's; list and delete "+
				"such by oxide.backend.v1.AddressService", "load_balancer", orphan.GetKey().GetName(),
				"address", address.GetAddress(), "resource", address.GetResourceName(),
				"retained", address.GetRetained())
		}
	}
	return nil
}

// current returns the Service as it is now, or nil if it is gone, or if another has its name.
func (c *Controller) current(service *v1.Service) (*v1.Service, error) {
	current, err := c.services.Services(service.Namespace).Get(service.Name)
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
