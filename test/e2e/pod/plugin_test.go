// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

//go:build e2epod

package pod

import (
	"os"
	"path/filepath"
	"strings"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/node"
)

// oxide runs `kubectl oxide` as users do who have put the plugin into a folder in PATH.
func (w *world) oxide(args ...string) (stdout, stderr string, code int) {
	w.Helper()
	cmd := w.prepare(built.pods.Kubectl, append([]string{"oxide"}, args...)...)
	path := []string{
		filepath.Join(built.root, "plugins"), filepath.Dir(built.pods.Kubectl), os.Getenv("PATH"),
	}
	cmd.Env = append(cmd.Env, "PATH="+strings.Join(path, string(os.PathListSeparator)))
	var out, errOut output
	cmd.Stdout, cmd.Stderr = &out, &errOut
	err := cmd.Run()
	if cmd.ProcessState == nil {
		w.Fatal(err)
	}
	return out.String(), errOut.String(), cmd.ProcessState.ExitCode()
}

// plugin asks the backend in the pod by the plugin.
func plugin(w *world) {
	stdout, stderr, code := w.oxide("explain", "default/web")
	if code != 0 || stderr != "" {
		w.Fatalf("exit code %d: %s%s", code, stdout, stderr)
	}
	for _, part := range []string{"default/web", "ready", "on " + node.Name, " is there, and stays"} {
		if !strings.Contains(stdout, part) {
			w.Errorf("there is no %q in:\n%s", part, stdout)
		}
	}
	stdout, stderr, code = w.oxide("--namespace", namespace, "--release", productName, "plan")
	if code != 0 || stdout != "Nothing would change.\n" || stderr != "" {
		w.Errorf("exit code %d: %s%s", code, stdout, stderr)
	}
	stdout, stderr, code = w.oxide("plan", "--without", "elsewhere")
	if code != 2 || !strings.Contains(stderr, `there is no node "elsewhere"`) {
		w.Errorf("exit code %d: %s%s", code, stdout, stderr)
	}
}
