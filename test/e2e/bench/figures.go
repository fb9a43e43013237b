// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
)

// figures are numbers by name.
type figures map[string]float64

// print writes a table, with the goals that there are.
func (f figures) print(w io.Writer) {
	goals := goals()
	for _, name := range slices.Sorted(maps.Keys(f)) {
		fmt.Fprintf(w, "%-38s %12.2f", name, f[name])
		if goal, ok := goals[name]; ok {
			fmt.Fprintf(w, "   at most %6g", goal)
			if f[name] > goal {
				fmt.Fprint(w, "   MISSED")
			}
		}
		fmt.Fprintln(w)
	}
}

// save replaces these figures in a file and keeps the others.
func (f figures) save(file string) error {
	all := figures{}
	text, err := os.ReadFile(file)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return err
	default:
		if err := json.Unmarshal(text, &all); err != nil {
			return fmt.Errorf("%s does not hold figures: %w; delete it", file, err)
		}
	}
	maps.Copy(all, f)
	if text, err = json.MarshalIndent(all, "", "  "); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return err
	}
	return os.WriteFile(file, append(text, '\n'), 0o644)
}
