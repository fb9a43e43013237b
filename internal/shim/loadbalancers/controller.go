// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package loadbalancers

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"
	cloudprovider "k8s.io/cloud-provider"
	servicehelpers "k8s.io/cloud-provider/service/helpers"

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

	// Instances tells the states of instances.
	Instances Instances

	// Reporter tells people about Services.
	Reporter *events.Reporter

	// ReadOnly only logs what would be changed.
	ReadOnly bool

	// Pace is how fast things are done; the zero value means DefaultPace.
	Pace Pace

	// TimeScale multiplies everything that is waited for, DefaultPace, damping and the delays that
	// the backend recommends; 0 means 1. Tests that do very much use it.
	TimeScale float64
}

// Controller gives Services of type LoadBalancer what the backend makes of them. The framework's
// service controller calls it, through the provider, about one Service at a time: then an address is
// secured, and attached for the first time. By itself it looks at all of them whenever something has
// changed, moves addresses, and writes statuses.
type Controller struct {
	config  Config
	cluster *clusterID
	health  *healthJudge

	// The informers are set by UseInformers, before any controller runs; client by Run.
	nodes    corelisters.NodeLister
	services corelisters.ServiceLister
	synced   []cache.InformerSynced
	client   kubernetes.Interface
	pods     podCache
	slices   sliceCache

	// begun is closed when Run has waited for what Oxide says of the instances.
	begun chan struct{}
	// woken has a token when there is reason to look.
	woken chan struct{}
	// changes are under way; Run waits for them.
	changes sync.WaitGroup

	mu sync.Mutex
	// byName is what is known of each load balancer.
	byName map[string]*progress
	// retryAt is when changes on an instance are tried again, by its id; empty: those on none.
	retryAt map[string]time.Time
	// toldNoneUntil: the backend was told that there is no load balancer, and is told again only then.
	toldNoneUntil time.Time
	// orphans were told of; would is what was last said that would be done to each load balancer.
	orphans map[string]bool
	would   map[string]string
}

// progress is what is known of one load balancer.
type progress struct {
	// moving: a change is under way.
	moving bool
	// ensured: the framework's last call about it succeeded, so that no event of the framework tells
	// what is wrong with it.
	ensured bool
	// names are those of its addresses as the last look found them, by their ids.
	names map[string]string
	// movedAt is when its address moved the last time.
	movedAt time.Time
	// fact is the status as the last look found it due; nil: not known.
	fact *v1.LoadBalancerStatus
}

// New returns a Controller. It asks nothing of anybody until it is called or runs.
func New(config Config) *Controller {
	if config.TimeScale == 0 {
		config.TimeScale = 1
	}
	if config.Pace == (Pace{}) {
		config.Pace = DefaultPace().times(config.TimeScale)
	}
	c := &Controller{
		config: config, cluster: &clusterID{fixed: config.ClusterID, timeout: 10 * time.Second},
		health: &healthJudge{instances: config.Instances, timeScale: config.TimeScale},
		begun:  make(chan struct{}),
		woken:  make(chan struct{}, 1), byName: make(map[string]*progress),
		retryAt: make(map[string]time.Time), orphans: make(map[string]bool),
		would: make(map[string]string),
	}
	c.slices.changed = c.endpointsChanged
	config.Instances.Subscribe(c.instanceChanged)
	registerMetrics()
	return c
}

var _ provider.LoadBalancers = (*Controller)(nil)

// UseClients keeps the means to make a Kubernetes client.
func (c *Controller) UseClients(clients cloudprovider.ControllerClientBuilder) {
	c.cluster.clients = clients
}

// UseInformers keeps the listers of Nodes and Services, and is woken by what changes.
func (c *Controller) UseInformers(factory informers.SharedInformerFactory) error {
	nodes, services := factory.Core().V1().Nodes(), factory.Core().V1().Services()
	_, err := services.Informer().AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(now any) { c.serviceChanged(nil, now) },
		UpdateFunc: c.serviceChanged,
		DeleteFunc: c.forget,
	})
	if err != nil {
		return fmt.Errorf("following the Services: %w", err)
	}
	_, err = nodes.Informer().AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(any) { c.wake() },
		UpdateFunc: c.nodeChanged,
		DeleteFunc: func(any) { c.wake() },
	})
	if err != nil {
		return fmt.Errorf("following the Nodes: %w", err)
	}
	c.nodes, c.services = nodes.Lister(), services.Lister()
	c.synced = []cache.InformerSynced{nodes.Informer().HasSynced, services.Informer().HasSynced}
	return nil
}

// forget forgets what is known of a Service that is gone.
func (c *Controller) forget(object any) {
	if unknown, ok := object.(cache.DeletedFinalStateUnknown); ok {
		object = unknown.Obj
	}
	service, ok := object.(*v1.Service)
	if !ok {
		return
	}
	c.config.Reporter.Forget(service.UID)
	c.mu.Lock()
	delete(c.byName, loadBalancerName(service))
	c.mu.Unlock()
	if hasPorts(service) {
		c.wake()
	}
}

// facts are what the caches say.
type facts struct {
	scope    string
	nodes    []*v1.Node
	services []*v1.Service
	pods     []*v1.Pod
	// verdicts are about Nodes, by name, and may change at the time next although nothing else does.
	verdicts map[string]verdict
	next     time.Time
	// endpoints returns the Nodes on which a Service has endpoints.
	endpoints func(*v1.Service) (map[string]bool, error)
}

func (c *Controller) look(ctx context.Context) (facts, error) {
	scope, err := c.cluster.get(ctx)
	if err != nil {
		return facts{}, err
	}
	f := facts{
		scope: scope, pods: c.pods.list(ctx),
		endpoints: func(service *v1.Service) (map[string]bool, error) {
			return c.slices.nodesOf(ctx, service)
		},
	}
	if f.nodes, err = c.nodes.List(labels.Everything()); err != nil {
		return facts{}, err
	}
	if f.services, err = c.services.List(labels.Everything()); err != nil {
		return facts{}, err
	}
	slices.SortFunc(f.services, func(a, b *v1.Service) int {
		return cmp.Compare(loadBalancerName(a), loadBalancerName(b))
	})
	f.verdicts, f.next = c.health.judge(f.nodes)
	return f, nil
}

// clusterOf returns what all load balancers have in common.
func (c *Controller) clusterOf(f facts) *backendv1.Cluster {
	served := servedPorts(f.services)
	list := candidates(f.nodes, f.verdicts, c.config.NodeName)
	addUsedPorts(list, f.nodes, f.pods, f.services, served)
	return &backendv1.Cluster{
		Scope: f.scope, AdoptedScopes: c.config.AdoptedClusterIDs,
		LegacyName: c.config.LegacyClusterName, Candidates: list,
		ReservedPorts: slices.Concat(c.config.ReservedPorts, nodePorts(f.services, served)),
	}
}

// terminating returns the load balancers of Services that want none any more, and that are yet to be
// released.
func (c *Controller) terminating(f facts) []*backendv1.DesiredLoadBalancer {
	var all []*backendv1.DesiredLoadBalancer
	for _, service := range f.services {
		if wanted(service) ||
			!slices.Contains(service.Finalizers, servicehelpers.LoadBalancerCleanupFinalizer) {
			continue
		}
		had := f.held(c.lastPublished(service))
		if had == nil {
			continue
		}
		if address, err := desiredAddress(service); err == nil {
			had.Addresses = []*backendv1.WantedAddress{address}
		}
		all = append(all, had)
	}
	return all
}

// set returns all load balancers of the cluster. A Service that asks for what cannot be is in it, too:
// what it has must not be taken for an orphan, nor its ports for free.
func (f facts) set() []*backendv1.DesiredLoadBalancer {
	var all []*backendv1.DesiredLoadBalancer
	for _, service := range f.services {
		if !wanted(service) {
			continue
		}
		want, err := f.desired(service)
		if err != nil {
			want = f.held(service)
		}
		if want != nil {
			all = append(all, want)
		}
	}
	return all
}
