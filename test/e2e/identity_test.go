// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package e2e

import (
	"context"
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/objects"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/rack"
)

// enter registers a Node as a kubelet does, with what else it reports.
func (e *environment) enter(name string, change func(*corev1.Node)) {
	e.Helper()
	node := objects.Node(name)
	change(node)
	_, err := e.client.CoreV1().Nodes().Create(e.Context(), node, metav1.CreateOptions{})
	e.must(err)
}

// withUUID lets a Node report the system UUID of an instance.
func (e *environment) withUUID(instance string) func(*corev1.Node) {
	return func(node *corev1.Node) { node.Status.NodeInfo.SystemUUID = e.instanceID(instance) }
}

func (e *environment) instanceID(name string) string {
	e.Helper()
	instance, found := e.state().Instance(name)
	if !found {
		e.Fatalf("%s is not on the rack", name)
	}
	return instance.ID
}

// wantInstance checks which instance a Node is.
func (e *environment) wantInstance(node, instance string) {
	e.Helper()
	e.initialized(node)
	if got, want := e.node(node).Spec.ProviderID, "oxide://"+e.instanceID(instance); got != want {
		e.Errorf("%s has the provider ID %s, want %s (%s)", node, got, want, instance)
	}
}

// wantOneEvent checks that something was recorded on a Node once.
func (e *environment) wantOneEvent(node, reason string) {
	e.Helper()
	events, err := objects.EventsOf(e.Context(), e.client, e.node(node), reason)
	e.must(err)
	if len(events) != 1 || events[0].Count > 1 {
		e.Errorf("%d events %s on %s: %v", len(events), reason, node, messages(events))
	}
}

func TestASystemUUIDBeatsTheNameOfANode(t *testing.T) {
	e := newEnvironment(t, settings{machines: []rack.Machine{
		{Name: "worker-1", Hostname: "node-a", NCPUs: 2, MemoryGiB: 4, IP: "172.30.0.11"},
		{Name: "worker-2", Hostname: "worker-1", NCPUs: 2, MemoryGiB: 4, IP: "172.30.0.12"},
	}})
	e.enter("worker-1", e.withUUID("worker-2"))
	e.wantInstance("worker-1", "worker-2")
	e.awaitEvent("worker-1", "NodeNameMismatch", "worker-1 ("+e.instanceID("worker-1")+")")
	e.wantOneEvent("worker-1", "NodeNameMismatch")

	// Another one that reports the same is nobody.
	e.enter("thief", e.withUUID("worker-2"))
	e.awaitEvent("thief", "NodeNotInitialized", "worker-1 is known as that instance")
	if got := e.node("thief").Spec.ProviderID; got != "" {
		t.Errorf("it was given the provider ID %s", got)
	}
}

func TestADomainOrTheCaseOfAHostnameHidesNoInstance(t *testing.T) {
	const capi = "capi-team-alpha-production-workload-cluster-md-0-x7k2-5f3a9c1e"
	e := newEnvironment(t, settings{machines: []rack.Machine{
		{Name: "first", Hostname: "node-a", NCPUs: 2, MemoryGiB: 4, IP: "172.30.0.11"},
		{Name: "third", Hostname: "Worker-3.Example.COM", NCPUs: 2, MemoryGiB: 4, IP: "172.30.0.12"},
		{Name: capi, NCPUs: 2, MemoryGiB: 4, IP: "172.30.0.13"},
	}})
	for node, instance := range map[string]string{
		"node-a.example.com": "first", "worker-3": "third", capi: capi,
	} {
		e.register(node)
		e.wantInstance(node, instance)
	}
}

func TestAReadyNodeWhoseInstanceWasCreatedAgainIsKeptAndSaysSo(t *testing.T) {
	e := newEnvironment(t, settings{shimFlags: []string{
		quickMonitor, "--node-status-update-frequency=1s",
	}})
	e.join("node-b")
	e.enter("node-a", e.withUUID("node-a"))
	e.initialized("node-a")
	e.must(e.rack.RemoveInstances(t.Context(), "node-a"))
	e.must(e.rack.AddMachines(t.Context(), rack.Machine{
		Name: "node-a", NCPUs: 2, MemoryGiB: 4, IP: "172.30.0.13",
	}))
	nodes := e.client.CoreV1().Nodes()
	e.must(objects.Change(t.Context(), "node-a", nodes.Get, nodes.UpdateStatus,
		func(node *corev1.Node) { node.Status.NodeInfo.SystemUUID = e.instanceID("node-a") }))
	e.awaitEvent("node-a", "InstanceReplaced", "delete the Node and restart its kubelet")
	e.ready(corev1.ConditionUnknown, "node-a")
	e.monitored("node-a", 4)
	e.nodesExist("node-a", "node-b")
	e.wantOneEvent("node-a", "InstanceReplaced")
}

// Invariant 1: the framework deletes a Node by its name.
func TestANodeThatReplacedAnotherDuringItsProofStays(t *testing.T) {
	e := newEnvironment(t, settings{shimFlags: []string{quickMonitor}})
	e.join("node-a", "node-b")
	successor := e.node("node-a").DeepCopy()
	successor.ObjectMeta = metav1.ObjectMeta{Name: "node-a", Labels: successor.Labels}
	e.must(e.rack.AddFault(t.Context(), rack.Fault{Operation: "instance_view", LatencyMS: 2000}))
	e.must(e.rack.RemoveInstances(t.Context(), "node-a"))
	e.ready(corev1.ConditionUnknown, "node-a")
	e.eventually(func(context.Context) (string, error) {
		requests, err := e.rack.Log()
		absent := 0
		for _, request := range requests {
			if request.Operation == "instance_view" && request.Status == 404 {
				absent++
			}
		}
		// The first is read because a list does not show the instance any more, before the proof.
		if absent < 2 {
			return "the first step of the proof", err
		}
		return "", err
	})
	nodes := e.client.CoreV1().Nodes()
	e.must(nodes.Delete(t.Context(), "node-a", metav1.DeleteOptions{}))
	created, err := nodes.Create(t.Context(), successor, metav1.CreateOptions{})
	e.must(err)
	e.eventually(func(context.Context) (string, error) {
		if e.said("node-a", "not there any more") == 0 {
			return "the end of the proof", nil
		}
		return "", nil
	})
	if got := e.node("node-a"); got.UID != created.UID || got.DeletionTimestamp != nil {
		t.Errorf("the Node has the UID %s, want %s", got.UID, created.UID)
	}
}

func TestANodeThatIsBeingDeletedIsNotProvenAgain(t *testing.T) {
	e := newEnvironment(t, settings{shimFlags: []string{quickMonitor}})
	e.join("node-a", "node-b")
	e.register("stranger") // whose events say that the monitor came round
	e.ready(corev1.ConditionUnknown, "stranger")
	nodes := e.client.CoreV1().Nodes()
	e.must(objects.Change(t.Context(), "node-a", nodes.Get, nodes.Update, func(node *corev1.Node) {
		node.Finalizers = append(node.Finalizers, "example.com/held")
	}))
	t.Cleanup(func() {
		_, err := nodes.Patch(context.WithoutCancel(t.Context()), "node-a",
			"application/merge-patch+json", []byte(`{"metadata":{"finalizers":null}}`),
			metav1.PatchOptions{})
		e.must(err)
	})
	e.must(e.rack.RemoveInstances(t.Context(), "node-a"))
	e.ready(corev1.ConditionUnknown, "node-a")
	e.awaitEvent("node-a", "InstanceGone", "is removed")
	e.eventually(func(context.Context) (string, error) {
		if e.node("node-a").DeletionTimestamp == nil {
			return "the deletion of node-a", nil
		}
		return "", nil
	})
	e.monitored("stranger", 2)
	before, err := e.rack.Requests(t.Context())
	e.must(err)
	e.monitored("stranger", 5)
	after, err := e.rack.Requests(t.Context())
	e.must(err)
	if n := after["instance_view"] - before["instance_view"]; n != 0 {
		t.Errorf("%d more reads of an instance whose Node is being deleted", n)
	}
}

func TestANodeThatCannotBeInitializedSaysWhy(t *testing.T) {
	e := newEnvironment(t, settings{shimFlags: []string{quickMonitor}})
	e.register("stranger")
	e.enter("node-a", func(node *corev1.Node) {
		node.Annotations = map[string]string{
			"alpha.kubernetes.io/provided-node-ip": "10.9.9.9",
		}
	})
	e.enter("node-b", func(node *corev1.Node) { node.Spec.ProviderID = "oxide://node-b" })
	// A Node without a network is not ready: both controllers come back to it.
	e.ready(corev1.ConditionFalse, "stranger", "node-a", "node-b")
	for name, says := range map[string]string{
		"stranger": `has "stranger" as name or hostname; the machine reports no system UUID`,
		"node-a":   "the address 10.9.9.9, but the instance node-a (" + e.instanceID("node-a") + ")",
		"node-b":   `"oxide://node-b" is malformed`,
	} {
		e.awaitEvent(name, "NodeNotInitialized", says)
		e.monitored(name, 3)
		e.wantOneEvent(name, "NodeNotInitialized")
		kept, err := objects.EventsOf(t.Context(), e.client, e.node(name), "NodeKept")
		e.must(err)
		if len(kept) > 0 {
			t.Errorf("the same is said again: %v", messages(kept))
		}
	}
}

// Nodes without instances ask again and again, by two controllers.
func TestManyNodesWithoutInstancesAreCheap(t *testing.T) {
	e := newEnvironment(t, settings{shimFlags: []string{quickMonitor}})
	const many = 30
	var names []string
	for i := range many {
		names = append(names, fmt.Sprintf("stranger-%d", i))
	}
	e.register(names...)
	e.ready(corev1.ConditionUnknown, names...)
	e.monitored(names[many-1], 3)
	before, err := e.rack.Requests(t.Context())
	e.must(err)
	start, began := time.Now(), e.said("stranger-")
	e.monitored(names[0], 10)
	after, err := e.rack.Requests(t.Context())
	e.must(err)
	lists := after["instance_list"] - before["instance_list"]
	t.Logf("in %s %d lines of the shim about %d nodes without instances, %d lists",
		time.Since(start).Round(time.Second), e.said("stranger-")-began, many, lists)
	// The backend follows the run states of the load balancers' candidates, too: a list every four seconds.
	if limit := int(time.Since(start)/(4*time.Second)) + 2; lists > limit {
		t.Errorf("%d lists of the instances, want at most %d: %v, then %v", lists, limit, before, after)
	}
}
