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
	"slices"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/cluster"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/node"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/progress"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/stack"
)

const (
	// insideVariable holds, in the process that runs the tests, what the one that started it has
	// prepared, and clientVariable, in one that only calls, what that is to do.
	insideVariable, clientVariable = "DATAPATH_PREPARED", "DATAPATH_CLIENT"
	// modeVariable selects one mode of kube-proxy.
	modeVariable = "DATAPATH_PROXY"
	// stateDir is the folder of the processes' files, in the /run that the tests have for themselves:
	// it is gone with them, however they end. Short: sockets are in it.
	stateDir = "/run/path"
	// resultFile is the descriptor of the pipe for the result of the tests.
	resultFile = 3
)

// modes are those of kube-proxy.
var modes = []string{"iptables", "nftables"}

// prepared is what is made outside of the namespaces, where Go modules and packages can be had.
type prepared struct {
	Root      string
	Programs  stack.Programs
	KubeProxy string
	// Mode is that of kube-proxy in this run, and First: it is the first run.
	Mode  string
	First bool
}

// result is what a run with one mode reports.
type result struct {
	// Lacks is what the kernel lacks for it, empty: nothing.
	Lacks   string
	Figures figures
}

// shared is the world of all tests, which run one after the other.
var shared *world

func TestMain(m *testing.M) {
	do := outside
	if text, ok := os.LookupEnv(insideVariable); ok {
		do = func() (int, error) { return inside(m, []byte(text)) }
	}
	if text, ok := os.LookupEnv(clientVariable); ok {
		do = func() (int, error) { return 0, runClient([]byte(text), os.Stdin, os.Stdout) }
	}
	code, err := do()
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e-datapath:", err)
		code = 1
	}
	os.Exit(code)
}

// outside prepares everything and runs this program again, in namespaces of its own, once for each
// mode of kube-proxy.
func outside() (code int, err error) {
	ctx, stop := signal.NotifyContext(context.Background(),
		os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	chosen := modes
	if mode := os.Getenv(modeVariable); mode != "" {
		if chosen = []string{mode}; !slices.Contains(modes, mode) {
			return 1, fmt.Errorf("%s is %q: it must be one of %q", modeVariable, mode, modes)
		}
	}
	var p prepared
	if err := p.build(ctx); err != nil {
		return 1, err
	}
	var all []figures
	for i, mode := range chosen {
		p.Mode, p.First = mode, i == 0
		fmt.Println("e2e-datapath: kube-proxy in its mode", mode)
		status, r, err := p.runInside(ctx)
		if err != nil {
			return 1, err
		}
		if r.Lacks != "" {
			fmt.Printf("e2e-datapath: SKIPPED %s: %s\n", mode, r.Lacks)
			continue
		}
		code = max(code, status)
		if r.Figures.Mode != "" {
			all = append(all, r.Figures)
		}
	}
	if len(all) > 0 {
		printTables(os.Stdout, all)
	}
	return code, nil
}

func (p *prepared) build(ctx context.Context) (err error) {
	report := progress.ForTest("e2e-datapath")
	err = node.Install(ctx, report.Say,
		node.Package{Name: "iproute2", Program: "ip"},
		node.Package{Name: "iptables", Program: "iptables-restore"},
		// kube-proxy calls these.
		node.Package{Name: "nftables", Program: "nft"},
		node.Package{Name: "conntrack", Program: "conntrack"})
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

// runInside runs the tests and returns their exit code and result. An interrupt ends them, and the
// kernel ends with them all that they have started.
func (p *prepared) runInside(ctx context.Context) (code int, r result, err error) {
	text, err := json.Marshal(p)
	if err != nil {
		return 1, r, err
	}
	read, write, err := os.Pipe()
	if err != nil {
		return 1, r, err
	}
	defer read.Close()
	// The kernel ends it when this thread ends.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cmd := exec.CommandContext(ctx, "/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), insideVariable+"="+string(text))
	cmd.Stdout, cmd.Stderr, cmd.ExtraFiles = os.Stdout, os.Stderr, []*os.File{write}
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Unshareflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS,
		Setpgid:      true, Pdeathsig: syscall.SIGKILL,
	}
	err = cmd.Start()
	write.Close()
	if err != nil {
		return 0, result{Lacks: "no network namespace can be made here: " + err.Error()}, nil
	}
	// Without a result the exit code is one of failure.
	_ = json.NewDecoder(read).Decode(&r)
	err = cmd.Wait()
	var exit *exec.ExitError
	switch {
	case ctx.Err() != nil:
		return 130, r, errors.New("interrupted")
	case errors.As(err, &exit):
		return max(exit.ExitCode(), 1), r, nil
	}
	return 0, r, err
}

// inside runs the tests. The namespaces are new and empty; but for /run, files are those of the
// machine.
func inside(m *testing.M, text []byte) (code int, err error) {
	var p prepared
	if err := json.Unmarshal(text, &p); err != nil {
		return 1, err
	}
	// No program that is started from here inherits the pipe.
	syscall.CloseOnExec(resultFile)
	pipe := os.NewFile(resultFile, "result")
	defer pipe.Close()
	// The names of namespaces go there, and the locks of iptables.
	if err := unix.Mount("tmpfs", "/run", "tmpfs", 0, "mode=755"); err != nil {
		return 1, fmt.Errorf("cannot mount a /run of its own: %w", err)
	}
	if lack := lacking(p.Mode); lack != "" {
		return 0, json.NewEncoder(pipe).Encode(result{Lacks: lack})
	}
	began := time.Now()
	shared = newWorld(p)
	defer func() {
		if err = errors.Join(err, shared.close()); err != nil || code != 0 {
			err = errors.Join(err, keepLogs())
		}
	}()
	if err := shared.start(); err != nil {
		return 1, err
	}
	fmt.Printf("e2e-datapath: %d machines run after %s\n", len(shared.machines),
		progress.Seconds(time.Since(began)))
	code = m.Run()
	shared.figures.print(os.Stdout)
	return code, json.NewEncoder(pipe).Encode(result{Figures: shared.figures})
}

// keepLogs copies the logs to where they stay.
func keepLogs() error {
	dir, err := os.MkdirTemp("", "oxide-path-")
	if err != nil {
		return err
	}
	fmt.Println("e2e-datapath: the logs are in", dir)
	return os.CopyFS(filepath.Join(dir, logFolder), os.DirFS(filepath.Join(stateDir, logFolder)))
}
