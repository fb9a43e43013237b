// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package progress

import (
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// terminal returns the one whose foreground this process is in, nil if there is none: from the
// background, nothing is written into what others do.
func terminal() *os.File {
	tty, err := os.OpenFile("/dev/tty", os.O_WRONLY|unix.O_NOCTTY, 0)
	if err != nil {
		return nil
	}
	foreground, err := unix.IoctlGetInt(int(tty.Fd()), unix.TIOCGPGRP)
	if err != nil || foreground != unix.Getpgrp() {
		tty.Close()
		return nil
	}
	return tty
}

// errorOfGoTest opens the standard error of the go command that started this process, nil if there
// is none. A regular file is left alone: the go command may be about to write where this process
// would.
func errorOfGoTest() *os.File {
	parent := fmt.Sprintf("/proc/%d", os.Getppid())
	program, err := os.Readlink(parent + "/exe")
	if err != nil || filepath.Base(program) != "go" {
		return nil
	}
	path := parent + "/fd/2"
	info, err := os.Stat(path)
	if err != nil || info.Mode()&(os.ModeNamedPipe|os.ModeCharDevice) == 0 {
		return nil
	}
	// Without waiting for a reader: who read it may be gone.
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if err != nil {
		return nil
	}
	return file
}
