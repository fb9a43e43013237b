// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

// Package examples builds and runs the programs in examples/ of the repository, and the commands of
// docs/guides/reuse.md, against oxide-backend and a simulated rack, without Kubernetes. What a test
// expects it looks for on the rack, or in what the program has written.
package examples
