// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const profile = `mode: set
example.org/m/a/a.go:1.2,3.4 3 1
example.org/m/a/a.go:5.1,6.2 1 0
example.org/m/a/whole.go:1.1,2.2 2 7
example.org/m/b/b.go:1.1,2.2 1 0
example.org/m/b/b.go:1.1,2.2 1 1
example.org/m/b/b.go:3.1,4.2 0 0
example.org/other/c.go:1.1,2.2 9 0
`

func TestWhatHasToBeCoveredFailsWhereItIsNot(t *testing.T) {
	file := filepath.Join(t.TempDir(), "profile")
	if err := os.WriteFile(file, []byte(profile), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name string
		held []string
		code int
		err  string
	}{
		{"nothing has to be", nil, 0, ""},
		{"a file that is", []string{"a/whole.go"}, 0, ""},
		{"a folder that is, by two binaries", []string{"b"}, 0, ""},
		{"a file that is not", []string{"a/whole.go", "a/a.go"}, 1, "no test runs a/a.go:5.1,6.2"},
		{"a folder with a file that is not", []string{"a"}, 1, "no test runs a/a.go:5.1,6.2"},
		{"a file that is gone", []string{"a/renamed.go"}, 1, "nothing is known of a/renamed.go"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var out, errs bytes.Buffer
			args := append([]string{"--profile", file, "--module", "example.org/m"}, tc.held...)
			if code := run(args, &out, &errs); code != tc.code {
				t.Errorf("exit code %d", code)
			}
			if tc.err == "" && errs.Len() > 0 || !strings.Contains(errs.String(), tc.err) {
				t.Errorf("says %q", errs.String())
			}
			if want := " 83.3 % a\n100.0 % b\n 85.7 % of all\n"; out.String() != want {
				t.Errorf("reports %q, want %q", out.String(), want)
			}
		})
	}
}

func TestWhatIsNoProfileIsRefused(t *testing.T) {
	if _, err := read(strings.NewReader("mode: set\nhello\n"), ""); err == nil {
		t.Error("it is taken for a profile")
	}
}
