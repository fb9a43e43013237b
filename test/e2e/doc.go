// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

// Package e2e holds the tests of the whole path: a real kube-apiserver, ccm-shim and oxide-backend
// as separate processes over a real socket, and a simulated Oxide rack. What a test expects it
// looks for on the Kubernetes API and on the rack, never in the programs.
package e2e
