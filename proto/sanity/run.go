// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package sanity

import (
	"context"
	"fmt"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

// feature is an ability that not every backend has.
type feature = backendv1.Feature

// cleanupTimeout bounds what is undone after a case, and after the run.
const cleanupTimeout = 3 * time.Minute

// world is what all cases of a run have in common.
type world struct {
	*conn
	options *Options
	seen    *seen
	info    *backendv1.GetInfoResponse

	// nodes are the instances that addresses may be attached to.
	nodes []*backendv1.Instance

	// seeded are the names of those that this run added to the rack.
	seeded []string

	// rack is the simulated one; nil: it is real.
	rack *simulator

	// serial numbers what is made.
	serial atomic.Int64
}

// Run examines a backend. An error says why it could not be examined, or was not cleaned up after;
// a backend that fails is none, but in the report. If the context ends, the case that runs is given
// up, what was made is removed, and the report has Interrupted set.
func Run(ctx context.Context, options Options) (*Report, error) {
	if err := options.complete(); err != nil {
		return nil, err
	}
	w := &world{options: &options, seen: &seen{
		methods: make(map[string]bool), reasons: make(map[backendv1.ErrorReason]bool),
	}}
	var err error
	if w.conn, err = w.connect(); err != nil {
		return nil, err
	}
	defer func() { _ = w.grpc.Close() }()
	start := time.Now()
	report := &Report{}
	if err := w.prepare(ctx, report); err != nil {
		w.removeNodes(ctx)
		return nil, err
	}
	for _, one := range options.Selected() {
		if ctx.Err() != nil {
			report.Interrupted = true
			break
		}
		result := w.examine(ctx, &one)
		report.Results = append(report.Results, result)
		if options.Observe != nil {
			options.Observe(result)
		}
	}
	report.Interrupted = report.Interrupted || ctx.Err() != nil
	err = w.finish(ctx)
	report.Methods, report.Reasons = w.seen.names()
	report.Elapsed = time.Since(start)
	return report, err
}

// finish removes what the run has left.
func (w *world) finish(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTimeout)
	defer cancel()
	_, err := w.sweep(ctx, true)
	w.removeNodes(ctx)
	if err != nil {
		return fmt.Errorf("what this run has made could not be removed: %w; the next one does it", err)
	}
	return nil
}

// examine runs a case.
func (w *world) examine(ctx context.Context, one *Case) Result {
	result := Result{Name: one.Name, Contract: one.Contract}
	start := time.Now()
	if why := w.lacks(&one.needs); why != "" {
		result.Outcome, result.Why = Skipped, why
		return result
	}
	c := &checker{world: w}
	limited, cancel := context.WithTimeout(ctx, w.options.Timeout)
	c.do(limited, one.run)
	if limited.Err() != nil && ctx.Err() == nil {
		c.fail("the case", "an end within "+w.options.Timeout.String(), "none")
	}
	cancel()
	c.undo(ctx, one.needs.changes)
	result.Elapsed = time.Since(start)
	switch {
	case ctx.Err() != nil:
		result.Outcome, result.Why = Skipped, "interrupted"
	case len(c.failures) > 0:
		result.Outcome, result.Failures = Failed, c.failures
	case c.skipped != "":
		result.Outcome, result.Why = Skipped, c.skipped
	default:
		result.Outcome = Passed
	}
	return result
}

// do runs a function of a case, which may end it. What it cannot cope with is a failure, so that
// what was made is removed all the same.
func (c *checker) do(ctx context.Context, run func(context.Context, *checker)) {
	defer func() {
		switch ended := recover(); ended.(type) {
		case nil, abort:
		default:
			c.fail("the case", "answers that it can cope with", fmt.Sprint("panic: ", ended, " at ", caller()))
		}
	}()
	run(ctx, c)
}

// caller is where a panic came from.
func caller() string {
	pcs := make([]uintptr, 32)
	frames := runtime.CallersFrames(pcs[:runtime.Callers(3, pcs)])
	for {
		frame, more := frames.Next()
		if strings.Contains(frame.File, "_cases.go") || !more {
			return fmt.Sprintf("%s:%d", filepath.Base(frame.File), frame.Line)
		}
	}
}

// undo runs the cleanups of a case, and removes what it has left all the same.
func (c *checker) undo(ctx context.Context, changes bool) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTimeout)
	defer cancel()
	for _, cleanup := range slices.Backward(c.cleanups) {
		c.do(ctx, func(ctx context.Context, _ *checker) { cleanup(ctx) })
	}
	if !changes {
		return
	}
	left, err := c.leftovers(ctx)
	if err == nil && len(left) > 0 {
		_, err = c.sweep(ctx, false)
	}
	if err != nil {
		c.fail("to clean up after the case", "OK", err.Error())
	}
}

// lacks says what a case needs and the run does not have; empty: nothing.
func (w *world) lacks(n *needs) string {
	switch {
	case n.faults && w.rack == nil:
		return "needs a rack that fails: give --fault-url of a simulated one"
	case n.reader && w.options.DialReader == nil:
		return "needs a client that may only read"
	case n.restart && w.options.Restart == nil:
		return "needs a way to restart the backend"
	case n.changes && w.info.GetReadOnly():
		return "the backend was started to change nothing"
	case n.readOnly && !w.info.GetReadOnly():
		return "needs a backend that was started to change nothing"
	case n.instances > len(w.nodes):
		return fmt.Sprintf("needs %d instances: give --instances", n.instances)
	}
	for _, f := range n.features {
		if !slices.Contains(w.info.GetFeatures(), f) {
			return "the backend does not list " + f.String()
		}
	}
	return ""
}

// name returns a new name that belongs to this run.
func (w *world) name(what string) string {
	return fmt.Sprintf("%s-%s-%d", w.options.Scope, what, w.serial.Add(1))
}

// secondScope is a scope beside Options.Scope.
func (w *world) secondScope() string { return w.options.Scope + ".second" }
