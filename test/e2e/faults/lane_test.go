// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package faults

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/cluster"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/process"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/stack"
)

// startLimit is how long a control plane, and what a row has of its own, may take to start.
const startLimit = 2 * time.Minute

// lane is a control plane, at which rows run one after the other.
type lane struct {
	programs   stack.Programs
	cluster    *cluster.Cluster
	group      *process.Group
	dir        string
	kubeconfig string
	// gate is between kube-apiserver and the shim.
	gate *gate
}

func newLane(ctx context.Context, programs stack.Programs) (*lane, error) {
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	l := &lane{programs: programs}
	var err error
	if l.dir, l.group, err = newFolder(); err != nil {
		return nil, err
	}
	if l.cluster, err = cluster.Start(ctx, l.group, programs.Binaries, l.dir); err != nil {
		return l, err
	}
	root, err := stack.Root()
	if err != nil {
		return l, err
	}
	file, err := stack.Identity(ctx, l.cluster, root, l.dir)
	if err != nil {
		return l, err
	}
	if l.gate, err = newGate(anyPort(1), strings.TrimPrefix(l.cluster.URL, "https://"), nil); err != nil {
		return l, err
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return l, err
	}
	l.kubeconfig = filepath.Join(l.dir, "gate.kubeconfig")
	moved := strings.ReplaceAll(string(text), l.cluster.URL, "https://"+l.gate.address.String())
	return l, os.WriteFile(l.kubeconfig, []byte(moved), 0o600)
}

// newFolder returns a folder, and a group of processes whose logs are in it.
func newFolder() (dir string, group *process.Group, err error) {
	// Not t.TempDir: a unix socket's path has to be short.
	if dir, err = os.MkdirTemp("/tmp", "oxide-faults-"); err != nil {
		return "", nil, err
	}
	logs := filepath.Join(dir, "logs")
	return dir, process.NewGroup(logs), os.Mkdir(logs, 0o700)
}

// anyPort is any port of 127.0.0.last.
func anyPort(last byte) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, last}), 0)
}

// stopGrace is what programs are given to end.
const stopGrace = 25 * time.Second

func (l *lane) close() error {
	err := l.group.StopAll(stopGrace)
	if l.gate != nil {
		l.gate.close()
	}
	if err == nil {
		err = os.RemoveAll(l.dir)
	}
	return err
}

// empty removes Services, Nodes and events, while no shim is there to take the finalizers off.
func (l *lane) empty(ctx context.Context) error {
	core, all := l.cluster.Client.CoreV1(), metav1.ListOptions{}
	services, err := core.Services(namespace).List(ctx, all)
	if err != nil {
		return err
	}
	errs := []error{
		core.Nodes().DeleteCollection(ctx, metav1.DeleteOptions{}, all),
		core.Events(namespace).DeleteCollection(ctx, metav1.DeleteOptions{}, all),
	}
	for _, service := range services.Items {
		if service.Name == "kubernetes" { // the API server's own
			continue
		}
		_, err := core.Services(namespace).Patch(ctx, service.Name, types.MergePatchType,
			[]byte(`{"metadata":{"finalizers":null}}`), metav1.PatchOptions{})
		errs = append(errs, err,
			core.Services(namespace).Delete(ctx, service.Name, metav1.DeleteOptions{}))
	}
	return errors.Join(errs...)
}

// client is the administrator's, which no fault is in the way of but that of kube-apiserver itself.
func (l *lane) client() kubernetes.Interface { return l.cluster.Client }

// keptRunning is the shim as a kubelet runs it: it is started again whenever it has ended.
type keptRunning struct {
	mu       sync.Mutex
	ccm      *stack.CCM
	restarts int
	err      error
	stop     chan struct{}
	done     chan struct{}
}

// restartAfter is how soon; a kubelet takes ten seconds from the second time on.
const restartAfter = time.Second

func keepRunning(ccm *stack.CCM) *keptRunning {
	k := &keptRunning{ccm: ccm, stop: make(chan struct{}), done: make(chan struct{})}
	go k.run()
	return k
}

func (k *keptRunning) run() {
	defer close(k.done)
	for shim := k.ccm.Shim; ; shim = k.ccm.Shim {
		select {
		case <-k.stop:
			return
		case <-shim.Done():
		}
		select {
		case <-k.stop:
			return
		case <-time.After(restartAfter):
		}
		err := k.ccm.ResumeShim()
		k.mu.Lock()
		k.restarts++
		k.err = err
		k.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// count returns how often the shim had to be started again.
func (k *keptRunning) count() (int, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.restarts, k.err
}

func (k *keptRunning) end() {
	close(k.stop)
	<-k.done
}

// named wraps a program so that it finds a host name in a file of its own, and returns the path of the
// wrapper; an error says why that cannot be done here.
func named(dir, program, name string, addresses ...netip.Addr) (string, error) {
	hosts := filepath.Join(dir, "hosts")
	var text strings.Builder
	for _, address := range addresses {
		fmt.Fprintf(&text, "%s %s\n", address, name)
	}
	unshare, err := exec.LookPath("unshare")
	if err != nil {
		return "", err
	}
	mount, err := exec.LookPath("mount")
	if err != nil {
		return "", err
	}
	user := ""
	if os.Geteuid() != 0 {
		user = "--map-root-user "
	}
	inside := fmt.Sprintf(`%s --bind %s /etc/hosts && exec %s "$@"`, mount, hosts, program)
	script := fmt.Sprintf("#!/bin/sh\nexec %s %s--mount /bin/sh -c '%s' sh \"$@\"\n", unshare, user, inside)
	path := filepath.Join(dir, "named-backend")
	if err := errors.Join(
		os.WriteFile(hosts, []byte(text.String()), 0o644),
		os.WriteFile(path, []byte(script), 0o700),
	); err != nil {
		return "", err
	}
	if out, err := exec.Command(path, "--help").CombinedOutput(); err != nil {
		return "", fmt.Errorf("no mount namespace: %w: %s", err, strings.TrimSpace(string(out)))
	}
	return path, nil
}
