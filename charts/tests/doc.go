// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

// Package tests holds the promises of the Helm chart and of the plain manifest rendered from it:
// what is rendered is valid, safe and least, and wrong values are refused in words.
//
// It renders with the helm that tools/go.mod pins, built by the Go toolchain on first use; it needs
// no cluster. It has tests only, nothing imports it, and it imports no package of this repository.
package tests
