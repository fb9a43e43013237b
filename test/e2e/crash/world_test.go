// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package crash

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/cluster"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/objects"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/process"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/rack"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/stack"
)

const (
	namespace = "default"
	finalizer = "service.kubernetes.io/load-balancer-cleanup"
	prefix    = "oxide.computer/"

	// timeScale makes 30 seconds 600 milliseconds.
	timeScale = "0.02"
	// settleLimit is how long anything may take to become as it has to be. A firewall is read again after a
	// minute, which no flag shortens.
	settleLimit = 100 * time.Second
	// reachLimit is how long a call may take to come.
	reachLimit = 20 * time.Second

	// roleLabel says which Nodes are for what.
	roleLabel = "role"
	steady    = "steady"
	work      = "work"
)

// The Nodes: one carries a Service that nothing ever happens to, the others all else.
var nodes = map[string]string{"node-s": steady, "node-a": work, "node-b": work, "node-c": work}

// foreignRule is another client's.
const foreignRule = `{"name":"theirs","description":"terraform","status":"enabled","direction":"inbound",` +
	`"action":"allow","priority":7,"targets":[{"type":"ip","value":"172.30.0.200"}],` +
	`"filters":{"hosts":[],"ports":["9000-9100"],"protocols":[{"type":"udp"}]}}`

// world is one rack, one control plane, and the programs between them. Points run in it one after the
// other.
type world struct {
	*testing.T
	*state

	dir        string
	group      *process.Group
	programs   stack.Programs
	cluster    *cluster.Cluster
	kubeconfig string
	rack       *rack.Rack
	pair       *pair
	pairs      int
	// points counts those that were begun: each has Services of its own.
	points int
}

// pair is a backend with its shim, and the proxy before the rack.
type pair struct {
	*stack.CCM
	proxy *proxy
	name  string
}

func newWorld(t *testing.T, programs stack.Programs) *world {
	t.Helper()
	// Not t.TempDir: a unix socket's path has to be short.
	dir, err := os.MkdirTemp("/tmp", "oxide-crash-")
	if err != nil {
		t.Fatal(err)
	}
	logs := filepath.Join(dir, "logs")
	if err := os.Mkdir(logs, 0o700); err != nil {
		t.Fatal(err)
	}
	w := &world{T: t, state: newState(), dir: dir, programs: programs, group: process.NewGroup(logs)}
	t.Cleanup(func() { w.end(t) })
	ctx, cancel := context.WithTimeout(t.Context(), settleLimit)
	defer cancel()
	w.must(w.start(ctx))
	return w
}

func (w *world) start(ctx context.Context) (err error) {
	machines := make([]rack.Machine, 0, len(nodes))
	for name := range nodes {
		machines = append(machines, rack.Machine{
			Name: name, NCPUs: 2, MemoryGiB: 8, DualStack: true,
			IP: fmt.Sprintf("172.30.0.%d", name[len(name)-1]),
		})
	}
	w.rack, err = rack.Start(ctx, w.group, rack.Options{
		Program: w.programs.Sim, Dir: w.dir, Machines: machines, Sleds: len(machines),
	})
	if err != nil {
		return err
	}
	if w.cluster, err = cluster.Start(ctx, w.group, w.programs.Binaries, w.dir); err != nil {
		return err
	}
	root, err := stack.Root()
	if err != nil {
		return err
	}
	if w.kubeconfig, err = stack.Identity(ctx, w.cluster, root, w.dir); err != nil {
		return err
	}
	if err := w.furnish(ctx); err != nil {
		return err
	}
	if w.pair, err = w.startPair(ctx); err != nil {
		return err
	}
	return w.populate(ctx)
}

// furnish gives the rack what is not the cluster's.
func (w *world) furnish(ctx context.Context) error {
	err := errors.Join(
		w.rack.GrantFirewall(ctx),
		w.rack.AddFirewallRule(ctx, foreignRule),
		w.rack.AddPool(ctx, rack.Pool{
			Name: "default-v6", Version: "v6", First: "2001:db8:51::10", Last: "2001:db8:51::ffff", Default: true,
		}),
		w.rack.AddSubnetPool(ctx, rack.SubnetPool{
			Name: "subnets", Version: "v4", Subnet: "198.18.0.0/24", Default: true,
		}),
		w.rack.AddAddresses(ctx,
			rack.Address{Name: "users-own", Description: "do not touch", Pool: "default", Instance: "node-a"},
			rack.Address{Name: "users-free", Description: "nor this", Pool: "default"},
		),
	)
	if err != nil {
		return err
	}
	now, err := w.rack.State(ctx)
	if err != nil {
		return err
	}
	firewall, err := w.rack.Firewall(ctx)
	w.others, w.otherRules = now.Carried(), firewall.Foreign()
	return err
}

// populate registers the Nodes, and makes the Service that nothing happens to.
func (w *world) populate(ctx context.Context) error {
	for name, role := range nodes {
		node := objects.Node(name)
		node.Labels[roleLabel] = role
		if _, err := w.nodes().Create(ctx, node, metav1.CreateOptions{}); err != nil {
			return err
		}
	}
	w.add(steady, steady, []kind{floating4}, 8080)
	w.create(w.services[steady])
	w.settle()
	w.pin(steady)
	return nil
}

// startPair starts a backend and a shim that leads, whoever else does.
func (w *world) startPair(ctx context.Context) (*pair, error) {
	w.pairs++
	p := &pair{proxy: newProxy(w.T, w.rack.URL), name: fmt.Sprintf("-%d", w.pairs)}
	dir := filepath.Join(w.dir, fmt.Sprintf("p%d", w.pairs))
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, err
	}
	seen := *w.rack
	seen.URL = p.proxy.URL
	var err error
	p.CCM, err = stack.StartCCM(ctx, stack.CCMOptions{
		Group: w.group, Programs: w.programs, Cluster: w.cluster, Rack: &seen, Kubeconfig: w.kubeconfig,
		Dir: dir, Name: p.name, Standby: true,
		BackendFlags: []string{"--load-balancer-time-scale=" + timeScale, "--manage-firewall"},
		ShimFlags: []string{
			"--load-balancer-time-scale=" + timeScale, "--node-monitor-period=1s", "--leader-elect=false",
		},
	})
	return p, err
}

// kill ends programs of a pair at once.
func (w *world) kill(p *pair, who string) {
	for _, running := range w.group.Running() {
		isBackend, isShim := running.Name() == "oxide-backend"+p.name, running.Name() == "ccm-shim"+p.name
		if isBackend && who != shim || isShim && who != backend {
			running.Kill()
		}
	}
}

// restart starts what was killed.
func (w *world) restart(p *pair, who string) {
	w.Helper()
	if who != shim {
		w.must(p.StartBackend(w.Context()))
	}
	if who != backend {
		w.must(p.StartShim(w.Context()))
	}
}

func (w *world) end(t *testing.T) {
	if w.pair != nil {
		w.pair.proxy.CloseClientConnections()
	}
	if err := w.group.StopAll(25 * time.Second); err != nil {
		t.Error(err)
	}
	if w.pair != nil {
		w.pair.proxy.end()
	}
	stack.EndLogs(t, w.group, w.dir)
}

// must fails the point at an error.
func (w *world) must(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

// await waits until check returns nothing; what it returns is what is still missing.
func (w *world) await(limit time.Duration, check func(context.Context) (string, error)) {
	w.Helper()
	ctx, cancel := context.WithTimeout(w.Context(), limit)
	defer cancel()
	missing := ""
	err := process.Await(ctx, func(ctx context.Context) (bool, error) {
		now, err := check(ctx)
		if ctx.Err() != nil {
			return false, nil // too late, whatever it is
		}
		missing = now
		return err == nil && missing == "", err
	})
	switch {
	case err == nil:
	case ctx.Err() != nil:
		w.Fatalf("after %s still missing: %s\n%s", limit, missing, w.describe())
	default:
		w.Fatal(err)
	}
}

func (w *world) nodes() nodeClient { return w.cluster.Client.CoreV1().Nodes() }

// patchNode merges something into a Node.
func (w *world) patchNode(name string, patch map[string]any) {
	w.Helper()
	data, err := json.Marshal(patch)
	w.must(err)
	_, err = w.nodes().Patch(w.Context(), name, types.MergePatchType, data, metav1.PatchOptions{})
	w.must(err)
}

// patch merges something into a Service.
func (w *world) patch(name string, patch map[string]any) {
	w.Helper()
	data, err := json.Marshal(patch)
	w.must(err)
	_, err = w.serviceClient().Patch(w.Context(), name, types.MergePatchType, data, metav1.PatchOptions{})
	w.must(err)
}

// annotate sets one of our annotations; nil removes it.
func (w *world) annotate(name, annotation string, value any) {
	w.Helper()
	w.patch(name, map[string]any{"metadata": map[string]any{
		"annotations": map[string]any{prefix + annotation: value},
	}})
}

// create creates a Service as it is desired.
func (w *world) create(d *desired) {
	w.Helper()
	object := objects.LoadBalancer(namespace, d.name, ports(d.ports)...)
	object.Annotations = map[string]string{prefix + "node-selector": roleLabel + "=" + d.role}
	for name, value := range d.annotations {
		object.Annotations[prefix+name] = value
	}
	if len(d.kinds) > 1 {
		object.Spec.IPFamilyPolicy = new(corev1.IPFamilyPolicyRequireDualStack)
		object.Spec.IPFamilies = []corev1.IPFamily{corev1.IPv4Protocol, corev1.IPv6Protocol}
	}
	object.Finalizers = d.finalizers
	created, err := w.serviceClient().Create(w.Context(), object, metav1.CreateOptions{})
	w.must(err)
	d.uid = string(created.UID)
}

func ports(numbers []int32) (all []corev1.ServicePort) {
	for _, number := range numbers {
		all = append(all, objects.TCP(number))
	}
	return all
}

// remove deletes a Service.
func (w *world) remove(name string) {
	w.Helper()
	delete(w.services, name)
	w.gone[name] = true
	w.must(w.serviceClient().Delete(w.Context(), name, metav1.DeleteOptions{}))
}

// clear removes what a point has left.
func (w *world) clear() {
	w.Helper()
	for name := range w.services {
		if name != steady {
			w.remove(name)
		}
	}
	now, err := w.rack.State(w.Context())
	w.must(err)
	for _, ip := range now.FloatingIPs {
		if w.kept[ip.ID] && strings.HasSuffix(ip.Description, " retained") {
			w.must(w.rack.Delete(w.Context(), ip))
			delete(w.kept, ip.ID)
		}
	}
	w.settle()
	clear(w.gone)
}
