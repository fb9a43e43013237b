// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package e2e

import (
	"context"
	"os"
	"os/exec"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/stack"
)

// chart is the folder of the chart, in the root of the repository.
const chart = "charts/oxide-cloud-controller-manager"

// helmInstall installs the chart, of which no pod ever runs here, until the test ends. It returns
// what helm says.
func (e *environment) helmInstall(release string, args ...string) string {
	e.Helper()
	out := e.helm(e.Context(), append([]string{"install", release, chart}, args...)...)
	e.Cleanup(func() { e.helm(context.WithoutCancel(e.Context()), "uninstall", release) })
	return out
}

// helm runs helm in the namespace kube-system, and returns what it says.
func (e *environment) helm(ctx context.Context, args ...string) string {
	e.Helper()
	root, err := stack.Root()
	e.must(err)
	cmd := exec.CommandContext(ctx, "go", append([]string{
		"tool", "-modfile=tools/go.mod", "helm", "--kubeconfig", shared.cluster.AdminKubeconfig,
		"--namespace", "kube-system",
	}, args...)...)
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "HELM_CACHE_HOME="+e.dir, "HELM_CONFIG_HOME="+e.dir,
		"HELM_DATA_HOME="+e.dir, "GOWORK=off")
	out, err := cmd.CombinedOutput()
	if err != nil {
		e.Errorf("helm %v: %v\n%s", args, err, out)
	}
	return string(out)
}
