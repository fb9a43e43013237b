// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

//go:build e2epod

package pod

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"k8s.io/client-go/kubernetes"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/cluster"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/node"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/process"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/progress"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/rack"
)

const (
	// limit is how long a test waits for anything that has to happen.
	limit = 2 * time.Minute
	// privateIP is the address of the node's instance.
	privateIP = "172.30.0.11"
	// namespace is where users are told to install.
	namespace = "kube-system"
)

// world is what one test has of its own: a cluster whose one Node is this machine, and a rack with the
// instance that the Node claims to be. The Node is neither initialized nor ready yet.
type world struct {
	*testing.T
	ctx     context.Context
	client  kubernetes.Interface
	cluster *cluster.Cluster
	node    *node.Node
	rack    *rack.Rack
	dir     string

	cancel context.CancelFunc
	// nodeGroup ends before group: containers are gone before the API server that they watch.
	nodeGroup *process.Group
	group     *process.Group
	held      *held
}

// held is what an interrupt needs to know, whatever the test is doing at that moment.
type held struct {
	sync.Mutex
	machine *node.Machine
	closed  bool
	err     error
}

func newWorld(t *testing.T) *world {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "oxide-pod-") // short, since sockets are in it
	if err != nil {
		t.Fatal(err)
	}
	// The containers' user looks at nothing in it but what is mounted for it.
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	logs := filepath.Join(dir, "logs")
	if err := os.Mkdir(logs, 0o700); err != nil {
		t.Fatal(err)
	}
	w := &world{
		T: t, dir: dir, held: &held{},
		nodeGroup: process.NewGroup(logs), group: process.NewGroup(logs),
	}
	// It outlasts the test: what the cluster has to say is asked for at the end.
	w.ctx, w.cancel = context.WithCancel(context.Background())
	t.Cleanup(w.end)
	live.Lock()
	live.world = w
	live.Unlock()
	if err := w.claim(); err != nil {
		t.Fatal(err)
	}
	if err := w.start(); err != nil {
		t.Fatal(err)
	}
	return w
}

// claim takes the machine, and gives it back at once if the world has ended meanwhile.
func (w *world) claim() error {
	machine, err := node.Claim(w.ctx, w.dir, func() {
		fmt.Println("e2e-pod: another run has this machine, waiting")
	})
	if err != nil {
		return err
	}
	w.held.Lock()
	defer w.held.Unlock()
	if w.held.closed {
		return errors.Join(errors.New("interrupted"), machine.Release())
	}
	w.held.machine = machine
	return nil
}

func (w *world) start() (err error) {
	ctx, cancel := context.WithTimeoutCause(w.ctx, 2*limit, errors.New("the world took too long"))
	defer cancel()
	w.cluster, err = cluster.StartForPods(ctx, w.group, built.programs.Binaries, built.pods, w.dir)
	if err != nil {
		return err
	}
	w.client = w.cluster.Client
	w.node, err = node.Start(ctx, node.Options{
		Machine: w.held.machine, Group: w.nodeGroup, Cluster: w.cluster,
		Kubelet: built.pods.Kubelet, Module: filepath.Join(built.root, "test", "e2e"), Progress: quiet{},
	})
	if err != nil {
		return err
	}
	// The instance's id is what this machine's firmware shows, as on a rack: Nodes are found by it.
	id, err := w.node.SystemUUID(ctx)
	if err != nil {
		return err
	}
	w.rack, err = rack.Start(ctx, w.group, rack.Options{
		Program: built.programs.Sim, Dir: w.dir, TLS: true,
		Machines: []rack.Machine{
			{Name: node.Name, ID: id, NCPUs: 4, MemoryGiB: 16, IP: privateIP},
			{Name: "bystander", NCPUs: 2, MemoryGiB: 8, IP: "172.30.0.12"},
		},
	})
	if err != nil {
		return err
	}
	// Then what a Service says of its address is final once it is attached.
	if err := w.rack.AddFirewallRule(ctx, rack.AllOpen); err != nil {
		return err
	}
	for _, archive := range []string{built.image, built.debugImage} {
		if err := w.node.Import(ctx, archive); err != nil {
			return err
		}
	}
	return nil
}

// end takes the world down, and says where to look if the test failed.
func (w *world) end() {
	if w.Failed() {
		w.describe()
	}
	live.Lock()
	defer live.Unlock()
	if err := w.close(); err != nil {
		w.Error(err)
	}
	live.world = nil
	if !w.Failed() {
		os.RemoveAll(w.dir)
		return
	}
	w.Logf("the logs are in %s", w.group.LogDir())
}

// close ends every process and leaves the machine as it was. It does so once.
func (w *world) close() error {
	w.cancel()
	w.held.Lock()
	defer w.held.Unlock()
	if w.held.closed {
		return w.held.err
	}
	w.held.closed = true
	const grace = 20 * time.Second
	errs := []error{w.nodeGroup.StopAll(grace)}
	if w.held.machine != nil {
		errs = append(errs, w.held.machine.Release())
	}
	w.held.err = errors.Join(append(errs, w.group.StopAll(grace))...)
	return w.held.err
}

// describe keeps what the cluster has to say beside the logs.
func (w *world) describe() {
	for name, args := range map[string][]string{
		"pods": {"describe", "pods", "--all-namespaces"}, "nodes": {"describe", "nodes"},
		"events":  {"get", "events", "--all-namespaces"},
		"backend": {"logs", "--selector=" + selector, "--namespace=" + namespace, "--container=oxide-backend"},
		"shim":    {"logs", "--selector=" + selector, "--namespace=" + namespace, "--container=ccm-shim"},
	} {
		out, err := w.kubectl(args...)
		text := fmt.Sprintf("%s\n%v\n", out, err)
		if err := os.WriteFile(filepath.Join(w.group.LogDir(), name+".txt"), []byte(text),
			0o600); err != nil {
			w.Log(err)
		}
	}
}

// part runs a part of a test by its name, in the same world; what follows builds on it.
func (w *world) part(name string, run func(*world)) {
	w.Helper()
	ok := w.Run(name, func(t *testing.T) {
		inner := *w
		inner.T = t
		run(&inner)
	})
	if !ok {
		w.FailNow()
	}
}

// must fails the test at an error.
func (w *world) must(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

// eventually waits until check returns nothing; what it returns is what is still missing.
func (w *world) eventually(check func(context.Context) (string, error)) {
	w.Helper()
	ctx, cancel := context.WithTimeout(w.ctx, limit)
	defer cancel()
	missing := ""
	err := process.Await(ctx, func(ctx context.Context) (bool, error) {
		now, err := check(ctx)
		if ctx.Err() != nil {
			return false, nil
		}
		missing = now
		return err == nil && now == "", err
	})
	switch {
	case err == nil:
	case ctx.Err() != nil:
		w.Fatalf("after %s still missing: %s", limit, missing)
	default:
		w.Fatal(err)
	}
}

// file writes a file in the world's folder and returns its path.
func (w *world) file(name, text string) string {
	w.Helper()
	path := filepath.Join(w.dir, name)
	w.must(os.MkdirAll(filepath.Dir(path), 0o755))
	w.must(os.WriteFile(path, []byte(text), 0o600))
	return path
}

// read returns a file of the repository.
func read(t *testing.T, path ...string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(append([]string{built.root}, path...)...))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// quiet tells no progress: what is built in a test is small.
type quiet struct{}

func (quiet) Step(string)        {}
func (quiet) Note(progress.Note) {}
func (quiet) Say(string)         {}
func (quiet) Done(string)        {}
