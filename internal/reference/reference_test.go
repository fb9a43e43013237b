// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package main

import (
	"os"
	"path/filepath"
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
