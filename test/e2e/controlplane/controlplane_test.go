// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package controlplane

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/process"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/progress"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/stack"
)

// root is that of the repository.
var root string

func TestMain(m *testing.M) {
	var err error
	if root, err = stack.Root(); err == nil {
		_, err = stack.Build(context.Background(), root, progress.ForTest("control-plane"))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "control-plane:", err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// Whoever pastes what is printed has a cloud controller manager at work, and Ctrl-C leaves nothing
// behind.
func TestThePrintedCommandsAreACloudControllerManager(t *testing.T) {
	out := &output{}
	ctx, interrupt := context.WithCancel(t.Context())
	defer interrupt()
	ended := make(chan error, 1)
	go func() { ended <- Run(ctx, out) }()
	limited, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	err := process.Await(limited, func(context.Context) (bool, error) {
		select {
		case err := <-ended:
			return false, fmt.Errorf("it ended: %w", err)
		default:
			return strings.Contains(out.String(), "To debug one"), nil
		}
	})
	if err != nil {
		t.Fatalf("%v:\n%s", err, out)
	}
	text := out.String()
	commands := regexp.MustCompile(`(?m)^# (\S+)\n((?:.*\\\n)*.*)\n`).FindAllStringSubmatch(text, -1)
	if len(commands) != 3 {
		t.Fatalf("%d commands in:\n%s", len(commands), text)
	}
	for _, command := range commands {
		run(t, command[2])
	}
	kubeconfig := regexp.MustCompile(`(?m)^export KUBECONFIG=(\S+)$`).FindStringSubmatch(text)
	if kubeconfig == nil {
		t.Fatalf("no kubeconfig in:\n%s", text)
	}
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig[1])
	if err != nil {
		t.Fatal(err)
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	if err := process.Await(limited, func(ctx context.Context) (bool, error) {
		nodes, err := client.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
		if err != nil || len(nodes.Items) != len(machines()) {
			return false, fmt.Errorf("%d Nodes: %w", len(nodes.Items), err)
		}
		for _, node := range nodes.Items {
			if node.Spec.ProviderID == "" {
				return false, nil
			}
		}
		return true, nil
	}); err != nil {
		t.Errorf("the Nodes were not initialized: %v", err)
	}
	interrupt()
	if err := <-ended; err != nil {
		t.Errorf("after Ctrl-C: %v", err)
	}
	if _, err := os.Stat(filepath.Dir(kubeconfig[1])); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("its folder is left: %v", err)
	}
}

// The recipe names packages and a module that there are.
func TestTheDebuggerIsPinned(t *testing.T) {
	modfile := regexp.MustCompile(`-modfile=(\S+) dlv`).FindStringSubmatch(Debugger)
	if modfile == nil {
		t.Fatalf("no module in %q", Debugger)
	}
	text, err := os.ReadFile(filepath.Join(root, modfile[1]))
	if err != nil || !strings.Contains(string(text), "/cmd/dlv\n") {
		t.Errorf("%s pins no debugger: %v", modfile[1], err)
	}
}

// run runs a command in a shell at the root of the repository until the test ends.
func run(t *testing.T, command string) {
	t.Helper()
	log := &output{}
	cmd := exec.Command("sh", "-c", command)
	cmd.Dir, cmd.Stdout, cmd.Stderr = root, log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("%s:\n%s", command, log)
		}
	})
}

// output collects what is written while it may be read.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (o *output) Write(data []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(data)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}
