// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

// Package shim is the process ccm-shim: the cloud controller manager of Kubernetes with the cloud
// provider "oxide", which asks oxide-backend for everything that concerns Oxide. This package holds
// the command, its options, and the order in which things start and end; the provider itself is in
// package provider.
//
// Nothing under this package may import the Oxide SDK or a package that knows the Oxide API: the
// protobuf API of the backend is all that the two programs share. It never sees an Oxide
// credential, except as part of the environment that a child process inherits.
package shim
