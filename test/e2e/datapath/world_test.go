// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

//go:build e2edatapath

package datapath

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/cluster"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/objects"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/process"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/rack"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/stack"
)

const (
	logFolder = "logs"
	// machineCount is how many machines there are, the leader's among them.
	machineCount = 6
	// startLimit is how long the world may take to start.
	startLimit = 3 * time.Minute
	// asOnARack makes attaching and detaching last a second each.
	asOnARack = 1
	// latency is added by the rack to every request.
	latency = 50 * time.Millisecond
)

// world is a cluster in network namespaces, with the cloud controller manager on its first machine.
type world struct {
	prepared   prepared
	dir        string
	group      *process.Group
	cluster    *cluster.Cluster
	client     kubernetes.Interface
	httpClient *http.Client
	rack       *rack.Rack
	ccm        *stack.CCM
	machines   []*machine
	figures    figures

	proxyKubeconfig string
	crossing        *crossing
	servers         []interface{ close() }
	cancel          context.CancelFunc
	following       sync.WaitGroup
}

func newWorld(p prepared) *world {
	w := &world{
		prepared: p, dir: stateDir, figures: newFigures(p.Mode), cancel: func() {},
		group: process.NewGroup(filepath.Join(stateDir, logFolder)),
		// A connection to a machine that vanishes would be used again otherwise.
		httpClient: &http.Client{Transport: &http.Transport{DisableKeepAlives: true}},
	}
	w.crossing = &crossing{world: w, left: map[string]gap{}}
	for i := range machineCount {
		w.machines = append(w.machines, newMachine(w, i))
	}
	return w
}

// start brings the world up, until all machines have joined and carry what they are given.
func (w *world) start() error {
	ctx, cancel := context.WithTimeoutCause(context.Background(), startLimit,
		errors.New("the world took too long to start"))
	defer cancel()
	if err := os.MkdirAll(filepath.Join(w.dir, logFolder), 0o700); err != nil {
		return err
	}
	for _, step := range []func(context.Context) error{
		w.startNetwork, w.startControlPlane, w.startRack, w.startCCM, w.joinMachines,
	} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (w *world) startNetwork(ctx context.Context) error {
	if err := openFabric(ctx); err != nil {
		return err
	}
	for _, m := range w.machines {
		if err := m.build(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (w *world) startControlPlane(ctx context.Context) (err error) {
	w.cluster, err = cluster.StartAt(ctx, w.group, w.prepared.Programs.Binaries, w.dir, gateway)
	if err != nil {
		return err
	}
	w.client = w.cluster.Client
	config, err := w.cluster.User("system:kube-proxy")
	if err != nil {
		return err
	}
	w.proxyKubeconfig = filepath.Join(w.dir, "kube-proxy.kubeconfig")
	return w.cluster.WriteKubeconfig(w.proxyKubeconfig, "kube-proxy", config)
}

func (w *world) startRack(ctx context.Context) (err error) {
	instances := make([]rack.Machine, 0, len(w.machines))
	for _, m := range w.machines {
		instances = append(instances, m.instance())
	}
	w.rack, err = rack.Start(ctx, w.group, rack.Options{
		Program: w.prepared.Programs.Sim, Dir: w.dir, Machines: instances,
		Latency: latency, TimeScale: asOnARack,
	})
	if err != nil {
		return err
	}
	if err := w.rack.AddFirewallRule(ctx, rack.AllOpen); err != nil {
		return err
	}
	if err := w.addPools(ctx); err != nil {
		return err
	}
	state, err := w.rack.State(ctx)
	if err != nil {
		return err
	}
	for _, m := range w.machines {
		if err := m.addIPv6(ctx, state); err != nil {
			return err
		}
	}
	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	w.cancel = stop
	w.following.Go(func() { w.crossing.run(running) })
	return nil
}

// addPools adds a default pool of each other kind of addresses than IPv4 floating IPs.
func (w *world) addPools(ctx context.Context) error {
	return errors.Join(
		w.rack.AddPool(ctx, rack.Pool{
			Name: "default-v6", Version: "v6", First: "2001:db8:51::10", Last: "2001:db8:51::ffff", Default: true,
		}),
		w.rack.AddSubnetPool(ctx, rack.SubnetPool{
			Name: "subnets", Version: "v4", Subnet: routedSubnet, Default: true,
		}),
		w.rack.AddSubnetPool(ctx, rack.SubnetPool{
			Name: "subnets-v6", Version: "v6", Subnet: routedSubnet6, Default: true,
		}),
	)
}

// startCCM starts the cloud controller manager on the first machine.
func (w *world) startCCM(ctx context.Context) error {
	leader := w.machines[0]
	if err := w.reachRack(leader); err != nil {
		return err
	}
	kubeconfig, err := stack.Identity(ctx, w.cluster, w.prepared.Root, w.dir)
	if err != nil {
		return err
	}
	w.ccm, err = stack.StartCCM(ctx, stack.CCMOptions{
		Group: w.group, Programs: w.prepared.Programs, Cluster: w.cluster, Rack: w.rack,
		Kubeconfig: kubeconfig, Dir: w.dir, Namespace: leader.name, Address: leader.private,
		ShimFlags: []string{"--node-name=" + leader.name, "--probe-nodes=true"},
	})
	return err
}

// reachRack lets a machine reach the rack's API at the address that it has here. The simulator
// listens on loopback alone, so this goes another way than all else: it works while the machine's
// wire is off.
func (w *world) reachRack(m *machine) error {
	at, err := url.Parse(w.rack.URL)
	if err != nil {
		return err
	}
	relay, err := listen(m.name, at.Host, func(near net.Conn) {
		far, err := net.Dial("tcp", at.Host)
		if err != nil {
			return
		}
		defer far.Close()
		go func() {
			_, _ = io.Copy(far, near)
			far.Close()
		}()
		_, _ = io.Copy(near, far)
	})
	if err != nil {
		return err
	}
	w.servers = append(w.servers, relay)
	return nil
}

// joinMachines lets all machines join, and waits until they are initialized and their proxies run.
func (w *world) joinMachines(ctx context.Context) error {
	for _, m := range w.machines {
		if err := m.startKubelet(ctx); err != nil {
			return err
		}
	}
	errs := make([]error, len(w.machines))
	var group sync.WaitGroup
	for i, m := range w.machines {
		group.Go(func() {
			if errs[i] = process.Await(ctx, m.hasAddress); errs[i] == nil {
				errs[i] = m.startProxy(ctx)
			}
		})
	}
	group.Wait()
	return errors.Join(errs...)
}

// machine returns the machine of that name.
func (w *world) machine(name string) (*machine, error) {
	for _, m := range w.machines {
		if m.name == name {
			return m, nil
		}
	}
	return nil, fmt.Errorf("there is no machine %q", name)
}

// close ends everything.
func (w *world) close() error {
	for _, m := range w.machines {
		m.killKubelet()
	}
	w.cancel()
	w.following.Wait()
	err := w.group.StopAll(20 * time.Second)
	for _, server := range w.servers {
		server.close()
	}
	return err
}

// label sets labels of a Node; an empty value removes one.
func (w *world) label(ctx context.Context, node, key, value string) error {
	nodes := w.client.CoreV1().Nodes()
	return objects.Change(ctx, node, nodes.Get, nodes.Update, func(object *corev1.Node) {
		if value == "" {
			delete(object.Labels, key)
		} else {
			object.Labels[key] = value
		}
	})
}
