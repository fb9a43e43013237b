// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package backend

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/process"
)

const someToken = "oxide-token-0123456789abcdef"

// goodEnv is an environment with which the program would start.
var goodEnv = map[string]string{
	"OXIDE_HOST": "https://silo.sys.example.com", "OXIDE_TOKEN": someToken, "OXIDE_PROJECT": "demo",
}

func validate(t *testing.T, env map[string]string, args ...string) (Config, error) {
	t.Helper()
	cmd := NewCommand()
	opts := NewOptions()
	cmd.ResetFlags()
	opts.AddFlags(cmd.Flags())
	if err := cmd.ParseFlags(args); err != nil {
		t.Fatal(err)
	}
	opts.Complete(func(name string) string { return env[name] })
	return opts.Validate()
}

func TestTheEnvironmentThatUsersKnowSuffices(t *testing.T) {
	cfg, err := validate(t, goodEnv)
	if err != nil {
		t.Fatal(err)
	}
	if got := cfg.Oxide.Host.String(); got != "https://silo.sys.example.com" {
		t.Errorf("host %s", got)
	}
	if got := cfg.Oxide.Token.Token().Reveal(); got != someToken {
		t.Errorf("token %s", got)
	}
	if cfg.Oxide.Project != "demo" || cfg.SocketPath != "/run/oxide/backend/backend.sock" {
		t.Errorf("got %+v", cfg)
	}
}

// The parent's pipe takes the place of the variable.
func TestATokenIsReadFromADescriptor(t *testing.T) {
	for _, tc := range []struct{ name, token, want string }{
		{"a token", someToken, ""},
		{"a token with an end of line", someToken + "\n", ""},
		{"nothing", "", "none is set"},
		{"two tokens", "a b", "more than one"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			reader, writer, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			if _, err := io.WriteString(writer, tc.token); err != nil {
				t.Fatal(err)
			}
			_ = writer.Close()
			// A descriptor of its own, which is closed when it was read.
			descriptor, err := syscall.Dup(int(reader.Fd()))
			_ = reader.Close()
			if err != nil {
				t.Fatal(err)
			}
			env := map[string]string{"OXIDE_HOST": "h.example.com", "OXIDE_PROJECT": "demo"}
			cfg, err := validate(t, env, "--oxide-token-fd="+strconv.Itoa(descriptor))
			switch {
			case tc.want != "":
				if err == nil || !strings.Contains(err.Error(), tc.want) {
					t.Errorf("got %v, want %q", err, tc.want)
				}
			case err != nil:
				t.Error(err)
			case cfg.Oxide.Token.Token().Reveal() != someToken:
				t.Error("it is another token")
			}
		})
	}
}

func TestFlagsWinOverTheEnvironment(t *testing.T) {
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte("from-file\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg, err := validate(t, goodEnv, "--oxide-host", "other.example.com",
		"--oxide-token-file", file, "--oxide-project", "other")
	if err != nil {
		t.Fatal(err)
	}
	if cfg.Oxide.Host.String() != "https://other.example.com" || cfg.Oxide.Project != "other" ||
		cfg.Oxide.Token.Token().Reveal() != "from-file" {
		t.Errorf("got %s, %s, %s", cfg.Oxide.Host, cfg.Oxide.Project, cfg.Oxide.Token.Token())
	}
}

func TestBadConfigurationNamesSettingAndRemedy(t *testing.T) {
	empty := filepath.Join(t.TempDir(), "empty")
	if err := os.WriteFile(empty, []byte("\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name string
		env  map[string]string
		args []string
		// says is what the one line of the error holds.
		says []string
	}{
		{"no host", map[string]string{"OXIDE_HOST": ""}, nil,
			[]string{"OXIDE_HOST", "is not set", "https://my-silo"}},
		{"a host of the wrong scheme", map[string]string{"OXIDE_HOST": "ftp://x"}, nil,
			[]string{"OXIDE_HOST", `"ftp"`}},
		{"a host without TLS", map[string]string{"OXIDE_HOST": "http://rack.example.com"}, nil,
			[]string{"OXIDE_HOST", "unencrypted"}},
		{"a host with a password", map[string]string{"OXIDE_HOST": "https://a:hunter2@x"}, nil,
			[]string{"OXIDE_HOST", "password"}},
		{"a host that is no URL", map[string]string{"OXIDE_HOST": "https://a b:hunter2"}, nil,
			[]string{"OXIDE_HOST", "not a URL"}},
		{"a host with a path", map[string]string{"OXIDE_HOST": "https://x/v1"}, nil,
			[]string{"OXIDE_HOST", "more than scheme, host and port"}},
		{"no token", map[string]string{"OXIDE_TOKEN": ""}, nil,
			[]string{"--oxide-token-file", "OXIDE_TOKEN", "none is set"}},
		{"an unreadable token file", nil, []string{"--oxide-token-file", "/nowhere/token"},
			[]string{"--oxide-token-file", "/nowhere/token", "no such file"}},
		{"an empty token file", nil, []string{"--oxide-token-file", empty},
			[]string{"--oxide-token-file", empty, "empty"}},
		{"two tokens", map[string]string{"OXIDE_TOKEN": "a b"}, nil,
			[]string{"OXIDE_TOKEN", "more than one", "give one Oxide API token"}},
		{"no project", map[string]string{"OXIDE_PROJECT": ""}, nil,
			[]string{"OXIDE_PROJECT", "is not set"}},
		{"a project that is no name", map[string]string{"OXIDE_PROJECT": "My Project"}, nil,
			[]string{"OXIDE_PROJECT", "My Project", "lower-case"}},
		{"an unreadable CA file", map[string]string{"OXIDE_CA_FILE": "/nowhere/ca"}, nil,
			[]string{"--oxide-ca-file", "/nowhere/ca", "no such file", "give a PEM file"}},
		{"a CA file without certificates", map[string]string{"OXIDE_CA_FILE": empty}, nil,
			[]string{"OXIDE_CA_FILE", "no PEM certificate", "give a PEM file"}},
		{"a TCP address", nil, []string{"--listen", "127.0.0.1:80"}, []string{"--listen", "unix://"}},
		{"a health address without a port", nil, []string{"--health-listen", "localhost"},
			[]string{"--health-listen", "HOST:PORT"}},
		{"a metrics address without a port", nil, []string{"--metrics-listen", "x"},
			[]string{"--metrics-listen", "HOST:PORT"}},
		{"an unknown log level", nil, []string{"--log-level", "loud"}, []string{"--log-level", "loud"}},
		{"an unknown log format", nil, []string{"--log-format", "xml"},
			[]string{"--log-format", "xml"}},
		{"a collector without a scheme", map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "collector:4317"}, nil,
			[]string{"OTEL_EXPORTER_OTLP_ENDPOINT", "no scheme", "http://127.0.0.1:4317"}},
		{"credentials in a collector's URL",
			map[string]string{"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://user:hunter2@collector:4317"}, nil,
			[]string{"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_HEADERS"}},
		{"a priority below the first", nil, []string{"--firewall-priority=-1"},
			[]string{"--firewall-priority", "-1", "from 0, the first, to 65535"}},
		{"a priority beyond the last", nil, []string{"--manage-firewall", "--firewall-priority", "65536"},
			[]string{"--firewall-priority", "65536", "from 0, the first, to 65535"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			env := map[string]string{}
			for name, value := range goodEnv {
				env[name] = value
			}
			for name, value := range tc.env {
				env[name] = value
			}
			_, err := validate(t, env, tc.args...)
			var usage *process.UsageError
			if !errors.As(err, &usage) || len(usage.Errs) != 1 {
				t.Fatalf("got %v, want one mistake", err)
			}
			line := usage.Errs[0].Error()
			for _, text := range tc.says {
				if !strings.Contains(line, text) {
					t.Errorf("%q does not say %q", line, text)
				}
			}
			if strings.Contains(line, "\n") || strings.Contains(line, "hunter2") {
				t.Errorf("%q has more than one line, or a secret", line)
			}
		})
	}
}

func TestTheFirewallIsLeftAloneUnlessAsked(t *testing.T) {
	for _, tc := range []struct {
		args     []string
		manage   bool
		priority uint16
	}{
		{nil, false, 1000},
		{[]string{"--firewall-priority=0"}, false, 0},
		{[]string{"--manage-firewall"}, true, 1000},
		{[]string{"--manage-firewall", "--firewall-priority=65535", "--read-only"}, true, 65535},
		{[]string{"--manage-firewall=false"}, false, 1000},
	} {
		cfg, err := validate(t, goodEnv, tc.args...)
		if err != nil || cfg.ManageFirewall != tc.manage || cfg.FirewallPriority != tc.priority {
			t.Errorf("%q: %t with the priority %d, %v", tc.args, cfg.ManageFirewall, cfg.FirewallPriority, err)
		}
	}
}

func TestAllMistakesOfOneStartAreReportedTogether(t *testing.T) {
	t.Setenv("OXIDE_HOST", "")
	t.Setenv("OXIDE_TOKEN", "")
	t.Setenv("OXIDE_PROJECT", "Demo")
	var stderr strings.Builder
	code := Main(context.Background(), []string{"--listen", "x", "--log-level", "x"}, io.Discard, &stderr)
	if code != exitUsage {
		t.Errorf("exit code %d, want %d", code, exitUsage)
	}
	for _, setting := range []string{
		"--oxide-host", "--oxide-token-file", "--oxide-project", "--listen", "--log-level",
	} {
		if !strings.Contains(stderr.String(), "oxide-backend: "+setting) {
			t.Errorf("%s is not told in:\n%s", setting, stderr.String())
		}
	}
}

func TestWrongArgumentsAreUsageErrors(t *testing.T) {
	for _, args := range [][]string{{"--no-such-flag"}, {"serve"}, {"--channelz=maybe"}} {
		var stderr strings.Builder
		if code := Main(context.Background(), args, io.Discard, &stderr); code != exitUsage {
			t.Errorf("%v: exit code %d", args, code)
		}
		if n := strings.Count(stderr.String(), "\n"); n != 1 ||
			!strings.Contains(stderr.String(), "--help") {
			t.Errorf("%v: want one line that names --help, got:\n%s", args, stderr.String())
		}
	}
}
