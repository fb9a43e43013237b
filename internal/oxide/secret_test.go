// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package oxide_test

import (
	"encoding/gob"
	"encoding/hex"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"text/template"

	"github.com/google/go-cmp/cmp"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/oxide"
)

// secretHolder has secrets in every place where code may have one.
type secretHolder struct {
	Token   oxide.Secret
	Pointer *oxide.Secret
	Nested  struct{ Tokens []oxide.Secret }
	ByName  map[string]oxide.Secret
	Any     any
	hidden  oxide.Secret
	deeper  *struct{ hidden []oxide.Secret }
}

func newSecretHolder(secret oxide.Secret) secretHolder {
	h := secretHolder{
		Token: secret, Pointer: &secret, ByName: map[string]oxide.Secret{"a": secret}, Any: secret,
		hidden: secret, deeper: &struct{ hidden []oxide.Secret }{[]oxide.Secret{secret}},
	}
	h.Nested.Tokens = []oxide.Secret{secret}
	return h
}

// verbs are those of fmt, and some that are wrong for a text.
var verbs = []string{
	"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%10.3s", "%t", "%T %v", "%p", "%U", "%c", "%b", "%e",
}

// shows reports whether a text has a token of these tests in it, as it is or in hex.
func shows(text string) bool {
	text = strings.ToLower(text)
	return strings.Contains(text, tokenPrefix) || strings.Contains(text, hex.EncodeToString([]byte(tokenPrefix)))
}

// No way to print a secret, or what holds one in whatever field, prints its text.
func TestASecretIsNeverPrinted(t *testing.T) {
	secret := oxide.NewSecret(oldToken)
	holder := newSecretHolder(secret)
	source := static(t, oldToken)
	cfg := oxide.Config{Token: source}
	values := map[string]any{
		"a secret": secret, "a pointer": &secret, "a slice": []oxide.Secret{secret}, "a struct": holder,
		"a pointer to a struct": &holder, "a source": source, "a configuration": cfg,
		"an error": fmt.Errorf("it is %v, %w", secret, errors.New("refused")),
	}
	for what, value := range values {
		for _, verb := range verbs {
			args := slices.Repeat([]any{value}, strings.Count(verb, "%"))
			if got := fmt.Sprintf(verb, args...); shows(got) {
				t.Errorf("%s by %s: %s", what, verb, got)
			}
		}
		text, err := json.Marshal(value)
		if err == nil && shows(string(text)) {
			t.Errorf("%s as JSON: %s", what, text)
		}
		var out lockedBuffer
		_ = xml.NewEncoder(&out).Encode(value)
		_ = gob.NewEncoder(&out).Encode(value)
		_ = template.Must(template.New("").Parse("{{.}} {{printf `%#v` .}} {{print .}} {{html .}} {{js .}}")).
			Execute(&out, value)
		for _, handler := range []slog.Handler{
			slog.NewTextHandler(&out, nil), slog.NewJSONHandler(&out, nil),
		} {
			log := slog.New(handler).With("with", value)
			log.Info("starting", "value", value, slog.Group("group", "value", value))
		}
		if shows(out.String()) {
			t.Errorf("%s is printed: %s", what, out.String())
		}
		// What is logged by default is searched when all tests have run.
		slog.Info("starting", "value", value)
	}
	if got := fmt.Sprintf("%v %s %#v", secret, &secret, oxide.Secret{}); got != "REDACTED REDACTED REDACTED" {
		t.Errorf("it is printed as %q", got)
	}
	if diff := cmp.Diff(secret, oxide.NewSecret(newToken)); diff == "" || shows(diff) {
		t.Errorf("the difference between two secrets is printed as %q", diff)
	}
	panicked := func() (text string) {
		defer func() { text = fmt.Sprint(recover()) }()
		panic(secret)
	}()
	if shows(panicked) {
		t.Errorf("a panic prints %s", panicked)
	}
}

func TestASecretIsWhatWasPutIn(t *testing.T) {
	for _, text := range []string{"", "a", oldToken} {
		secret := oxide.NewSecret(text)
		if secret.Reveal() != text || secret.IsEmpty() != (text == "") {
			t.Errorf("%d bytes are not what was put in", len(text))
		}
		if !secret.Equal(oxide.NewSecret(text)) || secret.Equal(oxide.NewSecret(text+"x")) {
			t.Errorf("a secret of %d bytes is compared by something else than its text", len(text))
		}
	}
}

// Who else asks for the text could print it: these are all who do.
func TestOnlyTheRequestAndTheOptionsRevealTheToken(t *testing.T) {
	want := []string{
		"internal/backend/options_oxide.go", // which hands it to StaticToken
		"internal/oxide/secret.go",
		"internal/oxide/transport.go", // the header, and what is removed from foreign text
	}
	got := make(map[string]bool)
	root := filepath.Join("..", "..")
	for _, folder := range []string{"internal", "cmd"} {
		err := filepath.WalkDir(filepath.Join(root, folder), func(path string, _ fs.DirEntry, err error) error {
			if err != nil || filepath.Ext(path) != ".go" || strings.HasSuffix(path, "_test.go") {
				return err
			}
			file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
			if err != nil {
				return err
			}
			ast.Inspect(file, func(n ast.Node) bool {
				if selected, ok := n.(*ast.SelectorExpr); ok && selected.Sel.Name == "Reveal" {
					name, _ := filepath.Rel(root, path)
					got[filepath.ToSlash(name)] = true
				}
				return true
			})
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	names := make([]string, 0, len(got))
	for name := range got {
		names = append(names, name)
	}
	slices.Sort(names)
	if diff := cmp.Diff(want, names); diff != "" {
		t.Error(diff)
	}
}
