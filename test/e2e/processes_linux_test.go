// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/objects"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/process"
)

func TestTheShimRunsABackendOfItsOwnWhichEndsWithIt(t *testing.T) {
	e := newEnvironment(t, settings{child: true})
	e.join("node-a")
	e.create("web", objects.TCP(80))
	e.served("web")
	// A shim that cannot do anything any more.
	child := e.child()
	e.ccm.Shim.Kill()
	e.awaitEnd(child)

	// A shim that is asked to end.
	before, err := os.ReadDir(e.dir)
	e.must(err)
	e.must(e.ccm.StartShim(t.Context()))
	child = e.child()
	e.must(e.ccm.Shim.Stop(limit))
	if code := e.ccm.Shim.ExitCode(); code != 0 {
		t.Errorf("asked to end, the shim ended with exit code %d", code)
	}
	e.awaitEnd(child)
	after, err := os.ReadDir(e.dir)
	e.must(err)
	if len(after) != len(before) {
		t.Errorf("the shim leaves files behind: %v before, %v after", before, after)
	}
}

// child returns the id of the backend that the shim has started.
func (e *environment) child() int {
	e.Helper()
	children := childrenOf(e.T, e.ccm.Shim.PID())
	if len(children) != 1 {
		e.Fatalf("the shim has the children %v, want its backend alone", children)
	}
	return children[0]
}

func (e *environment) awaitEnd(pid int) {
	e.Helper()
	e.eventually(func(context.Context) (string, error) {
		if alive(pid) {
			return fmt.Sprintf("the end of the backend, process %d", pid), nil
		}
		return "", nil
	})
}

func TestAStandbyTakesOverWhenTheLeaderDies(t *testing.T) {
	e := newEnvironment(t, settings{shimFlags: quickLease})
	first := e.holder()
	standby := e.standby("-standby", quickLease...)

	e.join("node-a")
	if got := e.holder(); got != first {
		t.Errorf("the lease went from %q to %q while the leader lived", first, got)
	}
	e.ccm.Shim.Kill()
	e.join("node-b")
	if got := e.holder(); got == first || got == "" {
		t.Errorf("a Node is initialized and the lease is held by %q", got)
	}
	if err := standby.Shim.Err(); err != nil {
		t.Error(err)
	}
}

// A backend that keeps its socket and answers nothing is as good as none.
func TestAShimWhoseBackendIsFrozenEnds(t *testing.T) {
	e := newEnvironment(t, settings{})
	other := e.standby("-frozen", append(quickLease, "--backend-unreachable-exit=5s")...)
	e.must(syscall.Kill(other.Backend.PID(), syscall.SIGSTOP))
	select {
	case <-other.Shim.Done():
	case <-time.After(limit):
		t.Fatalf("the shim has not ended %s after its backend froze", limit)
	}
	if code := other.Shim.ExitCode(); code != 1 {
		t.Errorf("exit code %d, want 1", code)
	}
	if said := strings.Join(other.Shim.Tail(5), "\n"); !strings.Contains(said, "oxide-backend is unreachable") {
		t.Errorf("it does not say why it ends:\n%s", said)
	}
	other.Backend.Kill()
	e.join("node-a")
}

func TestBadConfigurationIsToldAtOnceAndWhole(t *testing.T) {
	group := process.NewGroup(t.TempDir())
	backend, err := group.Start(process.Spec{
		Name: "oxide-backend", Path: shared.programs.Backend,
		Args: []string{"--listen=unix://" + filepath.Join(t.TempDir(), "backend.sock")},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer backend.Kill()
	if code := backend.ExitCode(); code != 2 {
		t.Errorf("exit code %d, want 2", code)
	}
	said := strings.Join(backend.Tail(20), "\n")
	for _, setting := range []string{"OXIDE_HOST", "OXIDE_TOKEN", "OXIDE_PROJECT"} {
		if !strings.Contains(said, setting) {
			t.Errorf("%s is missing and not named in:\n%s", setting, said)
		}
	}
}

// holder returns who holds the lease.
func (e *environment) holder() string {
	e.Helper()
	lease, err := e.ccm.Lease(e.Context())
	e.must(err)
	if lease.Spec.HolderIdentity == nil {
		return ""
	}
	return *lease.Spec.HolderIdentity
}

// childrenOf returns the ids of the processes that pid started and that still run.
func childrenOf(t *testing.T, pid int) []int {
	t.Helper()
	var children []int
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, task := range tasks {
		text, err := os.ReadFile(task)
		if errors.Is(err, os.ErrNotExist) { // the thread ended meanwhile
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		for _, field := range strings.Fields(string(text)) {
			child, err := strconv.Atoi(field)
			if err != nil {
				t.Fatal(err)
			}
			children = append(children, child)
		}
	}
	return children
}

// alive is false for a process that is gone or only waits to be collected.
func alive(pid int) bool {
	if syscall.Kill(pid, 0) != nil {
		return false
	}
	stat, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return false
	}
	_, after, _ := strings.Cut(string(stat), ") ")
	return !strings.HasPrefix(after, "Z")
}
