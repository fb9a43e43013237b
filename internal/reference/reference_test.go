// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package main

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/pflag"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/backend"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/shim"
)

// TestMain works in the repository's root, as `make generate` does.
func TestMain(m *testing.M) {
	if err := os.Chdir("../.."); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}

func TestCommittedPagesAreWhatIsGenerated(t *testing.T) {
	all, err := pages(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range all {
		committed, err := os.ReadFile(filepath.Join("docs", "reference", name))
		if err != nil {
			t.Error(err)
			continue
		}
		if string(committed) != text {
			t.Errorf("docs/reference/%s is stale: run make generate", name)
		}
	}
}

func TestPagesNameWhatThereIs(t *testing.T) {
	all, err := pages(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for name, parts := range map[string][]string{
		"oxide-backend.md": {
			"| `--oxide-host string` |", "OXIDE_TOKEN_FILE", "## oxide-backend check", "`--port strings`",
		},
		"ccm-shim.md": {
			"| `--backend-unreachable-exit duration` | `30s` |", "| `--leader-elect` | `true` |",
		},
		"annotations.md": {"`oxide.computer/floating-ip-pool`"},
		"metrics.md": {
			"| `oxide_backend_ready` | gauge |  | ", "| `oxide_ccm_node_probes_total` | counter | `result` | ",
			"| `oxide_backend_grpc_server_handling_seconds` | histogram | ", "| `oxide_ccm_node_removals_waiting` | gauge |",
		},
	} {
		for _, part := range parts {
			if !strings.Contains(all[name], part) {
				t.Errorf("%s lacks %q", name, part)
			}
		}
	}
	if strings.Contains(all["oxide-backend.md"], "exit-on-eof-fd") {
		t.Error("a hidden flag is shown")
	}
	own, framework, _ := strings.Cut(all["ccm-shim.md"], "## Flags of the framework")
	if !strings.Contains(own, "--cluster-id") || strings.Contains(framework, "--cluster-id ") {
		t.Error("the shim's own flags are not kept apart from the framework's")
	}
}

// ccm-shim gives flags of its own to a backend that it starts.
func TestFlagsOfOneNameHaveOneDefault(t *testing.T) {
	own := pflag.NewFlagSet("", pflag.ContinueOnError)
	shim.NewOptions().AddFlags(own)
	same := 0
	own.VisitAll(func(flag *pflag.Flag) {
		if other := backend.NewCommand().Flags().Lookup(flag.Name); other != nil {
			same++
			if other.DefValue != flag.DefValue {
				t.Errorf("--%s is %s for ccm-shim and %s for oxide-backend", flag.Name, flag.DefValue, other.DefValue)
			}
		}
	})
	if same < 3 {
		t.Errorf("%d flags have one name: the test checks the wrong thing", same)
	}
}

func TestPagesTellNothingOfTheMachineThatMadeThem(t *testing.T) {
	all, err := pages(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range all {
		for _, secret := range []string{"`" + host + "`", os.Getenv("HOME") + "/"} {
			if strings.Contains(text, secret) {
				t.Errorf("%s holds %q", name, secret)
			}
		}
	}
}

// The page is made of what is registered: a metric that is defined and not among that would be on no
// page, and one that nobody defines any more could stay on it.
func TestThePageOfMetricsIsComplete(t *testing.T) {
	defined := map[string]bool{}
	name := regexp.MustCompile(`"(oxide_(?:backend|ccm)_[a-z_]+)"`)
	err := filepath.WalkDir("internal", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || filepath.Ext(path) != ".go" || strings.HasSuffix(path, "_test.go") {
			return err
		}
		text, err := os.ReadFile(path)
		for _, match := range name.FindAllStringSubmatch(string(text), -1) {
			defined[match[1]] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	text, err := metricsPage(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	documented := map[string]bool{}
	for line := range strings.Lines(text) {
		if cell, ok := strings.CutPrefix(line, "| `"); ok {
			name, _, _ := strings.Cut(cell, "`")
			documented[name] = true
		}
	}
	if len(documented) < 30 {
		t.Fatalf("the page has %d metrics", len(documented))
	}
	for name := range defined {
		if !documented[name] {
			t.Errorf("the metric %s is defined, and not on the page: is it registered?", name)
		}
	}
	for name := range documented {
		// These are a library's, with the program's prefix.
		if !defined[name] && !strings.HasPrefix(name, "oxide_backend_grpc_server_") {
			t.Errorf("the metric %s is on the page, and nothing defines it", name)
		}
	}
}

func TestAnnotationsComeFromTheCommentsOfConstants(t *testing.T) {
	tests := []struct {
		name, source string
		// want are parts of the page, or of the error.
		want []string
		err  bool
	}{
		{
			name: "a table",
			source: "// Package a names them. They are lists.\npackage a\n" +
				"// Prefix is theirs.\nconst Prefix = \"x.io/\"\nconst (\n" +
				"\t// Pool is the pool | name.\n\tPool = Prefix + \"pool\"\n" +
				"\t// Retain keeps the address, as Pool does not.\n\tRetain = Prefix + \"retain\"\n" +
				"\tsecret = Prefix + \"secret\"\n)\n",
			want: []string{
				"They are lists.", "| `x.io/pool` | The pool \\| name. |\n",
				"| `x.io/retain` | x.io/retain keeps the address, as Pool does not. |\n",
			},
		},
		{
			name:   "no comment",
			source: "// Package a.\npackage a\nconst Pool = \"x.io/pool\"\n",
			want:   []string{"the constant Pool has no comment"}, err: true,
		},
		{
			name: "no annotations", source: "// Package a.\npackage a\n",
			want: []string{"no annotation"}, err: true,
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "a.go")
			if err := os.WriteFile(path, []byte(test.source), 0o600); err != nil {
				t.Fatal(err)
			}
			text, err := annotationsPage(path)
			if (err != nil) != test.err {
				t.Fatalf("error %v", err)
			}
			if err != nil {
				text = err.Error()
			}
			for _, part := range test.want {
				if !strings.Contains(text, part) {
					t.Errorf("%q is not in:\n%s", part, text)
				}
			}
			if strings.Contains(text, "secret") || strings.Contains(text, "`x.io/`") {
				t.Errorf("what is no exported annotation is in:\n%s", text)
			}
		})
	}
}
