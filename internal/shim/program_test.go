// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package shim

import (
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

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
