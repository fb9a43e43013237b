// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

// Command oxide-sim serves a simulated Oxide rack on loopback: the rack's public HTTP API,
// and its own API for playing hardware stories and injecting faults.
package main

import (
	"context"
	"os"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/oxidesim/command"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/process"
)

func main() {
	ctx, stop := process.Signals(context.Background())
	code := command.Main(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}
