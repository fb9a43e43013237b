// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

// Command control-plane runs a kube-apiserver with Nodes on this machine, for programs that are
// started by hand. With the argument build it only builds what is needed for that, as for
// end-to-end tests.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/controlplane"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	err := run(ctx, os.Args[1:])
	interrupted := ctx.Err() != nil
	stop()
	if err != nil && !interrupted {
		fmt.Fprintln(os.Stderr, "control-plane:", strings.ReplaceAll(err.Error(), "\n", "; "))
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	switch {
	case len(args) == 0:
		return controlplane.Run(ctx, os.Stdout)
	case len(args) == 1 && args[0] == "build":
		_, _, err := controlplane.Build(ctx, os.Stdout)
		return err
	default:
		return fmt.Errorf("unknown arguments %q: give none, or build", args)
	}
}
