// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

// Package rack runs the simulated Oxide rack as a separate process and looks at it as an operator
// would: over its HTTP API, with types of its own, so that what a test observes does not come from
// the programs under test.
//
// It knows no Kubernetes and imports nothing of this project but package process.
package rack
