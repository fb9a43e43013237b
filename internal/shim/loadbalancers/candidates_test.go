// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package loadbalancers

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/shim/annotations"
	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

const (
	fit      = backendv1.CandidateHealth_CANDIDATE_HEALTH_HEALTHY
	doubted  = backendv1.CandidateHealth_CANDIDATE_HEALTH_SUSPECT
	unusable = backendv1.CandidateHealth_CANDIDATE_HEALTH_UNHEALTHY
)

func candidate(id string, health backendv1.CandidateHealth) *backendv1.Candidate {
	return &backendv1.Candidate{InstanceId: id, Health: health}
}

func avoided(c *backendv1.Candidate) *backendv1.Candidate {
	c.Avoid = true
	return c
}

func TestCandidates(t *testing.T) {
	noCondition := node("no-condition", id3)
	noCondition.Status.Conditions = nil
	excluded := labelled(v1.LabelNodeExcludeBalancers, "")
	deleted := func(n *v1.Node) {
		now := metav1.NewTime(created)
		n.DeletionTimestamp = &now
	}
	for _, tt := range []struct {
		name  string
		nodes []*v1.Node
		ours  string
		want  []*backendv1.Candidate
	}{
		{name: "in the order of ids",
			nodes: []*v1.Node{node("a", id3), node("b", id1), node("c", id2)},
			want:  []*backendv1.Candidate{candidate(id1, fit), candidate(id2, fit), candidate(id3, fit)}},
		{name: "a node that is not ready is unhealthy",
			nodes: []*v1.Node{node("a", id1, unready), noCondition},
			want:  []*backendv1.Candidate{candidate(id1, unusable), candidate(id3, unusable)}},
		{name: "a node with the label of kubeadm's control planes",
			nodes: []*v1.Node{node("cp-1", id1, excluded)},
			want:  []*backendv1.Candidate{candidate(id1, unusable)}},
		{name: "a node that the autoscaler is about to remove",
			nodes: []*v1.Node{node("a", id1, tainted("ToBeDeletedByClusterAutoscaler"))},
			want:  []*backendv1.Candidate{candidate(id1, unusable)}},
		{name: "a cordoned node, which runs what it ran",
			nodes: []*v1.Node{node("a", id1, tainted(v1.TaintNodeUnschedulable))},
			want:  []*backendv1.Candidate{candidate(id1, fit)}},
		{name: "a node that is being deleted",
			nodes: []*v1.Node{node("a", id1, deleted)},
			want:  []*backendv1.Candidate{candidate(id1, unusable)}},
		{name: "nodes without an instance of ours are none", nodes: []*v1.Node{
			node("b", "", uninitialized), node("a", "", of("aws:///us-east-1/i-1")),
			node("c", "nonsense"), node("d", ""),
		}},
		{name: "an id in other letters", nodes: []*v1.Node{
			node("a", strings.ToUpper("abcdefab-1111-4111-8111-111111111111")),
		}, want: []*backendv1.Candidate{candidate("abcdefab-1111-4111-8111-111111111111", fit)}},
		{name: "two nodes of one instance: the healthier one counts",
			nodes: []*v1.Node{node("a", id1), node("b", id1, unready)},
			want:  []*backendv1.Candidate{candidate(id1, fit)}},
		{name: "two nodes of one instance, in the other order",
			nodes: []*v1.Node{node("b", id1, unready), node("a", id1)},
			want:  []*backendv1.Candidate{candidate(id1, fit)}},
		{name: "none at all"},
		{name: "our own node is avoided", ours: "b", nodes: []*v1.Node{node("a", id1), node("b", id2)},
			want: []*backendv1.Candidate{candidate(id1, fit), avoided(candidate(id2, fit))}},
		{name: "our own node has another name, too", ours: "b",
			nodes: []*v1.Node{node("a", id1), node("b", id1), node("c", id2)},
			want:  []*backendv1.Candidate{avoided(candidate(id1, fit)), candidate(id2, fit)}},
		{name: "we are on no node of the cluster", ours: "x", nodes: []*v1.Node{node("a", id1)},
			want: []*backendv1.Candidate{candidate(id1, fit)}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := candidates(tt.nodes, factsOf(tt.nodes).verdicts, tt.ours)
			if diff := cmp.Diff(tt.want, got, protocmp.Transform()); diff != "" {
				t.Errorf("candidates (-want +got):\n%s", diff)
			}
		})
	}
}

func TestTheLackOfACandidateIsExplained(t *testing.T) {
	deleted := func(n *v1.Node) {
		now := metav1.NewTime(created)
		n.DeletionTimestamp = &now
	}
	selector := annotations.NodeSelector
	edge := labelled("pool", "edge")
	for _, tt := range []struct {
		name     string
		selector string
		nodes    []*v1.Node
		want     string
	}{
		{"there is no node", "", nil, "there is none"},
		{"every reason there is", "", []*v1.Node{
			node("i", id1, unready), node("h", id2, deleted),
			node("g", id3, tainted("ToBeDeletedByClusterAutoscaler")),
			node("f", id1, labelled(v1.LabelNodeExcludeBalancers, "true")), node("e", "nonsense"),
		}, "e has a malformed provider ID, f has the label " + v1.LabelNodeExcludeBalancers +
			", as kubeadm gives it to control-plane nodes, g is about to be removed by the cluster " +
			"autoscaler, h is being deleted, i is not Ready: its kubelet is silent"},
		{"nodes that are not ours, or not yet", "", []*v1.Node{
			node("c", ""), node("b", "", of("aws:///us-east-1/i-1")), node("a", "", uninitialized),
		}, "a is not initialized yet, b is of another cloud provider, c has no provider ID"},
		{"a node of another provider that joins", "", []*v1.Node{
			node("a", "", of("aws:///us-east-1/i-1"), uninitialized),
		}, "a is of another cloud provider"},
		{"many", "", []*v1.Node{node("a", ""), node("b", ""), node("c", ""), node("d", ""),
			node("e", ""), node("f", ""), node("g", "")}, "e has no provider ID, and 2 more"},
		{"all are fit, but for the family", "", []*v1.Node{node("a", id1)},
			"none has a private address of its IP family"},
		{"some are fit, but for the family", "",
			[]*v1.Node{node("a", id1), node("b", id2, unready)},
			"b is not Ready: its kubelet is silent, the others do not have a private address of its IP family"},
		{"the selector matches nothing", "pool=edge", []*v1.Node{node("a", id1), node("b", id2, unready)},
			"none has labels that the annotation " + selector + " selects (pool=edge)"},
		{"what the selector does not match is not told", "pool=edge",
			[]*v1.Node{node("a", id1), node("b", id2, unready, edge), node("c", id3, unready)},
			"no node can carry the address: b is not Ready: its kubelet is silent"},
		{"what the selector matches is fit, but for the family", "pool=edge",
			[]*v1.Node{node("a", id1, edge), node("b", id2, unready)},
			"no node can carry the address: none of those that the annotation " + selector +
				" selects (pool=edge) has a private address of its IP family"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := explainNoCandidate(service(annotated(selector, tt.selector)), factsOf(tt.nodes))
			if !strings.HasSuffix(got, tt.want) || strings.Contains(got, "\n") {
				t.Errorf("explained as %q, want %q at its end", got, tt.want)
			}
		})
	}
}
