// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package process

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"time"
)

// Group is a set of processes that are started one by one and ended together.
type Group struct {
	logDir   string
	detached bool
	exits    chan *ExitError

	mu      sync.Mutex
	running []*Process
	closed  bool
}

// NewGroup returns an empty group that keeps its log files in logDir, which must exist.
func NewGroup(logDir string) *Group {
	return &Group{logDir: logDir, exits: make(chan *ExitError, 16)}
}

// NewDetachedGroup returns a group whose processes go on when the starting program ends without
// having called StopAll.
func NewDetachedGroup(logDir string) *Group {
	g := NewGroup(logDir)
	g.detached = true
	return g
}

// LogDir returns the directory of the log files.
func (g *Group) LogDir() string { return g.logDir }

// Exits delivers every end of a process that nobody had asked for, besides those before it was
// ready: Run returns these.
func (g *Group) Exits() <-chan *ExitError { return g.exits }

// Start starts a process. A process of the same name may have run before: the log is continued.
func (g *Group) Start(spec Spec) (*Process, error) {
	p, err := g.start(spec)
	if err != nil {
		return nil, err
	}
	go g.watch(p)
	return p, nil
}

func (g *Group) start(spec Spec) (*Process, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return nil, fmt.Errorf("cannot start %s: everything is being stopped", spec.Name)
	}
	p, err := start(spec, filepath.Join(g.logDir, spec.Name+".log"), g.detached)
	if err != nil {
		return nil, err
	}
	g.running = append(g.running, p)
	return p, nil
}

// watch reports an end that was not asked for.
func (g *Group) watch(p *Process) {
	<-p.Done()
	var exit *ExitError
	if errors.As(p.Err(), &exit) {
		select {
		case g.exits <- exit:
		default: // nobody listens
		}
	}
	g.forget(p)
}

func (g *Group) forget(p *Process) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.running = slices.DeleteFunc(g.running, func(other *Process) bool { return other == p })
}

// Running returns the processes that have not ended, in the order of their start.
func (g *Group) Running() []*Process {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Clone(g.running)
}

// StopAll stops all processes in the reverse order of their start, each with its own grace, and
// lets the group start no others. It may be called more than once.
func (g *Group) StopAll(grace time.Duration) error {
	g.mu.Lock()
	g.closed = true
	running := slices.Clone(g.running)
	g.mu.Unlock()
	var errs []error
	for i := len(running) - 1; i >= 0; i-- {
		errs = append(errs, running[i].Stop(grace))
	}
	return errors.Join(errs...)
}

// pollInterval is how often Await looks; short against everything that is awaited here.
const pollInterval = 50 * time.Millisecond

// Await calls check until it returns true or an error, or until ctx ends.
func Await(ctx context.Context, check func(context.Context) (bool, error)) error {
	ticker := time.NewTicker(pollInterval)
	defer ticker.Stop()
	for {
		done, err := check(ctx)
		if err != nil || done {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-ticker.C:
		}
	}
}
