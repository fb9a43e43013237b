// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

// Command api writes what programs in any language need to speak the backend's API: one descriptor
// set, and an archive of the .proto files. Both hold what errors are made of (google/rpc), which the
// API's own files do not import, since a gRPC status carries it beside the answer. The same input
// always gives the same bytes.
//
// It imports no package of the product: the descriptors and the .proto files are its input.
package main

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/pflag"
)

// options are the flags.
type options struct {
	set, protos, output string
}

func main() {
	os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
}

// run returns the exit code: 0 when both files are written, 2 for wrong flags, 1 for all else.
func run(args []string, stdout, stderr io.Writer) int {
	var o options
	flags := pflag.NewFlagSet("api", pflag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.StringVar(&o.set, "set", "", "the descriptor set that buf has built of the .proto files")
	flags.StringVar(&o.protos, "protos", "", "the folder of the .proto files")
	flags.StringVar(&o.output, "output", "", "the files to write, without .binpb and -protos.tar.gz")
	err := flags.Parse(args)
	switch {
	case errors.Is(err, pflag.ErrHelp):
		return 0
	case err == nil && (o.set == "" || o.protos == "" || o.output == "" || flags.NArg() > 0):
		err = errors.New("--set, --protos and --output are required, and there are no arguments")
	}
	if err != nil {
		_, _ = fmt.Fprintln(stderr, "api:", err)
		return 2
	}
	written, err := write(o)
	if err != nil {
		_, _ = fmt.Fprintln(stderr, "api:", err)
		return 1
	}
	for _, file := range written {
		_, _ = fmt.Fprintln(stdout, file)
	}
	return 0
}
