// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package shim

import (
	"bufio"
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"

	utilfeature "k8s.io/apiserver/pkg/util/feature"
	baseversion "k8s.io/component-base/version"

	version "github.com/oxidecomputer/oxide-cloud-controller-manager"
)

// buildProgram builds ccm-shim with the linker flags of the Makefile, on which depends what the
// framework takes for its own version, and with its build tags.
func buildProgram(t *testing.T) string {
	t.Helper()
	const repository = "../.."
	// Opened, so that the cache of test results knows it.
	if _, err := os.ReadFile(filepath.Join(repository, "Makefile")); err != nil {
		t.Fatal(err)
	}
	setting := func(target string) string {
		text, err := exec.CommandContext(t.Context(), "make", "-s", "-C", repository, target).Output()
		if err != nil {
			t.Fatalf("make %s: %v", target, err)
		}
		return strings.TrimSpace(string(text))
	}
	path := filepath.Join(t.TempDir(), "ccm-shim")
	build := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-buildvcs=false",
		"-tags", setting("tags"), "-ldflags", setting("ldflags"), "-o", path, "./cmd/ccm-shim")
	build.Dir = repository
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOWORK=off")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return path
}

func TestTheBuiltProgramHasTheVersionAndTheGatesThatItSays(t *testing.T) {
	path := buildProgram(t)
	run := func(args ...string) string {
		t.Helper()
		out, err := exec.CommandContext(t.Context(), path, args...).CombinedOutput()
		if err != nil {
			t.Fatalf("ccm-shim %q: %v: %s", args, err, out)
		}
		return string(out)
	}
	t.Run("it holds no method that nobody calls", func(t *testing.T) {
		program, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		// A template calls methods by names that only it knows, so with one the linker keeps all methods:
		// the program, and what it holds of memory, is larger by half.
		if bytes.Contains(program, []byte("text/template.(*state).evalField\x00")) {
			t.Error("the program can execute templates: `go build -ldflags=-dumpdep` shows what links them")
		}
	})
	t.Run("--version is ours", func(t *testing.T) {
		if got, want := run("--version"), "ccm-shim "+version.String()+"\n"; got != want {
			t.Errorf("%q, want %q", got, want)
		}
	})
	t.Run("the framework has its own, with ours behind it", func(t *testing.T) {
		got := run("--version=raw")
		want := regexp.MustCompile(`Major:"1", Minor:"(\d+)".* GitVersion:"v1\.(\d+)\.\d+\+oxide-` +
			regexp.QuoteMeta(version.String()) + `"`).FindStringSubmatch(got)
		if want == nil {
			t.Fatalf("it says %s", got)
		}
		if minor := "1." + want[1]; minor != baseversion.DefaultKubeBinaryVersion || want[1] != want[2] {
			t.Errorf("the framework is of Kubernetes %s, but is built as %s",
				baseversion.DefaultKubeBinaryVersion, got)
		}
		if strings.Contains(got, "$Format") {
			t.Errorf("a commit that nobody knows: %s", got)
		}
	})
	t.Run("the gates are those of its Kubernetes", func(t *testing.T) {
		// This test program is not stamped, and so has the gates of the framework's own release.
		if _, err := NewCommand(t.Context()); err != nil {
			t.Fatal(err)
		}
		help, on := run("--help"), 0
		for _, gate := range utilfeature.DefaultMutableFeatureGate.KnownFeatures() {
			if !strings.Contains(help, gate) {
				t.Errorf("it lacks the feature gate %s", gate)
			}
			if strings.Contains(gate, "BETA - default=true") {
				on++
			}
		}
		for _, gate := range []string{"UnauthenticatedHTTP2DOSMitigation", "LoggingBetaOptions"} {
			if !strings.Contains(help, gate+"=true|false (BETA - default=true)") {
				t.Errorf("the feature gate %s is not on by default", gate)
			}
		}
		if on < 10 {
			t.Errorf("only %d feature gates are on by default", on)
		}
	})
	t.Run("it logs in JSON, and says who asks", func(t *testing.T) { wantLogAndUserAgent(t, path) })
}

// wantLogAndUserAgent starts the program without a backend and with an API server that knows
// nothing, reads the first lines of its log, and how it calls itself at the API server.
func wantLogAndUserAgent(t *testing.T, path string) {
	agents := make(chan string, 1)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case agents <- r.UserAgent():
		default:
		}
		http.NotFound(w, r)
	}))
	defer server.Close()
	cmd := exec.CommandContext(t.Context(), path, "--logging-format=json", "--secure-port=0",
		"--kubeconfig="+kubeconfig(t), "--master="+server.URL, "--backend=unix:///nowhere/backend.sock")
	out, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}()
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		var line struct {
			Message string `json:"msg"`
		}
		if err := json.Unmarshal(lines.Bytes(), &line); err != nil {
			t.Fatalf("it logs %s", lines.Text())
		}
		if strings.HasPrefix(line.Message, "Attempting to acquire leader lease") {
			break
		}
	}
	agent := <-agents
	want := "ccm-shim/" + version.String() + " (" + runtime.GOOS + "/" + runtime.GOARCH +
		") kubernetes/" + baseversion.DefaultKubeBinaryVersion + "."
	if !strings.HasPrefix(agent, want) {
		t.Errorf("the user agent is %q, want %q…", agent, want)
	}
}
