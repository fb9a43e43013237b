// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package shim

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"go.uber.org/goleak"
	"google.golang.org/grpc"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/process"
)

// backendVariable tells this test program, when it plays oxide-backend, what to do.
const backendVariable = "OXIDE_TEST_BACKEND"

// testToken is a token that must not be printed.
const testToken = "oxide-token-5ec2e75ec2e7"

// TestMain makes this test program play ccm-shim and oxide-backend, under whose names the tests
// start it.
func TestMain(m *testing.M) {
	switch filepath.Base(os.Args[0]) {
	case "ccm-shim":
		HideToken(os.Stderr)
		ctx, stop := process.Signals(context.Background())
		context.AfterFunc(ctx, stop)
		os.Exit(Main(ctx, os.Args[1:], os.Stderr))
	case "oxide-backend":
		os.Exit(playBackend())
	}
	// The logger's flush daemon lives as long as the program.
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("k8s.io/klog/v2.(*flushDaemon).run.func1"))
}

// playBackend is a backend without services: the shim needs no more to be connected.
func playBackend() int {
	switch os.Getenv(backendVariable) {
	case "misconfigured":
		fmt.Fprintln(os.Stderr, "oxide-backend: OXIDE_HOST is not set")
		fmt.Fprintln(os.Stderr, "oxide-backend: OXIDE_PROJECT is not set")
		return 2
	case "broken":
		fmt.Fprintln(os.Stderr, "oxide-backend: something broke")
		return 3
	}
	var socket string
	for _, arg := range os.Args[1:] {
		if path, ok := strings.CutPrefix(arg, "--listen=unix://"); ok {
			socket = path
		}
		if arg == "--oxide-token-fd=4" {
			token, err := io.ReadAll(os.NewFile(4, "token"))
			if err == nil && string(token) == testToken {
				fmt.Fprintln(os.Stderr, "backend has the token")
			}
		}
	}
	listener, err := net.Listen("unix", socket)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	server := grpc.NewServer()
	go func() {
		_, _ = io.Copy(io.Discard, os.NewFile(3, "lifeline"))
		server.Stop()
	}()
	terminated := make(chan os.Signal, 1)
	signal.Notify(terminated, syscall.SIGTERM)
	go func() {
		<-terminated
		server.Stop()
	}()
	fmt.Fprintln(os.Stderr, "backend serves", os.Getpid())
	_ = server.Serve(listener)
	return 0
}

// kubeconfig writes a kubeconfig of an API server that is not there: the shim then waits to become
// the leader.
func kubeconfig(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "kubeconfig")
	err := os.WriteFile(path, []byte(`
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
	return path
}

func TestWhyTheProcessEnds(t *testing.T) {
	for _, tt := range []struct {
		name    string
		backend string
		args    []string
		code    int
		// want are parts of the one line that the shim prints.
		want []string
		// alone tells that nothing of the framework may be printed before.
		alone bool
	}{
		{"no backend beside it", "", nil, 2, []string{"/oxide-backend", "--backend"}, true},
		{"its backend is misconfigured", "misconfigured", nil, 2, []string{"exit status 2"}, true},
		{"its backend ends", "broken", nil, 1, []string{"exit status 3"}, true},
		{"the backend is not there for too long", "",
			[]string{"--backend=/nowhere/b.sock", "--backend-unreachable-exit=500ms"}, 1,
			[]string{"unreachable for 500ms"}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := startProgram(t, tt.backend, tt.args...)
			if code := p.wait(t); code != tt.code {
				t.Errorf("exit code %d, want %d", code, tt.code)
			}
			lines := p.ownLines()
			if len(lines) != 1 {
				t.Fatalf("%d lines say why, want one:\n%s", len(lines), p.output)
			}
			for _, part := range tt.want {
				if !strings.Contains(lines[0], part) {
					t.Errorf("the line %q has no %q", lines[0], part)
				}
			}
			output := p.output.String()
			if !strings.HasSuffix(output, lines[0]) {
				t.Errorf("that line is not the last one:\n%s", output)
			}
			for line := range strings.Lines(output) {
				known := strings.HasPrefix(line, "ccm-shim: ") ||
					strings.HasPrefix(line, "oxide-backend: ") ||
					strings.Contains(line, "Data race detection enabled")
				if tt.alone && !known {
					t.Errorf("another line hides it: %q", line)
				}
			}
			p.wantNothingLeft(t)
		})
	}
}

// What the log says when the framework runs, and when there is a connection.
const (
	leads     = "Attempting to acquire leader lease"
	connected = "Connected to oxide-backend"
)

func TestAskedToStopItStopsItsBackendToo(t *testing.T) {
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		t.Run(sig.String(), func(t *testing.T) {
			p := startProgram(t, "serve")
			p.output.await(t, leads, 1)
			p.signal(t, sig)
			if code := p.wait(t); code != 0 {
				t.Errorf("exit code %d, want 0:\n%s", code, p.output)
			}
			if lines := p.ownLines(); len(lines) > 0 {
				t.Errorf("it complains: %q", lines)
			}
			p.wantNothingLeft(t)
		})
	}
}

func TestKilledItsBackendEndsToo(t *testing.T) {
	p := startProgram(t, "serve")
	p.output.await(t, leads, 1)
	p.signal(t, syscall.SIGKILL)
	// wait returns once nobody has the pipe any more.
	if code := p.wait(t); code != -1 {
		t.Errorf("exit code %d, want none", code)
	}
}

func TestItEndsWhenItsBackendIsKilled(t *testing.T) {
	p := startProgram(t, "serve")
	p.output.await(t, leads, 1)
	var pid int
	_, text, _ := strings.Cut(p.output.String(), "backend serves ")
	if _, err := fmt.Sscan(text, &pid); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if code := p.wait(t); code != 1 {
		t.Errorf("exit code %d, want 1", code)
	}
	if lines := p.ownLines(); len(lines) != 1 || !strings.Contains(lines[0], "killed") {
		t.Errorf("it says %q", lines)
	}
	p.wantNothingLeft(t)
}

// The framework ends the process from within when it loses its lease or cannot go on.
func TestEndedByTheFrameworkItLeavesNothing(t *testing.T) {
	t.Parallel()
	// Without an election it gives up on an API server that does not answer, after ten seconds.
	p := startProgram(t, "serve", "--leader-elect=false")
	if code := p.wait(t); code == 0 {
		t.Errorf("exit code 0, without an API server:\n%s", p.output)
	}
	p.wantNothingLeft(t)
}

func TestABackendThatComesBackInTimeKeepsItRunning(t *testing.T) {
	dir, err := os.MkdirTemp("", "shim")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	socket := filepath.Join(dir, "b.sock")
	serve := func() *grpc.Server {
		listener, err := net.Listen("unix", socket)
		if err != nil {
			t.Fatal(err)
		}
		server := grpc.NewServer()
		go func() { _ = server.Serve(listener) }()
		t.Cleanup(server.Stop)
		return server
	}

	server := serve()
	p := startProgram(t, "", "--backend=unix://"+socket, "--backend-unreachable-exit=3s")
	p.output.await(t, connected, 1)
	server.Stop()
	p.output.await(t, "Lost the connection", 1)
	server = serve()
	p.output.await(t, connected, 2)
	if n := strings.Count(p.output.String(), "createTransport"); n > 0 {
		t.Errorf("gRPC warned %d times of what the shim says itself", n)
	}
	server.Stop()
	if code := p.wait(t); code != 1 {
		t.Errorf("exit code %d, want 1:\n%s", code, p.output)
	}
	if lines := p.ownLines(); len(lines) != 1 || !strings.Contains(lines[0], "unreachable for 3s") {
		t.Errorf("it says %q", lines)
	}
}

// As the image's user in a container, who is not the one that the mounted file belongs to.
func TestAKubeconfigThatMayNotBeReadIsOneLineWithTheRemedy(t *testing.T) {
	dir, err := os.MkdirTemp("", "shim")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	config := filepath.Join(dir, "kubeconfig.yaml")
	// Nobody may read it, but the superuser, who therefore becomes the image's user.
	if err := os.WriteFile(config, nil, 0); err != nil {
		t.Fatal(err)
	}
	own, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(dir, "ccm-shim")
	copyProgram(t, own, program)
	if err := os.Chmod(program, 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program, "--cloud-provider=oxide", "--kubeconfig="+config)
	uid, gid := os.Geteuid(), os.Getegid()
	if uid == 0 {
		uid, gid = 65532, 65532
		cmd.SysProcAttr = &syscall.SysProcAttr{
			Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)},
		}
	}
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 2 {
		t.Errorf("%v, want the exit code 2", err)
	}
	want := fmt.Sprintf("ccm-shim: --kubeconfig: %s cannot be read by the UID %d, as which this "+
		"program runs: let that user read it, or with podman become that user by "+
		"--userns=keep-id:uid=%d,gid=%d\n", config, uid, uid, gid)
	// With the race detector, the framework says so before.
	if got := string(out); !strings.HasSuffix(got, want) || strings.Count(got, "ccm-shim: ") != 1 {
		t.Errorf("it prints\n%swant\n%s", got, want)
	}
}
