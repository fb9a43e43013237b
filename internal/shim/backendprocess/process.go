// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package backendprocess

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/uds"
)

const (
	// Program is the file name of the backend, looked for beside the shim's own binary.
	Program = "oxide-backend"

	socketName = "backend.sock"

	// lifelineFD is the descriptor under which the child inherits the pipe that shows it when the
	// shim is gone: the first one after standard input, output and error.
	lifelineFD = 3

	defaultStopGrace = 25 * time.Second
)

// Config says how the child is started.
type Config struct {
	// Executable is the path of the backend's binary, as Locate returns it.
	Executable string

	// Arguments are flags beyond those that this package gives: the address, health off, the
	// lifeline, and the token's pipe.
	Arguments []string

	// Environment is the child's whole environment; nil means the shim's own.
	Environment []string

	// Token is a pipe that the child reads its token from, as InheritedToken returns it; nil: the
	// child's environment says where it is. Start closes it.
	Token *os.File

	// Stdout and Stderr take what the child prints; files are inherited as they are.
	Stdout, Stderr io.Writer

	// StopGrace is how long Stop waits before it uses force; 0 means 25 s. The backend gives its
	// own calls up to 20 s.
	StopGrace time.Duration
}

// Process is a running child. Its methods may be called from several goroutines.
type Process struct {
	cmd      *exec.Cmd
	dir      string
	grace    time.Duration
	lifeline *os.File

	done    chan struct{}
	waitErr error
	cleanup sync.Once
}

// Locate returns the path of the backend's binary beside the binary that runs now. The error names
// the path that was tried and the remedy.
func Locate() (string, error) {
	own, err := os.Executable()
	if err != nil {
		return "", fmt.Errorf("the path of this program is not known (%w): "+
			"start %s yourself and give its address with --backend", err, Program)
	}
	if resolved, err := filepath.EvalSymlinks(own); err == nil {
		own = resolved
	}
	path := filepath.Join(filepath.Dir(own), Program)
	info, err := os.Stat(path)
	if err != nil || info.IsDir() || info.Mode()&0o111 == 0 {
		return "", fmt.Errorf("--backend is not given, and there is no program %s to start: "+
			"put %s there, or give the address of a running one with --backend", path, Program)
	}
	return path, nil
}

// Start starts the child. The child listens on a socket in a new directory that only this user can
// enter; whether it listens already is for the caller to find out by connecting.
func Start(config Config) (*Process, error) {
	if config.Token != nil {
		defer func() { _ = config.Token.Close() }()
	}
	dir, err := os.MkdirTemp("", "oxide-ccm-")
	if err != nil {
		return nil, fmt.Errorf("no private directory for the socket of %s: %w: "+
			"set TMPDIR to a directory that can be written to", Program, err)
	}
	p := &Process{
		dir: dir, grace: cmp.Or(config.StopGrace, defaultStopGrace), done: make(chan struct{}),
	}
	if _, err := uds.ParseAddress(p.SocketPath()); err != nil {
		_ = os.RemoveAll(dir)
		return nil, fmt.Errorf("%s cannot be the socket of %s: %w: set TMPDIR to a shorter path",
			p.SocketPath(), Program, err)
	}
	if err := p.start(config); err != nil {
		_ = os.RemoveAll(dir)
		return nil, fmt.Errorf("%s could not be started: %w", config.Executable, err)
	}
	return p, nil
}

// start runs the child, in the directory that Start made.
func (p *Process) start(config Config) error {
	readEnd, writeEnd, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("pipe: %w", err)
	}
	// The child has its own copy once it runs. This process keeps the write end open, hands it to
	// nobody, and never writes: the kernel closes it when the process is gone, and the child reads
	// the end of the file.
	defer func() { _ = readEnd.Close() }()

	arguments := []string{
		"--listen=" + "unix://" + p.SocketPath(),
		"--health-listen=",
		fmt.Sprintf("--exit-on-eof-fd=%d", lifelineFD),
	}
	inherited := []*os.File{readEnd}
	if config.Token != nil {
		arguments = append(arguments, fmt.Sprintf("--oxide-token-fd=%d", tokenFD))
		inherited = append(inherited, config.Token)
	}
	p.cmd = exec.Command(config.Executable, append(arguments, config.Arguments...)...)
	p.cmd.Env = config.Environment
	p.cmd.Stdout, p.cmd.Stderr = config.Stdout, config.Stderr
	p.cmd.ExtraFiles = inherited
	// In a process group of its own: an interrupt from the terminal is for the shim, which ends the
	// child after its own last call.
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := p.cmd.Start(); err != nil {
		_ = writeEnd.Close()
		return err
	}
	p.lifeline = writeEnd
	go func() {
		p.waitErr = p.cmd.Wait()
		close(p.done)
	}()
	return nil
}

// SocketPath is the path of the socket that the child listens on.
func (p *Process) SocketPath() string { return filepath.Join(p.dir, socketName) }

// PID is the child's process id.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Done is closed when the child has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// ExitError says how the child ended. It is to be called after Done is closed.
type ExitError struct {
	// Code is the exit code, -1 if a signal ended the child.
	Code int

	// State is the end in words, for example "exit status 2" or "signal: killed".
	State string
}

// Error is one line that says what happened and where to read more.
func (e *ExitError) Error() string {
	return fmt.Sprintf("%s ended by itself (%s): its own lines above say why", Program, e.State)
}

// Exit returns how the child ended; it waits until it has.
func (p *Process) Exit() *ExitError {
	<-p.done
	state := p.cmd.ProcessState
	if state == nil {
		return &ExitError{Code: -1, State: fmt.Sprint(p.waitErr)}
	}
	return &ExitError{Code: state.ExitCode(), State: state.String()}
}

// Stop asks the child to end, waits until it has, ends it by force if it takes longer than it
// should, and removes its directory. Further calls do nothing. Its error is for the log: there is
// nothing left to do about it.
func (p *Process) Stop() error {
	var err error
	p.cleanup.Do(func() {
		_ = p.cmd.Process.Signal(syscall.SIGTERM)
		_ = p.lifeline.Close()
		force := time.NewTimer(p.grace)
		defer force.Stop()
		select {
		case <-p.done:
		case <-force.C:
			err = fmt.Errorf("%s did not end within %s and was killed", Program, p.grace)
			_ = p.cmd.Process.Kill()
			<-p.done
		}
		err = errors.Join(err, os.RemoveAll(p.dir))
	})
	return err
}

// Abandon is Stop for a process that is about to exit and cannot wait: the child is asked to end
// and its directory is removed.
func (p *Process) Abandon() {
	p.cleanup.Do(func() {
		_ = p.cmd.Process.Signal(syscall.SIGTERM)
		_ = p.lifeline.Close()
		_ = os.RemoveAll(p.dir)
	})
}
