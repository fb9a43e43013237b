// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"maps"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// place is a block of statements: its file, and where it begins and ends there.
type place struct{ file, span string }

// block is how many statements it has, and whether some test ran them.
type block struct {
	statements int
	run        bool
}

// line is FILE:LINE.COLUMN,LINE.COLUMN STATEMENTS COUNT.
var line = regexp.MustCompile(`^(.+\.go):([0-9.]+,[0-9.]+) ([0-9]+) ([0-9]+)$`)

// read returns the blocks of the files below the prefix, which it takes off. A block that several test
// binaries have is run if one of them runs it.
func read(profile io.Reader, prefix string) (map[place]block, error) {
	blocks := make(map[place]block)
	lines := bufio.NewScanner(profile)
	for lines.Scan() {
		if strings.HasPrefix(lines.Text(), "mode: ") {
			continue
		}
		fields := line.FindStringSubmatch(lines.Text())
		if fields == nil {
			return nil, fmt.Errorf("this is no line of a coverage profile: %.200q", lines.Text())
		}
		file, ours := strings.CutPrefix(fields[1], prefix)
		if !ours {
			continue
		}
		at := place{file, fields[2]}
		statements, err := strconv.Atoi(fields[3])
		if err != nil {
			return nil, err
		}
		blocks[at] = block{statements, blocks[at].run || fields[4] != "0"}
	}
	return blocks, lines.Err()
}

// tally counts statements.
type tally struct{ all, run int }

func (t *tally) add(b block) {
	t.all += b.statements
	if b.run {
		t.run += b.statements
	}
}

func (t *tally) String() string {
	return fmt.Sprintf("%5.1f %%", 100*float64(t.run)/float64(max(t.all, 1)))
}

// report prints the coverage of each package, and of all.
func report(out io.Writer, blocks map[place]block) {
	packages := make(map[string]*tally)
	all := new(tally)
	for at, b := range blocks {
		folder := path.Dir(at.file)
		if packages[folder] == nil {
			packages[folder] = new(tally)
		}
		packages[folder].add(b)
		all.add(b)
	}
	for _, folder := range slices.Sorted(maps.Keys(packages)) {
		_, _ = fmt.Fprintln(out, packages[folder], folder)
	}
	_, _ = fmt.Fprintln(out, all, "of all")
}

// hold fails for each block that no test runs in the files, or in the files of the folders.
func hold(blocks map[place]block, held []string) error {
	var missing []error
	seen := make(map[string]bool)
	for at, b := range blocks {
		for _, name := range held {
			if at.file != name && path.Dir(at.file) != name {
				continue
			}
			seen[name] = true
			if !b.run && b.statements > 0 {
				missing = append(missing, fmt.Errorf("no test runs %s:%s", at.file, at.span))
			}
		}
	}
	for _, name := range held {
		if !seen[name] {
			missing = append(missing, fmt.Errorf("nothing is known of %s: no test has run its package", name))
		}
	}
	slices.SortFunc(missing, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	return errors.Join(missing...)
}
