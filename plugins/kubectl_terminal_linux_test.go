// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package plugins

import (
	"fmt"
	"os"
	"os/exec"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

// terminal returns what a program has as its terminal.
func terminal(t *testing.T) *os.File {
	t.Helper()
	keyboard, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("there are no pseudo-terminals here: %v", err)
	}
	t.Cleanup(func() { _ = keyboard.Close() })
	if err := unix.IoctlSetPointerInt(int(keyboard.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	number, err := unix.IoctlGetInt(int(keyboard.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	program, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("there are no pseudo-terminals here: %v", err)
	}
	t.Cleanup(func() { _ = program.Close() })
	if _, err := keyboard.WriteString("y\n\x04"); err != nil {
		t.Fatal(err)
	}
	return program
}

// A command that asks is answered by a person; what is piped is not mixed with what a terminal adds.
func TestATerminalIsPassedOn(t *testing.T) {
	env, file := install(t, two())
	for _, piped := range []bool{false, true} {
		tty := terminal(t)
		cmd := exec.CommandContext(t.Context(), "./"+script, "rebalance")
		cmd.Env, cmd.Stdin, cmd.Stdout, cmd.Stderr = env, tty, tty, tty
		if piped {
			cmd.Stdout = nil
		}
		if err := cmd.Run(); err != nil {
			t.Fatal(err)
		}
		all := asked(t, file)
		last := all[len(all)-1]
		if slices.Contains(last, "--tty") == piped || slices.Contains(last, "--stdin") == piped {
			t.Errorf("piped: %v, kubectl is asked %q", piped, last)
		}
	}
}
