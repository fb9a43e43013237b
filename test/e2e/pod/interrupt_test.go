// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

//go:build e2epod

package pod

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/node"
)

// These tests change a machine: whatever becomes of a run, it must not stay so.
func TestARunThatIsBrokenOffLeavesTheMachineAsItWas(t *testing.T) {
	for name, signal := range map[string]syscall.Signal{
		"interrupted": syscall.SIGINT, "killed": syscall.SIGKILL,
	} {
		t.Run(name, func(t *testing.T) {
			before, folders := machineState(t), runFolders()
			run := exec.CommandContext(t.Context(), os.Args[0], "-test.v",
				"-test.run=^TestThePlainManifest")
			out, err := run.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := run.Start(); err != nil {
				t.Fatal(err)
			}
			// Then containers run, and some end and start again.
			if err := await(out, "/the_pod_starts_once_the_Secret_is_there"); err != nil {
				t.Errorf("the run: %v", err)
			}
			if during := machineState(t); cmp.Equal(before, during) {
				t.Error("the run does not show on the machine, so its end would not either")
			}
			if err := run.Process.Signal(signal); err != nil {
				t.Fatal(err)
			}
			_, _ = io.Copy(io.Discard, out)
			var exit *exec.ExitError
			if err := run.Wait(); !errors.As(err, &exit) {
				t.Fatalf("the run ended by itself: %v", err)
			}
			if signal == syscall.SIGKILL {
				takeOverFromDeadRun(t, folders)
			} else if exit.ExitCode() != 130 {
				t.Errorf("the exit code is %d, want 130", exit.ExitCode())
			}
			if diff := cmp.Diff(before, machineState(t)); diff != "" {
				t.Errorf("the machine (-before +after):\n%s", diff)
			}
		})
	}
}

// takeOverFromDeadRun does what the next run does. The folders are those that were there before the dead
// one.
func takeOverFromDeadRun(t *testing.T, folders []string) {
	t.Helper()
	machine, err := node.Claim(t.Context(), t.TempDir(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := machine.Release(); err != nil {
		t.Error(err)
	}
	// Logs of dead runs are kept for people; nobody wants these.
	for _, dir := range runFolders() {
		if !slices.Contains(folders, dir) {
			os.RemoveAll(dir)
		}
	}
}

// runFolders are the folders of runs, this one's and those that failed.
func runFolders() []string {
	all, _ := filepath.Glob("/tmp/oxide-pod-*")
	return all
}

// await reads lines until one ends with a text.
func await(from io.Reader, suffix string) error {
	lines := bufio.NewScanner(from)
	for lines.Scan() {
		if strings.HasSuffix(lines.Text(), suffix) {
			return nil
		}
	}
	return errors.Join(errors.New("it never came so far"), lines.Err())
}

// machineState is what a run changes of the machine: kernel settings, folders that are always in the
// same place, and mounts and processes of runs.
func machineState(t *testing.T) []string {
	t.Helper()
	var state []string
	for _, name := range []string{"vm/overcommit_memory", "kernel/panic", "kernel/panic_on_oops"} {
		value, err := os.ReadFile("/proc/sys/" + name)
		if err != nil {
			t.Fatal(err)
		}
		state = append(state, name+" = "+strings.TrimSpace(string(value)))
	}
	for _, path := range []string{
		"/var/lib/kubelet", "/var/log/pods", "/var/log/containers", "/run/containerd",
		"/run/oxide-ccm-pod.json", "/sys/fs/cgroup/kubepods", "/sys/fs/cgroup/cpu/kubepods",
	} {
		if _, err := os.Lstat(path); err == nil {
			state = append(state, path)
		}
	}
	const mark = "/oxide-pod-"
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(mounts)) {
		if strings.Contains(line, mark) {
			state = append(state, line)
		}
	}
	commands, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range commands {
		text, err := os.ReadFile(file)
		if err == nil && strings.Contains(string(text), mark) {
			state = append(state, fmt.Sprintf("%s: %q", file, text))
		}
	}
	return state
}
