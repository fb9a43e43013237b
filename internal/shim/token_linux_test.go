// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package shim

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// environ is what every process of the same user sees of the environment of another one.
func environ(t *testing.T, pid int) string {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
	if err != nil {
		t.Fatal(err)
	}
	if len(text) == 0 {
		t.Fatalf("process %d shows no environment", pid)
	}
	return string(bytes.ReplaceAll(text, []byte{0}, []byte{'\n'}))
}

// pipesOf returns how many pipes a process has that this one does not: those that it made.
func pipesOf(t *testing.T, pid string) int {
	t.Helper()
	pipes := make(map[string]bool)
	for _, of := range []string{pid, "self"} {
		links, err := filepath.Glob("/proc/" + of + "/fd/*")
		if err != nil {
			t.Fatal(err)
		}
		for _, link := range links {
			// Of what is closed meanwhile there is nothing to read.
			if target, err := os.Readlink(link); err == nil && strings.HasPrefix(target, "pipe:") {
				pipes[target] = of != "self"
			}
		}
	}
	made := 0
	for _, its := range pipes {
		if its {
			made++
		}
	}
	return made
}

// The shim and the backend that it starts show no token in /proc/PID/environ, whatever was given to the
// shim, and the backend has the token all the same.
func TestNoEnvironmentShowsTheToken(t *testing.T) {
	t.Setenv("OXIDE_TOKEN", testToken)
	p := startProgram(t, "serve")
	p.output.await(t, leads, 1)
	output := p.output.String()
	if !strings.Contains(output, "backend has the token") {
		t.Errorf("the backend has another token, or none:\n%s", output)
	}
	var backend int
	_, text, _ := strings.Cut(output, "backend serves ")
	if _, err := fmt.Sscan(text, &backend); err != nil {
		t.Fatal(err)
	}
	for name, pid := range map[string]int{"ccm-shim": p.cmd.Process.Pid, "oxide-backend": backend} {
		got := environ(t, pid)
		if strings.Contains(got, testToken) || strings.Contains(got, "OXIDE_TOKEN=") {
			t.Errorf("%s shows the token", name)
		}
		if !strings.Contains(got, "TMPDIR="+p.temp) {
			t.Errorf("%s lost the rest of its environment:\n%s", name, got)
		}
	}
	// What is left is the lifeline: the backend alone has had the end of the token's pipe.
	if n := pipesOf(t, strconv.Itoa(p.cmd.Process.Pid)); n != 1 {
		t.Errorf("the shim has %d pipes, want one", n)
	}
	if strings.Contains(output, testToken) {
		t.Error("the token was printed")
	}
	p.signal(t, syscall.SIGTERM)
	if code := p.wait(t); code != 0 {
		t.Errorf("exit code %d:\n%s", code, p.output)
	}
	p.wantNothingLeft(t)
}

// Beside a backend that somebody else runs, the token is for nobody.
func TestATokenThatNobodyNeedsIsDropped(t *testing.T) {
	t.Setenv("OXIDE_TOKEN", testToken)
	p := startProgram(t, "", "--backend=unix://"+filepath.Join(t.TempDir(), "none"))
	p.output.await(t, leads, 1)
	if got := environ(t, p.cmd.Process.Pid); strings.Contains(got, testToken) {
		t.Error("it shows the token")
	}
	if n := pipesOf(t, strconv.Itoa(p.cmd.Process.Pid)); n != 0 {
		t.Errorf("it has %d pipes, want none", n)
	}
}

// A text that cannot be moved is said, in one line without it, and the backend finds it where it was.
func TestATokenThatCannotBeMovedIsSaid(t *testing.T) {
	long := strings.Repeat(testToken, 200)
	t.Setenv("OXIDE_TOKEN", long)
	p := startProgram(t, "misconfigured")
	if code := p.wait(t); code != 2 {
		t.Errorf("exit code %d", code)
	}
	lines := p.ownLines()
	if len(lines) != 2 || !strings.Contains(lines[0], "OXIDE_TOKEN stays") ||
		!strings.Contains(lines[0], "OXIDE_TOKEN_FILE") || strings.Contains(lines[0], testToken) {
		t.Errorf("it says %q", lines)
	}
}
