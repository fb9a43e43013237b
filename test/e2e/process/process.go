// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package process

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Spec says what to run.
type Spec struct {
	// Name names the process in messages and its log file (Name + ".log").
	Name string
	// Path is the program's file.
	Path string
	// Args are the arguments after the program's name.
	Args []string
	// Env holds KEY=VALUE pairs: the whole environment of the process. The environment of the
	// starting program is not inherited.
	Env []string
	// Namespace is the network namespace that it runs in, by the name that `ip netns` gave it;
	// empty: that of the starting program.
	Namespace string
}

// command returns what runs it. In a namespace, `ip` becomes the program: the process id is the
// same.
func (s Spec) command() *exec.Cmd {
	if s.Namespace == "" {
		return exec.Command(s.Path, s.Args...)
	}
	return exec.Command("ip", append([]string{"netns", "exec", s.Namespace, s.Path}, s.Args...)...)
}

// Process is one run of a program. Its methods may be called from several goroutines.
type Process struct {
	name    string
	log     string
	pid     int
	done    chan struct{}
	waitErr error // valid after done is closed

	mu    sync.Mutex
	asked bool
}

// start runs the program of spec with its output appended to log.
func start(spec Spec, log string, detached bool) (*Process, error) {
	out, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("cannot open the log file of %s: %w", spec.Name, err)
	}
	defer out.Close()
	cmd := spec.command()
	cmd.Env = append([]string{}, spec.Env...)
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = attributes(detached)

	p := &Process{name: spec.Name, log: log, done: make(chan struct{})}
	started := make(chan error, 1)
	// The kernel ends a child when the *thread* that started it ends, so one goroutine starts the
	// child and holds its thread until the child is gone.
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		if err == nil {
			p.pid = cmd.Process.Pid
		}
		started <- err
		if err != nil {
			return
		}
		p.waitErr = cmd.Wait()
		close(p.done)
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("cannot start %s: %w", spec.Name, err)
	}
	return p, nil
}

// Name returns the name given in the Spec.
func (p *Process) Name() string { return p.name }

// PID returns the process id.
func (p *Process) PID() int { return p.pid }

// LogFile returns the path of the file that holds what the process wrote.
func (p *Process) LogFile() string { return p.log }

// Done is closed when the process has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// ExitCode waits until the process has ended and returns its exit code, -1 if a signal ended it.
func (p *Process) ExitCode() int {
	<-p.done
	var exit *exec.ExitError
	if errors.As(p.waitErr, &exit) {
		return exit.ExitCode()
	}
	return 0
}

// ExitError tells how a process ended that nobody had asked to end, with the last lines that it
// wrote.
type ExitError struct {
	Name    string
	Status  string
	LogFile string
	Tail    []string
}

// Error returns one line; the lines that the process wrote last are in Tail.
func (e *ExitError) Error() string {
	return fmt.Sprintf("%s ended by itself (%s); its log is %s", e.Name, e.Status, e.LogFile)
}

// Err returns nil while the process runs and after it was asked to end, otherwise an [*ExitError].
func (p *Process) Err() error {
	select {
	case <-p.done:
	default:
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.asked {
		return nil
	}
	return p.exitError()
}

func (p *Process) exitError() *ExitError {
	status := "exit code 0"
	if p.waitErr != nil {
		status = p.waitErr.Error()
	}
	return &ExitError{Name: p.name, Status: status, LogFile: p.log, Tail: p.Tail(10)}
}

// Tail returns at most n of the last lines of the log file, fewer if there are fewer.
func (p *Process) Tail(n int) []string {
	const enough = 64 << 10
	f, err := os.Open(p.log)
	if err != nil {
		return nil
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil
	}
	offset := max(0, info.Size()-enough)
	buf := make([]byte, info.Size()-offset)
	read, _ := f.ReadAt(buf, offset)
	lines := strings.Split(strings.TrimRight(string(buf[:read]), "\n"), "\n")
	return lines[max(0, len(lines)-n):]
}

// Ready waits until check returns nil. It gives up when ctx ends, with check's last error, or when
// the process ends, with an [*ExitError].
func (p *Process) Ready(ctx context.Context, check func(context.Context) error) error {
	var last error
	err := Await(ctx, func(ctx context.Context) (bool, error) {
		select {
		case <-p.done:
			return false, p.exitError()
		default:
		}
		last = check(ctx)
		return last == nil, nil
	})
	var exit *ExitError
	if err == nil || errors.As(err, &exit) {
		return err
	}
	return fmt.Errorf("%s is not ready: %w; its log is %s", p.name, errors.Join(last, err), p.log)
}

// Stop asks the process to end and forces it after grace. It returns once the process is gone; the
// error tells that it had to be forced. Stopping a process that was stopped before is no error.
func (p *Process) Stop(grace time.Duration) error {
	if !p.ask() {
		<-p.done
		return nil
	}
	p.signal(syscall.SIGTERM)
	timer := time.NewTimer(grace)
	defer timer.Stop()
	select {
	case <-p.done:
		return nil
	case <-timer.C:
	}
	p.signal(syscall.SIGKILL)
	<-p.done
	return fmt.Errorf("%s did not end within %s and was killed", p.name, grace)
}

// Kill ends the process at once (SIGKILL) and returns when it is gone.
func (p *Process) Kill() {
	p.ask()
	p.signal(syscall.SIGKILL)
	<-p.done
}

// ask records that the process is meant to end; false if it was recorded, or had ended, before.
func (p *Process) ask() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-p.done:
		return false
	default:
	}
	first := !p.asked
	p.asked = true
	return first
}

// signal sends sig unless the process is known to be gone: its id may belong to another by then.
func (p *Process) signal(sig syscall.Signal) {
	select {
	case <-p.done:
	default:
		_ = syscall.Kill(p.pid, sig)
	}
}
