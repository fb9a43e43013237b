// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package main

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

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
	// warmUp and hops are how many calls are made before and while the hop is measured.
	warmUp, hops = 500, 10_000
	// idle is how long both programs rest before their memory is read.
	idle = 15 * time.Second
	// limit bounds everything that is waited for.
	limit = 60 * time.Second
)

// measureProcess measures what the two programs cost by themselves: the size of the binaries, the
// memory at rest with three initialized nodes and two Services, and the hop from one to the other: a
// call that the backend answers without asking Oxide.
func measureProcess(ctx context.Context, w *world) (figures, error) {
	found := figures{}
	for name, file := range map[string]string{
		"binary_backend_mb": w.programs.Backend, "binary_shim_mb": w.programs.Shim,
	} {
		info, err := os.Stat(file)
		if err != nil {
			return nil, err
		}
		found[name] = float64(info.Size()) / 1e6
	}
	var machines []rack.Machine
	for i := range 3 {
		machines = append(machines, rack.Machine{
			Name: fmt.Sprintf("node-%d", i), NCPUs: 2, MemoryGiB: 8,
			IP: fmt.Sprintf("172.30.0.%d", 11+i),
		})
	}
	r, err := rack.Start(ctx, w.group, rack.Options{
		Program: w.programs.Sim, Dir: w.dir, Machines: machines,
	})
	if err != nil {
		return nil, err
	}
	ccm, err := stack.StartCCM(ctx, stack.CCMOptions{
		Group: w.group, Programs: w.programs, Cluster: w.cluster, Rack: r,
		Kubeconfig: w.kubeconfig, Dir: w.dir,
	})
	if err != nil {
		return nil, err
	}
	if err := w.populate(ctx, machines); err != nil {
		return nil, err
	}
	if found["hop_p50_us"], found["hop_p99_us"], err = measureHop(ctx, ccm.Socket); err != nil {
		return nil, err
	}
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-time.After(idle):
	}
	for name, p := range map[string]*process.Process{
		"rss_backend_mb": ccm.Backend, "rss_shim_mb": ccm.Shim,
	} {
		if found[name], err = residentMB(p.PID()); err != nil {
			return nil, err
		}
	}
	return found, ccm.Stop()
}

// populate registers the nodes, creates two Services, and waits until all of it is served.
func (w *world) populate(ctx context.Context, machines []rack.Machine) error {
	core := w.cluster.Client.CoreV1()
	for _, m := range machines {
		if _, err := core.Nodes().Create(ctx, objects.Node(m.Name),
			metav1.CreateOptions{}); err != nil {
			return err
		}
	}
	for i, port := range []corev1.ServicePort{objects.TCP(80), objects.UDP(53)} {
		if _, err := core.Services("default").Create(ctx,
			objects.LoadBalancer("default", fmt.Sprintf("service-%d", i), port),
			metav1.CreateOptions{}); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	return process.Await(ctx, func(ctx context.Context) (bool, error) {
		nodes, err := core.Nodes().List(ctx, metav1.ListOptions{})
		if err != nil {
			return false, err
		}
		services, err := core.Services("default").List(ctx, metav1.ListOptions{})
		if err != nil {
			return false, err
		}
		pending := slices.ContainsFunc(nodes.Items, func(n corev1.Node) bool {
			return n.Spec.ProviderID == ""
		}) || slices.ContainsFunc(services.Items, func(s corev1.Service) bool {
			return s.Spec.Type == corev1.ServiceTypeLoadBalancer &&
				len(s.Status.LoadBalancer.Ingress) == 0
		})
		return !pending, nil
	})
}

// measureHop returns the median and the 99th percentile of a call's time in microseconds.
func measureHop(ctx context.Context, socket string) (p50, p99 float64, err error) {
	conn, err := grpc.NewClient(socket,
		grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return 0, 0, err
	}
	defer func() { _ = conn.Close() }()
	client := backendv1.NewBackendServiceClient(conn)
	times := make([]float64, 0, hops)
	for i := range warmUp + hops {
		start := time.Now()
		if _, err := client.GetInfo(ctx, &backendv1.GetInfoRequest{}); err != nil {
			return 0, 0, err
		}
		if i >= warmUp {
			times = append(times, float64(time.Since(start).Nanoseconds())/1e3)
		}
	}
	slices.Sort(times)
	return times[len(times)/2], times[len(times)*99/100], nil
}

// residentMB returns the resident memory of a process, as the kernel counts it.
func residentMB(pid int) (float64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kib, err := strconv.ParseFloat(strings.Fields(value)[0], 64)
			return kib * 1024 / 1e6, err
		}
	}
	return 0, fmt.Errorf("process %d has no resident memory", pid)
}
