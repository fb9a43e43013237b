// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package controlplane

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/cluster"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/objects"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/process"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/progress"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/rack"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/stack"
)

// machines are the instances of the rack; a Node of the same name is there for each.
func machines() []rack.Machine {
	return []rack.Machine{
		{Name: "worker-1", NCPUs: 4, MemoryGiB: 16, IP: "172.30.0.11", Ephemeral: true},
		{Name: "worker-2", NCPUs: 8, MemoryGiB: 32, IP: "172.30.0.12"},
		{Name: "worker-3", NCPUs: 2, MemoryGiB: 8, IP: "172.30.0.13"},
	}
}

// Build builds everything that end-to-end tests run, and reports how far it is.
func Build(ctx context.Context, out io.Writer) (root string, programs stack.Programs, err error) {
	if root, err = stack.Root(); err != nil {
		return "", stack.Programs{}, err
	}
	programs, err = stack.Build(ctx, root, progress.To(out, "control-plane"))
	return root, programs, err
}

// Run runs etcd and kube-apiserver until ctx ends, in a folder of their own that it removes, and
// prints what to run beside them.
func Run(ctx context.Context, out io.Writer) error {
	root, programs, err := Build(ctx, out)
	if err != nil {
		return err
	}
	// Short: a socket is in it.
	dir, err := os.MkdirTemp("/tmp", "oxide-hand-")
	if err != nil {
		return fmt.Errorf("no folder for the control plane: %w", err)
	}
	defer os.RemoveAll(dir)
	group := process.NewGroup(dir)
	defer func() {
		// Asked to end, kube-apiserver would wait for whoever watches it.
		for _, p := range slices.Backward(group.Running()) {
			p.Kill()
		}
	}()
	if err := start(ctx, out, group, programs, root, dir); err != nil {
		return err
	}
	select {
	case <-ctx.Done():
		return nil
	case exit := <-group.Exits():
		return fmt.Errorf("%w; its last lines: %s", exit, strings.Join(exit.Tail, "; "))
	}
}

func start(
	ctx context.Context, out io.Writer, group *process.Group, programs stack.Programs, root, dir string,
) error {
	c, err := cluster.Start(ctx, group, programs.Binaries, dir)
	if err != nil {
		return err
	}
	kubeconfig, err := stack.Identity(ctx, c, root, dir)
	if err != nil {
		return err
	}
	for _, machine := range machines() {
		_, err := c.Client.CoreV1().Nodes().Create(ctx, objects.Node(machine.Name), metav1.CreateOptions{})
		if err != nil {
			return fmt.Errorf("cannot create a Node: %w", err)
		}
	}
	var commands []process.Spec
	if err := process.WithFreePorts(3, func(_ int, ports []int) error {
		sim, url, err := rack.Command(rack.Options{
			Program: programs.Sim, Dir: dir, Machines: machines(),
		}, ports[0])
		if err != nil {
			return err
		}
		backend, shim, err := stack.Commands(stack.CCMOptions{
			Programs: programs, Kubeconfig: kubeconfig, Dir: dir,
			// While a debugger holds it, it renews no lease, and nobody else is to lead.
			ShimFlags: []string{"--leader-elect=false"},
		}, url, ports[1], ports[2])
		commands = []process.Spec{sim, backend, shim}
		return err
	}); err != nil {
		return err
	}
	return printCommands(out, root, c.AdminKubeconfig, commands)
}

// Debugger is put in place of the path of a program; its name, and the two dashes, follow.
const Debugger = "GOWORK=off go tool -modfile=tools/delve/go.mod dlv debug ./cmd/"

// printCommands prints how to start each program, from the root of the repository.
func printCommands(out io.Writer, root, kubeconfig string, commands []process.Spec) error {
	var text strings.Builder
	text.WriteString("\nA kube-apiserver with three Nodes runs until Ctrl-C. From the root of the " +
		"repository, each\nin a terminal of its own, and in this order:\n")
	for _, spec := range commands {
		fmt.Fprintf(&text, "\n# %s\n%s\n", spec.Name, shell(root, spec))
	}
	fmt.Fprintf(&text, "\nTo see what they do:\n\nexport KUBECONFIG=%s\n"+
		"kubectl get nodes,services --output wide\n", kubeconfig)
	fmt.Fprintf(&text, "\nTo debug one, put the debugger in place of bin/NAME:\n\n%sNAME --\n\n", Debugger)
	_, err := io.WriteString(out, text.String())
	return err
}

var plain = regexp.MustCompile(`^[A-Za-z0-9_./:=@,-]+$`)

// shell returns a process as a command for a shell in the folder root, one word per line.
func shell(root string, spec process.Spec) string {
	path := spec.Path
	if relative, err := filepath.Rel(root, path); err == nil {
		path = relative
	}
	words := make([]string, 0, len(spec.Env)+1+len(spec.Args))
	for _, word := range append(append(append(words, spec.Env...), path), spec.Args...) {
		if !plain.MatchString(word) {
			word = "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
		}
		words = append(words, word)
	}
	return strings.Join(words, " \\\n  ")
}
