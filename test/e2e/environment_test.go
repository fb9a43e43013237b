// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package e2e

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/cluster"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/objects"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/process"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/rack"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/stack"
)

// limit is how long a test waits for anything that has to happen.
const limit = 40 * time.Second

// environment is the world of one test: a rack and a CCM of its own, in the shared cluster, which
// it leaves empty. So tests run one after the other.
type environment struct {
	*testing.T
	client kubernetes.Interface
	rack   *rack.Rack
	ccm    *stack.CCM
	group  *process.Group
	dir    string

	// cluster and kubeconfig are the shared ones, and name is empty, but for a second cluster on
	// the same rack.
	cluster    *cluster.Cluster
	kubeconfig string
	name       string
}

// settings are what a test's world has of its own.
type settings struct {
	child                   bool
	shimFlags, backendFlags []string
	// env are variables of both programs.
	env []string
	// machines are the instances; none means two.
	machines []rack.Machine
	// sleds is how many sleds the rack has; 0 means four.
	sleds int
	// idle: the cloud controller manager is started by the test itself.
	idle bool
	// apiVersion is the newest version of the API that the rack speaks; empty: that of release 21.
	apiVersion string
	// families are those of the Nodes of pools, if these have others than IPv4 alone.
	families map[string]families
	// prepare adds to the rack before the cloud controller manager starts; nil: nothing.
	prepare func(*environment)
}

// families are the IP families of a Node.
type families int

const (
	fourOnly families = iota
	dual
	sixOnly
)

// dualStack are two instances with addresses of both IP families.
var dualStack = []rack.Machine{
	{Name: "node-a", NCPUs: 4, MemoryGiB: 16, IP: "172.30.0.11", DualStack: true},
	{Name: "node-b", NCPUs: 2, MemoryGiB: 8, IP: "172.30.0.12", DualStack: true},
}

// machines returns n instances, node-a and so on.
func machines(n int) []rack.Machine {
	all := make([]rack.Machine, n)
	for i := range all {
		all[i] = rack.Machine{
			Name: "node-" + string(rune('a'+i)), NCPUs: 2, MemoryGiB: 8,
			IP: fmt.Sprintf("172.30.0.%d", 11+i),
		}
	}
	return all
}

// quickMonitor lets the framework look at Nodes that are not Ready every second.
const quickMonitor = "--node-monitor-period=1s"

// newEnvironment starts a world, with two running instances unless the settings name others.
func newEnvironment(t *testing.T, s settings) *environment {
	t.Helper()
	// Not t.TempDir: a unix socket's path has to be short.
	dir, err := os.MkdirTemp("/tmp", "oxide-e2e-")
	if err != nil {
		t.Fatal(err)
	}
	logs := filepath.Join(dir, "logs")
	if err := os.Mkdir(logs, 0o700); err != nil {
		t.Fatal(err)
	}
	e := &environment{
		T: t, client: shared.cluster.Client, dir: dir, group: process.NewGroup(logs),
		cluster: shared.cluster, kubeconfig: shared.kubeconfig,
	}
	t.Cleanup(e.end)
	ctx, cancel := context.WithTimeout(t.Context(), 2*limit)
	defer cancel()
	if s.machines == nil {
		s.machines = []rack.Machine{
			{Name: "node-a", NCPUs: 4, MemoryGiB: 16, IP: "172.30.0.11", Ephemeral: true},
			{Name: "node-b", NCPUs: 2, MemoryGiB: 8, IP: "172.30.0.12"},
		}
	}
	e.rack, err = rack.Start(ctx, e.group, rack.Options{
		Program: shared.programs.Sim, Dir: dir, Machines: s.machines, Sleds: s.sleds,
		APIVersion: s.apiVersion,
	})
	if err != nil {
		t.Fatal(err)
	}
	if s.prepare != nil {
		s.prepare(e)
	}
	if !s.idle {
		e.start(s)
	}
	return e
}

// start starts the cloud controller manager, with other settings perhaps than one before it.
func (e *environment) start(s settings) {
	e.Helper()
	ctx, cancel := context.WithTimeout(e.Context(), 2*limit)
	defer cancel()
	var err error
	e.ccm, err = stack.StartCCM(ctx, e.ccmOptions(s))
	e.must(err)
}

// restart ends both programs and starts them again.
func (e *environment) restart() {
	e.Helper()
	e.must(e.ccm.Stop())
	e.must(e.ccm.StartBackend(e.Context()))
	e.must(e.ccm.StartShim(e.Context()))
}

func (e *environment) ccmOptions(s settings) stack.CCMOptions {
	if !stack.Verbose() {
		// Of nodes that are kept the shim logs at lower levels only what changes, see checked.
		s.shimFlags = append([]string{"--v=4"}, s.shimFlags...)
	}
	return stack.CCMOptions{
		Group: e.group, Programs: shared.programs, Cluster: e.cluster, Rack: e.rack, Name: e.name,
		Kubeconfig: e.kubeconfig, Dir: e.dir, Child: s.child, ShimFlags: s.shimFlags,
		BackendFlags: s.backendFlags, Env: s.env,
	}
}

// end stops what the test started, empties the cluster, and checks what holds for every test.
func (e *environment) end() {
	if err := e.group.StopAll(25 * time.Second); err != nil {
		e.Error(err)
	}
	e.checkObjects()
	e.emptyCluster()
	e.checkLogs()
	if !e.Failed() {
		os.RemoveAll(e.dir)
		return
	}
	e.Logf("the logs are in %s", e.group.LogDir())
}

func (e *environment) emptyCluster() {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	e.dropServices(ctx)
	now := int64(0)
	err := e.client.CoreV1().Pods("default").DeleteCollection(ctx,
		metav1.DeleteOptions{GracePeriodSeconds: &now}, metav1.ListOptions{})
	if err != nil {
		e.Error(err)
	}
	err = e.client.CoreV1().Nodes().DeleteCollection(ctx, metav1.DeleteOptions{},
		metav1.ListOptions{})
	if err != nil {
		e.Error(err)
	}
}

// dropServices removes all Services while nobody is there to take their finalizers off.
func (e *environment) dropServices(ctx context.Context) {
	services, err := e.client.CoreV1().Services(metav1.NamespaceAll).List(ctx,
		metav1.ListOptions{})
	if err != nil {
		e.Error(err)
		return
	}
	for _, service := range services.Items {
		if service.Name == "kubernetes" { // the API server's own
			continue
		}
		_, err := e.client.CoreV1().Services(service.Namespace).Patch(ctx, service.Name,
			types.MergePatchType, []byte(`{"metadata":{"finalizers":null}}`),
			metav1.PatchOptions{})
		if err != nil {
			e.Error(err)
		}
		_ = e.client.CoreV1().Services(service.Namespace).Delete(ctx, service.Name,
			metav1.DeleteOptions{})
	}
}

// checkObjects holds that no secret is in what the cluster has at the end of a test alone.
func (e *environment) checkObjects() {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	if err := shared.secrets.InCluster(ctx, e.client, "Service", "Node", "Pod"); err != nil {
		e.Error(err)
	}
}

// checkLogs holds two promises in every test: the rights of the manifest suffice, and no secret is in any
// log.
func (e *environment) checkLogs() {
	if err := shared.secrets.InFiles(e.group.LogDir()); err != nil {
		e.Error(err)
	}
	files, err := filepath.Glob(filepath.Join(e.group.LogDir(), "*.log"))
	if err != nil {
		e.Error(err)
		return
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			e.Error(err)
			continue
		}
		if strings.HasPrefix(filepath.Base(file), "oxide-sim") {
			continue
		}
		for line := range strings.Lines(string(text)) {
			if strings.Contains(line, "is forbidden") {
				e.Errorf("%s: a right is missing: %s", filepath.Base(file), line)
				break
			}
		}
	}
}

// eventually waits until check returns nothing; what it returns is what is still missing.
func (e *environment) eventually(check func(context.Context) (string, error)) {
	e.Helper()
	e.eventuallyWithin(limit, check)
}

// eventuallyWithin is eventually with another limit.
func (e *environment) eventuallyWithin(
	limit time.Duration, check func(context.Context) (string, error),
) {
	e.Helper()
	ctx, cancel := context.WithTimeout(e.Context(), limit)
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
		e.Fatalf("after %s still missing: %s", limit, missing)
	default:
		e.Fatal(err)
	}
}

// must fails the test at an error.
func (e *environment) must(err error) {
	e.Helper()
	if err != nil {
		e.Fatal(err)
	}
}

// state returns what is on the rack.
func (e *environment) state() rack.State {
	e.Helper()
	state, err := e.rack.State(e.Context())
	e.must(err)
	return state
}

// register registers Nodes as kubelets do.
func (e *environment) register(names ...string) {
	e.Helper()
	for _, name := range names {
		_, err := e.client.CoreV1().Nodes().Create(e.Context(), objects.Node(name),
			metav1.CreateOptions{})
		e.must(err)
	}
}

// join registers Nodes and waits until they are initialized.
func (e *environment) join(names ...string) {
	e.Helper()
	e.register(names...)
	e.initialized(names...)
}

// initialized waits until Nodes are initialized.
func (e *environment) initialized(names ...string) {
	e.Helper()
	for _, name := range names {
		e.eventually(func(ctx context.Context) (string, error) {
			node, err := e.client.CoreV1().Nodes().Get(ctx, name, metav1.GetOptions{})
			if err != nil {
				return "", err
			}
			if objects.HasTaint(node, objects.UninitializedTaint) {
				return "the initialization of " + name, nil
			}
			return "", nil
		})
	}
}

// ready sets the Ready condition of Nodes.
func (e *environment) ready(status corev1.ConditionStatus, names ...string) {
	e.Helper()
	for _, name := range names {
		e.must(objects.SetReady(e.Context(), e.client, name, status))
	}
}

// said counts the lines of the shim's log with all these words. It tells that something was done
// again, never what came of it.
func (e *environment) said(words ...string) int {
	e.Helper()
	text, err := os.ReadFile(e.ccm.Shim.LogFile())
	e.must(err)
	lines := 0
	for line := range strings.Lines(string(text)) {
		if !slices.ContainsFunc(words, func(word string) bool {
			return !strings.Contains(line, word)
		}) {
			lines++
		}
	}
	return lines
}
