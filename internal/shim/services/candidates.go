// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package services

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/shim/provider"
	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

// outOfServiceTaints announce that a Node is being taken out of service: that of the user who has
// found its machine dead, and that by which the cluster autoscaler says that it will remove it. Its
// softer one, DeletionCandidateOfClusterAutoscaler, says only that it might.
var outOfServiceTaints = []string{v1.TaintNodeOutOfService, "ToBeDeletedByClusterAutoscaler"}

// The kubelet says by these that its machine is being shut down: the reason of a Ready condition
// that is False, and a part of its message (pkg/kubelet/nodestatus and pkg/kubelet/nodeshutdown).
const (
	shutdownReason  = "KubeletNotReady"
	shutdownMessage = "node is shutting down"
)

// observation is what this process itself has seen of a Node.
type observation struct {
	// readinessSince is since when it has seen the present readiness.
	readinessSince time.Time
	// cordonObserved: it has seen the Node schedulable before it became what it is.
	cordonObserved bool
}

// observe keeps what is seen of a Node, and reports whether anything that matters here differs.
func (c *Controller) observe(before, now *v1.Node) bool {
	if now == nil {
		c.observed.Delete(before.Name)
		return true
	}
	if before == nil || before.UID != now.UID {
		c.observed.Store(now.Name, observation{readinessSince: time.Now()})
		return true
	}
	was, wasShuttingDown := readiness(before)
	is, shuttingDown := readiness(now)
	seen := c.observation(now)
	if was != is {
		seen.readinessSince = time.Now()
	}
	seen.cordonObserved = now.Spec.Unschedulable && (seen.cordonObserved || !before.Spec.Unschedulable)
	c.observed.Store(now.Name, seen)
	return was != is || wasShuttingDown != shuttingDown || !maps.Equal(before.Labels, now.Labels) ||
		before.DeletionTimestamp.IsZero() != now.DeletionTimestamp.IsZero() ||
		!equality.Semantic.DeepEqual(before.Spec, now.Spec) ||
		!equality.Semantic.DeepEqual(before.Status.Addresses, now.Status.Addresses) ||
		before.Status.DaemonEndpoints != now.Status.DaemonEndpoints
}

func (c *Controller) observation(node *v1.Node) observation {
	seen, _ := c.observed.LoadOrStore(node.Name, observation{readinessSince: time.Now()})
	return seen.(observation)
}

// candidate translates the Nodes that name one instance, at least one. Two do after a Node was
// renamed: the healthier one counts.
func (c *Controller) candidate(id string, nodes []*v1.Node) (*backendv1.Candidate, observation) {
	slices.SortFunc(nodes, func(a, b *v1.Node) int {
		of, _ := readiness(a)
		other, _ := readiness(b)
		return cmp.Or(cmp.Compare(min(len(exclusion(a)), 1), min(len(exclusion(b)), 1)),
			cmp.Compare(of, other), strings.Compare(a.Name, b.Name))
	})
	node, seen := nodes[0], c.observation(nodes[0])
	is, shuttingDown := readiness(node)
	return &backendv1.Candidate{
		InstanceId: id, DisplayName: node.Name, Readiness: is, ShuttingDown: shuttingDown,
		ExclusionReason: exclusion(node), OutOfServiceReason: outOfService(node),
		Cordoned: node.Spec.Unschedulable, CordonObserved: seen.cordonObserved,
		LeastPreferred: slices.ContainsFunc(nodes, func(n *v1.Node) bool {
			return n.Name == c.config.NodeName
		}),
	}, seen
}

// exclusion returns why a Node may carry no address at all; empty: it may.
func exclusion(node *v1.Node) string {
	if _, excluded := node.Labels[v1.LabelNodeExcludeBalancers]; excluded {
		return "has the label " + v1.LabelNodeExcludeBalancers +
			", as kubeadm gives it to control-plane nodes"
	}
	if node.DeletionTimestamp != nil {
		return "is being deleted"
	}
	return ""
}

func outOfService(node *v1.Node) string {
	for _, taint := range node.Spec.Taints {
		if slices.Contains(outOfServiceTaints, taint.Key) {
			return "has the taint " + taint.Key
		}
	}
	return ""
}

// readiness is what a Node, or the control plane for it, says of its readiness, and whether it is
// not ready because its machine is being shut down.
func readiness(node *v1.Node) (is backendv1.Readiness, shuttingDown bool) {
	for _, condition := range node.Status.Conditions {
		switch {
		case condition.Type != v1.NodeReady:
		case condition.Status == v1.ConditionTrue:
			return backendv1.Readiness_READINESS_READY, false
		case condition.Status == v1.ConditionFalse:
			return backendv1.Readiness_READINESS_NOT_READY, condition.Reason == shutdownReason &&
				strings.Contains(condition.Message, shutdownMessage)
		}
	}
	return backendv1.Readiness_READINESS_UNKNOWN, false
}

// maxStrangers is how many Nodes a message names.
const maxStrangers = 5

// strangers says which Nodes are no candidates, and why, for a message about the lack of one.
func strangers(nodes []*v1.Node) string {
	var parts []string
	for _, node := range nodes {
		why := provider.WhyNoInstance(node)
		if node.Spec.ProviderID == "" && provider.IsJoining(node) {
			why = "is not initialized yet"
		}
		if why != "" {
			parts = append(parts, node.Name+" "+why)
		}
	}
	if len(parts) == 0 {
		return ""
	}
	slices.Sort(parts)
	return "; not candidates: " + strings.Join(parts[:min(len(parts), maxStrangers)], ", ")
}
