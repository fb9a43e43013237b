// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package nodes

import (
	"context"
	"fmt"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/wait"
	coreinformers "k8s.io/client-go/informers/core/v1"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"
	cloudprovider "k8s.io/cloud-provider"
	"k8s.io/klog/v2"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/shim/provider"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/proto/client"
)

// ReportName is the name under --controllers of what reports on Nodes while nothing may be changed.
const ReportName = "oxide-node-report-controller"

// reportInterval is how often all Nodes are checked.
const reportInterval = time.Minute

// Report logs, and counts in a metric, what would be done to Nodes: which would be initialized, tainted
// as shut down, or removed. It changes nothing.
type Report struct {
	cloud  cloudprovider.InstancesV2
	lister corelisters.NodeLister
	synced cache.InformerSynced
	// said is what was last said of each Node, by name.
	said map[string]string
}

// NewReport returns a report, which checks nothing before it runs.
func NewReport(cloud cloudprovider.InstancesV2, informer coreinformers.NodeInformer) *Report {
	registerMetrics()
	return &Report{
		cloud: cloud, lister: informer.Lister(), synced: informer.Informer().HasSynced,
		said: make(map[string]string),
	}
}

// Name returns the name of the controller.
func (r *Report) Name() string { return ReportName }

// Run reports now and every minute until ctx ends.
func (r *Report) Run(ctx context.Context) {
	if !cache.WaitForCacheSync(ctx.Done(), r.synced) {
		return
	}
	wait.UntilWithContext(ctx, r.report, reportInterval)
}

// report logs what is new of each Node.
func (r *Report) report(ctx context.Context) {
	nodes, err := r.lister.List(labels.Everything())
	if err != nil {
		klog.ErrorS(err, "Listing the nodes")
		return
	}
	due := 0
	said := make(map[string]string, len(nodes))
	for _, node := range nodes {
		text := r.wouldDo(ctx, node)
		if text != "" {
			due++
			said[node.Name] = text
		}
		if text != "" && text != r.said[node.Name] {
			klog.InfoS("Would "+text, "node", node.Name, "provider_id", node.Spec.ProviderID)
		}
	}
	r.said = said
	nodesDue.Set(float64(due))
}

// wouldDo returns what would be done to a Node; empty: nothing. What fails would be tried again. A Node
// that somebody deletes already is left alone.
func (r *Report) wouldDo(ctx context.Context, node *v1.Node) string {
	if node.DeletionTimestamp != nil {
		return ""
	}
	if provider.IsJoining(node) {
		found, err := r.cloud.InstanceMetadata(ctx, node)
		switch {
		case err != nil:
			return "initialize the node, but: " + client.OneLine(err.Error())
		case found == nil:
			return ""
		}
		return fmt.Sprintf("initialize the node: provider ID %s, type %s, addresses %v",
			found.ProviderID, found.InstanceType, found.NodeAddresses)
	}
	if provider.IsReady(node) {
		return ""
	}
	exists, err := r.cloud.InstanceExists(ctx, node)
	switch {
	case err != nil:
		return "keep the node, which is not ready: " + client.OneLine(err.Error())
	case !exists:
		return "remove the node: its instance is gone"
	}
	if off, err := r.cloud.InstanceShutdown(ctx, node); err == nil && off {
		return "taint the node as shut down"
	}
	return ""
}
