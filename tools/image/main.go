// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

// Command image writes the container image as an OCI archive, without a container engine, a base
// image or a network. The same binaries always give the same bytes. It holds what the Containerfile
// in the repository's root gives.
//
// It imports no package of the product: the binaries are its input.
package main

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/distribution/reference"
	"github.com/spf13/pflag"
)

func main() {
	os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
}

// run returns the exit code: 0 when the archive is written, 2 for wrong flags, 1 for all else.
func run(args []string, stdout, stderr io.Writer) int {
	var opts options
	flags := pflag.NewFlagSet("image", pflag.ContinueOnError)
	flags.SetOutput(stderr)
	opts.AddFlags(flags)
	err := flags.Parse(args)
	if errors.Is(err, pflag.ErrHelp) {
		return 0
	}
	if err != nil {
		// The flag set has printed nothing yet: it is this program that does.
		_, _ = fmt.Fprintln(stderr, "image:", err)
		return 2
	}
	if err := opts.Complete(flags.Args()); err != nil {
		return report(stderr, err, 2)
	}
	if err := opts.Validate(); err != nil {
		return report(stderr, err, 2)
	}
	digest, err := write(opts)
	if err != nil {
		return report(stderr, err, 1)
	}
	_, _ = fmt.Fprintf(stdout, "%s %s %s\n", opts.output, reference.FamiliarString(opts.tagged), digest)
	return 0
}

// report prints each error on a line of its own.
func report(stderr io.Writer, err error, code int) int {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		for _, each := range joined.Unwrap() {
			report(stderr, each, code)
		}
		return code
	}
	_, _ = fmt.Fprintln(stderr, "image:", err)
	return code
}
