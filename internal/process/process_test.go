// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package process_test

import (
	"bufio"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	version "github.com/oxidecomputer/oxide-cloud-controller-manager"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/process"
)

var names = []string{"ccm-shim", "oxide-backend", "oxide-sim"}

// build builds all programs into a folder.
func build(t *testing.T) string {
	t.Helper()
	folder := t.TempDir()
	args := []string{"build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w", "-o", folder}
	for _, name := range names {
		args = append(args, "./cmd/"+name)
	}
	cmd := exec.CommandContext(t.Context(), "go", args...)
	cmd.Dir = "../.."
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOWORK=off")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return folder
}

func TestAllProgramsHaveTheSameSubcommandsAndEndInOrder(t *testing.T) {
	folder := build(t)
	for _, name := range names {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(folder, name)
			for _, tt := range []struct {
				args string
				code int
				want string
			}{
				{"version", 0, name + " " + version.String() + "\n"},
				{"--version", 0, name + " " + version.String() + "\n"},
				{"help", 0, "Usage:\n  " + name},
				{"help version", 0, "Usage:\n  " + name + " version"},
				{"completion bash", 0, "# bash completion"},
				{"version again", 2, `"again"`},
				{"anything", 2, `"anything"`},
			} {
				out, err := exec.CommandContext(t.Context(), path, strings.Fields(tt.args)...).
					CombinedOutput()
				code := 0
				if exit, ok := err.(*exec.ExitError); ok { //nolint:errorlint // by Wait
					code = exit.ExitCode()
				}
				if code != tt.code || !strings.Contains(string(out), tt.want) {
					t.Errorf("%s %s ends with %d and says %.300s\nwant %d and %s",
						name, tt.args, code, out, tt.code, tt.want)
				}
			}
			for _, sig := range []os.Signal{syscall.SIGHUP, syscall.SIGTERM, os.Interrupt} {
				t.Run(sig.String(), func(t *testing.T) { wantEnd(t, path, sig) })
			}
		})
	}
}

// wantEnd starts a program, and has it end in order by a signal once it serves.
func wantEnd(t *testing.T, path string, sig os.Signal) {
	t.Helper()
	kubeconfig := filepath.Join(t.TempDir(), "kubeconfig")
	err := os.WriteFile(kubeconfig, []byte(`
apiVersion: v1
kind: Config
clusters: [{name: c, cluster: {server: "https://127.0.0.1:1"}}]
users: [{name: u, user: {token: secret}}]
contexts: [{name: x, context: {cluster: c, user: u}}]
current-context: x
`), 0o600)
	if err != nil {
		t.Fatal(err)
	}
	socket := "unix://" + filepath.Join(t.TempDir(), "own", "s")
	start := map[string]struct {
		serving string
		args    []string
	}{
		"ccm-shim": {"Attempting to acquire leader lease", []string{
			"--kubeconfig=" + kubeconfig, "--secure-port=0", "--backend=" + socket,
		}},
		"oxide-backend": {"serving", []string{
			"--listen=" + socket, "--health-listen=", "--oxide-host=127.0.0.1:1", "--oxide-project=p",
		}},
		"oxide-sim": {"listening on", []string{"--listen=127.0.0.1:0"}},
	}[filepath.Base(path)]
	cmd := exec.CommandContext(t.Context(), path, start.args...)
	cmd.Env = append(os.Environ(), "OXIDE_TOKEN=t")
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = read.Close() }()
	// A signal that is ignored here, as nohup has it, would be ignored there; one that is handled is not.
	handled := make(chan os.Signal, 1)
	signal.Notify(handled, sig)
	defer signal.Stop(handled)
	cmd.Stdout, cmd.Stderr = write, write
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_ = write.Close()
	var printed strings.Builder
	signalled := false
	for lines := bufio.NewScanner(read); lines.Scan(); {
		printed.WriteString(lines.Text() + "\n")
		if !signalled && strings.Contains(lines.Text(), start.serving) {
			signalled = true
			if err := cmd.Process.Signal(sig); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := cmd.Wait(); err != nil || !signalled {
		t.Errorf("it ended with %v, and printed:\n%s", err, printed.String())
	}
}

// What is started by nohup lives on when its terminal is closed.
func TestAHangupThatIsIgnoredStaysSo(t *testing.T) {
	signal.Ignore(syscall.SIGHUP)
	defer signal.Reset(syscall.SIGHUP)
	ctx, stop := process.Signals(t.Context())
	defer stop()
	if !signal.Ignored(syscall.SIGHUP) {
		t.Error("SIGHUP is no longer ignored")
	}
	if err := syscall.Kill(os.Getpid(), syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	<-ctx.Done()
}
