// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package conformance_test

import (
	"bytes"
	"context"
	"encoding/json"
	"strings"
	"testing"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/conformance"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/proto/sanity"
)

// command runs the command, and returns what it printed and its exit code.
func command(t *testing.T, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	var out, errs bytes.Buffer
	code = conformance.Main(t.Context(), args, &out, &errs)
	return out.String(), errs.String(), code
}

// Promise: all that is wrong with the flags is said at once, one line each, with exit code 2.
func TestWrongFlags(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		args  []string
		lines int
		says  string
	}{
		{[]string{}, 1, "--address: it is not set"},
		{[]string{"--address", "b.sock", "--run", "(", "-o", "yaml"}, 3, "--output"},
		{[]string{"--address", "unix:///tmp/b.sock", "--run", "^nothing$"}, 1, "no case has a name"},
		{[]string{"--unknown"}, 1, "unknown flag"},
		{[]string{"argument"}, 1, "it takes no argument"},
	} {
		_, text, code := command(t, tc.args...)
		if code != 2 || strings.Count(text, "\n") != tc.lines || !strings.Contains(text, tc.says) {
			t.Errorf("%q: code %d: %s", tc.args, code, text)
		}
	}
}

// Promise: --list prints each case that is selected with what it cites, and needs no backend.
func TestList(t *testing.T) {
	t.Parallel()
	out, _, code := command(t, "--list", "--run", "^session/superseded$")
	if code != 0 || !strings.HasPrefix(out, "session/superseded\n    There is one acting session per scope") ||
		strings.Count(out, "\n") != 2 {
		t.Errorf("code %d: %s", code, out)
	}
	out, _, _ = command(t, "--list")
	for _, one := range sanity.Cases() {
		if !strings.Contains("\n"+out, "\n"+one.Name+"\n") {
			t.Errorf("%s is not listed", one.Name)
		}
	}
}

// Promise: a line for each case and a summary, or a report in a format that is nothing but that.
func TestOutput(t *testing.T) {
	t.Parallel()
	r := start(t)
	flags := []string{"--address", "unix://" + r.socket, "--run", "^backend/(info|health)$|^faults/503$"}
	out, errs, code := command(t, flags...)
	if code != 0 || errs != "" || !strings.Contains(out, "ok       backend/info") ||
		!strings.Contains(out, "skipped  faults/503") || !strings.Contains(out, "give --fault-url") ||
		!strings.Contains(out, "3 cases: 2 ok, 0 failed, 1 skipped") {
		t.Errorf("code %d: %s%s", code, out, errs)
	}
	out, errs, code = command(t, append(flags, "-o", "json")...)
	var report struct{ Passed, Skipped int }
	if err := json.Unmarshal([]byte(out), &report); err != nil || report.Passed != 2 || report.Skipped != 1 ||
		code != 0 || !strings.Contains(errs, "3 cases") {
		t.Errorf("code %d, %v: %s%s", code, err, out, errs)
	}
	out, _, _ = command(t, append(flags, "-o", "junit")...)
	if !strings.HasPrefix(out, "<?xml") || !strings.Contains(out, `tests="3" failures="0" skipped="1"`) {
		t.Errorf("%s", out)
	}
}

// Promise: the exit code says how it ended.
func TestExitCodes(t *testing.T) {
	t.Parallel()
	r := start(t)
	socket := startProxy(r, r.socket, answering("INVALID_REQUEST", nil))
	out, _, code := command(t, "--address", "unix://"+socket, "--run", "^instances/get-invalid$")
	if code != 1 || !strings.Contains(out, "FAIL     instances/get-invalid") ||
		!strings.Contains(out, "expected: InvalidArgument INVALID_REQUEST") {
		t.Errorf("a case that fails: code %d: %s", code, out)
	}
	_, errs, code := command(t, "--address", "unix://"+r.socket, "--instances", "nobody")
	if code != 3 || strings.Count(errs, "\n") != 1 || !strings.Contains(errs, "the instance nobody") {
		t.Errorf("an instance that is not there: code %d: %s", code, errs)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var text bytes.Buffer
	if code := conformance.Main(ctx, []string{"--address", "unix://" + r.socket}, &text, &text); code == 0 {
		t.Errorf("an interrupted run: code %d: %s", code, text.String())
	}
}
