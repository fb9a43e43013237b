// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package node

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// Two containerds may run on one machine, and ours may end only what is its own.
func TestOnlyContainersOfTheOwnSocketAreEnded(t *testing.T) {
	dir := t.TempDir()
	own, other := filepath.Join(dir, "own.sock"), filepath.Join(dir, "other.sock")
	ownShim, ownContainer := startShim(t, own)
	otherShim, otherContainer := startShim(t, other)
	if err := endContainers(own); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[int]bool{
		ownShim: false, ownContainer: false, otherShim: true, otherContainer: true,
	} {
		fields := stat(name)
		if runs := len(fields) > 0 && fields[0] != "Z"; runs != want {
			t.Errorf("process %d runs: %t, want %t", name, runs, want)
		}
	}
}

// startShim starts a process with the command line of a containerd shim, and one as its container.
func startShim(t *testing.T, socket string) (shim, child int) {
	t.Helper()
	file := socket + ".pid"
	cmd := &exec.Cmd{Path: "/bin/sh", Args: []string{
		"containerd-shim-runc-v2", "-c", `sleep 600 & echo $! > "$0.new"; mv "$0.new" "$0"; wait`,
		file, "-namespace", "k8s.io", "-address", socket,
	}}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		all, _ := processes()
		for _, pid := range append(descendants(all, cmd.Process.Pid), cmd.Process.Pid) {
			if process, err := os.FindProcess(pid); err == nil {
				_ = process.Kill()
			}
		}
		_ = cmd.Wait()
	})
	err := within(10*time.Second, func() (bool, error) {
		text, err := os.ReadFile(file)
		if err != nil {
			return false, nil
		}
		child, err = strconv.Atoi(strings.TrimSpace(string(text)))
		return true, err
	})
	if err != nil {
		t.Fatal(err)
	}
	return cmd.Process.Pid, child
}

func TestAProcessWithAnOddNameIsReadRight(t *testing.T) {
	program := filepath.Join(t.TempDir(), "a) S (b")
	text, err := os.ReadFile("/bin/sleep")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(program, text, 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), program, "600")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}()
	fields := stat(cmd.Process.Pid)
	if len(fields) < 2 || fields[1] != strconv.Itoa(os.Getpid()) {
		t.Errorf("its parent is read as %v", fields)
	}
}
