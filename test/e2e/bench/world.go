// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/cluster"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/process"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/stack"
)

// world is a control plane that runs, where the part needs one, and the programs to run beside it.
type world struct {
	root, dir  string
	group      *process.Group
	programs   stack.Programs
	cluster    *cluster.Cluster
	kubeconfig string
}

func newWorld(ctx context.Context, root string, programs stack.Programs, kubernetes bool,
) (*world, error) {
	dir, err := os.MkdirTemp("/tmp", "oxide-bench-")
	if err != nil {
		return nil, err
	}
	w := &world{root: root, dir: dir, programs: programs}
	logs := filepath.Join(w.dir, "logs")
	if err := os.Mkdir(logs, 0o700); err != nil {
		return nil, err
	}
	w.group = process.NewGroup(logs)
	if kubernetes {
		if err := w.start(ctx); err != nil {
			w.close()
			return nil, err
		}
	}
	return w, nil
}

func (w *world) start(ctx context.Context) (err error) {
	if w.cluster, err = cluster.Start(ctx, w.group, w.programs.Binaries, w.dir); err != nil {
		return err
	}
	w.kubeconfig, err = stack.Identity(ctx, w.cluster, w.root, w.dir)
	return err
}

func (w *world) close() {
	if err := w.group.StopAll(20 * time.Second); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
	}
	_ = os.RemoveAll(w.dir)
}
