// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package progress

import (
	"fmt"
	"math"
	"strings"
	"time"
)

// Reporter is told what goes on while something slow is done.
type Reporter interface {
	// Step begins a step; the text is a short line without a full stop.
	Step(text string)
	// Note says how far the current step has come; each note replaces the one before.
	Note(note Note)
	// Done ends the step and says how.
	Done(text string)
	// Say reports what is no step.
	Say(text string)
}

// Note is how far a step has come.
type Note struct {
	// Text says it in words.
	Text string
	// Share is how much of the step is done, from 0, which is also unknown, to 1, and Left how long
	// the rest will take; zero: unknown.
	Share float64
	Left  time.Duration
}

// String returns all of it in a few words.
func (n Note) String() string {
	parts := make([]string, 0, 3)
	if n.Share > 0 {
		parts = append(parts, n.Percent())
	}
	if n.Left > 0 {
		parts = append(parts, "about "+Seconds(n.Left)+" left")
	}
	if n.Text != "" {
		parts = append(parts, n.Text)
	}
	return strings.Join(parts, ", ")
}

// Percent returns the share that is done, rounded down: 100 % is for what is done.
func (n Note) Percent() string {
	return fmt.Sprintf("%d %%", int(math.Floor(min(max(n.Share, 0), 1)*100)))
}

// Bar returns a bar of so many columns.
func Bar(share float64, columns int) string {
	inside := max(columns-2, 0)
	filled := int(min(max(share, 0), 1) * float64(inside))
	return "[" + strings.Repeat("#", filled) + strings.Repeat("-", inside-filled) + "]"
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
