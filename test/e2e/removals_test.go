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
	"k8s.io/apimachinery/pkg/watch"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/objects"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/rack"
)

// Invariant 1: of many instances that are gone at once three Nodes go at once, the others one by
// one.
func TestManyRemovalsArePaced(t *testing.T) {
	const (
		many = 10
		// interval is between two paced removals.
		interval = 2 * time.Second
	)
	e := newEnvironment(t, settings{shimFlags: []string{
		quickMonitor, "--node-removal-interval=" + interval.String(),
	}})
	var names []string
	for i := range many {
		name := fmt.Sprintf("worker-%d", i)
		names = append(names, name)
		e.must(e.rack.AddMachines(t.Context(), rack.Machine{
			Name: name, NCPUs: 2, MemoryGiB: 4, IP: fmt.Sprintf("172.30.0.%d", 100+i),
		}))
	}
	e.join(append(names, "node-a")...)
	nodes := make(map[string]*corev1.Node)
	for _, name := range names {
		nodes[name] = e.node(name)
	}
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	watcher, err := e.client.CoreV1().Nodes().Watch(ctx, metav1.ListOptions{})
	e.must(err)
	defer watcher.Stop()

	e.must(e.rack.RemoveInstances(t.Context(), names...))
	e.ready(corev1.ConditionUnknown, names...)
	var times []time.Time
	for len(times) < many {
		event, open := <-watcher.ResultChan()
		if !open {
			t.Fatalf("%d of %d Nodes were removed within %s", len(times), many, limit)
		}
		if event.Type == watch.Deleted {
			times = append(times, time.Now())
		}
	}
	for i := 3; i < many; i++ {
		// What is seen may be late, but for a moment only.
		if apart := times[i].Sub(times[i-1]); apart < interval-interval/4 {
			t.Errorf("removal %d is %s after the one before, want %s", i+1, apart, interval)
		}
	}
	paced, gone := 0, 0
	for _, node := range nodes {
		waited, err := objects.EventsOf(t.Context(), e.client, node, "NodeRemovalPaced")
		e.must(err)
		paced += len(waited)
	}
	e.eventually(func(ctx context.Context) (string, error) {
		gone = 0
		for _, node := range nodes {
			proven, err := objects.EventsOf(ctx, e.client, node, "InstanceGone")
			if err != nil {
				return "", err
			}
			gone += len(proven)
		}
		if gone != many {
			return fmt.Sprintf("one event for each removal, got %d", gone), nil
		}
		return "", nil
	})
	if paced != many-3 {
		t.Errorf("%d Nodes have an event that says that they wait, want %d", paced, many-3)
	}
	e.nodesExist("node-a")
}
