// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/objects"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/rack"
)

// shutdownTaint is what the framework gives a Node whose instance does not run.
const shutdownTaint = "node.cloudprovider.kubernetes.io/shutdown"

func TestNodesAreInitialized(t *testing.T) {
	e := newEnvironment(t, settings{})
	e.join("node-a", "node-b")
	silo, project, err := e.rack.IDs(t.Context())
	e.must(err)
	for name, want := range map[string]struct {
		instanceType string
		addresses    []string
	}{
		"node-a": {"4-16", []string{
			"InternalIP 172.30.0.11", "ExternalIP 198.51.100", "Hostname node-a",
		}},
		"node-b": {"2-8", []string{"InternalIP 172.30.0.12", "Hostname node-b"}},
	} {
		instance, found := e.state().Instance(name)
		if !found {
			t.Fatalf("%s is not on the rack", name)
		}
		// The framework writes the addresses a moment after it takes the taint away.
		var node *corev1.Node
		e.eventually(func(ctx context.Context) (_ string, err error) {
			node, err = e.client.CoreV1().Nodes().Get(ctx, name, metav1.GetOptions{})
			if err != nil {
				return "", err
			}
			if len(node.Status.Addresses) != len(want.addresses) {
				return fmt.Sprintf("the addresses %q, got %v", want.addresses,
					node.Status.Addresses), nil
			}
			return "", nil
		})
		for i, address := range node.Status.Addresses {
			got := fmt.Sprintf("%s %s", address.Type, address.Address)
			if !strings.HasPrefix(got, want.addresses[i]) {
				t.Errorf("%s: address %d is %q, want %q", name, i, got, want.addresses[i])
			}
		}
		if got, want := node.Spec.ProviderID, "oxide://"+instance.ID; got != want {
			t.Errorf("%s: provider ID %q, want %q", name, got, want)
		}
		if got := node.Labels[corev1.LabelInstanceTypeStable]; got != want.instanceType {
			t.Errorf("%s: instance type %q, want %q", name, got, want.instanceType)
		}
		got := map[string]string{}
		for key, value := range node.Labels {
			if strings.HasPrefix(key, "oxide.computer/") {
				got[strings.TrimPrefix(key, "oxide.computer/")] = value
			}
		}
		wantLabels := map[string]string{
			"instance-name": name, "project": rack.Project, "project-id": project, "silo-id": silo,
		}
		if diff := cmp.Diff(wantLabels, got); diff != "" {
			t.Errorf("%s: labels (-want +got):\n%s", name, diff)
		}
	}
}

func TestANodeWithoutInstanceStaysUninitialized(t *testing.T) {
	e := newEnvironment(t, settings{})
	e.register("stranger")
	e.join("node-a")
	e.monitored("stranger", 3)
	node, err := e.client.CoreV1().Nodes().Get(t.Context(), "stranger", metav1.GetOptions{})
	e.must(err)
	if !objects.HasTaint(node, objects.UninitializedTaint) || node.Spec.ProviderID != "" {
		t.Errorf("taints %v, provider ID %q", node.Spec.Taints, node.Spec.ProviderID)
	}
}

func TestAStoppedInstanceTaintsItsNode(t *testing.T) {
	e := newEnvironment(t, settings{shimFlags: []string{quickMonitor}})
	e.join("node-a", "node-b")
	e.must(e.rack.StopInstance(t.Context(), "node-a"))
	e.ready(corev1.ConditionUnknown, "node-a")
	e.awaitTaint("node-a", shutdownTaint, true)
	e.must(e.rack.StartInstance(t.Context(), "node-a"))
	e.ready(corev1.ConditionTrue, "node-a")
	e.awaitTaint("node-a", shutdownTaint, false)
	e.nodesExist("node-a", "node-b")
}

// Invariant 1: a node is never deleted on doubt.
func TestADeletedInstanceTakesItsNodeAlongOnlyWhenProvable(t *testing.T) {
	e := newEnvironment(t, settings{shimFlags: []string{quickMonitor}})
	e.join("node-a", "node-b")

	e.must(e.rack.DeleteInstance(t.Context(), "node-a"))
	e.ready(corev1.ConditionUnknown, "node-a")
	e.awaitRemoval("node-a")
	e.nodesExist("node-b")

	// The last Node is never removed: nothing is left that would prove that the rack is the right
	// one.
	e.must(e.rack.DeleteInstance(t.Context(), "node-b"))
	e.ready(corev1.ConditionUnknown, "node-b")
	e.awaitEvent("node-b", "NodeKept", "no other node")
	e.monitored("node-b", 3)
	e.nodesExist("node-b")
}

// Invariant 1: to a user without a role the rack looks as if all instances were deleted.
func TestARevokedRoleRemovesNoNode(t *testing.T) {
	e := newEnvironment(t, settings{shimFlags: []string{quickMonitor}})
	e.join("node-a", "node-b")
	e.must(e.rack.RevokeRole(t.Context()))
	e.ready(corev1.ConditionUnknown, "node-a", "node-b")
	e.awaitEvent("node-a", "NodeKept", "role")
	e.monitored("node-a", 4)
	e.monitored("node-b", 4)
	e.nodesExist("node-a", "node-b")

	e.must(e.rack.GrantRole(t.Context()))
	e.must(e.rack.DeleteInstance(t.Context(), "node-a"))
	e.awaitRemoval("node-a")
	e.nodesExist("node-b")
}

// monitored waits until the shim came back to a Node n times more: each time it says something.
func (e *environment) monitored(node string, n int) {
	e.Helper()
	before := e.checked(node)
	e.eventually(func(ctx context.Context) (string, error) {
		if _, err := e.client.CoreV1().Nodes().Get(ctx, node, metav1.GetOptions{}); err != nil {
			return "", fmt.Errorf("the Node %s has to stay: %w", node, err)
		}
		if got := e.checked(node) - before; got < n {
			return fmt.Sprintf("%d more checks of %s by the shim, got %d", n, node, got), nil
		}
		return "", nil
	})
}

// checked counts how often the shim has checked a node, and kept it, or has tried to initialize it.
func (e *environment) checked(node string) int {
	e.Helper()
	return e.said("Kept a node that is not ready", `node="`+node+`"`) + e.said("error syncing '"+node+"'")
}

func (e *environment) awaitTaint(name, taint string, want bool) {
	e.Helper()
	e.eventually(func(ctx context.Context) (string, error) {
		node, err := e.client.CoreV1().Nodes().Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return "", err
		}
		if objects.HasTaint(node, taint) != want {
			return fmt.Sprintf("taint %s on %s: %v", taint, name, want), nil
		}
		return "", nil
	})
}

func (e *environment) nodesExist(names ...string) {
	e.Helper()
	for _, name := range names {
		node, err := e.client.CoreV1().Nodes().Get(e.Context(), name, metav1.GetOptions{})
		if err != nil {
			e.Errorf("the Node %s has to stay: %v", name, err)
			continue
		}
		if node.DeletionTimestamp != nil {
			e.Errorf("the Node %s is being deleted", name)
		}
	}
}
