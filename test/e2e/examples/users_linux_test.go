// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package examples

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

const nobody = 65534

// asNobody runs vip as another user, with a copy of the program that this user may run, and returns what it
// says.
func (w *world) asNobody() string {
	w.Helper()
	dir, err := os.MkdirTemp("/tmp", "nobody-")
	w.must(err)
	w.Cleanup(func() { os.RemoveAll(dir) })
	w.must(os.Chmod(dir, 0o755))
	text, err := os.ReadFile(filepath.Join(built.examples, "vip"))
	w.must(err)
	program := filepath.Join(dir, "vip")
	w.must(os.WriteFile(program, text, 0o755))
	// Far less than the 20 s that the client waits for a backend that does not answer: a refusal is no such.
	ctx, cancel := context.WithTimeout(w.within(), 5*time.Second)
	defer cancel()
	vip := exec.CommandContext(ctx, program, "--socket", w.socket, "--group", "web")
	vip.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	out, _ := vip.CombinedOutput()
	return string(out)
}

func TestAnotherUserIsRefusedWithTheRemedyAndNobodyElseIsHarmed(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED: needs root, to become another user")
	}
	for _, tt := range []struct {
		name, want, remedy string
		open               bool
	}{
		{name: "the socket is in a private folder", want: "may not be opened by this user",
			remedy: "run as the user that oxide-backend runs as"},
		{name: "somebody has opened the folder and the socket", open: true,
			want: "a process of the user 65534 may not call this oxide-backend", remedy: "run it as the user 0"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			w.startVIP()
			carried := w.carrier("")
			if tt.open {
				for _, path := range []string{w.dir, filepath.Dir(w.socket), w.socket} {
					w.must(os.Chmod(path, 0o777))
				}
			}
			if says := w.asNobody(); !strings.Contains(says, tt.want) || !strings.Contains(says, tt.remedy) {
				t.Errorf("another user reads: %s", says)
			}
			if now := w.carrier(""); now != carried {
				t.Errorf("the address was %+v and is %+v", carried, now)
			}
			if log, err := os.ReadFile(w.backend.Backend.LogFile()); err != nil ||
				strings.Contains(string(log), "refused a client, which --client does not name") != tt.open {
				t.Errorf("the log is %s, %v", log, err)
			}
		})
	}
}
