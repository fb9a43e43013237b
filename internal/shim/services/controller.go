// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package services

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/controller-manager/pkg/healthz"
	"k8s.io/klog/v2"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/shim/events"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/shim/provider"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/shim/reachability"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/proto/client"
	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

// Name is the name of the controller under --controllers, and of its Kubernetes client.
const Name = "oxide-load-balancer-controller"

// statusWorkers is how many statuses are written side by side, so that those that cannot be written
// hold up no others: a webhook that does not answer takes writeTimeout for each write.
const statusWorkers = 50

// Config is what a Controller is made of.
type Config struct {
	// Conn is the connection to the backend.
	Conn grpc.ClientConnInterface

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

	// Prober probes the Nodes of candidates; nil: they are not probed.
	Prober Prober

	// ClassedOnly serves only Services that have a class of this provider.
	ClassedOnly bool

	// Reporter records events on Services.
	Reporter *events.Reporter

	// ReadOnly only observes: the backend is asked to change nothing, and no status is written.
	ReadOnly bool

	// TimeScale multiplies the pauses between repairs of a status that somebody keeps overwriting;
	// 0 means 1.
	TimeScale float64

	// Superseded is called when a newer session of the scope has begun: the process must end. Nil:
	// nothing is done.
	Superseded func(error)
}

// Controller translates between Kubernetes and a session with the backend.
type Controller struct {
	config Config
	selection

	// These are set by SetInformers, before any controller runs.
	nodes    corelisters.NodeLister
	services corelisters.ServiceLister
	synced   []cache.InformerSynced

	// These are set by Run before started is closed. The workers end when ctx does.
	ctx     context.Context //nolint:containedctx // it is the controller's, not a caller's
	client  kubernetes.Interface
	scope   string
	session *client.Session
	pods    cache.Store
	started chan struct{}
	workers sync.WaitGroup
	// waits is what is waited for before anything can be answered; nil: nothing.
	waits atomic.Pointer[string]
	// away is since when there is no session; nil: there is one, or was none yet.
	away atomic.Pointer[time.Time]
	// inSnapshot: what is sent is the first snapshot of a stream.
	inSnapshot atomic.Bool
	// firewallUnmanaged: the backend keeps no rules in firewalls.
	firewallUnmanaged atomic.Bool

	// changed are the keys of Services that differ, everything, or probed; one worker translates them.
	// statuses are those of Services whose status may differ from what is to be published, and
	// conditions those of Services that may be ready, or not, for another reason than they say.
	changed    workqueue.TypedInterface[string]
	statuses   workqueue.TypedRateLimitingInterface[string]
	conditions workqueue.TypedRateLimitingInterface[string]
	observed   sync.Map // of Node names to observations
	logged     sync.Map // of what is logged once
	// held are the Services that end, as long as the framework is not notified of that.
	held heldEnds

	// pushing sees to it that a newer translation is never replaced by an older one. It guards the
	// fields that only translations use: the candidates that were sent, by the ids of their instances,
	// what is probed, and the Services that need slices.
	pushing    sync.Mutex
	candidates map[string]sentCandidate
	targets    []reachability.Target
	local      map[string]bool
	slices     *followedSlices

	mu sync.Mutex
	// byKey is what is remembered of Services.
	byKey map[string]*tracked
}

// New returns a Controller. It asks nothing of anybody until it runs.
func New(config Config) *Controller {
	registerMetrics()
	return &Controller{
		config: config, selection: selection{config.ClassedOnly}, started: make(chan struct{}),
		changed:  workqueue.NewTyped[string](),
		statuses: retryQueue(), conditions: retryQueue(),
		candidates: make(map[string]sentCandidate), local: make(map[string]bool),
		byKey: make(map[string]*tracked),
		held:  heldEnds{byKey: make(map[string]*heldEnd)},
	}
}

func retryQueue() workqueue.TypedRateLimitingInterface[string] {
	return workqueue.NewTypedRateLimitingQueue(
		workqueue.NewTypedItemExponentialFailureRateLimiter[string](firstRetry, lastRetry))
}

var _ provider.LoadBalancers = (*Controller)(nil)

// Name returns the controller's name; the framework asks for it.
func (c *Controller) Name() string { return Name }

// SetInformers follows Nodes and Services.
func (c *Controller) SetInformers(factory informers.SharedInformerFactory) {
	nodes, services := factory.Core().V1().Nodes(), factory.Core().V1().Services()
	nodesAdded, nodesErr := nodes.Informer().AddEventHandler(handler(c.nodeChanged))
	servicesAdded, servicesErr := services.Informer().AddEventHandler(handler(c.serviceChanged))
	utilruntime.Must(errors.Join(nodesErr, servicesErr)) // only an informer that has ended refuses
	c.nodes, c.services = nodes.Lister(), services.Lister()
	c.synced = []cache.InformerSynced{nodesAdded.HasSynced, servicesAdded.HasSynced}
}

// handler returns an event handler that calls a function with an object as it was, nil if it is
// new, and as it is, nil if it is gone.
func handler[T any](changed func(before, now *T)) cache.ResourceEventHandler {
	of := func(object any) *T {
		if unknown, ok := object.(cache.DeletedFinalStateUnknown); ok {
			object = unknown.Obj
		}
		typed, _ := object.(*T)
		return typed
	}
	return cache.ResourceEventHandlerFuncs{
		AddFunc:    func(now any) { changed(nil, of(now)) },
		UpdateFunc: func(before, now any) { changed(of(before), of(now)) },
		DeleteFunc: func(before any) { changed(of(before), nil) },
	}
}

// Run holds a session, and keeps its items and the statuses of Services current, until the context
// ends. It returns when everything that it began has ended.
func (c *Controller) Run(ctx context.Context, kubernetesClient kubernetes.Interface) {
	defer utilruntime.HandleCrashWithContext(ctx)
	defer c.workers.Wait()
	defer c.changed.ShutDown()
	defer c.statuses.ShutDown()
	defer c.conditions.ShutDown()
	c.ctx, c.client = ctx, kubernetesClient
	if !cache.WaitForCacheSync(ctx.Done(), c.synced...) || c.readScope(ctx) != nil {
		return
	}
	c.followPods(ctx)
	c.session = client.NewSession(client.SessionConfig{
		Conn: c.config.Conn, Handler: c.handler(), Sending: c.traceItem,
		Open: &backendv1.OpenSession{
			Scope: c.scope, AdoptedScopes: c.config.AdoptedClusterIDs,
			LegacyName: c.config.LegacyClusterName, ObserveOnly: c.config.ReadOnly,
		},
	})
	c.syncAll()
	for _, service := range c.allServices() {
		c.syncService(keyOf(service))
	}
	c.session.MarkSynced()
	close(c.started)
	c.workers.Go(func() {
		if err := c.session.Run(ctx); err != nil && c.config.Superseded != nil {
			c.config.Superseded(err)
		}
	})
	c.workers.Go(func() { work(c.changed, c.translate) })
	for range statusWorkers {
		c.workers.Go(func() { work(c.statuses, c.syncStatus) })
	}
	for range conditionWorkers {
		c.workers.Go(func() { work(c.conditions, c.syncCondition) })
	}
	<-ctx.Done()
	// Whoever began to follow slices has counted that as a worker before this; nobody does later.
	c.pushing.Lock()
	defer c.pushing.Unlock()
}

// work does something for each key of a queue, until that is shut down.
func work(queue workqueue.TypedInterface[string], do func(key string)) {
	for key, shutdown := queue.Get(); !shutdown; key, shutdown = queue.Get() {
		do(key)
		queue.Done(key)
	}
}

// start runs informers until the context ends, as workers of this controller.
func (c *Controller) start(ctx context.Context, factory informers.SharedInformerFactory) {
	factory.Start(ctx.Done())
	c.workers.Go(func() {
		<-ctx.Done()
		factory.Shutdown()
	})
}

// waitFor notes what is waited for, and reports whether it is something else than before.
func (c *Controller) waitFor(what string) bool {
	what = client.OneLine(what)
	before := c.waits.Swap(&what)
	return before == nil || *before != what
}

// handler is what the session calls. What takes time is left to the workers.
func (c *Controller) handler() client.Handler {
	return client.Handler{
		State: func(state *backendv1.LoadBalancerState) {
			c.waits.Store(nil)
			key := state.GetKey().GetName()
			c.update(key, state.GetOwnerUid(), func(t *tracked) {
				t.count(state)
				c.carry(t, state)
				t.followChange(c.ctx, state, false)
			})
			c.statuses.Add(key)
			c.conditions.AddAfter(key, conditionSettles)
			c.reviewEnd(key)
		},
		InSync: func() { c.away.Store(nil) },
		Action: c.actionTaken, Released: c.released, Orphans: c.logOrphans,
		FirewallOrphans: c.logOrphanedRules,
		Info: func(info *backendv1.GetInfoResponse) {
			c.firewallUnmanaged.Store(!slices.Contains(info.GetFeatures(),
				backendv1.Feature_FEATURE_FIREWALL_RULES))
		},
		ActionsDropped: func(count int64) {
			klog.InfoS("Some changes in Oxide were not reported: there were too many", "count", count)
		},
		Disconnected: func(err error) {
			c.away.CompareAndSwap(nil, new(time.Now()))
			if c.waitFor(err.Error()) {
				klog.InfoS("The session with oxide-backend has ended", "why", err.Error(), "scope", c.scope)
			}
		},
		OlderServer: func(info *backendv1.GetInfoResponse) {
			klog.InfoS("oxide-backend is older than ccm-shim: upgrade both together",
				"api_revision", info.GetApiRevision(), "expected", backendv1.APIRevision)
		},
	}
}

// HealthChecker returns the check that fails while the session is stuck; the framework asks for it.
func (c *Controller) HealthChecker() healthz.UnnamedHealthChecker { return c }

// Check implements healthz.UnnamedHealthChecker.
func (c *Controller) Check(*http.Request) error {
	select {
	case <-c.started:
	default:
		return nil
	}
	if lag := c.session.Lag(); lag > client.StuckAfter {
		return fmt.Errorf("oxide-backend has not taken into account for %s what was sent to it",
			lag.Round(time.Second))
	}
	return nil
}

func (c *Controller) lbKey(key string) *backendv1.LoadBalancerKey {
	return &backendv1.LoadBalancerKey{Scope: c.scope, Name: key}
}

// cached returns a Service as it is in the cache; nil: it is not there.
func (c *Controller) cached(key string) *v1.Service {
	namespace, name, _ := strings.Cut(key, "/")
	service, err := c.services.Services(namespace).Get(name)
	if err != nil {
		return nil // a lister has no other error than that
	}
	return service
}

// scopeRetry is how long is waited before the cluster's id is read again, and lastScopeRetry at most.
const (
	scopeRetry     = 5 * time.Second
	lastScopeRetry = time.Minute
)

// readScope sets the scope under which the cluster owns its addresses in Oxide. Unless the user
// gave one, that is the UID of the namespace kube-system, which lives as long as the cluster and
// which no other cluster has. It fails when the context ends.
func (c *Controller) readScope(ctx context.Context) error {
	if c.scope = c.config.ClusterID; c.scope != "" {
		return nil
	}
	pauses := wait.Backoff{Duration: scopeRetry, Factor: 2, Steps: 10, Cap: lastScopeRetry}
	return pauses.DelayFunc().Until(ctx, true, true, func(ctx context.Context) (bool, error) {
		namespace, err := c.client.CoreV1().Namespaces().
			Get(ctx, metav1.NamespaceSystem, metav1.GetOptions{})
		if err != nil {
			if c.waitFor(fmt.Sprintf("the cluster's id, the UID of the namespace %s, could not be read: "+
				"%v: allow \"get\" on that namespace, or set --cluster-id", metav1.NamespaceSystem, err)) {
				klog.ErrorS(err, "Cannot read the cluster's id; it is tried again and again")
			}
			return false, nil
		}
		c.scope = string(namespace.UID)
		return true, nil
	})
}
