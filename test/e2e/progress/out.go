// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package progress

import (
	"io"
	"os"
	"sync"
)

// Out returns where people see at once what a test binary writes: the terminal, if it runs in the
// foreground of one; else what the `go test` that started it calls its standard error; else its own
// standard error.
//
// `go test` prints what a test binary writes, to either of its outputs, only when its tests are
// over, and only if they failed, unless it is called with -v for a single package.
var Out = sync.OnceValue(func() io.Writer {
	if tty := terminal(); tty != nil {
		return tty
	}
	if file := errorOfGoTest(); file != nil {
		return file
	}
	return os.Stderr
})
