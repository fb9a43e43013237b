// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package loadbalancers

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/shim/annotations"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/shim/provider"
	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

// toBeDeleted is the taint by which the cluster autoscaler announces that a Node goes.
const toBeDeleted = "ToBeDeletedByClusterAutoscaler"

// candidates translates Nodes into the instances that may carry addresses, with the health that was
// found. Nodes that name no Oxide instance are none. The Node of this name is to be avoided: ours.
func candidates(
	nodes []*v1.Node, verdicts map[string]verdict, ours string,
) []*backendv1.Candidate {
	var list []*backendv1.Candidate
	byID := make(map[string]*backendv1.Candidate)
	for _, node := range nodes {
		id, ok := provider.InstanceID(node)
		if !ok {
			continue
		}
		isOurs := ours != "" && node.Name == ours
		health := verdicts[node.Name].health
		if other, ok := byID[id]; ok {
			// Two Nodes name one instance, as after a Node was renamed: the healthier one counts.
			other.Health = min(other.GetHealth(), health)
			other.Avoid = other.GetAvoid() || isOurs
			continue
		}
		byID[id] = &backendv1.Candidate{InstanceId: id, Health: health, Avoid: isOurs}
		list = append(list, byID[id])
	}
	slices.SortFunc(list, func(a, b *backendv1.Candidate) int {
		return cmp.Compare(a.GetInstanceId(), b.GetInstanceId())
	})
	return list
}

// unfit returns why a Node can carry no address, be it ready or not; empty: it can.
func unfit(node *v1.Node) string {
	if why := provider.WhyNoInstance(node); why != "" {
		if node.Spec.ProviderID == "" && provider.IsJoining(node) {
			return "is not initialized yet"
		}
		return why
	}
	if _, excluded := node.Labels[v1.LabelNodeExcludeBalancers]; excluded {
		return "has the label " + v1.LabelNodeExcludeBalancers +
			", as kubeadm gives it to control-plane nodes"
	}
	if slices.ContainsFunc(node.Spec.Taints, func(t v1.Taint) bool { return t.Key == toBeDeleted }) {
		return "is about to be removed by the cluster autoscaler"
	}
	if node.DeletionTimestamp != nil {
		return "is being deleted"
	}
	return ""
}

// instancesOf returns the instances of the Nodes that match.
func instancesOf(nodes []*v1.Node, matches func(*v1.Node) bool) *backendv1.InstanceSet {
	set := &backendv1.InstanceSet{}
	for _, node := range nodes {
		id, ok := provider.InstanceID(node)
		if ok && matches(node) && !slices.Contains(set.GetInstanceIds(), id) {
			set.InstanceIds = append(set.InstanceIds, id)
		}
	}
	slices.Sort(set.GetInstanceIds())
	return set
}

// maxExclusions is how many nodes a message names.
const maxExclusions = 5

// explainNoCandidate says why no Node can carry the address of a Service.
func explainNoCandidate(service *v1.Service, f facts) string {
	const beginning = "no node can carry the address: "
	which := ""
	nodes := f.nodes
	if selector, err := nodeSelector(service); err == nil && selector != nil {
		which = fmt.Sprintf("the annotation %s selects (%s)", annotations.NodeSelector, selector)
		nodes = slices.DeleteFunc(slices.Clone(nodes), func(node *v1.Node) bool {
			return !selector.Matches(labels.Set(node.Labels))
		})
	}
	var parts []string
	for _, node := range nodes {
		if why := f.verdicts[node.Name].why; why != "" {
			parts = append(parts, node.Name+" "+why)
		}
	}
	left := len(nodes) - len(parts)
	missing := "a private address of its IP family"
	if isLocal(service) {
		missing = "a ready endpoint of the Service, which spec.externalTrafficPolicy Local asks for"
	}
	switch {
	case len(nodes) == 0 && which != "":
		return beginning + "none has labels that " + which
	case len(nodes) == 0:
		return beginning + "there is none"
	case len(parts) == 0 && which != "":
		return beginning + "none of those that " + which + " has " + missing
	case len(parts) == 0:
		return beginning + "none has " + missing
	}
	slices.Sort(parts)
	if more := len(parts) - maxExclusions; more > 0 {
		parts = append(parts[:maxExclusions], fmt.Sprintf("and %d more", more))
	}
	if left > 0 {
		parts = append(parts, "the others do not have "+missing)
	}
	return beginning + strings.Join(parts, ", ")
}
