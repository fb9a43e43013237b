// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package sanity

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// protos are the directory of the contract.
const protos = "../oxide/backend/v1"

// contract is the text of all comments in the .proto files, without line ends and indentation.
func contract(t *testing.T) string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(protos, "*.proto"))
	if err != nil || len(files) < 5 {
		t.Fatalf("%d files in %s: %v", len(files), protos, err)
	}
	var text strings.Builder
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(content)) {
			if comment, is := strings.CutPrefix(strings.TrimSpace(line), "//"); is {
				text.WriteString(" " + strings.TrimSpace(comment))
			} else {
				text.WriteString(" | ") // no sentence goes on in another comment
			}
		}
	}
	return regexp.MustCompile(` +`).ReplaceAllString(text.String(), " ")
}

// Promise: each case cites what it holds, word for word.
func TestEachCaseCitesTheContract(t *testing.T) {
	text := contract(t)
	for _, one := range Cases() {
		if len(one.Contract) == 0 {
			t.Errorf("%s cites nothing", one.Name)
		}
		for _, sentence := range one.Contract {
			if !strings.Contains(text, " "+sentence) {
				t.Errorf("%s cites what the .proto files do not say: %s", one.Name, sentence)
			}
		}
	}
}

// Promise: names of cases are stable handles: an area and what is examined, each once.
func TestCasesHaveNamesOfTheirOwn(t *testing.T) {
	pattern := regexp.MustCompile(`^[a-z-]+/[a-z0-9-]+$`)
	seen := make(map[string]bool)
	for _, one := range Cases() {
		if !pattern.MatchString(one.Name) {
			t.Errorf("%q is no name of a case", one.Name)
		}
		if seen[one.Name] {
			t.Errorf("there are two cases %s", one.Name)
		}
		seen[one.Name] = true
	}
	if len(seen) < 100 {
		t.Errorf("%d cases only", len(seen))
	}
}

// Promise: what the suite makes can be told from everything else by its scope, so a scope that another one
// begins with, or that cannot begin a name in Oxide, is refused.
func TestScopes(t *testing.T) {
	for scope, valid := range map[string]bool{
		"": true, "oxide-sanity": true, "a1": true, "a": false, "Sanity": false, "a.b": false, "-a": false,
		"a-": false, strings.Repeat("a", 24): true, strings.Repeat("a", 25): false, "a b": false,
	} {
		options := Options{Scope: scope, Dial: dialNothing}
		if err := options.complete(); (err == nil) != valid {
			t.Errorf("%q: %v", scope, err)
		}
	}
}

// Promise: all that is wrong with the options is said at once.
func TestOptionsSayAllThatIsWrong(t *testing.T) {
	options := Options{Scope: "A", FaultURL: "nonsense", Timeout: -1, Settle: -1}
	err := options.complete()
	for _, part := range []string{"no way to reach", "scope", "fault URL", "timeout", "settle"} {
		if err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("%v does not say what is wrong with %s", err, part)
		}
	}
}
