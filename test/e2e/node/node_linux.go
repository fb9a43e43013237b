// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package node

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/cluster"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/image"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/process"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/progress"
)

const (
	// containerdFolder and kubeletFolder are the folders of their state.
	containerdFolder = "containerd"
	kubeletFolder    = "kubelet"
	// PauseImage is the image of a program that only waits. Every node has it.
	PauseImage = "e2e.local/pause:1"

	cniFolder    = "cni"
	pausePackage = "./node/pause"
)

// Name is the name of the Node: the API server reaches a kubelet by it, and this is the one name that
// stands for the loopback address everywhere.
const Name = "localhost"

// Node is this machine as a Node of a cluster.
type Node struct {
	options Options
}

// Options say what to start.
type Options struct {
	// Machine is claimed for the folder Dir.
	Machine *Machine
	Group   *process.Group
	Cluster *cluster.Cluster
	// Kubelet is the path of the program.
	Kubelet string
	// Module is the folder of the module test/e2e.
	Module   string
	Progress progress.Reporter
}

// Start runs containerd and the kubelet and waits until the Node is registered. It has no pod network
// yet and is therefore not ready, like every Node at first: see JoinNetwork. When the group is stopped
// containers go on, until the machine is released.
func Start(ctx context.Context, options Options) (*Node, error) {
	n := &Node{options: options}
	for _, dir := range []string{containerdFolder, kubeletFolder, cniFolder} {
		if err := os.MkdirAll(n.path(dir), 0o755); err != nil {
			return nil, fmt.Errorf("no place for the node's state: %w", err)
		}
	}
	if err := n.startContainerd(ctx); err != nil {
		return nil, err
	}
	if err := n.importPause(ctx); err != nil {
		return nil, err
	}
	return n, n.startKubelet(ctx)
}

func (n *Node) path(parts ...string) string {
	return filepath.Join(append([]string{n.options.Machine.record.Dir}, parts...)...)
}

// importPause makes the one image that every pod needs.
func (n *Node) importPause(ctx context.Context) error {
	program := n.path("pause")
	if err := cluster.GoBuild(ctx, n.options.Progress, cluster.BuildSpec{
		Title: "the pause program", Dir: n.options.Module,
		Output: program, Packages: []string{pausePackage},
	}); err != nil {
		return err
	}
	archive := n.path("pause.tar")
	if err := image.Write(archive, image.Image{
		Name: PauseImage, Programs: map[string]string{"/pause": program},
		Entrypoint: []string{"/pause"},
	}); err != nil {
		return err
	}
	return n.Import(ctx, archive)
}

// JoinNetwork configures a pod network, as a CNI plugin does once it is there: the Node becomes ready.
// Only pods in the machine's own network can run all the same.
func (n *Node) JoinNetwork() error {
	return os.WriteFile(n.path(cniFolder, "10-e2e.conflist"), []byte(
		`{"cniVersion": "0.4.0", "name": "e2e", "plugins": [{"type": "loopback"}]}`+"\n"), 0o644)
}

// Import loads all images of an archive.
func (n *Node) Import(ctx context.Context, archive string) error {
	_, err := n.ctr(ctx, "images", "import", "--platform", "linux/"+runtime.GOARCH, archive)
	return err
}

// Tag gives an image another name.
func (n *Node) Tag(ctx context.Context, name, other string) error {
	_, err := n.ctr(ctx, "images", "tag", "--force", name, other)
	return err
}

// Pid returns the id of the process that a container runs. The id is the container runtime's, as in
// a pod's status, with or without the scheme before it.
func (n *Node) Pid(ctx context.Context, containerID string) (int, error) {
	id := strings.TrimPrefix(containerID, "containerd://")
	out, err := n.ctr(ctx, "tasks", "ls")
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(out) {
		fields := strings.Fields(line)
		if len(fields) >= 3 && fields[0] == id && fields[2] == "RUNNING" {
			return strconv.Atoi(fields[1])
		}
	}
	return 0, fmt.Errorf("the container %q does not run", id)
}

// ctr calls containerd's own client in the namespace of Kubernetes.
func (n *Node) ctr(ctx context.Context, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "ctr", append([]string{
		"--address", socketIn(n.path()), "--namespace", "k8s.io",
	}, args...)...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("ctr %s: %w: %s", strings.Join(args, " "), err,
			strings.TrimSpace(string(out)))
	}
	return string(out), nil
}
