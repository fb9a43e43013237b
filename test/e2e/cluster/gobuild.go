// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package cluster

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/progress"
)

// BuildSpec says what GoBuild makes.
type BuildSpec struct {
	// Title names it in the progress.
	Title string
	// Dir is a folder of the module that holds or requires the packages.
	Dir string
	// Output is the file to write or, with a slash at its end, the folder.
	Output string
	// Packages are the main packages.
	Packages []string
	// Tags are the build tags.
	Tags []string
	// LinkerFlags are the flags of the linker; empty: those that make the program small.
	LinkerFlags string
}

// flags are what a build and a list of what it consists of have in common.
func (s BuildSpec) flags() []string {
	return []string{
		"-trimpath", "-buildvcs=false", "-ldflags", cmp.Or(s.LinkerFlags, smallProgram),
		"-tags", strings.Join(s.Tags, ","),
	}
}

// smallProgram are the linker flags that leave out what only debuggers need.
const smallProgram = "-s -w"

const (
	// noteInterval is how often a build reports how far it is.
	noteInterval = time.Second
	// measureAfter is when a build is worth being measured: most find everything in Go's cache.
	measureAfter = 2 * time.Second
)

// GoBuild builds Go programs: static, stripped, without paths of this machine. The error holds the
// last lines of the compiler.
func GoBuild(ctx context.Context, report progress.Reporter, spec BuildSpec) error {
	began := time.Now()
	report.Step("building " + spec.Title)
	args := append([]string{"build", "-v", "-o", spec.Output}, spec.flags()...)
	cmd := goCommand(ctx, spec.Dir, append(args, spec.Packages...)...)
	out := &buildOutput{}
	cmd.Stdout, cmd.Stderr = out, out
	// A group of its own: Ctrl-C in a terminal comes through ctx, once.
	cmd.SysProcAttr = ownGroup()
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("cannot run the go command: %w", err)
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	measuring, stop := context.WithCancel(ctx)
	var measured sync.WaitGroup
	defer measured.Wait()
	defer stop()
	measured.Go(func() {
		select {
		case <-measuring.Done():
		case <-time.After(measureAfter):
			out.measure(measurePackages(measuring, spec))
		}
	})
	ticker := time.NewTicker(noteInterval)
	defer ticker.Stop()
	for {
		select {
		case err := <-done:
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			if err != nil {
				return fmt.Errorf("building %s failed (%w): %s", spec.Title, err, out.last(5))
			}
			report.Done("done in " + progress.Seconds(time.Since(began)))
			return nil
		case <-ticker.C:
			report.Note(out.note(time.Since(began)))
		}
	}
}

// buildOutput follows what `go build -v` writes and keeps its last lines.
type buildOutput struct {
	mu         sync.Mutex
	partial    []byte
	downloaded int
	compiled   []string  // packages
	first      time.Time // when the first of them was compiled
	lines      []string
	work       work
}

// Write takes output in pieces of any size.
func (o *buildOutput) Write(data []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.partial = append(o.partial, data...)
	for {
		line, rest, found := bytes.Cut(o.partial, []byte("\n"))
		if !found {
			return len(data), nil
		}
		o.add(string(line))
		o.partial = rest
	}
}

func (o *buildOutput) add(line string) {
	const keep = 20
	switch {
	case strings.HasPrefix(line, "go: downloading "):
		o.downloaded++
	case strings.ContainsAny(line, " :\t#"):
		o.lines = append(o.lines, line)
		o.lines = o.lines[max(0, len(o.lines)-keep):]
	case line != "": // a package's path alone
		if len(o.compiled) == 0 {
			o.first = time.Now()
		}
		o.compiled = append(o.compiled, line)
	}
}

// measure adds what is known of the work.
func (o *buildOutput) measure(w work) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.work = w
}

// note says how far the build has come that began so long ago.
func (o *buildOutput) note(since time.Duration) progress.Note {
	o.mu.Lock()
	defer o.mu.Unlock()
	switch {
	case o.work.isLinking(o.compiled):
		return progress.Note{Text: "linking, " + progress.Seconds(since)}
	case len(o.compiled) > 0:
		share := o.work.share(o.compiled)
		return progress.Note{
			Share: share, Left: timeLeft(share, time.Since(o.first)),
			Text: fmt.Sprintf("packages compiled: %d", len(o.compiled)),
		}
	case o.downloaded > 0:
		return progress.Note{
			Text: fmt.Sprintf("modules downloaded: %d, %s", o.downloaded, progress.Seconds(since)),
		}
	default:
		return progress.Note{Text: progress.Seconds(since)}
	}
}

func (o *buildOutput) last(n int) string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return strings.Join(o.lines[max(0, len(o.lines)-n):], "; ")
}
