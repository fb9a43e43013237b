// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

// Command reference writes the reference pages of the documentation: the flags of the programs, from
// the programs themselves, their metrics, from what they register, and the annotations of Services, from
// the comments of their constants.
//
//	go run ./internal/reference docs/reference
//
// `make generate` runs it, and `make verify` fails if a page is stale.
package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "reference: give the folder to write to, docs/reference")
		os.Exit(2)
	}
	ctx := context.Background() //nolint:forbidigo // there is no caller
	if err := write(ctx, os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "reference:", err)
		os.Exit(1)
	}
}

// write writes all pages into a folder.
func write(ctx context.Context, folder string) error {
	all, err := pages(ctx)
	if err != nil {
		return err
	}
	//nolint:gosec // whoever runs it says where to
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return err
	}
	for name, text := range all {
		path := filepath.Join(folder, name)
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil { //nolint:gosec // as above
			return err
		}
	}
	return nil
}

// pages returns the pages by their file names.
func pages(ctx context.Context) (map[string]string, error) {
	shim, err := shimPage(ctx)
	if err != nil {
		return nil, err
	}
	annotations, err := annotationsPage(annotationsSource)
	if err != nil {
		return nil, err
	}
	metrics, err := metricsPage(ctx)
	if err != nil {
		return nil, err
	}
	return map[string]string{
		"oxide-backend.md": backendPage(), "ccm-shim.md": shim, "annotations.md": annotations,
		"metrics.md": metrics,
	}, nil
}

// page is a page of text in Markdown.
type page struct{ strings.Builder }

func newPage(title string) *page {
	p := &page{}
	p.line("# " + title)
	p.line("")
	p.line("<!-- Made by `make generate`: do not edit. -->")
	return p
}

func (p *page) line(text string) { p.WriteString(text + "\n") }

// section begins a section, with a paragraph of text.
func (p *page) section(title, text string) {
	p.line("")
	if title != "" {
		p.line("## " + title)
		p.line("")
	}
	p.line(text)
}

// table adds a table.
func (p *page) table(header []string, rows [][]string) {
	p.line("")
	p.line("| " + strings.Join(header, " | ") + " |")
	p.line("|" + strings.Repeat("---|", len(header)))
	for _, row := range rows {
		p.line("| " + strings.Join(row, " | ") + " |")
	}
}

// cell makes text fit for a cell of a table.
func cell(text string) string {
	text = strings.Join(strings.Fields(text), " ")
	return strings.NewReplacer("|", "\\|", "<", "&lt;", "*", "\\*").Replace(text)
}

// code makes text a cell that shows it as code; nothing stays nothing.
func code(text string) string {
	if text == "" {
		return ""
	}
	return "`" + strings.ReplaceAll(text, "|", "\\|") + "`"
}
