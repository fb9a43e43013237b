// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package backendprocess

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// roleVariable makes this test program play a part in its own tests: the child, or a parent that
// has one.
const roleVariable = "OXIDE_TEST_ROLE"

func TestMain(m *testing.M) {
	role := os.Getenv(roleVariable)
	if role == "" {
		goleak.VerifyTestMain(m)
		return
	}
	os.Exit(play(role))
}

// play is what a played program does; the result is its exit code.
func play(role string) int {
	if role == "parent" {
		child, err := Start(Config{
			Executable: os.Args[0], Environment: []string{roleVariable + "=serve"},
			Stdout: os.Stdout, Stderr: os.Stderr,
		})
		if err != nil {
			fmt.Println(err)
			return 1
		}
		<-child.Done()
		return 0
	}

	fmt.Println("args", strings.Join(os.Args[1:], " "))
	terminated := make(chan os.Signal, 1)
	signal.Notify(terminated, syscall.SIGTERM)
	eof := make(chan struct{})
	go func() {
		_, _ = io.Copy(io.Discard, os.NewFile(lifelineFD, "lifeline"))
		close(eof)
	}()
	fmt.Println("ready", os.Getpid())
	switch role {
	case "serve": // Ends when its parent is gone, or when asked.
		select {
		case <-eof:
		case <-terminated:
		}
	case "misconfigured":
		return 2
	case "broken":
		return 3
	case "stubborn": // Neither a signal nor the end of its parent ends it.
		<-eof
		select {}
	}
	return 0
}

// start starts a child that plays a role, and returns it with what it printed when it was ready.
func start(t *testing.T, role string, arguments ...string) (*Process, []string) {
	t.Helper()
	// A program under the race detector takes a second to end.
	grace := 10 * time.Second
	if role == "stubborn" {
		grace = 200 * time.Millisecond
	}
	output, input, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = output.Close() })
	child, err := Start(Config{
		Executable: testProgram(t), Arguments: arguments, StopGrace: grace,
		Environment: []string{roleVariable + "=" + role}, Stdout: input, Stderr: os.Stderr,
	})
	_ = input.Close()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = child.Stop() })
	return child, readUntilReady(t, output)
}

func testProgram(t *testing.T) string {
	t.Helper()
	path, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// readUntilReady returns the lines that a played program prints, up to the one that tells its pid.
func readUntilReady(t *testing.T, output *os.File) []string {
	t.Helper()
	if err := output.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	var lines []string
	for scanner := bufio.NewScanner(output); scanner.Scan(); {
		lines = append(lines, scanner.Text())
		if strings.HasPrefix(scanner.Text(), "ready ") {
			return lines
		}
	}
	t.Fatalf("the program did not get ready; it printed %q", lines)
	return nil
}

func awaitEnd(t *testing.T, p *Process) {
	t.Helper()
	select {
	case <-p.Done():
	case <-time.After(10 * time.Second):
		t.Fatal("the child did not end")
	}
}

func TestTheChildIsToldItsSocketAndItsLifeline(t *testing.T) {
	child, lines := start(t, "serve", "--log-format=json")
	want := "args --listen=unix://" + child.SocketPath() +
		" --health-listen= --exit-on-eof-fd=3 --log-format=json"
	if !slices.Contains(lines, want) {
		t.Errorf("the child printed %q, want the line %q", lines, want)
	}
	info, err := os.Stat(filepath.Dir(child.SocketPath()))
	if err != nil {
		t.Fatal(err)
	}
	if mode := info.Mode().Perm(); mode != 0o700 {
		t.Errorf("the socket's directory has the mode %o, want 700", mode)
	}
}

func TestStopEndsTheChildAndLeavesNothing(t *testing.T) {
	for _, tt := range []struct {
		role   string
		forced bool
	}{
		{role: "serve"},
		{role: "stubborn", forced: true},
	} {
		t.Run(tt.role, func(t *testing.T) {
			child, _ := start(t, tt.role)
			err := child.Stop()
			if forced := err != nil; forced != tt.forced {
				t.Errorf("the child was killed: %v, want %v (%v)", forced, tt.forced, err)
			}
			awaitEnd(t, child)
			if _, err := os.Stat(filepath.Dir(child.SocketPath())); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("the socket's directory is left: %v", err)
			}
			if err := child.Stop(); err != nil {
				t.Errorf("a second Stop did something: %v", err)
			}
		})
	}
}

func TestAbandonDoesNotWait(t *testing.T) {
	child, _ := start(t, "stubborn")
	child.Abandon()
	if _, err := os.Stat(filepath.Dir(child.SocketPath())); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the socket's directory is left: %v", err)
	}
	select {
	case <-child.Done():
		t.Error("Abandon waited for the child, or killed it")
	default:
	}
	if err := syscall.Kill(child.PID(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	awaitEnd(t, child)
}

func TestExitTellsHowTheChildEnded(t *testing.T) {
	for _, tt := range []struct {
		name  string
		role  string
		end   func(*testing.T, *Process)
		code  int
		words string
	}{
		{"wrong configuration", "misconfigured", nil, 2, "exit status 2"},
		{"another failure", "broken", nil, 3, "exit status 3"},
		{"killed", "serve", func(t *testing.T, p *Process) {
			if err := syscall.Kill(p.PID(), syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
		}, -1, "signal: killed"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			child, _ := start(t, tt.role)
			if tt.end != nil {
				tt.end(t, child)
			}
			awaitEnd(t, child)
			exit := child.Exit()
			if exit.Code != tt.code || !strings.Contains(exit.Error(), tt.words) {
				t.Errorf("the end is told as %d, %q; want %d, %q",
					exit.Code, exit.Error(), tt.code, tt.words)
			}
			if strings.Contains(exit.Error(), "\n") {
				t.Errorf("more than one line: %q", exit.Error())
			}
		})
	}
}

func TestTheChildEndsWhateverKillsItsParent(t *testing.T) {
	for _, sig := range []syscall.Signal{syscall.SIGKILL, syscall.SIGABRT, syscall.SIGTERM} {
		t.Run(sig.String(), func(t *testing.T) {
			// Parent and child hold the write end of this pipe; it ends when both are gone.
			output, input, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = output.Close() }()
			// The parent has nothing to remove its directory with, once it is killed.
			temp, err := os.MkdirTemp("", "bp")
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = os.RemoveAll(temp) }()

			parent := exec.Command(testProgram(t))
			parent.Env = []string{roleVariable + "=parent", "TMPDIR=" + temp}
			parent.Stdout = input
			if err := parent.Start(); err != nil {
				t.Fatal(err)
			}
			_ = input.Close()
			lines := readUntilReady(t, output)
			var childPID int
			if _, err := fmt.Sscanf(lines[len(lines)-1], "ready %d", &childPID); err != nil {
				t.Fatal(err)
			}

			if err := parent.Process.Signal(sig); err != nil {
				t.Fatal(err)
			}
			if err := parent.Wait(); err == nil {
				t.Fatal("the parent ended as if nothing had happened")
			}
			if err := output.SetReadDeadline(time.Now().Add(5 * time.Second)); err != nil {
				t.Fatal(err)
			}
			if _, err := io.Copy(io.Discard, output); err != nil {
				_ = syscall.Kill(childPID, syscall.SIGKILL)
				t.Errorf("the child outlived its parent: %v", err)
			}
		})
	}
}

func TestStartNamesWhatCannotBeStarted(t *testing.T) {
	temp := t.TempDir()
	t.Setenv("TMPDIR", temp)
	_, err := Start(Config{Executable: "/nowhere/oxide-backend"})
	if err == nil || !strings.Contains(err.Error(), "/nowhere/oxide-backend") {
		t.Errorf("the error is %v, and does not name the program", err)
	}
	if left, err := os.ReadDir(temp); err != nil || len(left) > 0 {
		t.Errorf("directories are left: %v, %v", left, err)
	}

	long := filepath.Join(temp, strings.Repeat("x", 100))
	if err := os.Mkdir(long, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{"/nowhere", long} {
		t.Setenv("TMPDIR", dir)
		_, err = Start(Config{Executable: testProgram(t)})
		if err == nil || !strings.Contains(err.Error(), "TMPDIR") {
			t.Errorf("in %s: the error is %v, and does not name TMPDIR", dir, err)
		}
	}
	if left, err := os.ReadDir(long); err != nil || len(left) > 0 {
		t.Errorf("directories are left: %v, %v", left, err)
	}
}

func TestLocate(t *testing.T) {
	beside := filepath.Join(filepath.Dir(testProgram(t)), Program)
	t.Cleanup(func() { _ = os.Remove(beside) })

	_, err := Locate()
	if err == nil {
		t.Fatal("a program that is not there was found")
	}
	for _, part := range []string{beside, "--backend"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("the error does not name %s: %v", part, err)
		}
	}
	if err := os.WriteFile(beside, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Locate(); err == nil {
		t.Error("a file that cannot be executed was found")
	}
	if err := os.Chmod(beside, 0o700); err != nil {
		t.Fatal(err)
	}
	if got, err := Locate(); err != nil || got != beside {
		t.Errorf("Locate() = %q, %v; want %q", got, err, beside)
	}
}

func TestOutputOfTheChildIsPassedOn(t *testing.T) {
	var out bytes.Buffer
	child, err := Start(Config{
		Executable: testProgram(t), Environment: []string{roleVariable + "=broken"}, Stdout: &out,
	})
	if err != nil {
		t.Fatal(err)
	}
	awaitEnd(t, child)
	if !strings.Contains(out.String(), "ready ") {
		t.Errorf("what the child printed is lost: %q", out.String())
	}
	if err := child.Stop(); err != nil {
		t.Error(err)
	}
}
