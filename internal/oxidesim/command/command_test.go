// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package command_test

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/oxidesim/command"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// All mistakes of one start are reported together, one line each, with exit code 2.
func TestMistakesAreReportedTogether(t *testing.T) {
	bad := filepath.Join(t.TempDir(), "seed.yaml")
	if err := os.WriteFile(bad, []byte("silos: [{colour: red}]"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name string
		args []string
		want []string
	}{
		{"unknown flag", []string{"--nothing"}, []string{"--nothing"}},
		{"an argument", []string{"x"}, []string{"x"}},
		{"several", []string{
			"--listen", "0.0.0.0:80", "--listen-dead", "nowhere", "--latency", "-1s",
			"--time-scale", "0", "--seed", bad, "--tls-ca-out", "ca.pem",
		}, []string{
			"--listen \"0.0.0.0:80\"", "--listen-dead", "--latency", "--time-scale", "colour",
			"--tls-ca-out",
		}},
		{"no seed file", []string{"--seed", bad + "x"}, []string{"--seed"}},
		{"version", []string{"--listen", "127.0.0.1:0", "--api-version", "v20"}, []string{"v20"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			if code := command.Main(t.Context(), tc.args, &stdout, &stderr); code != 2 {
				t.Errorf("exit code %d, want 2", code)
			}
			lines := strings.Split(strings.TrimSpace(stderr.String()), "\n")
			if len(lines) != len(tc.want) {
				t.Errorf("%d lines, want %d:\n%s", len(lines), len(tc.want), stderr.String())
			}
			for _, want := range tc.want {
				if !strings.Contains(stderr.String(), want) {
					t.Errorf("nothing about %s:\n%s", want, stderr.String())
				}
			}
		})
	}
}

// It says where it listens, serves, and ends in order when it is told to.
func TestServesUntilTold(t *testing.T) {
	dir := t.TempDir()
	seed := filepath.Join(dir, "seed.yaml")
	text := "silos: [{name: s, users: [{name: u, tokens: [{secret: t}]}]}]"
	if err := os.WriteFile(seed, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	out, in := io.Pipe()
	code := make(chan int, 1)
	go func() {
		code <- command.Main(ctx, []string{
			"--listen", "127.0.0.1:0", "--seed", seed, "--request-log",
			filepath.Join(dir, "log"),
		}, in, io.Discard)
		in.Close()
	}()
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	_, url, ok := strings.Cut(strings.TrimSpace(line), "listening on ")
	if !ok {
		t.Fatalf("said %q", line)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/v1/me", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer t")
	req.Close = true
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Errorf("status %d", resp.StatusCode)
	}
	cancel()
	if got := <-code; got != 0 {
		t.Errorf("exit code %d", got)
	}
	log, err := os.ReadFile(filepath.Join(dir, "log"))
	if err != nil || strings.Count(string(log), "\n") != 1 {
		t.Errorf("log %q, %v", log, err)
	}
}
