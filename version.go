// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

// Package version holds the version of this release, as it stands in the file VERSION.
package version

import (
	_ "embed"
	"strings"
)

//go:embed VERSION
var file string

// String returns the version, for example "v0.1.0".
func String() string { return strings.TrimSpace(file) }
