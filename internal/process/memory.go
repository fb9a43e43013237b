// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package process

import (
	"os"
	"runtime/debug"
	"time"
)

// gcPercent is how much garbage there may be before it is collected, in percent of what is in use. Our
// programs mostly wait: that they collect it more often than Go would costs less than it saves.
const gcPercent = 40

// startEnds is when a program has started: it has read what there is of the cluster or of the rack, and
// needs what that took no more.
const startEnds = 30 * time.Second

// SaveMemory has garbage collected earlier than Go does by default, unless GOGC says when, and gives
// back what only the start took.
func SaveMemory() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	time.AfterFunc(startEnds, debug.FreeOSMemory)
}
