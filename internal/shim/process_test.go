// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package shim

import (
	"bytes"
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
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
)

// backendVariable tells this test program, when it plays oxide-backend, what to do.
const backendVariable = "OXIDE_TEST_BACKEND"

// TestMain makes this test program play ccm-shim and oxide-backend, under whose names the tests
// start it.
func TestMain(m *testing.M) {
	switch filepath.Base(os.Args[0]) {
	case "ccm-shim":
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
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

// lockedBuffer is what a process printed so far.
type lockedBuffer struct {
	mu      sync.Mutex
	buffer  bytes.Buffer
	changed chan struct{}
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.changed != nil {
		close(b.changed)
		b.changed = nil
	}
	return b.buffer.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buffer.String()
}

// await waits until the text was printed so many times.
func (b *lockedBuffer) await(t *testing.T, text string, times int) {
	t.Helper()
	deadline := time.After(30 * time.Second)
	for {
		b.mu.Lock()
		if strings.Count(b.buffer.String(), text) >= times {
			b.mu.Unlock()
			return
		}
		if b.changed == nil {
			b.changed = make(chan struct{})
		}
		changed := b.changed
		b.mu.Unlock()
		select {
		case <-changed:
		case <-deadline:
			t.Fatalf("%q was not printed %d times, but:\n%s", text, times, b.String())
		}
	}
}

// program is ccm-shim as a process, with its own directory for temporary files.
type program struct {
	cmd    *exec.Cmd
	temp   string
	output *lockedBuffer

	// allGone is closed when the process and all its children have ended: they share the pipe that
	// they print to.
	allGone chan struct{}
}

// startProgram starts ccm-shim. The backend beside it behaves as told; "" means there is none.
func startProgram(t *testing.T, backend string, args ...string) *program {
	t.Helper()
	dir, err := os.MkdirTemp("", "shim")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	own, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	copyProgram(t, own, filepath.Join(dir, "ccm-shim"))
	if backend != "" {
		copyProgram(t, own, filepath.Join(dir, "oxide-backend"))
	}
	p := &program{
		temp: filepath.Join(dir, "tmp"), output: &lockedBuffer{}, allGone: make(chan struct{}),
	}
	if err := os.Mkdir(p.temp, 0o700); err != nil {
		t.Fatal(err)
	}
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	p.cmd = exec.Command(filepath.Join(dir, "ccm-shim"), append([]string{
		"--kubeconfig=" + kubeconfig(t), "--secure-port=0",
	}, args...)...)
	p.cmd.Env = append(os.Environ(), backendVariable+"="+backend, "TMPDIR="+p.temp)
	p.cmd.Stdout, p.cmd.Stderr = write, write
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_ = write.Close()
	go func() {
		_, _ = io.Copy(p.output, read)
		_ = read.Close()
		close(p.allGone)
	}()
	t.Cleanup(func() { _ = p.cmd.Process.Kill() })
	return p
}

// copyProgram makes a program available under another path, without a copy where that is possible.
func copyProgram(t *testing.T, from, to string) {
	t.Helper()
	if os.Link(from, to) == nil {
		return
	}
	content, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(to, content, 0o700); err != nil {
		t.Fatal(err)
	}
}

func (p *program) signal(t *testing.T, sig os.Signal) {
	t.Helper()
	if err := p.cmd.Process.Signal(sig); err != nil {
		t.Fatal(err)
	}
}

// wait returns the exit code, once the process and its children have ended.
func (p *program) wait(t *testing.T) int {
	t.Helper()
	select {
	case <-p.allGone:
	case <-time.After(30 * time.Second):
		t.Fatalf("something still runs; it printed:\n%s", p.output)
	}
	err := p.cmd.Wait()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return p.cmd.ProcessState.ExitCode()
}

// ownLines returns the lines in which the shim says why it ends.
func (p *program) ownLines() []string {
	var lines []string
	for line := range strings.Lines(p.output.String()) {
		if strings.HasPrefix(line, "ccm-shim: ") {
			lines = append(lines, line)
		}
	}
	return lines
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

// wantNothingLeft checks that no temporary file is left.
func (p *program) wantNothingLeft(t *testing.T) {
	t.Helper()
	left, err := os.ReadDir(p.temp)
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range left {
		t.Errorf("%s is left", entry.Name())
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
