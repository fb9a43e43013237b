// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

// Package progress reports to people what takes long: to whoever runs the demo by a bar, to whoever
// runs tests by lines that `go test` does not hold back.
//
// It knows nothing of what is reported and imports nothing of this project.
package progress
