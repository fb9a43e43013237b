// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package demo_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/demo"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/process"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/progress"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/stack"
)

// built is everything that a demo runs.
var built stack.Programs

// The test binary plays the program, as cmd/demo does it, when this variable is set.
const playVariable = "DEMO_TEST_PLAY"

func TestMain(m *testing.M) {
	if os.Getenv(playVariable) == "" {
		// What is slow to build is built where that is seen.
		root, err := stack.Root()
		if err == nil {
			built, err = stack.Build(context.Background(), root, progress.ForTest("demo"))
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, "demo:", err)
			os.Exit(1)
		}
		os.Exit(m.Run())
	}
	ctx, stop := demo.Signals()
	defer stop()
	os.Exit(demo.Main(ctx, nil, os.Stdout))
}

// programs are all that a demo starts.
var programs = []string{"etcd", "kube-apiserver", "oxide-sim", "oxide-backend", "ccm-shim"}

func TestADemoTellsItsStoryAndLeavesNothing(t *testing.T) {
	d := play(t)
	if code := d.wait(); code != 0 {
		t.Fatalf("exit code %d:\n%s", code, d.out)
	}
	if last := d.lastLine(); !strings.HasPrefix(last, "demo: ok (all in ") {
		t.Errorf("the last line is %q", last)
	}
	_, end, found := strings.Cut(d.out.String(), "\nIn short\n")
	for line := range strings.Lines(end) {
		if len(line) > 80 {
			t.Errorf("a line of the end fits no terminal: %q", line)
		}
	}
	if !found || strings.Contains(d.out.String(), "  -0.") {
		t.Errorf("it ends without a summary, or something happened before its cause:\n%s", d.out)
	}
	for _, told := range []string{
		"Node worker-1 is initialized", "Node worker-2 is initialized",
		"Node worker-3 is initialized", "provider ID", "instance type  4-16", "InternalIP",
		"oxide.computer/silo-id=", "floating IP 198.51.100.", "created", "attached to worker-",
		"Service default/web has its addresses", "Service default/dns has its addresses",
		"is stopped; it carries ", "Ready=Unknown; it carries ", "is detached from worker-",
		"is attached to worker-", "the status of default/web names worker-",
		"the status of default/dns names worker-", " and worker-",
		"Service default/dns is gone", "is deleted", "3 Nodes initialized in ",
	} {
		if !strings.Contains(d.out.String(), told) {
			t.Errorf("%q is not told", told)
		}
	}
	d.checkGone()
	d.checkEmpty()
}

func TestCtrlCEndsEverything(t *testing.T) {
	for _, after := range []string{"a real Kubernetes API", "knows Oxide", "registered"} {
		t.Run("after "+after, func(t *testing.T) {
			d := play(t)
			d.awaitOutput(after)
			d.signal(syscall.SIGINT)
			if code := d.wait(); code != 130 {
				t.Errorf("exit code %d:\n%s", code, d.out)
			}
			d.checkGone()
			d.checkEmpty()
		})
	}
}

// The folder holds keys and tokens.
func TestASecondCtrlCLeavesNoFolderBehind(t *testing.T) {
	d := play(t)
	d.awaitOutput("knows Kubernetes")
	d.signal(syscall.SIGINT)
	d.awaitOutput("stopping everything")
	d.signal(syscall.SIGINT)
	if code := d.wait(); code != 130 {
		t.Errorf("exit code %d:\n%s", code, d.out)
	}
	d.checkGone()
	d.checkEmpty()
}

func TestAKilledDemoLeavesNoProcess(t *testing.T) {
	d := play(t)
	d.awaitOutput("knows Kubernetes")
	d.signal(syscall.SIGKILL)
	d.wait()
	d.checkGone()
}

func TestAProcessThatDiesIsNamedWithItsLastWords(t *testing.T) {
	for _, name := range []string{"oxide-backend", "kube-apiserver"} {
		t.Run(name, func(t *testing.T) {
			d := play(t)
			d.awaitOutput("knows Kubernetes")
			for _, pid := range d.running(name) {
				if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
					t.Fatal(err)
				}
			}
			if code := d.wait(); code != 1 {
				t.Errorf("exit code %d:\n%s", code, d.out)
			}
			last := d.lastLine()
			for _, want := range []string{"demo: failed: " + name, "killed", "logs are in " + d.tmp} {
				if !strings.Contains(last, want) {
					t.Errorf("the last line does not say %q: %q", want, last)
				}
			}
			if !strings.Contains(d.out.String(), "The last lines of "+name) {
				t.Errorf("the last lines of %s are missing:\n%s", name, d.out)
			}
			d.checkGone()
		})
	}
}

func TestAKeptDemoGoesOnUntilItIsEndedAsItSays(t *testing.T) {
	d := play(t, "KEEP=1")
	if code := d.wait(); code != 0 {
		t.Fatalf("exit code %d:\n%s", code, d.out)
	}
	defer d.checkGone()
	for _, name := range programs {
		if len(d.running(name)) != 1 {
			t.Errorf("%s does not run", name)
		}
	}
	if !strings.Contains(d.out.String(), "export KUBECONFIG="+d.tmp) {
		t.Errorf("no KUBECONFIG in:\n%s", d.out)
	}
	command := regexp.MustCompile(`(?m)^  (kill -9 [0-9 ]+; rm -r (\S+))$`).
		FindStringSubmatch(d.out.String())
	if command == nil {
		t.Fatalf("it does not say how to end it:\n%s", d.out)
	}
	if out, err := exec.Command("sh", "-c", command[1]).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
}

// played is a demo in a process of its own, with a folder for temporary files of its own.
type played struct {
	*testing.T
	cmd *exec.Cmd
	out *output
	tmp string
}

func play(t *testing.T, env ...string) *played {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	// Not t.TempDir: a unix socket's path has to be short.
	tmp, err := os.MkdirTemp("/tmp", "demo-test-")
	if err != nil {
		t.Fatal(err)
	}
	d := &played{T: t, cmd: exec.Command(self), out: &output{}, tmp: tmp}
	d.cmd.Env = append(os.Environ(), playVariable+"=1", "TMPDIR="+tmp, "KEEP=", "FETCH=0")
	d.cmd.Env = append(d.cmd.Env, env...)
	d.cmd.Stdout, d.cmd.Stderr = d.out, d.out
	if err := d.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, name := range programs {
			for _, pid := range d.running(name) {
				_ = syscall.Kill(pid, syscall.SIGKILL)
			}
		}
		os.RemoveAll(tmp)
	})
	return d
}

// wait returns the exit code, -1 if a signal ended it.
func (d *played) wait() int {
	d.Helper()
	timer := time.AfterFunc(12*time.Minute, func() { _ = d.cmd.Process.Kill() })
	defer timer.Stop()
	err := d.cmd.Wait()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		d.Fatal(err)
	}
	return d.cmd.ProcessState.ExitCode()
}

func (d *played) signal(signal syscall.Signal) {
	d.Helper()
	if err := d.cmd.Process.Signal(signal); err != nil {
		d.Fatal(err)
	}
}

func (d *played) awaitOutput(text string) {
	d.Helper()
	ctx, cancel := context.WithTimeout(d.Context(), 12*time.Minute)
	defer cancel()
	if err := process.Await(ctx, func(context.Context) (bool, error) {
		if strings.Contains(d.out.String(), "demo: ") {
			return false, fmt.Errorf("it ended without saying %q:\n%s", text, d.out)
		}
		return strings.Contains(d.out.String(), text), nil
	}); err != nil {
		d.Fatal(err)
	}
}

func (d *played) lastLine() string {
	lines := strings.Split(strings.TrimSpace(d.out.String()), "\n")
	return lines[len(lines)-1]
}

// running returns the ids of this demo's processes of that name: its temporary folder is in their
// command lines.
func (d *played) running(name string) []int {
	d.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		d.Fatal(err)
	}
	var pids []int
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil { // ended meanwhile
			continue
		}
		program, _, _ := bytes.Cut(text, []byte{0})
		if filepath.Base(string(program)) != name || !bytes.Contains(text, []byte(d.tmp+"/")) {
			continue
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(file)))
		if err != nil {
			d.Fatal(err)
		}
		pids = append(pids, pid)
	}
	return pids
}

// checkGone fails if a process of the demo does not end.
func (d *played) checkGone() {
	d.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	var left []string
	if err := process.Await(ctx, func(context.Context) (bool, error) {
		left = nil
		for _, name := range programs {
			if len(d.running(name)) > 0 {
				left = append(left, name)
			}
		}
		return len(left) == 0, nil
	}); err != nil {
		d.Errorf("still running: %v", left)
	}
}

// checkEmpty fails if the demo leaves files behind.
func (d *played) checkEmpty() {
	d.Helper()
	entries, err := os.ReadDir(d.tmp)
	if err != nil {
		d.Fatal(err)
	}
	for _, entry := range entries {
		d.Errorf("it leaves %s behind", entry.Name())
	}
}

// output collects what a process writes while it may be read.
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
