// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

//go:build e2edatapath

package datapath

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/cluster"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/node"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/progress"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/stack"
)

// insideVariable holds, in the process that runs the tests, what the one that started it has
// prepared.
const insideVariable = "DATAPATH_PREPARED"

// prepared is what is made outside of the namespaces, where Go modules and packages can be had.
type prepared struct {
	Root, Dir string
	Programs  stack.Programs
	KubeProxy string
}

// shared is the world of all tests, which run one after the other.
var shared *world

func TestMain(m *testing.M) {
	do := outside
	if text, ok := os.LookupEnv(insideVariable); ok {
		do = func() (int, error) { return inside(m, []byte(text)) }
	}
	code, err := do()
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e-datapath:", err)
		code = 1
	}
	os.Exit(code)
}

// outside prepares everything and runs this program again, in namespaces of its own.
func outside() (code int, err error) {
	ctx, stop := signal.NotifyContext(context.Background(),
		os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	var p prepared
	if err := p.build(ctx); err != nil {
		return 1, err
	}
	// Short: sockets are in it.
	if p.Dir, err = os.MkdirTemp("/tmp", "oxide-path-"); err != nil {
		return 1, err
	}
	code, err = p.runInside(ctx)
	if code == 0 && err == nil || ctx.Err() != nil {
		os.RemoveAll(p.Dir)
	} else {
		fmt.Println("e2e-datapath: the logs are in", filepath.Join(p.Dir, logFolder))
	}
	return code, err
}

func (p *prepared) build(ctx context.Context) (err error) {
	report := progress.ForTest("e2e-datapath")
	err = node.Install(ctx, report.Say,
		node.Package{Name: "iproute2", Program: "ip"},
		node.Package{Name: "iptables", Program: "iptables-restore"},
		node.Package{Name: "conntrack", Program: "conntrack"}) // kube-proxy calls it
	if err != nil {
		return err
	}
	if p.Root, err = stack.Root(); err != nil {
		return err
	}
	if p.Programs, err = stack.Build(ctx, p.Root, report); err != nil {
		return err
	}
	cache, err := cluster.CacheDir()
	if err != nil {
		return err
	}
	p.KubeProxy, err = cluster.BuildKubeProxy(ctx, filepath.Join(p.Root, "test", "e2e", "kube"), cache,
		p.Programs.Binaries, report)
	return err
}

// runInside runs the tests and returns their exit code. An interrupt ends them, and the kernel ends
// with them all that they have started.
func (p *prepared) runInside(ctx context.Context) (int, error) {
	text, err := json.Marshal(p)
	if err != nil {
		return 1, err
	}
	// The kernel ends it when this thread ends.
	runtime.LockOSThread()
	cmd := exec.CommandContext(ctx, "/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), insideVariable+"="+string(text))
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Unshareflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS,
		Setpgid:      true, Pdeathsig: syscall.SIGKILL,
	}
	err = cmd.Run()
	var exit *exec.ExitError
	switch {
	case ctx.Err() != nil:
		return 130, errors.New("interrupted")
	case errors.As(err, &exit):
		return exit.ExitCode(), nil
	}
	return 0, err
}

// inside runs the tests. The namespaces are new and empty; but for /run, files are those of the
// machine.
func inside(m *testing.M, text []byte) (code int, err error) {
	var p prepared
	if err := json.Unmarshal(text, &p); err != nil {
		return 1, err
	}
	// The names of namespaces go there, and the locks of iptables.
	if err := unix.Mount("tmpfs", "/run", "tmpfs", 0, "mode=755"); err != nil {
		return 1, fmt.Errorf("cannot mount a /run of its own: %w", err)
	}
	began := time.Now()
	shared = newWorld(p)
	defer func() { err = errors.Join(err, shared.close()) }()
	if err := shared.start(); err != nil {
		return 1, err
	}
	fmt.Printf("e2e-datapath: %d machines run after %s\n", len(shared.machines),
		progress.Seconds(time.Since(began)))
	code = m.Run()
	shared.figures.print(os.Stdout)
	return code, nil
}
