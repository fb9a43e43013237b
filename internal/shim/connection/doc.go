// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

// Package connection is the shim's one gRPC connection to oxide-backend: the address it accepts,
// how long each call may take, which calls are repeated when the backend is not there, the metrics
// of the calls, and the watch that tells how long the backend has been unreachable.
//
// It knows the methods of the API but none of their messages, and imports nothing of Kubernetes but
// its logging and its metrics registry.
package connection
