// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/objects"
)

// Invariant 4: one port of one node serves one Service. Who comes too late has an address, and gets
// a place when there is one.
func TestOnePortOfANodeServesOneService(t *testing.T) {
	e := newEnvironment(t, settings{machines: machines(3)})
	e.join("node-a", "node-b")
	e.create("first", objects.TCP(80))
	e.create("second", objects.TCP(80))
	first, second := e.served("first"), e.served("second")
	if node := e.nodeOf(first); node == e.nodeOf(second) {
		t.Fatalf("both Services serve one port on %s", node)
	}
	// The same number of another protocol is another port.
	e.create("datagrams", objects.UDP(80))
	e.served("datagrams")

	e.create("third", objects.TCP(80))
	third := e.reserved("third")
	e.warned("third", portConflict, third, "TCP 80 is held by default/", "add a node")
	e.warned("third", portConflict)

	e.join("node-c")
	e.servedBy("third", third)
	e.create("fourth", objects.TCP(80))
	fourth := e.reserved("fourth")
	e.remove("second")
	e.servedBy("fourth", fourth)
	e.servedBy("first", first)
	e.servedBy("third", third)
}

// Invariant 4: of two Services the one that is edited makes way, even if it is the older one.
func TestAnEditedPortMovesTheEditedService(t *testing.T) {
	e := newEnvironment(t, settings{})
	e.join("node-a")
	e.create("older", objects.TCP(80))
	older := e.served("older")
	e.nextSecond()
	e.create("younger", objects.TCP(81))
	younger := e.served("younger")
	e.join("node-b")
	e.patch("older", map[string]any{"spec": map[string]any{"ports": []corev1.ServicePort{
		objects.TCP(81),
	}}})
	e.movedTo("older", older, "node-b")
	e.movedTo("younger", younger, "node-a")
}

// movedTo waits until a Service is served by an address that is on a node.
func (e *environment) movedTo(key, address, node string) {
	e.Helper()
	e.eventually(func(ctx context.Context) (string, error) {
		state, err := e.rack.State(ctx)
		if ip, _ := state.FloatingIP(address); err == nil && ip.Instance != node {
			return "the address of " + key + " on " + node + ", it is on " + ip.Instance, nil
		}
		return "", err
	})
	e.servedBy(key, address)
}

// Invariant 4: ports that belong to the nodes, or to pods in their network, are refused, unless the
// Service selects these pods itself.
func TestPortsOfTheNodesAreRefused(t *testing.T) {
	e := newEnvironment(t, settings{})
	e.join("node-a", "node-b")
	e.hostNetworkPod("agent-a", "node-a", 9100)
	exposed := objects.LoadBalancer("default", "exposed", objects.TCP(80))
	exposed.Spec.Ports[0].NodePort = 30080
	e.createService(exposed)
	e.served("exposed")

	// A pod on one node leaves the other.
	e.create("metrics", objects.TCP(9100))
	if node := e.nodeOf(e.served("metrics")); node != "node-b" {
		t.Errorf("the address is on %s, where a pod has the port", node)
	}
	e.remove("metrics")
	e.hostNetworkPod("agent-b", "node-b", 9100)
	for name, want := range map[string]struct {
		port int32
		says string
	}{
		"shell":   {22, "TCP 22 is reserved for SSH"},
		"kubelet": {10250, "TCP 10250 is reserved for the kubelet"},
		"nodes":   {30080, "TCP 30080 is reserved for the node port of the Service default/exposed"},
		"pods":    {9100, "TCP 9100 is used by the pod default/agent-"},
	} {
		t.Run(name, func(t *testing.T) {
			e := e.within(t)
			e.create(name, objects.TCP(want.port))
			address := e.reserved(name)
			e.warned(name, portConflict, address, want.says, "use another port")
			e.warned(name, portConflict)
		})
	}
	own := objects.LoadBalancer("default", "own", objects.TCP(9100))
	own.Spec.Selector = map[string]string{"app": "agent"}
	e.createService(own)
	e.served("own")
}

// Without a node that is fit an address is reserved, one event says why, and the address is
// attached as soon as there is one.
func TestWithoutAFitNodeAnAddressWaits(t *testing.T) {
	e := newEnvironment(t, settings{})
	e.join("node-a", "node-b")
	e.register("stranger")
	e.label("node-a", corev1.LabelNodeExcludeBalancers, "")
	e.ready(corev1.ConditionFalse, "node-b")
	e.create("web", objects.TCP(80))
	e.createWith("edge", "node-selector", "pool=edge", objects.TCP(81))
	web, edge := e.reserved("web"), e.reserved("edge")
	e.warned("web", noCandidate, web, "no node can carry the address",
		"node-a has the label "+corev1.LabelNodeExcludeBalancers, "kubeadm",
		"node-b is not Ready", "stranger is not initialized yet")
	e.warned("edge", noCandidate, edge, "none has labels that the annotation",
		prefix+"node-selector", "pool=edge")

	e.label("node-a", "pool", "edge")
	e.label("node-a", corev1.LabelNodeExcludeBalancers, nil)
	e.movedTo("web", web, "node-a")
	e.movedTo("edge", edge, "node-a")
}

// label sets a label of a Node; nil removes it.
func (e *environment) label(node, label string, value any) {
	e.Helper()
	text, err := json.Marshal(map[string]any{"metadata": map[string]any{
		"labels": map[string]any{label: value},
	}})
	e.must(err)
	_, err = e.client.CoreV1().Nodes().Patch(e.Context(), node, types.MergePatchType, text,
		metav1.PatchOptions{})
	e.must(err)
}

// An address is also the source of what its node sends, so ours is the last to get one.
func TestOurOwnNodeIsUsedLast(t *testing.T) {
	e := newEnvironment(t, settings{shimFlags: []string{"--node-name=node-a"}})
	e.join("node-a", "node-b")
	addresses := make(map[string]string)
	for i, name := range []string{"first", "second", "third"} {
		e.create(name, objects.TCP(int32(80+i)))
		addresses[name] = e.served(name)
		if node := e.nodeOf(addresses[name]); node != "node-b" {
			t.Errorf("the address of %s is on %s, where we are", name, node)
		}
	}
	e.must(e.client.CoreV1().Nodes().Delete(t.Context(), "node-b", metav1.DeleteOptions{}))
	for name, address := range addresses {
		e.movedTo(name, address, "node-a")
	}
}

// A closed firewall is told once, with the rule that opens it.
func TestAClosedFirewallIsToldOnceWithTheRuleToAdd(t *testing.T) {
	e := newEnvironment(t, settings{})
	e.join("node-a", "node-b")
	e.create("web", objects.TCP(80), objects.TCP(443), objects.UDP(53))
	address := e.served("web")
	text := e.warned("web", "FirewallClosed", "VPC default", "TCP 80,443", "UDP 53")
	_, rule, found := strings.Cut(text, "add the rule ")
	if !found {
		t.Fatalf("there is no rule in %q", text)
	}
	var only json.RawMessage // and how such rules are kept for all Services comes after it
	e.must(json.NewDecoder(strings.NewReader(rule)).Decode(&only))
	if !strings.Contains(rule, "firewall.manage=true") {
		t.Errorf("nothing is said of how rules are kept for all Services: %q", text)
	}
	e.must(e.rack.AddFirewallRule(t.Context(), string(only)))
	// The new processes know nothing of what the old ones told.
	ensured := e.said("Ensured load balancer")
	e.restart()
	e.ensuredAgain(ensured + 1)
	e.servedBy("web", address)
	// A Service that comes later is told of, so what is to be told of the first one was told.
	e.create("later", objects.TCP(81))
	e.warned("later", "FirewallClosed")
	e.warned("web", "FirewallClosed")
}

// A backend that lost its memory is told all load balancers before it attaches anything: it would
// else give a port twice.
func TestABackendWithoutMemoryGivesNoPortTwice(t *testing.T) {
	e := newEnvironment(t, settings{})
	e.join("node-a", "node-b")
	e.create("first", objects.TCP(80))
	first := e.served("first")
	for i := range 5 { // the other node is the fuller one
		e.createWith(fmt.Sprintf("filler-%d", i), "node-selector",
			"kubernetes.io/hostname notin ("+e.nodeOf(first)+")", objects.TCP(int32(90+i)))
		e.served(fmt.Sprintf("filler-%d", i))
	}
	e.must(e.ccm.Backend.Stop(limit))
	e.create("second", objects.TCP(80))
	e.must(e.ccm.StartBackend(t.Context()))
	second := e.served("second")
	if node := e.nodeOf(first); e.nodeOf(second) == node {
		t.Errorf("both Services serve one port on %s", node)
	}
	e.servedBy("first", first)
}
