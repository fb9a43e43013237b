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

// exclusion says why a Node can carry no address.
type exclusion struct {
	node string
	why  string
}

// candidates translates Nodes into the instances that may carry addresses: those of Nodes that are
// fit for it, and as unhealthy those of Nodes that are not. Nodes that name no Oxide instance are none.
// The Node of this name is to be avoided: ours. Every Node that is no healthy candidate is told in
// the second result.
func candidates(nodes []*v1.Node, ours string) ([]*backendv1.Candidate, []exclusion) {
	var (
		list     []*backendv1.Candidate
		excluded []exclusion
		byID     = make(map[string]*backendv1.Candidate)
	)
	for _, node := range nodes {
		why := unfit(node)
		if why != "" {
			excluded = append(excluded, exclusion{node.Name, why})
		}
		id, ok := provider.InstanceID(node)
		if !ok {
			continue
		}
		isOurs := ours != "" && node.Name == ours
		health := backendv1.CandidateHealth_CANDIDATE_HEALTH_HEALTHY
		if why != "" {
			health = backendv1.CandidateHealth_CANDIDATE_HEALTH_UNHEALTHY
		}
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
	slices.SortFunc(excluded, func(a, b exclusion) int { return cmp.Compare(a.node, b.node) })
	return list, excluded
}

// unfit returns why a Node can carry no address; empty: it can.
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
	if !provider.IsReady(node) {
		return "is not Ready"
	}
	return ""
}

// selected returns the instances of the Nodes that a selector matches.
func selected(selector labels.Selector, nodes []*v1.Node) *backendv1.InstanceSet {
	set := &backendv1.InstanceSet{}
	for _, node := range nodes {
		id, ok := provider.InstanceID(node)
		if ok && selector.Matches(labels.Set(node.Labels)) &&
			!slices.Contains(set.GetInstanceIds(), id) {
			set.InstanceIds = append(set.InstanceIds, id)
		}
	}
	slices.Sort(set.GetInstanceIds())
	return set
}

// maxExclusions is how many nodes a message names.
const maxExclusions = 5

// explainNoCandidate says why no Node can carry the address of a Service.
func explainNoCandidate(service *v1.Service, nodes []*v1.Node) string {
	const beginning = "no node can carry the address: "
	which := ""
	if selector, err := nodeSelector(service); err == nil && selector != nil {
		which = fmt.Sprintf("the annotation %s selects (%s)", annotations.NodeSelector, selector)
		nodes = slices.DeleteFunc(slices.Clone(nodes), func(node *v1.Node) bool {
			return !selector.Matches(labels.Set(node.Labels))
		})
	}
	_, excluded := candidates(nodes, "")
	switch {
	case len(nodes) == 0 && which != "":
		return beginning + "none has labels that " + which
	case len(nodes) == 0:
		return beginning + "there is none"
	case len(excluded) == 0 && which != "":
		return beginning + "none of those that " + which + " has a private address of its IP family"
	case len(excluded) == 0:
		return beginning + "none has a private address of its IP family"
	}
	var parts []string
	for i, e := range excluded {
		if i == maxExclusions {
			parts = append(parts, fmt.Sprintf("and %d more", len(excluded)-i))
			break
		}
		parts = append(parts, fmt.Sprintf("%s %s", e.node, e.why))
	}
	if len(excluded) < len(nodes) {
		parts = append(parts, "the others have no private address of its IP family")
	}
	return beginning + strings.Join(parts, ", ")
}
