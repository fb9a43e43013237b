// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

// Command demo shows the Oxide cloud controller manager at work, on this machine alone.
package main

import (
	"os"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/demo"
)

func main() {
	ctx, stop := demo.Signals()
	code := demo.Main(ctx, os.Args[1:], os.Stdout)
	stop()
	os.Exit(code)
}
