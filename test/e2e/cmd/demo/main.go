// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

// Command demo shows the Oxide cloud controller manager at work, on this machine alone.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/demo"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(),
		os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	// A second signal ends the demo at once, and the kernel its processes.
	context.AfterFunc(ctx, stop)
	os.Exit(demo.Main(ctx, os.Args[1:], os.Stdout))
}
