// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/cluster"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/process"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/progress"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/rack"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/stack"
)

// Exit codes of Main.
const (
	exitOK          = 0
	exitFailed      = 1
	exitUsage       = 2
	exitInterrupted = 130
)

const (
	// latency makes the rack answer as slowly as one across a room.
	latency = 20 * time.Millisecond
	// stopGrace is what each process is given to end.
	stopGrace = 25 * time.Second
	// deathNotice is how much later than its effects the end of a process may be noticed.
	deathNotice = 200 * time.Millisecond
	// longestSocket is the room that a unix socket's path has, some systems' least.
	longestSocket = 100
)

const usage = `usage: make demo [KEEP=1] [FETCH=0]

Shows the Oxide cloud controller manager at work between a real kube-apiserver and a simulated
Oxide rack, all on 127.0.0.1 of this machine. KEEP=1 leaves everything running at the end.

etcd and kube-apiserver are those in the folder KUBEBUILDER_ASSETS, if that is set; else they are
fetched once, by setup-envtest, or built where that is not possible. FETCH=0 has them built.
ENVTEST_INDEX is the URL of another index for setup-envtest.
`

// Signals returns a context that ends at the first signal that asks the demo to end. A second one
// ends it at once, and the kernel its processes.
func Signals() (context.Context, context.CancelFunc) {
	ctx, stop := signal.NotifyContext(context.Background(),
		os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	return ctx, stop
}

// Main runs the demo and returns the exit code: 0 only if everything that it told of was seen.
func Main(ctx context.Context, args []string, out io.Writer) int {
	if len(args) > 0 {
		fmt.Fprint(out, usage)
		return exitUsage
	}
	d := &demo{
		console: newConsole(out), began: time.Now(), keep: isOn("KEEP", false), fetch: isOn("FETCH", true),
	}
	defer d.cleanUp()
	defer d.endAtSecondSignal(ctx)()
	err := d.run(ctx)
	if err == nil {
		return exitOK
	}
	if ctx.Err() != nil {
		d.console.last("demo: interrupted; everything that it started is gone")
		d.removeDir = true
		return exitInterrupted
	}
	d.tellFailure(err)
	return exitFailed
}

// isOn returns what an environment variable says, or usually if it says nothing.
func isOn(name string, usually bool) bool {
	switch value := os.Getenv(name); value {
	case "":
		return usually
	default:
		return value != "0"
	}
}

// Observer watches a run of the demo from outside.
type Observer struct {
	// Rack says more of the rack, and BackendFlags are further flags of oxide-backend.
	Rack         func(*rack.Options)
	BackendFlags []string
	// Started is called when all processes run, and Told when the story is over.
	Started func(context.Context, Running) error
	Told    func(context.Context) error
}

// Running is what runs.
type Running struct {
	Group   *process.Group
	Cluster *cluster.Cluster
	Rack    *rack.Rack
	CCM     *stack.CCM
	// Dir is the folder of the run.
	Dir string
}

// Observe runs the demo for an observer.
func Observe(ctx context.Context, out io.Writer, observer Observer) error {
	d := &demo{console: newConsole(out), began: time.Now(), observer: observer}
	defer d.cleanUp()
	return d.run(ctx)
}

// demo is one run.
type demo struct {
	observer Observer

	console *console
	began   time.Time
	// keep leaves everything running; fetch lets the control plane be fetched.
	keep, fetch bool

	// mu guards dir and group, which endAtSecondSignal uses at any time.
	mu        sync.Mutex
	dir       string
	removeDir bool
	group     *process.Group
	programs  stack.Programs
	cluster   *cluster.Cluster
	rack      *rack.Rack
	ccm       *stack.CCM
}

// run tells the whole story. Unless all of it is kept, every process is gone when it returns.
func (d *demo) run(ctx context.Context) (err error) {
	d.console.title("Oxide cloud controller manager: a demo on this machine alone (127.0.0.1)")
	root, err := stack.Root()
	if err != nil {
		return err
	}
	if d.programs, err = d.build(ctx, root); err != nil {
		return err
	}
	if err := d.makeDir(); err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() {
		select {
		case exit := <-d.group.Exits():
			cancel(exit)
		case <-ctx.Done():
		}
	}()
	kept := false
	defer func() {
		if kept {
			return
		}
		if err != nil {
			// The end of a process explains the errors that follow from it, and may be noticed
			// after them.
			select {
			case <-ctx.Done():
			case <-time.After(deathNotice):
			}
			d.console.line("stopping everything")
		}
		var exit *process.ExitError
		if errors.As(context.Cause(ctx), &exit) {
			err = exit
		}
		err = errors.Join(err, d.group.StopAll(stopGrace))
	}()
	if err := d.start(ctx, root); err != nil {
		return err
	}
	times, err := d.story(ctx)
	if err == nil && d.observer.Told != nil {
		err = d.observer.Told(ctx)
	}
	if err != nil {
		return err
	}
	if d.keep {
		if err := d.tellKept(ctx); err != nil {
			return err
		}
		kept = true
	} else {
		if err := d.group.StopAll(stopGrace); err != nil {
			return err
		}
		d.removeDir = true
	}
	d.console.title("In short")
	for _, line := range times {
		d.console.line("%s", line)
	}
	d.console.last(fmt.Sprintf("demo: ok (all in %s)", progress.Seconds(time.Since(d.began))))
	return nil
}

func (d *demo) build(ctx context.Context, root string) (stack.Programs, error) {
	if !d.fetch {
		return stack.Build(ctx, root, d.console)
	}
	return stack.BuildOrFetch(ctx, root, os.Getenv("ENVTEST_INDEX"), d.console)
}

// makeDir makes the folder of this run: in the folder for temporary files or, where that one's path
// is too long for a socket in it, in /tmp.
func (d *demo) makeDir() error {
	parent := os.TempDir()
	const name = "oxide-demo-"
	if len(filepath.Join(parent, name+"0123456789", "backend", "backend.sock")) > longestSocket {
		parent = "/tmp"
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	dir, err := os.MkdirTemp(parent, name)
	if err != nil {
		return fmt.Errorf("no folder for the demo: %w", err)
	}
	d.dir = dir
	if err := os.Mkdir(d.logs(), 0o700); err != nil {
		return fmt.Errorf("no folder for the logs: %w", err)
	}
	d.group = process.NewGroup(d.logs())
	if d.keep {
		d.group = process.NewDetachedGroup(d.logs())
	}
	return nil
}

func (d *demo) logs() string { return filepath.Join(d.dir, "logs") }

// start runs all five processes.
func (d *demo) start(ctx context.Context, root string) error {
	c := d.console
	c.title("Start")
	began := time.Now()
	var err error
	if d.cluster, err = cluster.Start(ctx, d.group, d.programs.Binaries, d.dir); err != nil {
		return err
	}
	c.line("%-15s a real Kubernetes API at %s, with etcd (%s)", "kube-apiserver", d.cluster.URL,
		progress.Seconds(time.Since(began)))
	options := rack.Options{
		Program: d.programs.Sim, Dir: d.dir, Machines: machines, Latency: latency,
	}
	if d.observer.Rack != nil {
		d.observer.Rack(&options)
	}
	d.rack, err = rack.Start(ctx, d.group, options)
	if err != nil {
		return err
	}
	c.line("%-15s a simulated Oxide rack at %s with %d running instances", "oxide-sim",
		d.rack.URL, len(machines))
	kubeconfig, err := stack.Identity(ctx, d.cluster, root, d.dir)
	if err != nil {
		return err
	}
	d.ccm, err = stack.StartCCM(ctx, stack.CCMOptions{
		Group: d.group, Programs: d.programs, Cluster: d.cluster, Rack: d.rack,
		Kubeconfig: kubeconfig, Dir: d.dir, BackendFlags: d.observer.BackendFlags,
	})
	if err != nil {
		return err
	}
	c.line("%-15s knows Oxide and no Kubernetes; serves %s", "oxide-backend", d.ccm.Socket)
	c.line("%-15s knows Kubernetes and no Oxide; leads, with the rights of the manifest only",
		"ccm-shim")
	if d.observer.Started == nil {
		return nil
	}
	return d.observer.Started(ctx, Running{d.group, d.cluster, d.rack, d.ccm, d.dir})
}

// tellFailure prints what went wrong: the last lines of a process that ended, then one line with
// the cause and the place of the logs.
func (d *demo) tellFailure(err error) {
	var exit *process.ExitError
	if errors.As(err, &exit) {
		d.console.title("The last lines of " + exit.Name)
		for _, line := range exit.Tail {
			d.console.line("%s", line)
		}
	}
	text := "demo: failed: " + strings.ReplaceAll(err.Error(), "\n", "; ")
	if d.dir != "" {
		text += " (all logs are in " + d.logs() + ")"
	}
	d.console.last(text)
}

// endAtSecondSignal ends the demo at once when a signal comes after the one that ended the context: the
// processes are killed, and the folder goes, in which keys are. It lasts until it is stopped.
func (d *demo) endAtSecondSignal(ctx context.Context) (stop func() bool) {
	return context.AfterFunc(ctx, func() {
		signals := make(chan os.Signal, 1)
		signal.Notify(signals, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
		<-signals
		d.mu.Lock()
		defer d.mu.Unlock()
		if d.group != nil {
			for _, p := range d.group.Running() {
				_ = syscall.Kill(p.PID(), syscall.SIGKILL)
			}
		}
		if d.dir != "" {
			_ = os.RemoveAll(d.dir)
		}
		os.Exit(exitInterrupted)
	})
}

func (d *demo) cleanUp() {
	if d.removeDir && d.dir != "" {
		os.RemoveAll(d.dir)
	}
}
