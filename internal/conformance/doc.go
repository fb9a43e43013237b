// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

// Package conformance is the command oxide-backend-sanity, which runs the conformance suite of the API
// oxide.backend.v1. The suite itself is the package proto/sanity, for any program that is written in
// Go.
//
//	options.go  the flags
//	command.go  the command line, the output and the exit codes
//
// Its tests run the suite on the real backend over the simulated rack, and on wrong backends, each of
// which must fail: what stands between the suite and the real backend changes one thing.
//
// It imports nothing of Kubernetes and nothing of Oxide, and of the backend only the API.
package conformance
