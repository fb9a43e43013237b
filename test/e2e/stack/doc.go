// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

// Package stack runs the whole path on loopback: a control plane, a simulated rack, and between
// them oxide-backend and ccm-shim, each as the separate process that it is in a cluster, the shim
// under its own Kubernetes identity with exactly the rights of the rendered manifest.
//
// The programs are known by their flags alone: none of their packages is imported.
package stack
