// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

// Command pictures makes the pictures of the documentation: those of the two containers and of a
// failover, from their descriptions in this package, and that of the demo, from a recording of a run.
//
//	go run ./pictures ../docs/images             write all pictures; `make generate` does
//	go run ./pictures record CAST COMMAND…       run a command and record what it prints; `make cast` does
//
// The same descriptions and the same recording always give the same bytes. A picture keeps its text as
// text, has a title and a description for screen readers, and colours for a light and a dark page.
//
// It imports nothing of the product, and nothing but the standard library.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
)

// castFile is the recording of the demo, beside the pictures.
const castFile = "demo.cast"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "pictures:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	switch {
	case len(args) == 1:
		return write(args[0])
	case len(args) >= 3 && args[0] == "record":
		return record(ctx, args[1], args[2:])
	}
	return errors.New("give the folder of the pictures, or: record CAST COMMAND…")
}

// write writes all pictures into a folder, which has the recording of the demo.
func write(folder string) error {
	cast, err := readCast(filepath.Join(folder, castFile))
	if err != nil {
		return err
	}
	for name, picture := range map[string]*picture{
		"containers.svg": containers(), "failover.svg": failover(), "demo.svg": terminal(cast),
	} {
		//nolint:gosec // whoever runs it says where to
		if err := os.WriteFile(filepath.Join(folder, name), picture.bytes(), 0o644); err != nil {
			return err
		}
	}
	return nil
}
