// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

// Package demo tells a story on a terminal: a real kube-apiserver, a simulated Oxide rack and the
// two programs of this project meet on loopback, Nodes are initialized, Services get their
// addresses, one Service goes and its address with it. Whatever it tells it has seen, on the
// Kubernetes API and on the rack.
//
// It imports the packages of test/e2e and the Kubernetes client only.
package demo
