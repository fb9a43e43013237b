// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package version

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// starts is how code starts a goroutine.
var starts = regexp.MustCompile(`(?m)^\s*go (func\(|[a-zA-Z.]+\()|\.Go\(|context\.AfterFunc\(`)

// withoutGoleak are the packages that start goroutines and whose own tests do not look for those that are
// left, with the reason.
var withoutGoleak = map[string]string{
	"internal/backend":          "its tests run it as processes of their own, which end",
	"internal/reference":        "it is a program that writes files and ends",
	"internal/shim/backendtest": "it is for the tests of other packages, which look",
	"proto/client":              "its TestMain looks by itself, since goleak would be one more module for importers",
	"proto/sanity":              "internal/conformance runs it, and looks",
	"cmd/ccm-shim":              "it is a main function",
	"cmd/oxide-backend-sanity":  "it is a main function",
}

// Tests of each package that starts goroutines fail if one of them is left at the end.
func TestPackagesThatStartGoroutinesLookForThoseThatAreLeft(t *testing.T) {
	starting, looking := make(map[string]bool), make(map[string]bool)
	for _, root := range []string{"cmd", "internal", "proto"} {
		err := filepath.WalkDir(root, func(path string, _ fs.DirEntry, err error) error {
			if err != nil || !strings.HasSuffix(path, ".go") {
				return err
			}
			text, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			folder := filepath.ToSlash(filepath.Dir(path))
			if !strings.HasSuffix(path, "_test.go") {
				starting[folder] = starting[folder] || starts.Match(text)
			} else if strings.Contains(string(text), "goleak.VerifyTestMain(") ||
				strings.Contains(string(text), "goleak.Find(") {
				looking[folder] = true
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	found := 0
	for folder, is := range starting {
		if !is {
			continue
		}
		found++
		if _, excepted := withoutGoleak[folder]; !looking[folder] && !excepted {
			t.Errorf("%s starts goroutines: have its TestMain call goleak.VerifyTestMain", folder)
		}
	}
	for folder := range withoutGoleak {
		if !starting[folder] || looking[folder] {
			t.Errorf("%s is no exception any more", folder)
		}
	}
	if found < 10 {
		t.Errorf("%d packages start goroutines: the test looks for the wrong thing", found)
	}
}
