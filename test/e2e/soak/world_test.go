// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package soak

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	typedv1 "k8s.io/client-go/kubernetes/typed/core/v1"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/cluster"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/objects"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/process"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/progress"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/rack"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/stack"
)

const (
	namespace = "default"
	// startLimit is how long a world may take to start, and settleLimit anything else.
	startLimit, settleLimit = 3 * time.Minute, 100 * time.Second
	// metricsOpen lets anybody read the metrics of the shim.
	metricsOpen = "--authorization-always-allow-paths=/healthz,/readyz,/livez,/metrics"
	// newNode is an instance that joins later than the others.
	newNode = "new-node"
)

// steadyNodes carry addresses, and unreadyNodes never do: the shim asks for their instances all the
// time.
var (
	steadyNodes  = []string{"node-a", "node-b", "node-c", "node-d"}
	unreadyNodes = []string{"unready-1", "unready-2"}
)

// world is a control plane, a rack, and the programs between them.
type world struct {
	*testing.T

	dir     string
	group   *process.Group
	cluster *cluster.Cluster
	rack    *rack.Rack
	gate    *gate
	ccm     *stack.CCM
	// metrics is where the backend serves its metrics, and flags are its others.
	metrics string
	flags   []string
}

// options say what is special about a world.
type options struct {
	// latency is that of each request to the rack.
	latency time.Duration
	// backend and shim are flags.
	backend, shim []string
}

// newWorld starts a world in which all Nodes but the new one are initialized.
func newWorld(t *testing.T, o options) *world {
	t.Helper()
	root, err := stack.Root()
	if err != nil {
		t.Fatal(err)
	}
	programs, err := stack.Build(t.Context(), root, progress.ForTest("soak"))
	if err != nil {
		t.Fatal(err)
	}
	// Not t.TempDir: a unix socket's path has to be short.
	dir, err := os.MkdirTemp("/tmp", "oxide-soak-")
	if err != nil {
		t.Fatal(err)
	}
	logs := filepath.Join(dir, "logs")
	if err := os.Mkdir(logs, 0o700); err != nil {
		t.Fatal(err)
	}
	w := &world{T: t, dir: dir, group: process.NewGroup(logs), flags: o.backend}
	t.Cleanup(func() { w.end(t) })
	ctx, cancel := context.WithTimeout(t.Context(), startLimit)
	defer cancel()
	w.must(w.start(ctx, root, programs, o))
	return w
}

func (w *world) start(ctx context.Context, root string, programs stack.Programs, o options) (err error) {
	var machines []rack.Machine
	for i, name := range slices.Concat(steadyNodes, unreadyNodes, []string{newNode}) {
		machines = append(machines, rack.Machine{
			Name: name, NCPUs: 2, MemoryGiB: 8, IP: fmt.Sprintf("172.30.0.%d", 10+i),
		})
	}
	w.rack, err = rack.Start(ctx, w.group, rack.Options{
		Program: programs.Sim, Dir: w.dir, Machines: machines, Sleds: len(machines), Latency: o.latency,
	})
	if err != nil {
		return err
	}
	w.gate = newGate(w.T, w.rack.URL)
	if w.cluster, err = cluster.Start(ctx, w.group, programs.Binaries, w.dir); err != nil {
		return err
	}
	kubeconfig, err := stack.Identity(ctx, w.cluster, root, w.dir)
	if err != nil {
		return err
	}
	shown := *w.rack
	shown.URL = w.gate.URL
	w.metrics = freeAddress(w.T)
	w.ccm, err = stack.StartCCM(ctx, stack.CCMOptions{
		Group: w.group, Programs: programs, Cluster: w.cluster, Rack: &shown, Kubeconfig: kubeconfig,
		Dir: w.dir, BackendFlags: w.backendFlags(), ShimFlags: append(o.shim, metricsOpen),
	})
	if err != nil {
		return err
	}
	if err := w.join(slices.Concat(steadyNodes, unreadyNodes)...); err != nil {
		return err
	}
	for _, name := range unreadyNodes {
		err = errors.Join(err, objects.SetReady(ctx, w.cluster.Client, name, corev1.ConditionUnknown))
	}
	return err
}

func (w *world) backendFlags() []string {
	return append([]string{"--metrics-listen=" + w.metrics}, w.flags...)
}

// restartBackend starts the backend again, with its metrics at another port: somebody may have the
// old one.
func (w *world) restartBackend() {
	w.Helper()
	w.metrics = freeAddress(w.T)
	w.ccm.SetBackendFlags(w.backendFlags()...)
	w.must(w.ccm.StartBackend(w.Context()))
}

func freeAddress(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().String()
}

// end ends everything, and keeps the logs of a test that failed.
func (w *world) end(t *testing.T) {
	if err := w.group.StopAll(25 * time.Second); err != nil {
		t.Error(err)
	}
	if w.gate != nil {
		w.gate.close()
	}
	stack.EndLogs(t, w.group, w.dir)
}

func (w *world) must(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

// rest lets time go by. A program that ends by itself meanwhile fails the test.
func (w *world) rest(d time.Duration) {
	w.Helper()
	select {
	case <-w.Context().Done():
		w.Fatal(w.Context().Err())
	case exit := <-w.group.Exits():
		w.Fatal(exit)
	case <-time.After(d):
	}
}

// await waits until nothing is missing.
func (w *world) await(limit time.Duration, missing func(context.Context) (string, error)) {
	w.Helper()
	ctx, cancel := context.WithTimeout(w.Context(), limit)
	defer cancel()
	last := "any look at it"
	err := process.Await(ctx, func(ctx context.Context) (bool, error) {
		now, err := missing(ctx)
		if ctx.Err() == nil {
			last = now
		} else {
			err = nil // too late, whatever it is
		}
		return err == nil && last == "", err
	})
	if err != nil {
		w.Fatalf("after %s still missing: %s: %v", limit, last, err)
	}
}

func (w *world) nodes() typedv1.NodeInterface { return w.cluster.Client.CoreV1().Nodes() }

func (w *world) services() typedv1.ServiceInterface {
	return w.cluster.Client.CoreV1().Services(namespace)
}

// join registers Nodes, and waits until they are initialized.
func (w *world) join(names ...string) error {
	w.Helper()
	for _, name := range names {
		if _, err := w.nodes().Create(w.Context(), objects.Node(name), metav1.CreateOptions{}); err != nil {
			return err
		}
	}
	for _, name := range names {
		w.await(settleLimit, func(ctx context.Context) (string, error) {
			node, err := w.nodes().Get(ctx, name, metav1.GetOptions{})
			if err == nil && objects.HasTaint(node, objects.UninitializedTaint) {
				return "the initialization of " + name, nil
			}
			return "", err
		})
	}
	return nil
}

// create creates a Service, and returns its UID.
func (w *world) create(name string, port int32) (uid string, err error) {
	created, err := w.services().Create(w.Context(),
		objects.LoadBalancer(namespace, name, objects.TCP(port)), metav1.CreateOptions{})
	if err != nil {
		return "", err
	}
	return string(created.UID), nil
}

// remove deletes a Service.
func (w *world) remove(name string) error {
	return w.services().Delete(w.Context(), name, metav1.DeleteOptions{})
}

// addresses returns the floating IPs on the rack, and where each is, by their ids.
func (w *world) addresses(ctx context.Context) (map[string]string, error) {
	state, err := w.rack.State(ctx)
	all := make(map[string]string, len(state.FloatingIPs))
	for _, ip := range state.FloatingIPs {
		all[ip.ID] = strings.Join([]string{ip.IP, ip.Name, ip.AttachState, ip.Instance}, " ")
	}
	return all, err
}
