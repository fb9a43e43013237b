// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

// Command oxide-backend serves the gRPC API oxide.backend.v1: it looks up instances and gives load
// balancers their addresses, and is the only part of the Oxide Cloud Controller Manager that calls
// the Oxide API.
package main

import (
	"context"
	"os"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/backend"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/process"
)

func main() {
	process.SaveMemory()
	ctx, stop := process.Signals(context.Background())
	code := backend.Main(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}
