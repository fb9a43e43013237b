// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package main

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/objects"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/process"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/rack"
)

const (
	// manyServices and restartServices are how many Services there are in either part.
	manyServices, restartServices = 100, 10
	// firstPort is that of the first Service; each has one of its own.
	firstPort = 8000
)

// measureServices measures the time from the creation of many Services to the last status, how evenly
// their addresses are spread, and what a further Node moves.
func (f *fleet) measureServices(ctx context.Context, found figures) error {
	if err := f.join(ctx); err != nil {
		return err
	}
	began := time.Now()
	if err := f.serve(ctx, manyServices); err != nil {
		return err
	}
	found["lb_100_services_seconds"] = time.Since(began).Seconds()
	if err := rest(ctx, settle); err != nil { // what is late would move now
		return err
	}
	state, err := f.rack.State(ctx)
	if err != nil {
		return err
	}
	loads := make(map[string]int)
	for _, instance := range state.Instances {
		loads[instance.Name] = 0
	}
	for _, ip := range state.FloatingIPs {
		loads[ip.Instance]++
	}
	var counts []int
	for _, n := range loads {
		counts = append(counts, n)
	}
	found["spread_max_minus_min"] = float64(slices.Max(counts) - slices.Min(counts))

	requests, err := f.difference(ctx, func() error { return f.scaleUp(ctx) })
	if err != nil {
		return err
	}
	f.report("one node more", requests)
	found["moves_on_scale_up"] = float64(requests["floating_ip_attach"] + requests["floating_ip_detach"])
	return nil
}

// serve creates n Services and waits until each has its status.
func (f *fleet) serve(ctx context.Context, n int) error {
	ctx, cancel := context.WithTimeout(ctx, f.limit())
	defer cancel()
	services := f.cluster.Client.CoreV1().Services("default")
	group, groupCtx := errgroup.WithContext(ctx)
	group.SetLimit(concurrentWrites)
	for i := range n {
		group.Go(func() error {
			_, err := services.Create(groupCtx, objects.LoadBalancer("default",
				fmt.Sprintf("service-%d", i), objects.TCP(int32(firstPort+i%samePort))), metav1.CreateOptions{})
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	return process.Await(ctx, func(ctx context.Context) (bool, error) {
		list, err := services.List(ctx, metav1.ListOptions{ResourceVersion: "0"})
		if err != nil {
			return false, err
		}
		served := 0
		for _, service := range list.Items {
			if len(service.Status.LoadBalancer.Ingress) > 0 {
				served++
			}
		}
		return served == n, nil
	})
}

// scaleUp adds an instance and its Node, and waits until all that could follow has.
func (f *fleet) scaleUp(ctx context.Context) error {
	name := nodeName(f.n)
	if err := f.rack.AddMachines(ctx, rack.Machine{
		Name: name, NCPUs: 2, MemoryGiB: 8, IP: "172.30.0.250",
	}); err != nil {
		return err
	}
	nodes := f.cluster.Client.CoreV1().Nodes()
	if _, err := nodes.Create(ctx, objects.Node(name), metav1.CreateOptions{}); err != nil {
		return err
	}
	ready, cancel := context.WithTimeout(ctx, f.limit())
	defer cancel()
	if err := process.Await(ready, func(ctx context.Context) (bool, error) {
		node, err := nodes.Get(ctx, name, metav1.GetOptions{})
		return err == nil && !objects.HasTaint(node, objects.UninitializedTaint), err
	}); err != nil {
		return err
	}
	return rest(ctx, settle)
}

// measureRestart counts the requests from the start of both programs until each Node and each Service
// was looked at once.
func (f *fleet) measureRestart(ctx context.Context, found figures) error {
	if err := f.join(ctx); err != nil {
		return err
	}
	if err := f.serve(ctx, restartServices); err != nil {
		return err
	}
	if err := rest(ctx, settle); err != nil {
		return err
	}
	if err := f.ccm.Stop(); err != nil {
		return err
	}
	nodes := fmt.Sprintf("Update %d nodes status took", f.n)
	const service = `reason="EnsuredLoadBalancer"`
	nodesBefore, servicesBefore := f.said(nodes), f.said(service)
	requests, err := f.difference(ctx, func() error {
		if err := f.ccm.StartBackend(ctx); err != nil {
			return err
		}
		if err := f.ccm.StartShim(ctx); err != nil {
			return err
		}
		ctx, cancel := context.WithTimeout(ctx, limit)
		defer cancel()
		return process.Await(ctx, func(context.Context) (bool, error) {
			return f.said(nodes) > nodesBefore &&
				f.said(service) >= servicesBefore+restartServices, nil
		})
	})
	if err != nil {
		return err
	}
	sum := f.report("a restart with 10 services", requests)
	// All lists of instances but the first are polls, for those who watch.
	found["restart_requests_20_nodes_10_services"] = sum - float64(max(requests["instance_list"]-1, 0))
	return nil
}

// said counts the lines of the shim's log with a text.
func (f *fleet) said(text string) int {
	log, err := os.ReadFile(f.ccm.Shim.LogFile())
	if err != nil {
		return 0
	}
	return strings.Count(string(log), text)
}
