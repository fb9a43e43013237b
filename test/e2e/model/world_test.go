// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package model

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/cluster"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/objects"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/process"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/rack"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/stack"
)

const (
	// settleLimit is how long anything may take to become as it has to: the framework waits for up
	// to five minutes between attempts, and begins with five seconds.
	settleLimit = 2 * time.Minute

	// steadyAfter is how long a node has to be fit until nothing may leave it: the shim learns of the
	// state of an instance after four seconds at the latest.
	steadyAfter = 8 * time.Second

	// nudgeInterval is how often programs are made to look again while something is not settled.
	nudgeInterval = time.Second

	// nudged is a Service that asks for a floating IP and an external subnet that there are not; to have it
	// ask for others makes the programs list both.
	nudged = "nudged"
)

// world is one rack, one control plane, and the programs between them.
type world struct {
	*testing.T
	*expectation
	people people

	seed       uint64
	random     *rand.Rand
	dir        string
	group      *process.Group
	programs   stack.Programs
	kubeconfig string
	cluster    *cluster.Cluster
	rack       *rack.Rack
	ccm        *stack.CCM
	// second is another replica that leads as well; nil: there is none.
	second *stack.CCM
	// ended counts how often the shim has lost its lease, nudges how often it was made to look.
	ended, nudges int
	// hardwareAt is when an instance was the last time made to change its state.
	hardwareAt time.Time
	// detail is what the operation that is being chosen tells of itself.
	detail string

	// done are the operations so far.
	done []string
}

// machine returns the seed of the instance of a node.
func machine(name string) rack.Machine {
	var number int
	_, _ = fmt.Sscanf(name, "node-%d", &number)
	return rack.Machine{
		Name: name, NCPUs: 2, MemoryGiB: 8, IP: fmt.Sprintf("172.30.0.%d", 20+number),
	}
}

// newWorld starts a world in which nothing is yet but floating IPs that are not the cluster's.
func newWorld(t *testing.T, programs stack.Programs, seed uint64) *world {
	t.Helper()
	// Not t.TempDir: a unix socket's path has to be short.
	dir, err := os.MkdirTemp("/tmp", "oxide-model-")
	if err != nil {
		t.Fatal(err)
	}
	logs := filepath.Join(dir, "logs")
	if err := os.Mkdir(logs, 0o700); err != nil {
		t.Fatal(err)
	}
	w := &world{
		T: t, seed: seed, random: rand.New(rand.NewPCG(seed, 0)), dir: dir, programs: programs,
		group: process.NewGroup(logs), expectation: &expectation{
			services: make(map[string]*service), nodes: make(map[string]*node),
			others: make(map[string]rack.Carried), lent: []string{"users-own", "users-text"},
			renamed: make(map[string]bool), foreign: make(map[string]bool),
		},
	}
	t.Cleanup(w.end)
	ctx, cancel := context.WithTimeout(t.Context(), settleLimit)
	defer cancel()
	w.must(w.start(ctx))
	return w
}

func (w *world) start(ctx context.Context) (err error) {
	w.rack, err = rack.Start(ctx, w.group, rack.Options{
		Program: w.programs.Sim, Dir: w.dir, Sleds: 2 * nodeCount, Machines: []rack.Machine{
			{Name: outsider, NCPUs: 2, MemoryGiB: 8, IP: "172.30.0.10", DualStack: true},
		},
	})
	if err != nil {
		return err
	}
	w.people = people{w.rack, &http.Client{Timeout: 30 * time.Second}}
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
	system, err := w.cluster.Client.CoreV1().Namespaces().Get(ctx, metav1.NamespaceSystem,
		metav1.GetOptions{})
	if err != nil {
		return err
	}
	w.scope = string(system.UID)
	object := objects.LoadBalancer(namespace, nudged, objects.TCP(80))
	object.Annotations = nudgeAnnotations(0)
	both := shape{versions: []string{"v4", "v6"}}
	policy, families := both.families()
	object.Spec.IPFamilyPolicy, object.Spec.IPFamilies = &policy, families
	_, err = w.cluster.Client.CoreV1().Services(namespace).Create(ctx, object, metav1.CreateOptions{})
	if err != nil {
		return err
	}
	if err := w.addPools(ctx); err != nil {
		return err
	}
	if err := w.createOthers(ctx); err != nil {
		return err
	}
	if err := w.rack.GrantFirewall(ctx); err != nil {
		return err
	}
	if w.ccm, err = stack.StartCCM(ctx, w.ccmOptions("", w.dir)); err != nil {
		return err
	}
	return w.people.spoil(ctx, w.seed)
}

// addPools adds a default pool for each other kind of addresses than IPv4 floating IPs.
func (w *world) addPools(ctx context.Context) error {
	return errors.Join(
		w.rack.AddPool(ctx, rack.Pool{
			Name: "default-v6", Version: "v6", First: "2001:db8:51::10", Last: "2001:db8:51::ffff", Default: true,
		}),
		w.rack.AddSubnetPool(ctx, rack.SubnetPool{
			Name: "subnets", Version: "v4", Subnet: "198.18.0.0/24", Default: true,
		}),
		w.rack.AddSubnetPool(ctx, rack.SubnetPool{
			Name: "subnets-v6", Version: "v6", Subnet: "2001:db8:18::/120", Default: true,
		}),
	)
}

// createOthers makes addresses that are not the cluster's, though some look so.
func (w *world) createOthers(ctx context.Context) error {
	const foreign = "oxide-ccm/v1 scope=11111111-2222-3333-4444-555555555555 name=default/svc-1 " +
		"uid=11111111-2222-3333-4444-666666666666 family=v4 source=any"
	const legacy = "Managed by oxide-cloud-controller-manager."
	addresses := []rack.Address{
		{Name: "users-own"},
		{Name: "users-text", Description: "the address of our mail server\nsince 2024"},
		{Name: "users-attached", Description: "do not touch", Instance: outsider},
		{Name: "another-clusters", Description: "of the other cluster\n" + foreign},
		{Name: "kubernetes-default-svc", Description: legacy},
		// As the existing Oxide CCM would have called the address of svc-1, whose status never had it.
		{Name: "kubernetes-default-svc-1", Description: legacy},
		{Name: "edited-marker", Description: "oxide-ccm/v1 scope=" + w.scope + " name=default/svc-2"},
	}
	for i := range addresses {
		addresses[i].Pool = "default"
	}
	err := errors.Join(
		w.rack.AddAddresses(ctx, addresses...),
		w.rack.AddSubnets(ctx,
			rack.Subnet{Name: "users-pods", Description: "pods of node-1", PrefixLength: 29},
			rack.Subnet{Name: "users-subnet", Description: "do not touch", Instance: outsider},
			rack.Subnet{Name: "another-clusters", Description: foreign},
		),
	)
	if err != nil {
		return err
	}
	state, err := w.rack.State(ctx)
	for _, ip := range state.Carried() {
		w.others[ip.ID] = ip
	}
	return err
}

// timeScale makes 30 seconds 600 milliseconds.
const timeScale = "0.02"

func (w *world) ccmOptions(name, dir string, flags ...string) stack.CCMOptions {
	return stack.CCMOptions{
		Group: w.group, Programs: w.programs, Cluster: w.cluster, Rack: w.rack,
		Kubeconfig: w.kubeconfig, Dir: dir, Name: name, Standby: name != "",
		BackendFlags: []string{"--load-balancer-time-scale=" + timeScale, "--manage-firewall"},
		ShimFlags: append([]string{
			"--load-balancer-time-scale=" + timeScale, "--node-monitor-period=1s",
			"--node-removal-interval=100ms",
		}, flags...),
	}
}

// end stops everything, and checks the logs.
func (w *world) end() {
	if err := w.group.StopAll(25 * time.Second); err != nil {
		w.Error(err)
	}
	stack.EndLogs(w.T, w.group, w.dir)
}

// must fails the test at an error.
func (w *world) must(err error) {
	w.Helper()
	if err != nil {
		w.fail(err.Error(), snapshot{})
	}
}

// fail ends the test with everything that is needed to repeat it.
func (w *world) fail(why string, s snapshot) {
	w.Helper()
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n\nrepeat: MODEL_SEED=%d MODEL_OPERATIONS=%d make model\noperations:\n", why,
		w.seed, len(w.done))
	for i, each := range w.done {
		fmt.Fprintf(&b, "%5d %s\n", i+1, each)
	}
	fmt.Fprintf(&b, "\nlast states:\n%s", w.describe(s))
	w.Fatal(b.String())
}

// describe tells what is, and what was expected.
func (w *world) describe(s snapshot) string {
	var b strings.Builder
	for _, ip := range s.rack.Carried() {
		fmt.Fprintf(&b, "  %s %s %s %s %s %q %q\n", kindOfAddress{ip.Version(), ip.Subnet}, ip.ID, ip.Name,
			ip.Addr, ip.AttachState, ip.Instance, ip.Description)
	}
	for _, instance := range s.rack.Instances {
		fmt.Fprintf(&b, "  instance %s %s %v\n", instance.Name, instance.RunState, instance.PrivateIPs)
	}
	for name, v := range w.services {
		now := s.services[name]
		fmt.Fprintf(&b, "  Service %s: expected %+v\n    status %v, finalizers %v, conditions %v\n", name, *v,
			ingressText(now.Status.LoadBalancer.Ingress), now.Finalizers, now.Status.Conditions)
	}
	for name, n := range w.nodes {
		_, there := s.nodes[name]
		fmt.Fprintf(&b, "  Node %s: expected %+v, there: %v\n", name, *n, there)
	}
	return b.String()
}

// look takes a snapshot.
func (w *world) look(ctx context.Context) (snapshot, error) {
	s := snapshot{
		services: make(map[string]corev1.Service), nodes: make(map[string]corev1.Node),
	}
	var err error
	if s.rack, err = w.rack.State(ctx); err != nil {
		return s, err
	}
	err = w.repeat(func() error {
		s.firewall, err = w.rack.Firewall(ctx)
		return err
	})
	if err != nil {
		return s, err
	}
	services, err := w.cluster.Client.CoreV1().Services(namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return s, err
	}
	for _, each := range services.Items {
		if each.Name != nudged && each.Name != "kubernetes" {
			s.services[each.Name] = each
		}
	}
	nodes, err := w.cluster.Client.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil {
		return s, err
	}
	for _, each := range nodes.Items {
		s.nodes[each.Name] = each
	}
	return s, nil
}
