// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package progress

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// lateVariable makes TestWhatIsReportedLate write.
const lateVariable = "PROGRESS_TEST_REPORT"

// It is run by the tests below, in a process that `go test` starts.
func TestWhatIsReportedLate(t *testing.T) {
	if os.Getenv(lateVariable) == "" {
		t.Skip("it is a part of other tests")
	}
	fmt.Fprintln(os.Stderr, "held back")
	ForTest("e2e").Say("seen at once")
}

// goTest calls `go test` for a package, without -v, in a session of its own and so without a
// terminal.
func goTest(t *testing.T) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "test", "-count=1", "-run=^TestWhatIsReportedLate$", ".")
	cmd.Env = append(os.Environ(), lateVariable+"=1", "GOWORK=off")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	return cmd
}

func TestGoTestDoesNotHoldBackWhatIsReported(t *testing.T) {
	cmd := goTest(t)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v: %s%s", err, &stdout, &stderr)
	}
	if got := stderr.String(); got != "e2e: seen at once\n" {
		t.Errorf("its standard error is %q", got)
	}
	if strings.Contains(stdout.String(), "held back") {
		t.Errorf("the test checks nothing: %q", stdout.String())
	}
}

// What `go test` writes there itself would be lost.
func TestAFileThatGoTestWritesToIsLeftAlone(t *testing.T) {
	cmd := goTest(t)
	file, err := os.Create(t.TempDir() + "/log")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	cmd.Stdout, cmd.Stderr = file, file
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(file.Name())
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(string(text), "ok  \t") || strings.Contains(string(text), "seen at once") {
		t.Errorf("the file holds %q", text)
	}
}

func TestATerminalShowsWhatIsReportedWhereverTheRestGoes(t *testing.T) {
	master, terminal := openTerminal(t)
	cmd := goTest(t)
	cmd.SysProcAttr.Setctty, cmd.SysProcAttr.Ctty = true, 0
	cmd.Stdin = terminal
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v: %s", err, &out)
	}
	terminal.Close()
	shown, err := io.ReadAll(master)
	if err != nil && !errors.Is(err, syscall.EIO) { // nobody has the terminal open any more
		t.Fatal(err)
	}
	if string(shown) != "e2e: seen at once\r\n" || strings.Contains(out.String(), "seen at once") {
		t.Errorf("the terminal shows %q, and the rest is %q", shown, &out)
	}
}

// openTerminal returns both sides of a new terminal.
func openTerminal(t *testing.T) (master, terminal *os.File) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skip("this machine makes no terminals:", err)
	}
	t.Cleanup(func() { master.Close() })
	number, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	terminal, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	return master, terminal
}
