// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package e2e

import (
	"context"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/objects"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/rack"
)

// Invariants 1, 2 and 7: lists with pages of three, of which a third of the items is missing, remove no
// Node, move no address, make none, and empty no status, neither for a backend that knew all of it nor
// for one that has just started.
func TestListsThatAreCutOrMissRowsChangeNothing(t *testing.T) {
	e := newEnvironment(t, settings{machines: machines(5)})
	e.join("node-a", "node-b", "node-c", "node-d", "node-e")
	places := make(map[string]string)
	for i := range 5 {
		key := fmt.Sprintf("web-%d", i)
		e.create(key, objects.TCP(80))
		address := e.served(key)
		places[address] = e.nodeOf(address)
	}
	before := e.state().FloatingIPs
	statuses := e.statuses()
	e.must(e.rack.AddFault(t.Context(), rack.Fault{Operation: "*_list*", PageCap: 3, Omit: 0.33}))
	ensured := e.said("Ensured load balancer")
	e.unchanging("web-0", func() {
		e.readLists()
		e.restart()
		e.ensuredAgain(ensured + len(statuses))
		e.readLists()
	})
	if diff := cmp.Diff(statuses, e.statuses()); diff != "" {
		t.Errorf("the statuses changed (-before +after):\n%s", diff)
	}
	e.must(e.rack.ClearFaults(t.Context()))
	for address, node := range places {
		if now := e.nodeOf(address); now != node {
			t.Errorf("the address %s was on %s and is on %s", address, node, now)
		}
	}
	if diff := cmp.Diff(before, e.state().FloatingIPs); diff != "" {
		t.Errorf("the floating IPs changed (-before +after):\n%s", diff)
	}
	nodes, err := e.client.CoreV1().Nodes().List(t.Context(), metav1.ListOptions{})
	e.must(err)
	if len(nodes.Items) != 5 {
		t.Errorf("%d Nodes are left of 5", len(nodes.Items))
	}
}

// readLists waits until the instances were listed several times.
func (e *environment) readLists() {
	e.Helper()
	requests, err := e.rack.Requests(e.Context())
	e.must(err)
	enough := requests["instance_list"] + 20
	e.eventually(func(ctx context.Context) (string, error) {
		requests, err := e.rack.Requests(ctx)
		if err != nil {
			return "", err
		}
		if got := requests["instance_list"]; got < enough {
			return fmt.Sprintf("%d requests for lists of instances, got %d", enough, got), nil
		}
		return "", nil
	})
}
