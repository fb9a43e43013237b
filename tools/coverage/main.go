// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

// Command coverage prints how much of each package a coverage profile of `go test` says that tests run,
// and fails where less than all is run of the files and folders that it is given. It imports no package
// of the product.
package main

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/pflag"
)

func main() {
	os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
}

// run returns the exit code: 0 when all is covered that has to be, 2 for wrong flags, 1 for all else.
func run(args []string, stdout, stderr io.Writer) int {
	flags := pflag.NewFlagSet("coverage", pflag.ContinueOnError)
	flags.SetOutput(stderr)
	file := flags.String("profile", "", "what `go test -coverprofile` has written")
	module := flags.String("module", "", "the module whose files they are: the arguments are paths in it")
	err := flags.Parse(args)
	switch {
	case errors.Is(err, pflag.ErrHelp):
		return 0
	case err == nil && (*file == "" || *module == ""):
		err = errors.New("--profile and --module are required")
	}
	if err != nil {
		_, _ = fmt.Fprintln(stderr, "coverage:", err)
		return 2
	}
	profile, err := os.Open(*file)
	if err != nil {
		_, _ = fmt.Fprintln(stderr, "coverage:", err)
		return 1
	}
	defer func() { _ = profile.Close() }()
	blocks, err := read(profile, *module+"/")
	if err == nil {
		report(stdout, blocks)
		err = hold(blocks, flags.Args())
	}
	if err != nil {
		_, _ = fmt.Fprintln(stderr, "coverage:", err)
		return 1
	}
	return 0
}
