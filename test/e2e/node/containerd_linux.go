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
	"text/template"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/process"
)

// socketIn is the socket of the containerd that keeps its state in dir.
func socketIn(dir string) string { return filepath.Join(dir, containerdFolder, "containerd.sock") }

// containerdConfig keeps all state in one folder, and asks nothing of the machine that it may not
// have: no AppArmor, no huge pages, no right to lower the score by which the kernel kills.
var containerdConfig = template.Must(template.New("containerd").Parse(`version = 2
root = "{{.Dir}}/root"
state = "{{.Dir}}/state"
disabled_plugins = [
  "io.containerd.internal.v1.opt",
  "io.containerd.nri.v1.nri",
  "io.containerd.snapshotter.v1.aufs",
  "io.containerd.snapshotter.v1.blockfile",
  "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.devmapper",
  "io.containerd.snapshotter.v1.zfs",
  "io.containerd.tracing.processor.v1.otlp",
]
[grpc]
  address = "{{.Socket}}"
[ttrpc]
  address = "{{.Socket}}.ttrpc"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{{.Pause}}"
  stream_server_address = "127.0.0.1"
  stream_server_port = "0"
  restrict_oom_score_adj = true
  disable_apparmor = true
  disable_hugetlb_controller = true
  tolerate_missing_hugetlb_controller = true
[plugins."io.containerd.grpc.v1.cri".containerd]
  snapshotter = "overlayfs"
  default_runtime_name = "runc"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
  Root = "{{.Dir}}/runc"
  SystemdCgroup = false
[plugins."io.containerd.grpc.v1.cri".cni]
  bin_dir = "{{.CNI}}"
  conf_dir = "{{.CNI}}"
`))

func (n *Node) startContainerd(ctx context.Context) error {
	path, err := exec.LookPath("containerd")
	if err != nil {
		return err
	}
	config := n.path(containerdFolder, "config.toml")
	file, err := os.Create(config)
	if err != nil {
		return err
	}
	err = containerdConfig.Execute(file, map[string]string{
		"Dir": n.path(containerdFolder), "Socket": socketIn(n.path()), "Pause": PauseImage,
		"CNI": n.path(cniFolder),
	})
	if closed := file.Close(); err == nil {
		err = closed
	}
	if err != nil {
		return fmt.Errorf("cannot write containerd's configuration: %w", err)
	}
	_, err = n.options.Group.Run(ctx, process.Spec{
		Name: "containerd", Path: path, Args: []string{"--config=" + config},
		Env: []string{"PATH=" + searchPath},
	}, func(ctx context.Context) error {
		_, err := n.ctr(ctx, "version")
		return err
	})
	return err
}
