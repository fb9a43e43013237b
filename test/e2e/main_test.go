// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package e2e

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/cluster"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/process"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/progress"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/stack"
)

// shared is what all tests of this binary use: one control plane, the built programs, and the
// shim's identity.
var shared struct {
	programs   stack.Programs
	cluster    *cluster.Cluster
	kubeconfig string
	secrets    stack.Secrets
}

func TestMain(m *testing.M) {
	code, err := run(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		code = 1
	}
	os.Exit(code)
}

func run(m *testing.M) (code int, err error) {
	ctx := context.Background()
	root, err := stack.Root()
	if err != nil {
		return 1, err
	}
	if shared.programs, err = stack.Build(ctx, root, progress.ForTest("e2e")); err != nil {
		return 1, err
	}
	dir, err := os.MkdirTemp("/tmp", "oxide-e2e-")
	if err != nil {
		return 1, err
	}
	logs := filepath.Join(dir, "logs")
	if err := os.Mkdir(logs, 0o700); err != nil {
		return 1, err
	}
	group := process.NewGroup(logs)
	defer func() {
		if stopped := group.StopAll(20 * time.Second); stopped != nil && err == nil {
			err = stopped
		}
		if code == 0 && err == nil {
			os.RemoveAll(dir)
		}
	}()
	if shared.cluster, err = cluster.Start(ctx, group, shared.programs.Binaries, dir); err != nil {
		return 1, err
	}
	shared.kubeconfig, err = stack.Identity(ctx, shared.cluster, root, dir)
	if err != nil {
		return 1, err
	}
	if shared.secrets, err = stack.NewSecrets(shared.kubeconfig); err != nil {
		return 1, err
	}
	// Tests that run at the same time wait for most of it.
	flag.Parse()
	if err := flag.Set("test.parallel", "64"); err != nil {
		return 1, err
	}
	code = m.Run()
	// What the control plane was told, and what is left of all tests.
	return code, errors.Join(shared.secrets.InFiles(logs), shared.secrets.InCluster(ctx, shared.cluster.Client))
}
