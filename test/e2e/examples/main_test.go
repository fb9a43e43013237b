// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package examples

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/process"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/progress"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/rack"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/stack"
)

// patience bounds everything that is waited for.
const patience = 60 * time.Second

// built is what all tests use: the root of the repository, its programs, and the folder of the examples.
var built struct {
	root, examples string
	programs       stack.Programs
}

func TestMain(m *testing.M) {
	code, err := run(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, "examples:", err)
		code = 1
	}
	os.Exit(code)
}

func run(m *testing.M) (code int, err error) {
	ctx := context.Background()
	if built.root, err = stack.Root(); err != nil {
		return 1, err
	}
	if built.programs, err = stack.BuildOwn(ctx, built.root, progress.ForTest("examples")); err != nil {
		return 1, err
	}
	if built.examples, err = os.MkdirTemp("", "examples-"); err != nil {
		return 1, err
	}
	defer os.RemoveAll(built.examples)
	build := exec.CommandContext(ctx, "go", "build", "-o", built.examples, "./...")
	build.Dir = filepath.Join(built.root, "examples")
	build.Env = append(build.Environ(), "GOWORK=off")
	if out, err := build.CombinedOutput(); err != nil {
		return 1, fmt.Errorf("the examples cannot be built: %w: %s", err, out)
	}
	return m.Run(), nil
}

// world is a rack and a backend in front of it.
type world struct {
	*testing.T
	group   *process.Group
	rack    *rack.Rack
	backend *stack.CCM
	socket  string
	// dir is an empty folder with a short path, for the socket and what a test writes.
	dir string
}

// newWorld starts both, until the test ends. The group "web" has three instances, web-1 to web-3.
func newWorld(t *testing.T) *world {
	t.Helper()
	t.Parallel()
	dir, err := os.MkdirTemp("/tmp", "oxide-examples-")
	if err != nil {
		t.Fatal(err)
	}
	w := &world{T: t, dir: dir, group: process.NewGroup(dir)}
	t.Cleanup(func() {
		if err := w.group.StopAll(10 * time.Second); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Log("the logs are in", dir)
			return
		}
		os.RemoveAll(dir)
	})
	ctx := w.within()
	w.rack, err = rack.Start(ctx, w.group, rack.Options{Program: built.programs.Sim, Dir: dir})
	w.must(err)
	w.must(w.rack.AddGroup(ctx, "web", "web-1", "web-2", "web-3"))
	w.backend, err = stack.StartBackend(ctx, stack.CCMOptions{
		Group: w.group, Programs: built.programs, Rack: w.rack, Dir: dir,
	})
	w.must(err)
	w.socket = strings.TrimPrefix(w.backend.Socket, "unix://")
	return w
}

func (w *world) must(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

// within returns a context that ends when the test's patience does.
func (w *world) within() context.Context {
	ctx, cancel := context.WithTimeout(w.Context(), patience)
	w.Cleanup(cancel)
	return ctx
}

// start runs an example until the test ends.
func (w *world) start(name string, args ...string) *process.Process {
	w.Helper()
	return w.startAs(name, name, args...)
}

// startAs gives the process, and its log, a name of its own.
func (w *world) startAs(name, program string, args ...string) *process.Process {
	w.Helper()
	p, err := w.group.Start(process.Spec{
		Name: name, Path: filepath.Join(built.examples, program), Env: []string{"PATH=" + os.Getenv("PATH")},
		Args: append([]string{"--socket", w.socket}, args...),
	})
	w.must(err)
	return p
}

// eventually waits until something holds, and fails with what holds instead.
func (w *world) eventually(what string, check func(ctx context.Context) (holds bool, instead string, err error)) {
	w.Helper()
	var last string
	err := process.Await(w.within(), func(ctx context.Context) (holds bool, err error) {
		holds, last, err = check(ctx)
		return holds, err
	})
	if err != nil {
		w.Fatalf("%s: %v; it is: %s", what, err, last)
	}
}

// checkUnchanged holds that the rack was asked to change nothing since it had these counts of requests.
func (w *world) checkUnchanged(before map[string]int) {
	w.Helper()
	after, err := w.rack.Requests(w.within())
	w.must(err)
	for _, operation := range []string{
		"floating_ip_create", "floating_ip_attach", "floating_ip_detach", "floating_ip_update", "floating_ip_delete",
	} {
		if after[operation] != before[operation] {
			w.Errorf("%s was asked for %d times", operation, after[operation]-before[operation])
		}
	}
}

// rest waits for something that must not happen.
func (w *world) rest(d time.Duration) {
	w.Helper()
	select {
	case <-time.After(d):
	case <-w.Context().Done():
	}
}

// awaitLine waits until a program has written so many lines with a text.
func (w *world) awaitLine(p *process.Process, text string, times int) {
	w.Helper()
	w.eventually("the program says: "+text, func(context.Context) (bool, string, error) {
		log, err := os.ReadFile(p.LogFile())
		return strings.Count(string(log), text) >= times, string(log), err
	})
}
