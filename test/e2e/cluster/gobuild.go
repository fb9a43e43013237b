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
)

// Progress is told what goes on while something slow is done.
type Progress interface {
	// Step begins a step; the text is a short line without a full stop.
	Step(text string)
	// Note tells how far the current step has come; each note replaces the one before.
	Note(text string)
	// Done ends the step and tells how.
	Done(text string)
}

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

// smallProgram are the linker flags that leave out what only debuggers need.
const smallProgram = "-s -w"

// noteInterval is how often a build tells how far it is.
const noteInterval = time.Second

// GoBuild builds Go programs: static, stripped, without paths of this machine. The error holds the
// last lines of the compiler.
func GoBuild(ctx context.Context, progress Progress, spec BuildSpec) error {
	began := time.Now()
	progress.Step("building " + spec.Title)
	args := []string{
		"build", "-v", "-trimpath", "-buildvcs=false",
		"-ldflags", cmp.Or(spec.LinkerFlags, smallProgram),
		"-tags", strings.Join(spec.Tags, ","), "-o", spec.Output,
	}
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
			progress.Done(fmt.Sprintf("done in %s", Seconds(time.Since(began))))
			return nil
		case <-ticker.C:
			progress.Note(fmt.Sprintf("%s, %s", out.summary(), Seconds(time.Since(began))))
		}
	}
}

// Seconds formats a duration for people: tenths below ten seconds, whole seconds above.
func Seconds(d time.Duration) string {
	if d < 10*time.Second {
		return fmt.Sprintf("%.1f s", d.Seconds())
	}
	if d < 2*time.Minute {
		return fmt.Sprintf("%.0f s", d.Seconds())
	}
	return fmt.Sprintf("%d min %02d s", int(d.Minutes()), int(d.Seconds())%60)
}

// buildOutput counts what `go build -v` tells and keeps its last lines.
type buildOutput struct {
	mu         sync.Mutex
	partial    []byte
	downloaded int
	compiled   int
	lines      []string
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
		o.compiled++
	}
}

func (o *buildOutput) summary() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	switch {
	case o.compiled > 0:
		return fmt.Sprintf("%d packages compiled", o.compiled)
	case o.downloaded > 0:
		return fmt.Sprintf("%d modules downloaded", o.downloaded)
	default:
		return "working"
	}
}

func (o *buildOutput) last(n int) string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return strings.Join(o.lines[max(0, len(o.lines)-n):], "; ")
}
