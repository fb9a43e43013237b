// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package nodes

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	coreinformers "k8s.io/client-go/informers/core/v1"
	corev1 "k8s.io/client-go/kubernetes/typed/core/v1"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/controller-manager/pkg/healthz"
	"k8s.io/klog/v2"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/shim/provider"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/proto/client"
	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

// Name is the name of the controller under --controllers.
const Name = "oxide-node-label-controller"

const (
	// workers patch Nodes side by side.
	workers = 10

	// patchTimeout is how long one patch may take.
	patchTimeout = 30 * time.Second

	// stuckAfter is when a worker that does not come to an end is unhealthy.
	stuckAfter = 4 * patchTimeout

	// instanceIndex finds the Nodes of an instance in the informer's cache.
	instanceIndex = "oxide-instance-id"
)

// Config is what a Controller is made of.
type Config struct {
	// Instances is the service of the backend. Nodes patches Nodes.
	Instances backendv1.InstanceServiceClient
	Nodes     corev1.NodeInterface

	// Informer is the shared one, which has not been started yet.
	Informer coreinformers.NodeInformer

	// Topology is what all nodes are labelled with.
	Topology provider.Topology

	// ReadOnly only logs which labels a Node would get.
	ReadOnly bool
}

// Controller keeps the labels of Nodes.
type Controller struct {
	client   corev1.NodeInterface
	topology provider.Topology
	readOnly bool
	watch    *client.InstanceWatch
	// watchEnd is why the last stream of instances ended, if none has listed all of them since. Only
	// the watch uses it.
	watchEnd string

	lister  corelisters.NodeLister
	indexer cache.Indexer
	synced  cache.InformerSynced
	queue   workqueue.TypedRateLimitingInterface[string]

	// unlabelled are the groups of which it was said that there is no label for them.
	unlabelled sync.Map

	// busySince is when each worker began with its Node, in Unix nanoseconds; 0 while it rests.
	busySince [workers]atomic.Int64
}

// New returns a controller that listens to the informer, and does nothing until it is run.
func New(config Config) (*Controller, error) {
	registerMetrics()
	informer := config.Informer.Informer()
	c := &Controller{
		client: config.Nodes, topology: config.Topology, readOnly: config.ReadOnly,
		lister: config.Informer.Lister(), indexer: informer.GetIndexer(), synced: informer.HasSynced,
		queue: workqueue.NewTypedRateLimitingQueueWithConfig(
			workqueue.DefaultTypedControllerRateLimiter[string](),
			workqueue.TypedRateLimitingQueueConfig[string]{Name: Name}),
	}
	c.watch = client.NewInstanceWatch(client.InstanceWatchConfig{
		Service: config.Instances, IncludeRack: config.Topology.ZoneFromRack,
		Changed: c.instanceChanged, Synced: c.instancesSynced, Disconnected: c.watchEnded,
	})
	err := informer.AddIndexers(cache.Indexers{instanceIndex: func(object any) ([]string, error) {
		if node, ok := object.(*v1.Node); ok {
			if id, ok := provider.InstanceID(node); ok {
				return []string{id}, nil
			}
		}
		return nil, nil
	}})
	if err != nil {
		return nil, fmt.Errorf("indexing the Nodes by instance: %w", err)
	}
	// A Node that is deleted needs nothing.
	_, err = informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    c.nodeChanged,
		UpdateFunc: func(_, now any) { c.nodeChanged(now) },
	})
	if err != nil {
		return nil, fmt.Errorf("following the Nodes: %w", err)
	}
	return c, nil
}

// Name returns the name of the controller.
func (c *Controller) Name() string { return Name }

// Run works until ctx ends, and returns when everything that it started has ended.
func (c *Controller) Run(ctx context.Context) {
	var group sync.WaitGroup
	defer group.Wait()
	defer c.queue.ShutDown()
	if !cache.WaitForCacheSync(ctx.Done(), c.synced) {
		return
	}
	group.Go(func() {
		defer following.Set(0)
		c.watch.Run(ctx)
	})
	for worker := range workers {
		group.Go(func() {
			for c.work(ctx, worker) {
			}
		})
	}
	<-ctx.Done()
}

func (c *Controller) nodeChanged(object any) {
	if node, ok := object.(*v1.Node); ok {
		c.queue.Add(node.Name)
	}
}

func (c *Controller) instanceChanged(id string) {
	nodes, err := c.indexer.ByIndex(instanceIndex, id)
	if err != nil {
		klog.ErrorS(err, "Finding the nodes of an instance", "instance", id)
		return
	}
	for _, node := range nodes {
		c.nodeChanged(node)
	}
}

func (c *Controller) instancesSynced() {
	following.Set(1)
	c.watchEnd = ""
}

// watchEnded logs why a stream of instances ended, but not each time that it cannot be opened.
func (c *Controller) watchEnded(err error) {
	following.Set(0)
	if why := client.OneLine(err.Error()); why != c.watchEnd {
		c.watchEnd = why
		klog.InfoS("The stream of changes of instances ended, it is opened again", "reason", why)
	}
}

// work takes one Node off the queue, and reports whether there may be more.
func (c *Controller) work(ctx context.Context, worker int) bool {
	name, shutDown := c.queue.Get()
	if shutDown {
		return false
	}
	defer c.queue.Done(name)
	c.busySince[worker].Store(time.Now().UnixNano())
	defer c.busySince[worker].Store(0)

	err := c.sync(ctx, name)
	switch {
	case err == nil:
		c.queue.Forget(name)
	case ctx.Err() != nil:
	case apierrors.IsConflict(err):
		// Somebody else was faster. The informer brings what they did, usually before this.
		patches.WithLabelValues("conflict").Inc()
		c.queue.AddRateLimited(name)
	default:
		patches.WithLabelValues("error").Inc()
		klog.ErrorS(err, "Labelling a node", "node", name)
		c.queue.AddRateLimited(name)
	}
	return true
}

// sync brings the labels of one Node up to date, with at most one patch. A Node that is not
// initialized yet is the framework's.
func (c *Controller) sync(ctx context.Context, name string) error {
	node, err := c.lister.Get(name)
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	id, ok := provider.InstanceID(node)
	if !ok || provider.IsJoining(node) || node.DeletionTimestamp != nil {
		return nil
	}
	instance := c.watch.Instance(id)
	if instance == nil {
		return nil
	}
	c.reportUnlabelled(instance)
	labels := changes(node, instance, c.topology)
	if len(labels) == 0 {
		return nil
	}
	if c.readOnly {
		klog.InfoS("Would label the node", "node", name, "labels", labels)
		return nil
	}
	// The version makes the patch fail if anybody changed the Node meanwhile: what it must not
	// overwrite may be there now.
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{
		"uid": node.UID, "resourceVersion": node.ResourceVersion, "labels": labels,
	}})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, patchTimeout)
	defer cancel()
	_, err = c.client.Patch(ctx, name, types.MergePatchType, patch, metav1.PatchOptions{})
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	patches.WithLabelValues("success").Inc()
	klog.InfoS("Labelled the node", "node", name, "provider_id", node.Spec.ProviderID,
		"labels", len(labels))
	return nil
}

// reportUnlabelled logs once of each anti-affinity group if its name is too long for a label.
func (c *Controller) reportUnlabelled(instance *backendv1.Instance) {
	for _, group := range instance.GetAntiAffinityGroups() {
		if _, ok := provider.GroupLabel(group); ok {
			continue
		}
		if _, again := c.unlabelled.LoadOrStore(group, true); !again {
			klog.InfoS("The name of this anti-affinity group does not fit into a label, so the "+
				"nodes in it are not labelled with it", "group", group)
		}
	}
}

// HealthChecker returns a check that fails when a worker hangs. Whether the backend or Oxide can be
// reached is no part of it: a restart would not help.
func (c *Controller) HealthChecker() healthz.UnnamedHealthChecker { return c }

// Check implements healthz.UnnamedHealthChecker.
func (c *Controller) Check(*http.Request) error {
	for worker := range c.busySince {
		since := c.busySince[worker].Load()
		if since == 0 {
			continue
		}
		if busy := time.Since(time.Unix(0, since)); busy > stuckAfter {
			return fmt.Errorf("a worker has been busy with one node for %s", busy.Round(time.Second))
		}
	}
	return nil
}
