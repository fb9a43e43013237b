// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

// Package backendprocess runs oxide-backend as a child of the shim, for use outside a cluster: on a
// private socket, configured by the environment that the shim was given, and gone when the shim is,
// whatever ends it.
//
// It imports nothing of Kubernetes and nothing of the backend: the child is known by its flags
// alone.
package backendprocess
