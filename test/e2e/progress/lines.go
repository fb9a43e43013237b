// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package progress

import (
	"fmt"
	"io"
	"sync"
	"time"
)

// lineInterval is how often a step that goes on gets a line.
const lineInterval = 5 * time.Second

// Lines reports by whole lines, since several test binaries write to one terminal at once. A step
// that is done before its first note gets no line.
type Lines struct {
	prefix string
	out    io.Writer

	mu    sync.Mutex
	step  string
	noted time.Time // when the step had its last line; zero: never
}

var _ Reporter = (*Lines)(nil)

// ForTest returns a Lines for a test binary, whose lines begin with the prefix. They are seen
// although `go test` holds back what tests write: see [Out].
func ForTest(prefix string) *Lines { return To(Out(), prefix) }

// To returns a Lines that writes to out.
func To(out io.Writer, prefix string) *Lines { return &Lines{prefix: prefix, out: out} }

// Step implements Reporter.
func (l *Lines) Step(text string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.step, l.noted = text, time.Time{}
}

// Note implements Reporter.
func (l *Lines) Note(note Note) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.noted.IsZero() && time.Since(l.noted) < lineInterval {
		return
	}
	l.noted = time.Now()
	l.print(l.step + ": " + note.String())
}

// Done implements Reporter.
func (l *Lines) Done(text string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.noted.IsZero() {
		l.print(l.step + ": " + text)
	}
}

// Say implements Reporter.
func (l *Lines) Say(text string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.print(text)
}

// print writes a line at once and whole.
func (l *Lines) print(text string) { fmt.Fprintf(l.out, "%s: %s\n", l.prefix, text) }
