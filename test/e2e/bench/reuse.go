// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/proto/client"
	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/process"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/rack"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/stack"
)

const (
	// vipSamples are how often the failover of examples/vip is measured, out of so many members.
	vipSamples, vipMembers = 5, 8
	// readInstances are on the rack while reads are measured, each of them for readFor.
	readInstances = 100
	readFor       = 3 * time.Second
)

// measureImporter counts what a program gets that imports the API's client: the modules in its graph,
// itself among them, and the packages that it links beside those of Go.
func measureImporter(ctx context.Context, w *world) (figures, error) {
	const api = "github.com/oxidecomputer/oxide-cloud-controller-manager/proto"
	dir := filepath.Join(w.dir, "importer")
	if err := os.Mkdir(dir, 0o755); err != nil {
		return nil, err
	}
	sums, err := os.ReadFile(filepath.Join(w.root, "proto", "go.sum"))
	if err != nil {
		return nil, err
	}
	for name, text := range map[string]string{
		"go.mod": fmt.Sprintf("module example.com/importer\n\ngo 1.25.0\n\nrequire %[1]s v0.0.0\n\n"+
			"replace %[1]s => %[2]s\n", api, filepath.Join(w.root, "proto")),
		"go.sum":  string(sums),
		"main.go": fmt.Sprintf("package main\n\nimport _ %q\n\nfunc main() {}\n", api+"/client"),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			return nil, err
		}
	}
	run := func(args ...string) ([]string, error) {
		command := exec.CommandContext(ctx, "go", args...)
		command.Dir = dir
		command.Env = append(command.Environ(), "GOWORK=off")
		out, err := command.Output()
		return strings.Fields(string(out)), err
	}
	// As an importer does: before that, the graph is not complete.
	if _, err := run("mod", "tidy"); err != nil {
		return nil, err
	}
	modules, err := run("list", "-m", "-f", "{{.Path}}", "all")
	if err != nil {
		return nil, err
	}
	packages, err := run("list", "-deps", "-f", "{{if not .Standard}}{{.ImportPath}}{{end}}", ".")
	if err != nil {
		return nil, err
	}
	kubernetes := slices.DeleteFunc(slices.Clone(modules), func(path string) bool {
		return !strings.HasPrefix(path, "k8s.io/") && !strings.HasPrefix(path, "sigs.k8s.io/")
	})
	return figures{
		"importer_modules": float64(len(modules)), "importer_packages": float64(len(packages)),
		"importer_kubernetes_modules": float64(len(kubernetes)),
	}, nil
}

// measureVIP measures examples/vip on a rack where things take as long as on a real one: from the moment
// at which the member that has the address ceases to answer, or has been stopped, until the address is
// attached to another one.
func measureVIP(ctx context.Context, w *world) (figures, error) {
	r, backend, err := w.withoutKubernetes(ctx, rack.Options{TimeScale: asOnARack})
	if err != nil {
		return nil, err
	}
	var members []string
	for i := range vipMembers {
		members = append(members, fmt.Sprintf("member-%d", i))
	}
	if err := r.AddGroup(ctx, "members", members...); err != nil {
		return nil, err
	}
	vip := filepath.Join(w.dir, "vip")
	build := exec.CommandContext(ctx, "go", "build", "-o", vip, "./vip")
	build.Dir = filepath.Join(w.root, "examples")
	build.Env = append(build.Environ(), "GOWORK=off")
	if out, err := build.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("examples/vip: %w: %s", err, out)
	}
	down := func(name string) string { return filepath.Join(w.dir, "down-"+name) }
	if _, err := w.group.Start(process.Spec{
		Name: "vip", Path: vip, Env: []string{"PATH=" + os.Getenv("PATH")}, Args: []string{
			"--socket", strings.TrimPrefix(backend.Socket, "unix://"), "--group", "members",
			"--check", "test ! -e " + down(`"$NAME"`),
		},
	}); err != nil {
		return nil, err
	}
	carrier, err := awaitCarrier(ctx, r, "")
	if err != nil {
		return nil, err
	}
	var silent, stopped []time.Duration
	for len(stopped) < vipSamples {
		// At another moment between two checks, and not within 30 s of a move.
		if err := rest(ctx, 31*time.Second+time.Duration(len(silent))*vipPhase); err != nil {
			return nil, err
		}
		began := time.Now()
		if err := os.WriteFile(down(carrier), nil, 0o600); err != nil {
			return nil, err
		}
		next, err := awaitCarrier(ctx, r, carrier)
		if err != nil {
			return nil, err
		}
		silent = append(silent, time.Since(began))
		if err := os.Remove(down(carrier)); err != nil {
			return nil, err
		}
		if err := rest(ctx, 3*time.Second); err != nil {
			return nil, err
		}
		if err := r.StopInstance(ctx, next); err != nil {
			return nil, err
		}
		began = time.Now()
		if carrier, err = awaitCarrier(ctx, r, next); err != nil {
			return nil, err
		}
		stopped = append(stopped, time.Since(began))
		if err := r.StartInstance(ctx, next); err != nil {
			return nil, err
		}
	}
	return figures{
		"vip_failover_seconds":         median("a member ceases to answer", silent),
		"vip_failover_stopped_seconds": median("a member is stopped", stopped),
	}, nil
}

// vipPhase is how much later, after the check before, each member ceases to answer.
const vipPhase = 200 * time.Millisecond

// awaitCarrier waits until the only address is attached to another instance, and returns its name.
func awaitCarrier(ctx context.Context, r *rack.Rack, not string) (carrier string, err error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	err = process.Await(ctx, func(ctx context.Context) (bool, error) {
		state, err := r.State(ctx)
		if err != nil || len(state.FloatingIPs) != 1 || state.FloatingIPs[0].AttachState != rack.Attached {
			return false, err
		}
		carrier = state.FloatingIPs[0].Instance
		return carrier != not, nil
	})
	return carrier, err
}

// withoutKubernetes starts a rack, and a backend alone.
func (w *world) withoutKubernetes(ctx context.Context, options rack.Options,
) (*rack.Rack, *stack.CCM, error) {
	options.Program, options.Dir = w.programs.Sim, w.dir
	r, err := rack.Start(ctx, w.group, options)
	if err != nil {
		return nil, nil, err
	}
	backend, err := stack.StartBackend(ctx, stack.CCMOptions{
		Group: w.group, Programs: w.programs, Rack: r, Dir: w.dir,
	})
	return r, backend, err
}

// measureReads measures the common reads of a backend in front of 100 instances, from one connection,
// one at a time and 16 at a time: how many are answered in a second, and how long they take.
func measureReads(ctx context.Context, w *world) (figures, error) {
	var machines []rack.Machine
	for i := range readInstances {
		machines = append(machines, rack.Machine{
			Name: fmt.Sprintf("node-%d", i), NCPUs: 2, MemoryGiB: 8,
			IP: fmt.Sprintf("172.30.0.%d", 11+i),
		})
	}
	r, backend, err := w.withoutKubernetes(ctx, rack.Options{Machines: machines})
	if err != nil {
		return nil, err
	}
	state, err := r.State(ctx)
	if err != nil {
		return nil, err
	}
	conn, err := client.Dial(strings.TrimPrefix(backend.Socket, "unix://"))
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close() }()
	found := figures{}
	for _, read := range reads(conn, state.Instances) {
		for _, inFlight := range []int{1, 16} {
			if err := measureRead(ctx, read, inFlight, found); err != nil {
				return nil, fmt.Errorf("%s: %w", read.name, err)
			}
		}
	}
	return found, nil
}

// read is a call that is measured.
type read struct {
	name string
	call func(ctx context.Context, nth int) error
}

func reads(conn grpc.ClientConnInterface, all []rack.Instance) []read {
	info := backendv1.NewBackendServiceClient(conn)
	instances := backendv1.NewInstanceServiceClient(conn)
	balancers := backendv1.NewLoadBalancerServiceClient(conn)
	addresses := backendv1.NewAddressServiceClient(conn)
	ids := make([]*backendv1.InstanceSelector, 0, len(all))
	for _, instance := range all {
		ids = append(ids, &backendv1.InstanceSelector{
			Selector: &backendv1.InstanceSelector_Id{Id: instance.ID},
		})
	}
	return []read{
		{"info", func(ctx context.Context, _ int) error {
			_, err := info.GetInfo(ctx, new(backendv1.GetInfoRequest))
			return err
		}},
		{"instance", func(ctx context.Context, nth int) error {
			_, err := instances.GetInstance(ctx, &backendv1.GetInstanceRequest{
				Instance: &backendv1.GetInstanceRequest_Id{Id: all[nth%len(all)].ID},
			})
			return err
		}},
		{"instances_100", func(ctx context.Context, _ int) error {
			_, err := instances.ListInstances(ctx, &backendv1.ListInstancesRequest{PageSize: readInstances})
			return err
		}},
		{"instances_batch_100", func(ctx context.Context, _ int) error {
			_, err := instances.BatchGetInstances(ctx, &backendv1.BatchGetInstancesRequest{Instances: ids})
			return err
		}},
		{"load_balancers", func(ctx context.Context, _ int) error {
			_, err := balancers.ListLoadBalancers(ctx, new(backendv1.ListLoadBalancersRequest))
			return err
		}},
		{"addresses", func(ctx context.Context, _ int) error {
			_, err := addresses.ListAddresses(ctx, new(backendv1.ListAddressesRequest))
			return err
		}},
	}
}

// measureRead makes calls for readFor, so many at a time, after a second in which nothing is counted.
func measureRead(ctx context.Context, r read, inFlight int, found figures) error {
	times := make([][]float64, inFlight)
	warm := time.Now().Add(time.Second)
	end := warm.Add(readFor)
	group, ctx := errgroup.WithContext(ctx)
	for i := range inFlight {
		group.Go(func() error {
			for nth := i; ; nth++ {
				start := time.Now()
				if start.After(end) {
					return nil
				}
				if err := r.call(ctx, nth); err != nil {
					return err
				}
				if start.After(warm) {
					times[i] = append(times[i], float64(time.Since(start).Nanoseconds())/1e3)
				}
			}
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	all := slices.Sorted(slices.Values(slices.Concat(times...)))
	name := fmt.Sprintf("read_%s_%d_", r.name, inFlight)
	found[name+"per_second"] = float64(len(all)) / readFor.Seconds()
	found[name+"p50_us"] = all[len(all)/2]
	found[name+"p99_us"] = all[len(all)*99/100]
	return nil
}
