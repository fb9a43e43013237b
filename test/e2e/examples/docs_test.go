// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package examples

import (
	"context"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

// freePort returns a port of the loopback interface that nobody listens on.
func freePort(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return strconv.Itoa(listener.Addr().(*net.TCPAddr).Port)
}

func TestTheFirstCallOfTheDocsWorksAsItStandsThere(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(filepath.Join(built.root, "docs", "guides", "reuse.md"))
	if err != nil {
		t.Fatal(err)
	}
	section, _, _ := strings.Cut(string(text), "\n## Which call for what")
	blocks := regexp.MustCompile("(?s)```sh\n(.*?)```").FindAllStringSubmatch(section, -1)
	if len(blocks) != 7 {
		t.Fatalf("the section has %d blocks of commands, want 7", len(blocks))
	}
	commands := []string{"set -euo pipefail\n"}
	for _, block := range blocks {
		commands = append(commands, block[1])
	}
	script := strings.Join(commands, "")
	// What is built already is not built again, and nobody else has the port.
	port := freePort(t)
	for _, replace := range [][2]string{
		{"go build -o bin/ ./cmd/oxide-sim ./cmd/oxide-backend\n", ""},
		{"bin/oxide-sim &", built.programs.Sim + " --listen 127.0.0.1:" + port + " &"},
		{"bin/oxide-backend ", built.programs.Backend + " "},
		{"127.0.0.1:12220", "127.0.0.1:" + port},
	} {
		if !strings.Contains(script, replace[0]) {
			t.Fatalf("the commands have no %q", replace[0])
		}
		script = strings.ReplaceAll(script, replace[0], replace[1])
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	bash := exec.CommandContext(ctx, "bash", "-c", "trap 'kill $(jobs -p) 2>/dev/null || true' EXIT\n"+script)
	bash.Dir = built.root
	bash.WaitDelay = 10 * time.Second
	out, err := bash.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for _, want := range []string{
		`"apiRevision"`, "RUN_STATE_RUNNING", `"created": true`, `"previousInstanceId"`, "FIREWALL_CLOSED",
		`"verdicts"`, "ACTION_TYPE_ATTACH", "PHASE_READY", `"released"`,
	} {
		if !strings.Contains(string(out), want) {
			t.Errorf("the commands print no %s: %s", want, out)
		}
	}
}
