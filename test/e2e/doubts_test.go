// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package e2e

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/objects"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/rack"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/stack"
)

// Invariant 1: a node is never deleted on doubt. (A role that is revoked, and a rack that is away,
// are in tests of their own.) In all of these cases Oxide, or what the backend takes for it,
// answers as if the instances were gone, or not at all.
func TestNoNodeIsRemovedOnDoubt(t *testing.T) {
	e := newEnvironment(t, settings{shimFlags: []string{quickMonitor}})
	home := e.ccm.Oxide
	move := func(to stack.Oxide) func() error {
		return func() error { return e.ccm.MoveBackend(t.Context(), to) }
	}
	elsewhere := rack.Machine{Name: "node-a", NCPUs: 2, MemoryGiB: 4, IP: "172.30.0.11"}
	e.must(e.rack.AddProject(t.Context(), "other", elsewhere))
	otherSilo, err := e.rack.AddSilo(t.Context(), elsewhere)
	e.must(err)
	otherRack, err := rack.Start(t.Context(), e.group, rack.Options{
		Program: shared.programs.Sim, Dir: e.dir, Name: "-other",
		Machines: []rack.Machine{elsewhere},
	})
	e.must(err)

	for _, tt := range []struct {
		name        string
		spoil, heal func() error
		// says is a part of what the event on the Node says.
		says string
	}{
		{
			name: "another project that is readable, while the own one is not",
			spoil: func() error {
				if err := e.rack.RevokeRole(t.Context()); err != nil {
					return err
				}
				return move(stack.Oxide{Host: home.Host, Project: "other", Token: home.Token})()
			},
			heal: func() error {
				if err := e.rack.GrantRole(t.Context()); err != nil {
					return err
				}
				return move(home)()
			},
			says: "project",
		},
		{
			name:  "another silo, with a project of the same name",
			spoil: move(stack.Oxide{Host: home.Host, Project: home.Project, Token: otherSilo}),
			heal:  move(home),
			says:  "silo",
		},
		{
			name:  "another rack, with a project and an instance of the same names",
			spoil: move(stack.Oxide{Host: otherRack.URL, Project: home.Project, Token: home.Token}),
			heal:  move(home),
			says:  "silo",
		},
		{
			name:  "the token expired",
			spoil: func() error { return e.rack.RevokeToken(t.Context()) },
			heal:  func() error { return e.rack.RestoreToken(t.Context()) },
			says:  "token",
		},
		{
			name: "a rack that is too old",
			spoil: func() error {
				return e.rack.AddFault(t.Context(), rack.Fault{
					Operation: "*", Status: http.StatusBadRequest,
				})
			},
			heal: func() error { return e.rack.ClearFaults(t.Context()) },
			says: "is older than the Oxide API version",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e := e.within(t)
			e.join("node-a", "node-b")
			e.must(tt.spoil())
			e.ready(corev1.ConditionUnknown, "node-a", "node-b")
			for _, name := range []string{"node-a", "node-b"} {
				e.awaitEvent(name, "NodeKept", tt.says)
			}
			e.monitored("node-a", 3)
			e.nodesExist("node-a", "node-b")
			e.must(tt.heal())
			e.eventually(func(ctx context.Context) (string, error) {
				if err := e.ccm.BackendReady(ctx); err != nil {
					return "a backend that is ready: " + err.Error(), nil
				}
				return "", nil
			})
			e.emptyCluster()
		})
	}
}

// Whoever registers is not removed while it joins, whatever its provider ID says.
func TestANodeThatJoinsIsNotRemoved(t *testing.T) {
	e := newEnvironment(t, settings{shimFlags: []string{quickMonitor}})
	e.join("node-a")
	node := objects.Node("joining")
	node.Spec.ProviderID = "oxide://00000000-0000-4000-8000-000000000000"
	_, err := e.client.CoreV1().Nodes().Create(t.Context(), node, metav1.CreateOptions{})
	e.must(err)
	e.ready(corev1.ConditionFalse, "joining")
	e.awaitEvent("joining", "NodeKept", "still joining")
	e.monitored("joining", 3)
	e.nodesExist("joining", "node-a")
}

// A project keeps its id when it is renamed: nothing is in doubt then.
func TestARenamedProjectIsTheSame(t *testing.T) {
	e := newEnvironment(t, settings{shimFlags: []string{quickMonitor}})
	e.join("node-a", "node-b")
	e.must(e.rack.RenameProject(t.Context(), "renamed"))
	e.must(e.rack.RemoveInstances(t.Context(), "node-a"))
	e.ready(corev1.ConditionUnknown, "node-a", "node-b")
	e.awaitRemoval("node-a")
	e.nodesExist("node-b")
}

// An instance that is created again under its name is another one.
func TestAnInstanceCreatedAgainIsAnotherNode(t *testing.T) {
	e := newEnvironment(t, settings{shimFlags: []string{quickMonitor}})
	e.join("node-a", "node-b")
	before := e.node("node-a")
	e.must(e.rack.RemoveInstances(t.Context(), "node-a"))
	e.must(e.rack.AddMachines(t.Context(), rack.Machine{
		Name: "node-a", NCPUs: 2, MemoryGiB: 4, IP: "172.30.0.13",
	}))
	e.ready(corev1.ConditionUnknown, "node-a")
	e.awaitRemoval("node-a")
	e.join("node-a")
	after := e.node("node-a")
	if after.Spec.ProviderID == before.Spec.ProviderID {
		t.Errorf("the new Node has the provider ID of the old instance: %s", after.Spec.ProviderID)
	}
	e.nodesExist("node-b")
}

// A node of another provider is left alone, and told so.
func TestANodeOfAnotherProviderIsLeftAlone(t *testing.T) {
	e := newEnvironment(t, settings{shimFlags: []string{
		quickMonitor, "--node-status-update-frequency=1s",
	}})
	foreign := objects.Node("foreign")
	foreign.Spec.ProviderID, foreign.Spec.Taints = "aws:///us-east-1/i-0123456789", nil
	_, err := e.client.CoreV1().Nodes().Create(t.Context(), foreign, metav1.CreateOptions{})
	e.must(err)
	e.ready(corev1.ConditionUnknown, "foreign")
	e.awaitEvent("foreign", "ForeignProviderID", "leaves this Node alone")
	before := e.node("foreign").ResourceVersion
	e.join("node-a")
	if after := e.node("foreign").ResourceVersion; after != before {
		t.Errorf("the Node was changed: version %s, then %s", before, after)
	}
}

// node returns a Node.
func (e *environment) node(name string) *corev1.Node {
	e.Helper()
	node, err := e.client.CoreV1().Nodes().Get(e.Context(), name, metav1.GetOptions{})
	e.must(err)
	return node
}

// awaitEvent waits until an event on this very Node says something, and checks that it is one.
func (e *environment) awaitEvent(node, reason, says string) {
	e.Helper()
	n := e.node(node)
	e.eventually(func(ctx context.Context) (string, error) {
		events, err := objects.EventsOf(ctx, e.client, n, reason)
		if err != nil {
			return "", err
		}
		for _, event := range events {
			if strings.Contains(event.Message, says) {
				e.Logf("%s: %s: %s", node, reason, event.Message)
				return "", nil
			}
		}
		return fmt.Sprintf("an event %s on %s that says %q, got %d others: %v", reason, node, says,
			len(events), messages(events)), nil
	})
}

func messages(events []corev1.Event) []string {
	var all []string
	for _, event := range events {
		all = append(all, event.Message)
	}
	return all
}

// awaitRemoval waits until a Node is gone.
func (e *environment) awaitRemoval(name string) {
	e.Helper()
	e.eventually(func(ctx context.Context) (string, error) {
		_, err := e.client.CoreV1().Nodes().Get(ctx, name, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			return "", nil
		}
		return "the removal of " + name, err
	})
}
