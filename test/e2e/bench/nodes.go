// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package main

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"net/http"
	"os"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/objects"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/process"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/rack"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/stack"
)

const (
	// latency is added by the rack to every request.
	latency = 50 * time.Millisecond
	// initLimit bounds the initialization of up to a thousand nodes.
	initLimit = 5 * time.Minute
	// defaultSubnet is how many instances have room in the subnet that every VPC has.
	defaultSubnet = 1000
	// settle is how long the programs are left alone before requests are counted.
	settle = 15 * time.Second
	// concurrentWrites bounds the requests to the API server that are in flight.
	concurrentWrites = 32
)

// fleet is a cluster of n nodes, with its rack and its cloud controller manager.
type fleet struct {
	*world
	n       int
	rack    *rack.Rack
	options stack.CCMOptions
	ccm     *stack.CCM
	// flags are the shim's, beside those that every shim has here.
	flags []string
}

// onFleet measures something with a fleet of n nodes that have not joined yet.
func onFleet(
	n int, measure func(f *fleet, ctx context.Context, found figures) error,
) func(context.Context, *world) (figures, error) {
	return func(ctx context.Context, w *world) (figures, error) {
		f, found := &fleet{world: w, n: n}, figures{}
		if err := f.start(ctx); err != nil {
			return nil, err
		}
		if err := measure(f, ctx, found); err != nil {
			return nil, fmt.Errorf("%d nodes: %w", n, err)
		}
		return found, f.ccm.Stop()
	}
}

// measureNodes measures what nodes cost in requests to Oxide and in time, with the shim's defaults.
func (f *fleet) measureNodes(ctx context.Context, found figures) error {
	began := time.Now()
	if err := f.join(ctx); err != nil {
		return err
	}
	took := time.Since(began)
	requests, err := f.requests(ctx)
	if err != nil {
		return err
	}
	found[fmt.Sprintf("init_seconds_%d", f.n)] = took.Seconds()
	found[fmt.Sprintf("init_requests_per_node_%d", f.n)] = f.report("initialization", requests) /
		float64(f.n)
	switch f.n {
	case 100:
		found["notready_requests_per_min_100"], err = f.notReady(ctx)
	case 1000:
		found["steady_requests_5min_1000"], err = f.steady(ctx)
	}
	return err
}

// start starts the rack with its instances, and the cloud controller manager.
func (f *fleet) start(ctx context.Context) (err error) {
	name := fmt.Sprintf("-%d", f.n)
	if f.rack, err = rack.Start(ctx, f.group, rack.Options{
		Program: f.programs.Sim, Dir: f.dir, Latency: latency, Name: name,
	}); err != nil {
		return err
	}
	if err := f.widenPool(ctx); err != nil {
		return err
	}
	machines := make([]rack.Machine, f.n)
	if f.n > defaultSubnet {
		if err := f.widenSubnet(ctx); err != nil {
			return err
		}
	}
	for i := range machines {
		if f.n > defaultSubnet {
			machines[i] = wideMachine(i)
			continue
		}
		machines[i] = rack.Machine{
			Name: nodeName(i), NCPUs: 2, MemoryGiB: 8, DualStack: f.n == sessionNodes,
			IP: fmt.Sprintf("172.30.%d.%d", (i+10)/256, (i+10)%256),
		}
	}
	if err := f.rack.AddMachines(ctx, machines...); err != nil {
		return err
	}
	f.options = stack.CCMOptions{
		Group: f.group, Programs: f.programs, Cluster: f.cluster, Rack: f.rack,
		Kubeconfig: f.kubeconfig, Dir: f.dir, Name: name, ShimFlags: f.flags,
	}
	f.ccm, err = stack.StartCCM(ctx, f.options)
	return err
}

// widenPool makes room for the outbound addresses of a thousand instances, four of which share one, and
// for those of ten thousand load balancers.
func (f *fleet) widenPool(ctx context.Context) error {
	const seed = `{"ip_pools": [{"name": "default", "ip_version": "v4",
		"ranges": [{"first": "198.18.0.0", "last": "198.18.63.255"}]}]}`
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, f.rack.URL+"/_sim/seed",
		bytes.NewBufferString(seed))
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode >= http.StatusBadRequest {
		return fmt.Errorf("the rack answers a wider pool with %s", response.Status)
	}
	return nil
}

// limit bounds what is done for all nodes, or for as many Services.
func (f *fleet) limit() time.Duration { return initLimit * time.Duration(max(1, f.n/thousand)) }

func nodeName(i int) string { return fmt.Sprintf("node-%04d", i) }

// join registers the nodes, all at once, and waits until the last one is initialized.
func (f *fleet) join(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, f.limit())
	defer cancel()
	nodes := f.cluster.Client.CoreV1().Nodes()
	if err := f.each(ctx, func(ctx context.Context, name string) error {
		_, err := nodes.Create(ctx, objects.Node(name), metav1.CreateOptions{})
		return err
	}); err != nil {
		return err
	}
	return process.Await(ctx, func(ctx context.Context) (bool, error) {
		// From the API server's cache: looking on should cost little.
		list, err := nodes.List(ctx, metav1.ListOptions{ResourceVersion: "0"})
		if err != nil {
			return false, err
		}
		return len(list.Items) == f.n && !slices.ContainsFunc(list.Items,
			func(n corev1.Node) bool { return objects.HasTaint(&n, objects.UninitializedTaint) }), nil
	})
}

// each calls a function for each node, some of them at the same time.
func (f *fleet) each(
	ctx context.Context, call func(ctx context.Context, name string) error,
) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(concurrentWrites)
	for i := range f.n {
		group.Go(func() error { return call(ctx, nodeName(i)) })
	}
	return group.Wait()
}

// notReady counts the requests of a minute in which no kubelet reports.
func (f *fleet) notReady(ctx context.Context) (float64, error) {
	if err := f.each(ctx, func(ctx context.Context, name string) error {
		return objects.SetReady(ctx, f.cluster.Client, name, corev1.ConditionUnknown)
	}); err != nil {
		return 0, err
	}
	return f.count(ctx, "a minute of 100 nodes that are not ready", time.Minute)
}

// steady counts the requests of five minutes in which nothing happens, and one more watcher looks on.
func (f *fleet) steady(ctx context.Context) (float64, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	conn, err := grpc.NewClient(f.ccm.Socket,
		grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return 0, err
	}
	defer func() { _ = conn.Close() }()
	stream, err := backendv1.NewInstanceServiceClient(conn).
		WatchInstances(ctx, &backendv1.WatchInstancesRequest{})
	if err != nil {
		return 0, err
	}
	for complete := false; !complete; {
		event, err := stream.Recv()
		if err != nil {
			return 0, err
		}
		complete = event.GetSnapshotComplete() != nil
	}
	count, err := f.count(ctx, "five minutes in which nothing happens", 5*time.Minute)
	if err != nil {
		return 0, err
	}
	// The watcher must have been there all the time.
	return count, stream.Context().Err()
}

// count counts the requests of a stretch of real time, once the programs have settled.
func (f *fleet) count(ctx context.Context, what string, d time.Duration) (float64, error) {
	fmt.Fprintln(os.Stderr, "bench: counting requests in", what)
	if err := rest(ctx, settle); err != nil {
		return 0, err
	}
	before, err := f.requests(ctx)
	if err != nil {
		return 0, err
	}
	if err := rest(ctx, d); err != nil {
		return 0, err
	}
	after, err := f.requests(ctx)
	if err != nil {
		return 0, err
	}
	for operation, n := range before {
		after[operation] -= n
	}
	return f.report(what, after), nil
}

func rest(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// requests returns how often each operation was asked for. Pings are this program's own.
func (f *fleet) requests(ctx context.Context) (map[string]int, error) {
	requests, err := f.rack.Requests(ctx)
	delete(requests, "ping")
	return requests, err
}

// report prints which requests there were, and returns their sum.
func (f *fleet) report(what string, requests map[string]int) float64 {
	sum := 0
	fmt.Fprintf(os.Stderr, "bench: %d nodes, %s:", f.n, what)
	for _, operation := range slices.Sorted(maps.Keys(requests)) {
		if n := requests[operation]; n > 0 {
			fmt.Fprintf(os.Stderr, " %s %d", operation, n)
			sum += n
		}
	}
	fmt.Fprintln(os.Stderr)
	return float64(sum)
}
