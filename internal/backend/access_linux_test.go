// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package backend_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/oxidesim"
)

// Other users of the machine may do at the shared socket what they are given, and nothing at the private
// one.
func TestOtherUsersOfTheMachineMayDoWhatTheyAreGiven(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED: needs root, to become other users")
	}
	const reader, stranger = 65534, 65533
	dir, err := os.MkdirTemp("", "ob")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	program := copyProgram(t, dir)
	shared := filepath.Join(dir, "shared", "b.sock")
	rack := oxidesim.Start(t, oxidesim.Config{})
	p := start(t, rack.URL, "--shared-listen", "unix://"+shared, "--client", "uid:65534=read")
	p.awaitReady()
	ask := func(uid uint32, args ...string) string {
		cmd := exec.Command(program, args...)
		cmd.Env = append(os.Environ(), "PLAY_OXIDE_BACKEND=1")
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
		out, err := cmd.CombinedOutput()
		if err == nil {
			return "ok"
		}
		return string(out)
	}
	for _, tt := range []struct {
		name, want string
		uid        uint32
		args       []string
	}{
		{"who may read asks at the shared socket", "ok", reader, []string{"status", "--socket", shared}},
		{"who may read asks at the private one", "may not use", reader, []string{"status", "--socket", p.socket}},
		{"who may nothing asks", "a process of the user 65533 may not call this oxide-backend: ", stranger,
			[]string{"status", "--socket", shared}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := ask(tt.uid, tt.args...); !strings.Contains(got, tt.want) {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

// copyProgram copies this program to where every user may run it.
func copyProgram(t *testing.T, dir string) string {
	t.Helper()
	program, err := os.ReadFile(os.Args[0])
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "program")
	if err := os.WriteFile(path, program, 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}
