// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package version

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Each fuzz target says in its comment what it holds, and has a corpus that `make unit` runs.
func TestEachFuzzTargetSaysWhatItHoldsAndHasACorpus(t *testing.T) {
	targets := 0
	check := func(path string) error {
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ParseComments)
		if err != nil {
			return err
		}
		for _, decl := range file.Decls {
			function, ok := decl.(*ast.FuncDecl)
			if !ok || function.Recv != nil || !strings.HasPrefix(function.Name.Name, "Fuzz") {
				continue
			}
			targets++
			name := function.Name.Name
			if len(function.Doc.Text()) < 20 {
				t.Errorf("%s: %s does not say what it holds", path, name)
			}
			corpus, err := os.ReadDir(filepath.Join(filepath.Dir(path), "testdata", "fuzz", name))
			if err != nil || len(corpus) == 0 {
				t.Errorf("%s: %s has no corpus in testdata/fuzz: %v", path, name, err)
			}
		}
		return nil
	}
	for _, root := range []string{"internal", "proto"} {
		err := filepath.WalkDir(root, func(path string, _ fs.DirEntry, err error) error {
			if err != nil || !strings.HasSuffix(path, "_test.go") {
				return err
			}
			return check(path)
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if targets < 10 {
		t.Errorf("%d targets: the test looks in the wrong place", targets)
	}
}
