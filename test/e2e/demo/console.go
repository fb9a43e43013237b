// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package demo

import (
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/term"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/progress"
)

// quietNotes is how often a note is worth a line of its own where lines cannot be rewritten.
const quietNotes = 15 * time.Second

// console prints for people: with colours and lines that change on a terminal, plain elsewhere. It
// is used by one goroutine at a time.
type console struct {
	out      io.Writer
	terminal bool
	colour   bool
	width    func() int // of the terminal, in columns

	step     string
	open     bool // the step's line on a terminal has no end yet
	lastNote time.Time
	began    time.Time // what event counts from
}

func newConsole(out io.Writer) *console {
	file, ok := out.(*os.File)
	terminal := ok && term.IsTerminal(int(file.Fd())) && os.Getenv("TERM") != "dumb"
	return &console{
		out: out, terminal: terminal, colour: terminal && os.Getenv("NO_COLOR") == "",
		width: func() int {
			if columns, _, err := term.GetSize(int(file.Fd())); err == nil && columns > 0 {
				return columns
			}
			return usualWidth
		},
	}
}

// title begins a chapter.
func (c *console) title(text string) {
	c.closeLine()
	fmt.Fprintf(c.out, "\n%s\n", c.bold(text))
}

// line prints a line of the chapter.
func (c *console) line(format string, args ...any) {
	c.closeLine()
	fmt.Fprintf(c.out, "  "+format+"\n", args...)
}

// Step implements progress.Reporter.
func (c *console) Step(text string) {
	c.closeLine()
	c.step, c.lastNote = text, time.Now()
	if c.terminal {
		c.rewrite(c.step)
	}
}

// Note implements progress.Reporter.
func (c *console) Note(note progress.Note) {
	switch {
	case c.terminal:
		c.rewrite(withBar(c.step, note, c.width()-3))
	case time.Since(c.lastNote) >= quietNotes:
		fmt.Fprintf(c.out, "  %s: %s\n", c.step, note)
		c.lastNote = time.Now()
	}
}

// Done implements progress.Reporter.
func (c *console) Done(text string) {
	if c.terminal {
		fmt.Fprint(c.out, "\r\x1b[K")
		c.open = false
	}
	fmt.Fprintf(c.out, "  %s: %s\n", c.step, text)
}

// Say implements progress.Reporter.
func (c *console) Say(text string) { c.line("%s", text) }

var _ progress.Reporter = (*console)(nil)

// rewrite replaces the last line of a terminal. A line that is wider than the terminal would be
// two, of which only one can be replaced.
func (c *console) rewrite(text string) {
	if room := max(c.width()-3, 0); len(text) > room {
		text = text[:room]
	}
	fmt.Fprintf(c.out, "\r\x1b[K  %s", text)
	c.open = true
}

const (
	// usualWidth is that of a terminal that does not say its own.
	usualWidth = 80
	// shortestBar is worth its columns; a longer one than longestBar says no more.
	shortestBar, longestBar = 10, 30
)

// withBar returns a line of so many columns about a step: with a bar if the share that is done is
// known and there is room for one.
func withBar(step string, note progress.Note, room int) string {
	if note.Share <= 0 {
		return step + ": " + note.String()
	}
	short := progress.Note{Share: note.Share, Left: note.Left}
	for _, text := range []string{note.String(), short.String(), note.Percent()} {
		if columns := room - len(step) - len(text) - 2; columns >= shortestBar {
			return step + " " + progress.Bar(note.Share, min(columns, longestBar)) + " " + text
		}
	}
	return step + ": " + note.Percent()
}

// restart sets the clock of event to zero.
func (c *console) restart() { c.began = time.Now() }

// since returns what the clock of event shows.
func (c *console) since() time.Duration { return time.Since(c.began) }

// event tells what was seen just now, and where.
func (c *console) event(where, format string, args ...any) {
	c.eventAt(time.Now(), where, format, args...)
}

// eventAt prints what was seen a moment ago. What the clocks of two processes put before the
// clock's zero was at zero.
func (c *console) eventAt(at time.Time, where, format string, args ...any) {
	c.closeLine()
	fmt.Fprintf(c.out, "  %6.2f s  %s  %s\n", max(at.Sub(c.began), 0).Seconds(),
		c.tint(fmt.Sprintf("%-10s", where)), fmt.Sprintf(format, args...))
}

// detail adds a line to the event before it.
func (c *console) detail(name, value string) {
	fmt.Fprintf(c.out, "  %22s%-15s%s\n", "", name, value)
}

// last prints the line that tells how the demo ended.
func (c *console) last(text string) {
	c.closeLine()
	fmt.Fprintf(c.out, "\n%s\n", c.bold(text))
}

func (c *console) closeLine() {
	if c.open {
		fmt.Fprintln(c.out)
		c.open = false
	}
}

func (c *console) bold(text string) string { return c.paint("1", text) }
func (c *console) tint(text string) string { return c.paint("36", text) }

func (c *console) paint(code, text string) string {
	if !c.colour {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}
