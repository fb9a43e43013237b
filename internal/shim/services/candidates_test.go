// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package services

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

func condition(status v1.ConditionStatus, reason, message string) func(*v1.Node) {
	return func(n *v1.Node) {
		n.Status.Conditions[0] = v1.NodeCondition{
			Type: v1.NodeReady, Status: status, Reason: reason, Message: message,
		}
	}
}

func cordoned(n *v1.Node) { n.Spec.Unschedulable = true }

func beingDeleted(n *v1.Node) {
	now := metav1.NewTime(created)
	n.DeletionTimestamp = &now
}

func TestANodeBecomesWhatIsObservedOfIt(t *testing.T) {
	type change = func(*backendv1.Candidate)
	type nodes = []*v1.Node
	is := func(readiness backendv1.Readiness) change {
		return func(c *backendv1.Candidate) { c.Readiness = readiness }
	}
	notReady, unknown := is(backendv1.Readiness_READINESS_NOT_READY), is(backendv1.Readiness_READINESS_UNKNOWN)
	excluded := func(why string) change {
		return func(c *backendv1.Candidate) { c.ExclusionReason = why }
	}
	out := func(taint string) change {
		return func(c *backendv1.Candidate) { c.OutOfServiceReason = "has the taint " + taint }
	}
	least := func(c *backendv1.Candidate) { c.LeastPreferred = true }
	for _, tt := range []struct {
		name  string
		nodes nodes
		want  []change
	}{
		{"ready", nodes{node("a", id1)}, nil},
		{"silent", nodes{node("a", id1, unready)}, []change{unknown}},
		{"without conditions", nodes{node("a", id1, func(n *v1.Node) { n.Status.Conditions = nil })},
			[]change{unknown}},
		{"not ready", nodes{node("a", id1, condition(v1.ConditionFalse, "KubeletNotReady", "no network"))},
			[]change{notReady}},
		{"shutting down", nodes{node("a", id1, condition(v1.ConditionFalse, "KubeletNotReady",
			"[no network, node is shutting down]"))},
			[]change{notReady, func(c *backendv1.Candidate) { c.ShuttingDown = true }}},
		{"shutting down for another reason", nodes{node("a", id1, condition(v1.ConditionFalse, "Other",
			"node is shutting down"))}, []change{notReady}},
		{"not scheduled to", nodes{node("a", id1, cordoned)},
			[]change{func(c *backendv1.Candidate) { c.Cordoned = true }}},
		{"excluded by its label", nodes{node("a", id1, labelled(v1.LabelNodeExcludeBalancers, ""))},
			[]change{excluded("has the label node.kubernetes.io/exclude-from-external-load-balancers, " +
				"as kubeadm gives it to control-plane nodes")}},
		{"being deleted", nodes{node("a", id1, beingDeleted)}, []change{excluded("is being deleted")}},
		{"out of service", nodes{node("a", id1, tainted(v1.TaintNodeOutOfService))},
			[]change{out("node.kubernetes.io/out-of-service")}},
		{"about to be removed by the autoscaler", nodes{node("a", id1,
			tainted("ToBeDeletedByClusterAutoscaler"))}, []change{out("ToBeDeletedByClusterAutoscaler")}},
		{"perhaps to be removed by the autoscaler", nodes{node("a", id1,
			tainted("DeletionCandidateOfClusterAutoscaler"))}, nil},
		{"our own", nodes{node("ours", id1)}, []change{least, func(c *backendv1.Candidate) {
			c.DisplayName = "ours"
		}}},
		{"our own has another name, too", nodes{node("ours", id1), node("a", id1)}, []change{least}},
		{"two Nodes of one instance: the ready one counts", nodes{node("0", id1, unready), node("a", id1)}, nil},
		{"two Nodes of one instance: one that may carry addresses counts", nodes{
			node("0", id1, labelled(v1.LabelNodeExcludeBalancers, "")), node("a", id1, unready),
		}, []change{unknown}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := bare(t)
			c.config.NodeName = "ours"
			got, _ := c.candidate(id1, tt.nodes)
			want := &backendv1.Candidate{
				InstanceId: id1, DisplayName: "a", Readiness: backendv1.Readiness_READINESS_READY,
			}
			for _, change := range tt.want {
				change(want)
			}
			if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" {
				t.Errorf("candidate (-want +got):\n%s", diff)
			}
		})
	}
}

// How long a Node has been as it is counts from when this process saw it so.
func TestReadinessIsObservedSinceThisProcessSawIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := bare(t)
		start := time.Now()
		ready, silent := node("a", id1), node("a", id1, unready)
		since := func(n *v1.Node) time.Duration {
			_, seen := c.candidate(id1, []*v1.Node{n})
			return seen.readinessSince.Sub(start)
		}
		for _, step := range []struct {
			name        string
			before, now *v1.Node
			want        time.Duration
			matters     bool
		}{
			{"first sight", nil, silent, 0, true},
			{"nothing differs", silent, silent, 0, false},
			{"it is ready", silent, ready, 2 * time.Second, true},
			{"it is ready, and labelled", ready, node("a", id1, labelled("x", "y")), 2 * time.Second, true},
			{"another Node with its name", ready, node("a", id1, func(n *v1.Node) { n.UID = "other" }),
				4 * time.Second, true},
			{"it comes again after its deletion", nil, ready, 5 * time.Second, true},
		} {
			if got := c.observe(step.before, step.now); got != step.matters {
				t.Errorf("%s: it matters: %t", step.name, got)
			}
			if got := since(step.now); got != step.want {
				t.Errorf("%s: it is so since %s, want %s", step.name, got, step.want)
			}
			time.Sleep(time.Second)
		}
	})
}

// A cordon whose beginning this process did not see must move nothing.
func TestACordonIsObservedOnlyByWhoSawItBegin(t *testing.T) {
	plain, out := node("a", id1), node("a", id1, cordoned)
	for _, tt := range []struct {
		name string
		// steps are the Node as it is seen, one after the other.
		steps []*v1.Node
		want  bool
	}{
		{"cordoned at first sight", []*v1.Node{out}, false},
		{"and seen again", []*v1.Node{out, out}, false},
		{"seen to be cordoned", []*v1.Node{plain, out}, true},
		{"and seen again", []*v1.Node{plain, out, node("a", id1, cordoned, labelled("x", "y"))}, true},
		{"uncordoned", []*v1.Node{plain, out, plain}, false},
		{"cordoned at first sight, uncordoned and cordoned", []*v1.Node{out, plain, out}, true},
		{"replaced by one that is cordoned", []*v1.Node{plain, node("a", id1, cordoned, func(n *v1.Node) {
			n.UID = "other"
		})}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := bare(t)
			var before *v1.Node
			for _, now := range tt.steps {
				c.observe(before, now)
				before = now
			}
			got, _ := c.candidate(id1, []*v1.Node{before})
			if got.GetCordonObserved() != tt.want {
				t.Errorf("the cordon was observed: %t", got.GetCordonObserved())
			}
		})
	}
}

func TestNodesThatAreNoCandidatesAreNamed(t *testing.T) {
	joining := tainted("node.cloudprovider.kubernetes.io/uninitialized")
	many := slicesOf(9, func(i int) *v1.Node { return node(string(rune('a'+i)), "") })
	for _, tt := range []struct {
		name  string
		nodes []*v1.Node
		want  string
	}{
		{"all are", []*v1.Node{node("a", id1), node("b", id2, unready)}, ""},
		{"each for its reason", []*v1.Node{
			node("d", "nonsense"), node("c", ""), node("b", "", of("aws:///us-east-1/i-1"), joining),
			node("a", "", joining), node("e", id1),
		}, "; not candidates: a is not initialized yet, b is of another cloud provider, c has no provider " +
			"ID, d has a malformed provider ID"},
		{"at most five", many, "; not candidates: " + strings.Join(slicesOf(5, func(i int) string {
			return string(rune('a'+i)) + " has no provider ID"
		}), ", ")},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := strangers(tt.nodes); got != tt.want {
				t.Errorf("strangers() = %q, want %q", got, tt.want)
			}
		})
	}
}
