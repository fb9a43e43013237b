// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package main

import (
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// annotationsSource is where the annotations are declared.
const annotationsSource = "internal/shim/annotations/annotations.go"

// annotation is a constant that names an annotation, and its comment.
type annotation struct{ name, constant, meaning string }

// annotationsPage describes the annotations that the constants of a Go file name.
func annotationsPage(source string) (string, error) {
	file, err := parser.ParseFile(token.NewFileSet(), source, nil, parser.ParseComments)
	if err != nil {
		return "", err
	}
	found, err := annotationsIn(file)
	if err != nil {
		return "", fmt.Errorf("%s: %w", source, err)
	}
	p := newPage("Annotations of a Service")
	p.section("", firstParagraphAfter(file.Doc.Text()))
	var rows [][]string
	for _, each := range found {
		rows = append(rows, []string{code(each.name), cell(each.meaning)})
	}
	p.table([]string{"Annotation", "Meaning"}, rows)
	return p.String(), nil
}

// annotationsIn returns the exported string constants whose values have a slash in their middle; the
// prefix that they begin with is none of them.
func annotationsIn(file *ast.File) ([]annotation, error) {
	values := map[string]string{}
	var found []annotation
	for _, declaration := range file.Decls {
		group, ok := declaration.(*ast.GenDecl)
		if !ok || group.Tok != token.CONST {
			continue
		}
		for _, spec := range group.Specs {
			constant := spec.(*ast.ValueSpec)
			if len(constant.Names) != 1 || len(constant.Values) != 1 {
				continue
			}
			name := constant.Names[0].Name
			value, err := stringValue(constant.Values[0], values)
			if err != nil {
				return nil, fmt.Errorf("the constant %s: %w", name, err)
			}
			values[name] = value
			if !ast.IsExported(name) || strings.HasSuffix(value, "/") ||
				!strings.Contains(value, "/") {
				continue
			}
			meaning := strings.TrimSpace(constant.Doc.Text())
			if meaning == "" {
				return nil, fmt.Errorf("the constant %s has no comment that says its meaning", name)
			}
			found = append(found, annotation{value, name, withoutSubject(meaning, name, value)})
		}
	}
	if len(found) == 0 {
		return nil, errors.New("there is no annotation in it")
	}
	return found, nil
}

// stringValue evaluates a string literal, a constant that was seen before, or a sum of those.
func stringValue(expression ast.Expr, known map[string]string) (string, error) {
	switch e := expression.(type) {
	case *ast.BasicLit:
		return strconv.Unquote(e.Value)
	case *ast.Ident:
		if value, ok := known[e.Name]; ok {
			return value, nil
		}
		return "", fmt.Errorf("%s is not known here", e.Name)
	case *ast.BinaryExpr:
		left, err := stringValue(e.X, known)
		if err != nil {
			return "", err
		}
		right, err := stringValue(e.Y, known)
		return left + right, err
	}
	return "", fmt.Errorf("%T is no string", expression)
}

// withoutSubject makes a sentence of a Go comment, "Name is what it means.", one for readers: "What it
// means."; a comment of another form keeps its words, with the annotation for the constant.
func withoutSubject(comment, constant, value string) string {
	for _, verb := range []string{" is ", " are "} {
		if rest, ok := strings.CutPrefix(comment, constant+verb); ok {
			first, size := utf8.DecodeRuneInString(rest)
			return string(unicode.ToUpper(first)) + rest[size:]
		}
	}
	return strings.ReplaceAll(comment, constant, value)
}

// firstParagraphAfter returns a package comment's first paragraph without its first sentence, which
// is about the package.
func firstParagraphAfter(comment string) string {
	paragraph, _, _ := strings.Cut(comment, "\n\n")
	paragraph = strings.Join(strings.Fields(paragraph), " ")
	_, rest, _ := strings.Cut(paragraph, ". ")
	if rest == "" {
		return "What a Service may say about its address."
	}
	return rest
}
