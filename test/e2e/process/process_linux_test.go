// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package process_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/process"
)

// The test binary plays the programs: TestMain runs the part named in this variable.
const roleVariable = "PROCESS_TEST_ROLE"

func TestMain(m *testing.M) {
	switch role := os.Getenv(roleVariable); role {
	case "":
		goleak.VerifyTestMain(m)
	case "patient": // ends on SIGTERM only
		wait()
	case "stubborn":
		signal.Ignore(syscall.SIGTERM)
		os.Stdout.WriteString("deaf\n")
		wait()
	case "broken":
		os.Stderr.WriteString("first\nlast words\n")
		os.Exit(3)
	case "parent": // starts a patient child, tells its id, waits to be killed
		group := process.NewGroup(os.Getenv("DIR"))
		child, err := group.Start(spec("child", "patient"))
		if err != nil {
			os.Exit(1)
		}
		os.Stdout.WriteString(strconv.Itoa(child.PID()) + "\n")
		wait()
	default:
		os.Exit(99)
	}
}

func spec(name, role string, env ...string) process.Spec {
	self, err := os.Executable()
	if err != nil {
		panic(err)
	}
	return process.Spec{Name: name, Path: self, Env: append(env, roleVariable+"="+role)}
}

func TestStopAllEndsEveryProcess(t *testing.T) {
	group := process.NewGroup(t.TempDir())
	one := mustStart(t, group, spec("one", "patient"))
	two := mustStart(t, group, spec("two", "patient"))
	if err := group.StopAll(10 * time.Second); err != nil {
		t.Error(err)
	}
	for _, p := range []*process.Process{one, two} {
		if alive(p.PID()) {
			t.Errorf("%s still runs", p.Name())
		}
		if p.Err() != nil {
			t.Errorf("%s: an end that was asked for is reported: %v", p.Name(), p.Err())
		}
	}
	if _, err := group.Start(spec("late", "patient")); err == nil {
		t.Error("a process was started after StopAll")
	}
}

func TestStopKillsWhatDoesNotEndInTime(t *testing.T) {
	group := process.NewGroup(t.TempDir())
	p := mustStart(t, group, spec("stubborn", "stubborn"))
	err := p.Ready(t.Context(), func(context.Context) error {
		if tail := p.Tail(1); len(tail) == 0 || tail[0] != "deaf" {
			return errors.New("not yet")
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Stop(100 * time.Millisecond); err == nil {
		t.Error("no error tells that the process had to be killed")
	}
	if alive(p.PID()) {
		t.Error("the process still runs")
	}
}

func TestAnEarlyEndIsReportedWithTheLastLines(t *testing.T) {
	group := process.NewGroup(t.TempDir())
	p := mustStart(t, group, spec("broken", "broken"))
	err := p.Ready(t.Context(), func(context.Context) error { return errors.New("never") })
	var exit *process.ExitError
	if !errors.As(err, &exit) {
		t.Fatalf("Ready returned %v, want an ExitError", err)
	}
	if got := strings.Join(exit.Tail, "|"); got != "first|last words" {
		t.Errorf("last lines are %q", got)
	}
	if !strings.Contains(exit.Status, "3") || p.ExitCode() != 3 {
		t.Errorf("status %q, exit code %d, want 3", exit.Status, p.ExitCode())
	}
	select {
	case got := <-group.Exits():
		if got.Name != "broken" {
			t.Errorf("the group reports the end of %q", got.Name)
		}
	case <-t.Context().Done():
		t.Error("the group reports no end")
	}
}

func TestReadyGivesUpWithTheLastReason(t *testing.T) {
	group := process.NewGroup(t.TempDir())
	p := mustStart(t, group, spec("patient", "patient"))
	defer p.Kill()
	ctx, cancel := context.WithTimeout(t.Context(), 120*time.Millisecond)
	defer cancel()
	err := p.Ready(ctx, func(context.Context) error { return errors.New("port is closed") })
	if err == nil || !strings.Contains(err.Error(), "port is closed") {
		t.Errorf("Ready returned %v", err)
	}
}

func TestNothingOutlivesAKilledHarness(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	parent := exec.Command(self)
	parent.Env = []string{roleVariable + "=parent", "DIR=" + t.TempDir()}
	out, err := parent.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := parent.Start(); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 32)
	n, err := out.Read(buf)
	if err != nil {
		t.Fatal(err)
	}
	child, err := strconv.Atoi(strings.TrimSpace(string(buf[:n])))
	if err != nil {
		t.Fatal(err)
	}
	if !alive(child) {
		t.Fatal("the child does not run")
	}
	if err := parent.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = parent.Wait()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	if err := process.Await(ctx, func(context.Context) (bool, error) {
		return !alive(child), nil
	}); err != nil {
		t.Errorf("the child runs on: %v", err)
	}
}

func mustStart(t *testing.T, group *process.Group, spec process.Spec) *process.Process {
	t.Helper()
	p, err := group.Start(spec)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Kill)
	return p
}

// wait ends by a signal only.
func wait() {
	for {
		_ = syscall.Pause()
	}
}

// alive is false for a process that is gone or only waits to be collected.
func alive(pid int) bool {
	if syscall.Kill(pid, 0) != nil {
		return false
	}
	stat, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return !errors.Is(err, os.ErrNotExist)
	}
	_, after, _ := strings.Cut(string(stat), ") ")
	return !strings.HasPrefix(after, "Z")
}
