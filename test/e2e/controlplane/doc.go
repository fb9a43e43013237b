// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

// Package controlplane is for who runs this project's programs by hand, in terminals or in a
// debugger: it runs a real kube-apiserver with Nodes, and prints the commands that start a
// simulated rack, a backend and a shim beside it.
//
// It starts nothing of this project itself.
package controlplane
