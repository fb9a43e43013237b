// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

// Command ccm-shim is the cloud controller manager for Kubernetes clusters on Oxide.
package main

import (
	"context"
	"os"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/process"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/shim"
)

func main() {
	process.SaveMemory()
	shim.HideToken(os.Stderr)
	ctx, stop := process.Signals(context.Background())
	// A second signal ends the process at once, as if it were not handled.
	context.AfterFunc(ctx, stop)
	os.Exit(shim.Main(ctx, os.Args[1:], os.Stderr))
}
