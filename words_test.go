// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package version

import (
	"bufio"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// ofKubernetes are words that a consumer of the backend without Kubernetes has no use for.
var ofKubernetes = regexp.MustCompile(`(?i)\b(kubelets?|leases?|leaders?|pods?|nodes?|node-[a-z0-9]+)\b`)

// Tooling that knows no Kubernetes reads the .proto files, and is answered by the packages below.
func TestWhatOtherToolingReadsHasNoWordsOfKubernetes(t *testing.T) {
	protos, err := filepath.Glob("proto/oxide/backend/v1/*.proto")
	if err != nil || len(protos) == 0 {
		t.Fatal(protos, err)
	}
	for _, file := range protos {
		text, err := os.Open(file)
		if err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(text)
		for n := 1; lines.Scan(); n++ {
			if found := ofKubernetes.FindString(lines.Text()); found != "" {
				t.Errorf("%s:%d says %q", file, n, found)
			}
		}
		_ = text.Close()
	}
	texts := 0
	for _, dir := range []string{
		"internal/pools", "internal/instances", "internal/oxide", "internal/backend/rpc",
		"internal/loadbalancers/session", "internal/loadbalancers/health", "internal/loadbalancers/ownership",
	} {
		files, err := filepath.Glob(dir + "/*.go")
		if err != nil || len(files) == 0 {
			t.Fatal(files, err)
		}
		for _, file := range files {
			if !strings.HasSuffix(file, "_test.go") {
				texts += checkTexts(t, file)
			}
		}
	}
	if texts < 100 {
		t.Errorf("only %d texts were found", texts)
	}
}

// checkTexts checks the texts in a file of Go code, and returns how many there are.
func checkTexts(t *testing.T, file string) int {
	t.Helper()
	set := token.NewFileSet()
	parsed, err := parser.ParseFile(set, file, nil, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	texts := 0
	ast.Inspect(parsed, func(n ast.Node) bool {
		literal, ok := n.(*ast.BasicLit)
		if !ok || literal.Kind != token.STRING || !strings.Contains(literal.Value, " ") {
			return true
		}
		texts++
		found := ofKubernetes.FindString(literal.Value)
		// What is about the machines of a cluster says for whom it is.
		if found != "" && !strings.Contains(literal.Value, "of a node") {
			t.Errorf("%s says %s", set.Position(literal.Pos()), literal.Value)
		}
		return true
	})
	return texts
}
