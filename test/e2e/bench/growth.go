// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/process"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/rack"
)

const (
	// samePort is how many ports the Services of a large cluster share: a port serves once on a node.
	samePort = 1000
	// steadyTime is how long requests are counted in which nothing happens.
	steadyTime = time.Minute
	// metricsOpen lets anybody read the shim's metrics, which count its requests.
	metricsOpen = "--authorization-always-allow-paths=/healthz,/readyz,/livez,/metrics"
)

// growth measures a thousand nodes with as many Services, then five thousand in a world of their own,
// and how much larger each figure is: five times is as much as there is more to do.
func growth(ctx context.Context, w *world) (figures, error) {
	found := figures{}
	for _, n := range []int{1000, 5000} {
		if err := w.grown(ctx, n, found); err != nil {
			return nil, fmt.Errorf("%d nodes: %w", n, err)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(found)) {
		if of, ok := strings.CutSuffix(name, "_5000"); ok && found[of+"_1000"] > 0 {
			found[of+"_growth"] = found[name] / found[of+"_1000"]
		}
	}
	return found, nil
}

func (w *world) grown(ctx context.Context, n int, found figures) error {
	own, err := newWorld(ctx, w.root, w.programs, true)
	if err != nil {
		return err
	}
	defer own.close()
	f := &fleet{world: own, n: n, flags: []string{metricsOpen, manyAtOnce}}
	if err := f.start(ctx); err != nil {
		return err
	}
	for _, step := range []func(context.Context, figures) error{
		f.grownNodes, f.grownServices, f.grownRest, f.grownFailover, f.grownRestart,
	} {
		mine := figures{}
		err := step(ctx, mine)
		mine.print(os.Stderr) // at once: all of it takes a quarter of an hour
		if err != nil {
			return err
		}
		for name, figure := range mine {
			found[fmt.Sprintf("scale_%s_%d", name, n)] = figure
		}
	}
	return f.ccm.Stop()
}

// measured does something, and notes for how long, with what both programs used of the CPUs, and how
// many requests there were, to Oxide and to the API server.
func (f *fleet) measured(ctx context.Context, name string, found figures, do func() error) error {
	cpu, err := f.cpuSeconds()
	if err != nil {
		return err
	}
	kube, err := f.kubeRequests(ctx)
	if err != nil {
		return err
	}
	began := time.Now()
	requests, err := f.difference(ctx, func() error {
		err := do()
		found[name+"_seconds"] = time.Since(began).Seconds()
		return err
	})
	if err != nil {
		return err
	}
	found[name+"_oxide_requests"] = f.report(name, requests)
	after, err := f.kubeRequests(ctx)
	if err != nil {
		return err
	}
	found[name+"_kube_requests"] = after - kube
	used, err := f.cpuSeconds()
	for program := range used {
		found[name+"_cpu_seconds_"+program] = used[program] - cpu[program]
	}
	return err
}

// kubeRequests returns how many requests the shim has sent to the API server.
func (f *fleet) kubeRequests(ctx context.Context) (float64, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, f.ccm.ShimURL("/metrics"), nil)
	if err != nil {
		return 0, err
	}
	anyone := &http.Client{Transport: &http.Transport{
		// The shim signs its own certificate, and nothing secret is asked for.
		TLSClientConfig:   &tls.Config{InsecureSkipVerify: true}, //nolint:gosec // see above
		DisableKeepAlives: true,
	}}
	response, err := anyone.Do(request)
	if err != nil {
		return 0, err
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != http.StatusOK {
		return 0, errors.New("the shim answers for its metrics: " + response.Status)
	}
	return sumOf(response.Body, "rest_client_requests_total")
}

// sumOf returns the sum of a metric over its labels.
func sumOf(text io.Reader, metric string) (sum float64, err error) {
	lines := bufio.NewScanner(text)
	for lines.Scan() {
		if labels, ok := strings.CutPrefix(lines.Text(), metric+"{"); ok {
			value, err := strconv.ParseFloat(labels[strings.LastIndex(labels, " ")+1:], 64)
			if err != nil {
				return 0, err
			}
			sum += value
		}
	}
	return sum, lines.Err()
}

func (f *fleet) grownNodes(ctx context.Context, found figures) error {
	return f.measured(ctx, "init", found, func() error { return f.join(ctx) })
}

func (f *fleet) grownServices(ctx context.Context, found figures) error {
	if err := f.measured(ctx, "serve", found, func() error { return f.serve(ctx, f.n) }); err != nil {
		return err
	}
	return f.awaitConfirmed(ctx, f.n)
}

// grownRest measures both programs while nothing happens.
func (f *fleet) grownRest(ctx context.Context, found figures) error {
	if err := rest(ctx, idle); err != nil {
		return err
	}
	for _, p := range f.processes() {
		var err error
		if found["rss_mb_"+p.name], err = residentMB(p.process.PID()); err != nil {
			return err
		}
	}
	steady := figures{}
	if err := f.measured(ctx, "steady", steady, func() error { return rest(ctx, steadyTime) }); err != nil {
		return err
	}
	delete(steady, "steady_seconds")
	for name, figure := range steady {
		found[name+"_per_minute"] = figure / steadyTime.Minutes()
	}
	return nil
}

// grownFailover measures the failover of one instance that carries one address, since it was stopped.
func (f *fleet) grownFailover(ctx context.Context, found figures) error {
	state, err := f.rack.State(ctx)
	if err != nil {
		return err
	}
	carried := map[string]int{}
	for _, ip := range state.FloatingIPs {
		carried[ip.Instance]++
	}
	i := slices.IndexFunc(state.FloatingIPs, func(ip rack.FloatingIP) bool {
		return carried[ip.Instance] == 1
	})
	if i < 0 {
		return errors.New("no instance carries one address alone")
	}
	ip := state.FloatingIPs[i]
	if err := f.measured(ctx, "failover", found, func() error {
		if err := f.rack.StopInstance(ctx, ip.Instance); err != nil {
			return err
		}
		return f.awaitMoved(ctx, ip)
	}); err != nil {
		return err
	}
	// Wait for the status that names the new place alone, so that nothing of this counts later.
	return rest(ctx, idle)
}

// awaitMoved waits until an address is attached to another instance.
func (f *fleet) awaitMoved(ctx context.Context, ip rack.FloatingIP) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	return process.Await(ctx, func(ctx context.Context) (bool, error) {
		state, err := f.rack.State(ctx)
		if err != nil {
			return false, err
		}
		now, ok := state.FloatingIP(ip.IP)
		return ok && now.AttachState == rack.Attached && now.Instance != ip.Instance, nil
	})
}

// grownRestart measures the start of both programs, until every Service is confirmed.
func (f *fleet) grownRestart(ctx context.Context, found figures) error {
	if err := f.ccm.Stop(); err != nil {
		return err
	}
	began := time.Now()
	requests, err := f.difference(ctx, func() error {
		if err := f.ccm.StartBackend(ctx); err != nil {
			return err
		}
		if err := f.ccm.StartShim(ctx); err != nil {
			return err
		}
		return f.awaitConfirmed(ctx, f.n)
	})
	if err != nil {
		return err
	}
	found["restart_seconds"] = time.Since(began).Seconds()
	found["restart_oxide_requests"] = f.report("restart", requests)
	used, err := f.cpuSeconds()
	for program := range used {
		found["restart_cpu_seconds_"+program] = used[program]
	}
	return err
}

// widenSubnet makes a subnet for more instances than the default one has room for.
func (f *fleet) widenSubnet(ctx context.Context) error {
	return f.rack.AddNetwork(ctx, wideSubnet, "10.64.0.0/16")
}

const wideSubnet = "wide"

// wideMachine returns the machine number i, in the wide subnet.
func wideMachine(i int) rack.Machine {
	return rack.Machine{
		Name: nodeName(i), NCPUs: 2, MemoryGiB: 8, Subnet: wideSubnet,
		IP: fmt.Sprintf("10.64.%d.%d", (i+10)/256, (i+10)%256),
	}
}

// scopeOf returns the cluster's id.
func (f *fleet) scopeOf(ctx context.Context) (string, error) {
	system, err := f.cluster.Client.CoreV1().Namespaces().Get(ctx, metav1.NamespaceSystem,
		metav1.GetOptions{})
	if err != nil {
		return "", err
	}
	return string(system.UID), nil
}
