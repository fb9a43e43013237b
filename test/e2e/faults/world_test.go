// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package faults

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/proto/client"
	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/objects"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/process"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/rack"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/stack"
)

const (
	namespace = "default"

	// rackName is the host name of a rack that has several addresses.
	rackName = "rack.faults.test"

	// newNode is the Node that joins, and newService the Service that is created, during the fault.
	newNode, newService = "new-node", "new"

	// probed is the node whose instance is stopped after the fault, to see that this is noticed.
	probed = "unready-1"
)

// readyNodes serve, and carry the addresses of the services that are there before the fault.
var readyNodes = []string{"node-a", "node-b", "node-c"}

// before are the Services that are there before the fault.
var before = []string{"web", "mail", "dns"}

// world is what one row has of its own: a rack, what is between that and the programs, and these.
type world struct {
	*lane
	dir   string
	group *process.Group
	rack  *rack.Rack
	// gates are between rack and backend, one for each address of the rack.
	gates     []*gate
	authority *authority
	ccm       *stack.CCM
	shim      *keptRunning
	unready   []string

	watch     *client.InstanceWatch
	stopWatch func()
	mu        sync.Mutex
	unlisted  []string
}

// errSkipped is why a row cannot run here.
var errSkipped = errors.New("skipped")

// newWorld starts a world with so many nodes that are not ready, whose rack has so many addresses.
func newWorld(ctx context.Context, l *lane, unready, addresses int) (w *world, err error) {
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	w = &world{lane: l}
	if w.dir, w.group, err = newFolder(); err != nil {
		return nil, err
	}
	if err := w.startRack(ctx, unready); err != nil {
		return w, err
	}
	if err := w.startGates(max(addresses, 1)); err != nil {
		return w, err
	}
	if err := w.startPrograms(ctx, addresses > 1); err != nil {
		return w, err
	}
	return w, w.populate(ctx)
}

func (w *world) startRack(ctx context.Context, unready int) (err error) {
	for i := range unready {
		w.unready = append(w.unready, fmt.Sprintf("unready-%d", i+1))
	}
	var machines []rack.Machine
	for i, name := range slices.Concat(readyNodes, []string{newNode}, w.unready) {
		machines = append(machines, rack.Machine{
			Name: name, NCPUs: 2, MemoryGiB: 8, IP: fmt.Sprintf("172.30.0.%d", 10+i),
		})
	}
	w.rack, err = rack.Start(ctx, w.group, rack.Options{
		Program: w.programs.Sim, Dir: w.dir, Machines: machines, Sleds: len(machines),
	})
	return err
}

// startGates starts one gate at 127.0.0.1, and others at the same port of the addresses after it.
func (w *world) startGates(n int) (err error) {
	if w.authority, err = newAuthority(); err != nil {
		return err
	}
	if err := w.authority.write(w.caFile()); err != nil {
		return err
	}
	config, err := w.server(0)
	if err != nil {
		return err
	}
	for i := range n {
		at := anyPort(byte(i + 1))
		if i > 0 {
			at = netip.AddrPortFrom(at.Addr(), w.gates[0].address.Port())
		}
		g, err := newGate(at, strings.TrimPrefix(w.rack.URL, "http://"), config)
		if err != nil {
			return err
		}
		w.gates = append(w.gates, g)
	}
	return nil
}

func (w *world) caFile() string { return filepath.Join(w.dir, "ca.pem") }

func (w *world) startPrograms(ctx context.Context, byName bool) (err error) {
	host := w.gates[0].address.String()
	programs := w.programs
	if byName {
		var addresses []netip.Addr
		for _, g := range w.gates {
			addresses = append(addresses, g.address.Addr())
		}
		programs.Backend, err = named(w.dir, programs.Backend, rackName, addresses...)
		if err != nil {
			return fmt.Errorf("%w: %w", errSkipped, err)
		}
		host = fmt.Sprintf("%s:%d", rackName, w.gates[0].address.Port())
	}
	shown := *w.rack
	shown.URL = "https://" + host
	w.ccm, err = stack.StartCCM(ctx, stack.CCMOptions{
		Group: w.group, Programs: programs, Cluster: w.cluster, Rack: &shown,
		Kubeconfig: w.lane.kubeconfig, Dir: w.dir,
		BackendFlags: []string{"--oxide-ca-file=" + w.caFile()},
	})
	if err != nil {
		return err
	}
	w.shim = keepRunning(w.ccm)
	return w.startWatch()
}

// startWatch watches the instances as any client of the backend may.
func (w *world) startWatch() error {
	conn, err := client.Dial(strings.TrimPrefix(w.ccm.Socket, "unix://"))
	if err != nil {
		return err
	}
	w.watch = client.NewInstanceWatch(client.InstanceWatchConfig{
		Service: backendv1.NewInstanceServiceClient(conn),
		Changed: func(id string) {
			if w.watch.Instance(id) == nil {
				w.mu.Lock()
				defer w.mu.Unlock()
				w.unlisted = append(w.unlisted, id)
			}
		},
	})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		w.watch.Run(ctx)
	}()
	w.stopWatch = func() {
		cancel()
		<-done
		_ = conn.Close()
	}
	return nil
}

// populate creates the Services that are there before the fault, at nodes that stay ready, and then
// registers the others, which are not ready once they are initialized.
func (w *world) populate(ctx context.Context) error {
	if err := w.join(ctx, readyNodes); err != nil {
		return err
	}
	for i, name := range before {
		if err := w.createService(ctx, name, objects.TCP(int32(8081+i))); err != nil {
			return err
		}
	}
	err := w.await(ctx, func(s snapshot) string {
		for _, name := range before {
			// The old place is taken from a status a moment after the new one is there.
			if s.served[name] == "" || strings.Count(s.statuses[name], " ") != 1 {
				return "an address for " + name
			}
		}
		return ""
	})
	if err != nil {
		return err
	}
	if err := w.join(ctx, w.unready); err != nil {
		return err
	}
	for _, name := range w.unready {
		if err := objects.SetReady(ctx, w.client(), name, corev1.ConditionUnknown); err != nil {
			return err
		}
	}
	return process.Await(ctx, func(context.Context) (bool, error) {
		return len(w.watch.Instances()) == len(readyNodes)+1+len(w.unready), nil
	})
}

// join registers Nodes and waits until they are initialized.
func (w *world) join(ctx context.Context, nodes []string) error {
	for _, name := range nodes {
		if err := w.register(ctx, name); err != nil {
			return err
		}
	}
	return w.await(ctx, func(s snapshot) string {
		for _, name := range nodes {
			if !s.initialized[name] {
				return "the initialization of " + name
			}
		}
		return ""
	})
}

func (w *world) register(ctx context.Context, name string) error {
	_, err := w.client().CoreV1().Nodes().Create(ctx, objects.Node(name), metav1.CreateOptions{})
	return err
}

func (w *world) createService(ctx context.Context, name string, port corev1.ServicePort) error {
	_, err := w.client().CoreV1().Services(namespace).Create(ctx,
		objects.LoadBalancer(namespace, name, port), metav1.CreateOptions{})
	return err
}

// snapshot is what is in the cluster and on the rack.
type snapshot struct {
	// nodes are the UIDs of the Nodes, and initialized says of which the initialization is over.
	nodes       map[string]string
	initialized map[string]bool
	// served are the addresses of Services with which they are served: those that the status says, of
	// which one is attached. statuses are all that is said.
	served, statuses map[string]string
	// addresses are the floating IPs, by their ids, and what carries them.
	addresses map[string]string
}

func (w *world) look(ctx context.Context) (snapshot, error) {
	s := snapshot{
		nodes: make(map[string]string), initialized: make(map[string]bool), served: make(map[string]string),
		statuses: make(map[string]string),
	}
	state, err := w.rack.State(ctx)
	if err != nil {
		return s, err
	}
	s.addresses = places(state)
	nodes, err := w.client().CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil {
		return s, err
	}
	for i := range nodes.Items {
		node := &nodes.Items[i]
		s.nodes[node.Name] = string(node.UID)
		s.initialized[node.Name] = !objects.HasTaint(node, objects.UninitializedTaint)
	}
	services, err := w.client().CoreV1().Services(namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return s, err
	}
	for _, service := range services.Items {
		var all []string
		for _, ingress := range service.Status.LoadBalancer.Ingress {
			all = append(all, ingress.IP)
			if ip, ok := state.FloatingIP(ingress.IP); ok && ip.AttachState == rack.Attached {
				s.served[service.Name] = ingress.IP
			}
		}
		s.statuses[service.Name] = strings.Join(all, " ")
	}
	return s, nil
}

// places returns where each floating IP of a rack is.
func places(state rack.State) map[string]string {
	all := make(map[string]string)
	for _, ip := range state.FloatingIPs {
		all[ip.ID] = strings.Join([]string{ip.IP, ip.Name, ip.AttachState, ip.Instance}, " ")
	}
	return all
}

// await waits until nothing is missing.
func (w *world) await(ctx context.Context, missing func(snapshot) string) error {
	last := ""
	err := process.Await(ctx, func(ctx context.Context) (bool, error) {
		s, err := w.look(ctx)
		if err != nil {
			last = err.Error()
			return false, nil
		}
		last = missing(s)
		return last == "", nil
	})
	if err != nil {
		return fmt.Errorf("still missing: %s: %w", last, err)
	}
	return nil
}

// watchLost returns the instances of which the watch said that they are no longer listed.
func (w *world) watchLost() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.unlisted)
}

// watchSees reports whether the watch has noticed that the probed instance was stopped.
func (w *world) watchSees() bool {
	for _, instance := range w.watch.Instances() {
		if instance.GetName() == probed {
			return instance.GetRunState() == backendv1.RunState_RUN_STATE_STOPPED
		}
	}
	return false
}

// close ends everything, and keeps the logs if that is asked for.
func (w *world) close(ctx context.Context, keep bool) error {
	if w.stopWatch != nil {
		w.stopWatch()
	}
	if w.shim != nil {
		w.shim.end()
	}
	err := w.group.StopAll(stopGrace)
	for _, g := range w.gates {
		g.close()
	}
	secrets, wrong := stack.NewSecrets()
	err = errors.Join(err, wrong, secrets.InFiles(w.group.LogDir()), w.empty(ctx))
	if err == nil && !keep {
		return os.RemoveAll(w.dir)
	}
	return err
}

// changed names what is otherwise than before.
func changed(was, is map[string]string) []string {
	var all []string
	for _, key := range slices.Sorted(maps.Keys(was)) {
		if is[key] != was[key] {
			all = append(all, fmt.Sprintf("%q became %q", was[key], is[key]))
		}
	}
	return all
}
