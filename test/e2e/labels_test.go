// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package e2e

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/rack"
)

// A Node without a stamp, such as one that another cloud controller manager has initialized, gets
// it by one change, and so does the topology; what it says of its zone itself stays.
func TestStampsAndTopologyAreRestored(t *testing.T) {
	e := newEnvironment(t, settings{shimFlags: []string{"--region=west", "--zone=rack-1"}})
	e.join("node-a", "node-b")
	e.addressed("node-a", 3)
	want := e.node("node-a").Labels
	for key, value := range map[string]string{
		"topology.kubernetes.io/region": "west", "topology.kubernetes.io/zone": "rack-1",
		"failure-domain.beta.kubernetes.io/region": "west",
		"failure-domain.beta.kubernetes.io/zone":   "rack-1",
	} {
		if got := want[key]; got != value {
			t.Errorf("%s is %q, want %q", key, got, value)
		}
	}

	patch := func(name, labels string) {
		_, err := e.client.CoreV1().Nodes().Patch(t.Context(), name, types.MergePatchType,
			[]byte(`{"metadata":{"labels":{`+labels+`}}}`), metav1.PatchOptions{})
		e.must(err)
	}
	var remove []string
	for key := range want {
		if strings.HasPrefix(key, "oxide.computer/") || strings.Contains(key, "region") ||
			strings.Contains(key, "zone") {
			remove = append(remove, fmt.Sprintf("%q:null", key))
		}
	}
	if len(remove) != 8 {
		t.Fatalf("the Node has not what is to be restored: %v", want)
	}
	patch("node-b", `"topology.kubernetes.io/zone":"mine",
		"failure-domain.beta.kubernetes.io/zone":"mine","oxide.computer/silo-id":null`)
	changes := e.changes("node-a", func() {
		patch("node-a", strings.Join(remove, ","))
		e.eventually(func(ctx context.Context) (string, error) {
			node, err := e.client.CoreV1().Nodes().Get(ctx, "node-a", metav1.GetOptions{})
			if err != nil {
				return "", err
			}
			return cmp.Diff(want, node.Labels), nil
		})
	})
	if changes != 2 {
		t.Errorf("%d changes, want ours and the one that restores", changes)
	}
	e.eventually(func(ctx context.Context) (string, error) {
		node, err := e.client.CoreV1().Nodes().Get(ctx, "node-b", metav1.GetOptions{})
		if err != nil {
			return "", err
		}
		if node.Labels["oxide.computer/silo-id"] == "" {
			return "the stamp of node-b", nil
		}
		if zone := node.Labels["topology.kubernetes.io/zone"]; zone != "mine" {
			return "", fmt.Errorf("the zone was changed to %q", zone)
		}
		return "", nil
	})
}

// The rack is on the Node from its initialization on, under both labels.
func TestTheZoneIsTheRackIfAskedFor(t *testing.T) {
	e := newEnvironment(t, settings{shimFlags: []string{"--zone-from-rack"}})
	e.join("node-a")
	e.addressed("node-a", 3)
	state, err := e.rack.State(t.Context())
	e.must(err)
	labels := e.node("node-a").Labels
	for _, key := range []string{
		"topology.kubernetes.io/zone", "failure-domain.beta.kubernetes.io/zone",
	} {
		if got := labels[key]; got == "" || got != state.RackID {
			t.Errorf("%s is %q, want the rack %q", key, got, state.RackID)
		}
	}
	if got := labels["oxide.computer/project"]; got == "" {
		t.Errorf("the project has no name: %v", labels)
	}
}

// Unchanged facts change nothing: ten syncs of addresses, on one family and on two.
func TestTenSyncsOfUnchangedFactsChangeNothing(t *testing.T) {
	const period = time.Second
	e := newEnvironment(t, settings{shimFlags: []string{
		quickMonitor, "--node-status-update-frequency=" + period.String(),
	}})
	e.must(e.rack.AddMachines(t.Context(), rack.Machine{
		Name: "dual", NCPUs: 2, MemoryGiB: 4, IP: "172.30.0.13", DualStack: true,
	}))
	e.join("node-a", "node-b", "dual")
	for name, addresses := range map[string]int{"node-a": 3, "node-b": 2, "dual": 3} {
		e.addressed(name, addresses)
	}
	versions := func() map[string]string {
		all := make(map[string]string)
		for _, name := range []string{"node-a", "node-b", "dual"} {
			all[name] = e.node(name).ResourceVersion
		}
		return all
	}
	before, patches, statusPatches := versions(), e.patches(""), e.patches("status")
	e.synchronized(10)
	if diff := cmp.Diff(before, versions()); diff != "" {
		t.Errorf("Nodes were changed (-before +after):\n%s", diff)
	}
	if got := e.patches("") - patches; got != 0 {
		t.Errorf("%d patches of Nodes, although nothing changed", got)
	}
	// The framework takes two addresses of one kind for a change, and sends a patch that changes
	// nothing. It should not for the two Nodes that have one address of each kind.
	got := e.patches("status") - statusPatches
	t.Logf("%d patches of the status in ten syncs, with one Node of two families", got)
	if got > 12 {
		t.Errorf("%d patches of the status in ten syncs, want one for each sync at most", got)
	}
}

// addressed waits until a Node has so many addresses: the framework writes them a moment after it
// takes the taint away.
func (e *environment) addressed(name string, n int) {
	e.Helper()
	e.eventually(func(ctx context.Context) (string, error) {
		node, err := e.client.CoreV1().Nodes().Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return "", err
		}
		if len(node.Status.Addresses) != n {
			return fmt.Sprintf("%d addresses of %s, got %v", n, name, node.Status.Addresses), nil
		}
		return "", nil
	})
}

// synchronized waits until the framework looked at all addresses n times more.
func (e *environment) synchronized(n int) {
	e.Helper()
	const each = "nodes status took"
	before := e.said(each)
	e.eventually(func(context.Context) (string, error) {
		if got := e.said(each) - before; got < n {
			return fmt.Sprintf("%d syncs of addresses, got %d", n, got), nil
		}
		return "", nil
	})
}

// patches returns how often Nodes, or a part of them, were patched in the API server's whole life.
func (e *environment) patches(subresource string) int {
	e.Helper()
	text, err := e.client.CoreV1().RESTClient().Get().AbsPath("/metrics").DoRaw(e.Context())
	e.must(err)
	sum := 0.0
	for line := range strings.Lines(string(text)) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), "} ")
		if !strings.HasPrefix(name, "apiserver_request_total{") ||
			!strings.Contains(name, `resource="nodes"`) ||
			!strings.Contains(name, `verb="PATCH"`) ||
			!strings.Contains(name, `subresource="`+subresource+`"`) {
			continue
		}
		n, err := strconv.ParseFloat(value, 64)
		e.must(err)
		sum += n
	}
	return int(sum)
}

// changes returns how often a Node changes while something is done.
func (e *environment) changes(name string, do func()) int {
	e.Helper()
	ctx, cancel := context.WithCancel(e.Context())
	defer cancel()
	watcher, err := e.client.CoreV1().Nodes().Watch(ctx, metav1.ListOptions{
		FieldSelector: "metadata.name=" + name, ResourceVersion: e.node(name).ResourceVersion,
	})
	e.must(err)
	do()
	// What is done now is the last that the watch has to tell.
	last, err := e.client.CoreV1().Nodes().Patch(ctx, name, types.MergePatchType,
		[]byte(`{"metadata":{"annotations":{"e2e":"last"}}}`), metav1.PatchOptions{})
	e.must(err)
	n := 0
	for event := range watcher.ResultChan() {
		node, ok := event.Object.(*corev1.Node)
		if !ok {
			e.Fatalf("the watch broke: %v", event.Object)
		}
		if node.ResourceVersion == last.ResourceVersion {
			break
		}
		n++
	}
	return n
}
