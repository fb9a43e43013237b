// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

//go:build e2epod

package pod

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/rack"
)

// helm runs the real helm as the cluster's administrator and returns what it printed.
func (w *world) helm(args ...string) (string, error) {
	return w.command(built.helm, args...)
}

// kubectl runs the real kubectl as the cluster's administrator and returns what it printed.
func (w *world) kubectl(args ...string) (string, error) {
	return w.command(built.pods.Kubectl, args...)
}

// command runs a program in the root of the repository, away from any configuration of the user.
func (w *world) command(path string, args ...string) (string, error) {
	cmd := w.prepare(path, args...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return string(out), fmt.Errorf("%s %s: %w: %s", filepath.Base(path),
			strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return string(out), nil
}

func (w *world) prepare(path string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(w.ctx, path, args...)
	cmd.Dir = built.root
	home := filepath.Join(w.dir, "home")
	cmd.Env = append(os.Environ(), "KUBECONFIG="+w.cluster.AdminKubeconfig, "HOME="+home,
		"HELM_CACHE_HOME="+home, "HELM_CONFIG_HOME="+home, "HELM_DATA_HOME="+home)
	return cmd
}

// typed runs a shell by kubectl, types a text as a person would, leaves the shell once last is in what
// it printed, and returns all of that.
func (w *world) typed(text, last string, args ...string) string {
	w.Helper()
	cmd := w.prepare(built.pods.Kubectl, args...)
	var printed output
	cmd.Stdout, cmd.Stderr = &printed, &printed
	input, err := cmd.StdinPipe()
	w.must(err)
	w.must(cmd.Start())
	_, err = io.WriteString(input, text)
	w.must(err)
	w.eventually(func(context.Context) (string, error) {
		if all := printed.String(); !strings.Contains(all, last) {
			return fmt.Sprintf("%q in what kubectl prints: %s", last, all), nil
		}
		return "", nil
	})
	_, err = io.WriteString(input, "exit\n")
	w.must(err)
	if err := cmd.Wait(); err != nil {
		w.Errorf("kubectl %s: %v: %s", strings.Join(args, " "), err, printed.String())
	}
	return printed.String()
}

// output is what a running program has printed so far.
type output struct {
	mu   sync.Mutex
	text strings.Builder
}

// Write takes what was printed.
func (o *output) Write(text []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(text)
}

// String returns all of it.
func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// run runs helm or kubectl, which must succeed.
func (w *world) run(tool func(...string) (string, error), args ...string) string {
	w.Helper()
	out, err := tool(args...)
	w.must(err)
	return out
}

// createSecret creates the Secret with the settings, in the way that the documentation tells.
func (w *world) createSecret(namespace, name string) {
	w.Helper()
	w.run(w.kubectl, "--namespace", namespace, "create", "secret", "generic", name,
		"--from-literal=oxide-host="+w.rack.URL,
		"--from-file=oxide-token="+w.file("token", rack.Token+"\n"),
		"--from-literal=oxide-project="+rack.Project)
}

// chartArgs are what helm is told about the chart of this repository for this cluster: one node, an
// authority that nobody else trusts, no Service proxy, and no probes: the addresses of instances of the
// simulated rack are nobody's here, or a stranger's.
func (w *world) chartArgs() []string {
	w.Helper()
	return []string{
		filepath.Join("charts", productName),
		"--set", "deployment.replicas=1", "--set", "shim.probeNodes=false",
		"--set-file", "oxide.caBundle=" + w.rack.CAFile,
		"--values", w.file("values.yaml", w.apiServerValues()),
	}
}

// apiServer returns the host and the port of the API server. There is no Service proxy in this
// cluster, so a pod cannot reach it by its Service's address.
func (w *world) apiServer() (host, port string) {
	w.Helper()
	host, port, err := net.SplitHostPort(strings.TrimPrefix(w.cluster.URL, "https://"))
	w.must(err)
	return host, port
}

func (w *world) apiServerValues() string {
	w.Helper()
	host, port := w.apiServer()
	return fmt.Sprintf(`shim:
  extraEnv:
    - {name: KUBERNETES_SERVICE_HOST, value: %q}
    - {name: KUBERNETES_SERVICE_PORT, value: %q}
`, host, port)
}

// helmRelease runs `helm COMMAND RELEASE CHART` for the product's release, and waits as long as users
// are told to.
func (w *world) helmRelease(command string, more ...string) (string, error) {
	w.Helper()
	args := append([]string{command, productName}, w.chartArgs()...)
	args = append(args, "--namespace", namespace, "--wait", "--timeout", "2m")
	return w.helm(append(args, more...)...)
}
