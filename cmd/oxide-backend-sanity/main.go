// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

// Command oxide-backend-sanity examines whether a running backend keeps to the contract of the API
// oxide.backend.v1.
package main

import (
	"context"
	"os"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/conformance"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/process"
)

func main() {
	ctx, stop := process.Signals(context.Background())
	// A second signal ends the program at once.
	context.AfterFunc(ctx, stop)
	code := conformance.Main(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}
