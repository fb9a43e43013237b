// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package backend_test

import (
	"bytes"
	"encoding/json"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/backend"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/oxidesim"
)

// runCheck runs `oxide-backend check` in this process.
func runCheck(t *testing.T, host string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	t.Setenv("OXIDE_HOST", host)
	t.Setenv("OXIDE_TOKEN", oxidesim.DefaultToken)
	t.Setenv("OXIDE_PROJECT", oxidesim.DefaultProject)
	var out, errOut bytes.Buffer
	code = backend.Main(t.Context(), append([]string{"check"}, args...), &out, &errOut)
	return code, out.String(), errOut.String()
}

func TestCheckTellsEverythingInATable(t *testing.T) {
	rack := oxidesim.Start(t, oxidesim.Config{})
	if _, err := rack.AddInstance("demo", oxidesim.InstanceSeed{Name: "node-1"}); err != nil {
		t.Fatal(err)
	}
	code, stdout, stderr := runCheck(t, rack.URL, "--port", "22/tcp")
	if code != 0 || stderr != "" {
		t.Errorf("exit code %d, errors %q", code, stderr)
	}
	for _, part := range []string{
		"checks " + rack.URL + ", project demo", "CHECK", "RESULT", "WHAT WAS SEEN",
		"token ", "port TCP 22", "result: ok\n",
	} {
		if !strings.Contains(stdout, part) {
			t.Errorf("the report lacks %q:\n%s", part, stdout)
		}
	}
}

func TestCheckThatFailsSaysTheRemedyAndExitsWithOne(t *testing.T) {
	rack := oxidesim.Start(t, oxidesim.Config{})
	if _, err := rack.AddInstance("demo", oxidesim.InstanceSeed{Name: "node-1"}); err != nil {
		t.Fatal(err)
	}
	code, stdout, stderr := runCheck(t, rack.URL, "--port=80,443/tcp", "--port=53/UDP")
	if code != 1 || stderr != "" {
		t.Errorf("exit code %d, errors %q, want 1 and no more than the report", code, stderr)
	}
	for _, part := range []string{
		"port TCP 80", "port TCP 443", "port UDP 53", "remedy: in the firewall of the VPC default", "result: failed\n",
	} {
		if !strings.Contains(stdout, part) {
			t.Errorf("the report lacks %q:\n%s", part, stdout)
		}
	}
}

func TestCheckReportsInJSON(t *testing.T) {
	rack := oxidesim.Start(t, oxidesim.Config{})
	code, stdout, stderr := runCheck(t, rack.URL, "--output=json")
	if code != 0 || stderr != "" {
		t.Errorf("exit code %d, errors %q", code, stderr)
	}
	var report struct {
		Version, Host, Project, Result string
		Checks                         []struct{ Check, Result, Detail, Remedy string }
	}
	decoder := json.NewDecoder(strings.NewReader(stdout))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&report); err != nil {
		t.Fatalf("%v: %s", err, stdout)
	}
	if report.Host != rack.URL || report.Project != "demo" || report.Result != "warning" ||
		len(report.Checks) < 10 || report.Checks[0].Check != "API" ||
		report.Checks[0].Result != "ok" {
		t.Errorf("got %+v", report)
	}
}

// A host that swallows connections must not hold up a script for ever.
func TestCheckEndsInTime(t *testing.T) {
	rack := oxidesim.StartWith(t, oxidesim.Config{}, oxidesim.ServeOptions{
		Hang: []string{"127.0.0.1:0"},
	})
	code, stdout, _ := runCheck(t, rack.DeadURLs[0], "--timeout=200ms")
	if code != 1 || !strings.Contains(stdout, "the time for it was up") {
		t.Errorf("exit code %d:\n%s", code, stdout)
	}
}

func TestCheckRefusesWrongSettingsTogether(t *testing.T) {
	code, stdout, stderr := runCheck(t, "ftp://rack", "--port=http", "--port=80/sctp",
		"--output=xml", "--timeout=-1s")
	if code != 2 || stdout != "" {
		t.Errorf("exit code %d, report %q", code, stdout)
	}
	for _, part := range []string{
		`oxide-backend: --oxide-host or OXIDE_HOST: its scheme is "ftp"`,
		`oxide-backend: --port: "http" is no port; write it as 80`,
		`oxide-backend: --port: "80/sctp"`, `oxide-backend: --output: "xml"`,
		`oxide-backend: --timeout: -1s`,
	} {
		if !strings.Contains(stderr, part) {
			t.Errorf("%q is not told in:\n%s", part, stderr)
		}
	}
	if code, _, stderr := runCheck(t, "", "--nonsense"); code != 2 ||
		!strings.Contains(stderr, "see oxide-backend check --help") {
		t.Errorf("exit code %d: %s", code, stderr)
	}
}

// In a pod the settings come from a Secret, and it is the Secret that has to be mended.
func TestMissingSettingsNameTheSecretThatTheyShouldComeFrom(t *testing.T) {
	const source = "the Secret kube-system/ccm"
	token := filepath.Join(t.TempDir(), "oxide-token")
	if err := os.WriteFile(token, []byte("abc"), 0o600); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name, host, project string
		args, want          []string
	}{
		{
			name: "no Secret", args: []string{"--oxide-token-file=/nowhere/oxide-token"},
			want: []string{"nothing is known of Oxide: " + source + " is missing"},
		},
		{
			name: "no token", host: "https://rack.example.com", project: "demo",
			args: []string{"--oxide-token-file=/nowhere/oxide-token"},
			want: []string{"/nowhere/oxide-token (the key oxide-token of " + source + "): no such file"},
		},
		{
			name: "no host", project: "demo", args: []string{"--oxide-token-file=" + token},
			want: []string{"OXIDE_HOST (the key oxide-host of " + source + "): it is not set"},
		},
		{
			name: "no project", host: "https://rack.example.com",
			args: []string{"--oxide-token-file=" + token},
			want: []string{"OXIDE_PROJECT (the key oxide-project of " + source + "): it is not set"},
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Setenv("OXIDE_SETTINGS_FROM", source)
			t.Setenv("OXIDE_TOKEN", "")
			t.Setenv("OXIDE_HOST", test.host)
			t.Setenv("OXIDE_PROJECT", test.project)
			for _, subcommand := range [][]string{nil, {"check"}} {
				var out, errOut bytes.Buffer
				code := backend.Main(t.Context(), append(subcommand, test.args...), &out, &errOut)
				if code != 2 || strings.Count(errOut.String(), "\n") != 1 {
					t.Errorf("exit code %d, want 2 and one line:\n%s", code, errOut.String())
				}
				for _, part := range test.want {
					if !strings.Contains(errOut.String(), part) {
						t.Errorf("%q is not told in:\n%s", part, errOut.String())
					}
				}
			}
		})
	}
}

func TestOneCauseIsOneRow(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	code, stdout, _ := runCheck(t, "http://"+l.Addr().String(), "--port=80")
	if code != 1 {
		t.Errorf("exit code %d", code)
	}
	rows := 0
	for line := range strings.Lines(stdout) {
		if strings.Contains(line, "failed") || strings.Contains(line, "skipped") {
			rows++
		}
	}
	// One of what failed, one of what was not checked, and the result.
	if rows != 3 || strings.Count(stdout, "remedy:") != 1 ||
		!strings.Contains(stdout, "certificate, token, ") || !strings.Contains(stdout, "port TCP 80: not checked") {
		t.Errorf("%d rows:\n%s", rows, stdout)
	}
}

func TestATokenFileThatIsIgnoredIsNamed(t *testing.T) {
	rack := oxidesim.Start(t, oxidesim.Config{})
	t.Setenv("OXIDE_TOKEN_FILE", "/nowhere/token")
	const want = "the file in OXIDE_TOKEN_FILE is ignored, because OXIDE_TOKEN is set"
	if _, stdout, _ := runCheck(t, rack.URL); !strings.Contains(stdout, want) {
		t.Errorf("the report lacks %q:\n%s", want, stdout)
	}
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte(oxidesim.DefaultToken), 0o600); err != nil {
		t.Fatal(err)
	}
	const flag = "OXIDE_TOKEN is ignored, because --oxide-token-file is given"
	_, stdout, _ := runCheck(t, rack.URL, "--oxide-token-file="+file)
	if !strings.Contains(stdout, flag) || strings.Contains(stdout, "OXIDE_TOKEN_FILE") {
		t.Errorf("the report lacks %q:\n%s", flag, stdout)
	}
}
