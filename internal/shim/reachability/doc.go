// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

// Package reachability observes which nodes answer on the network. Kubernetes calls a silent node's
// readiness unknown after 40 s and more; a TCP connection to its kubelet's port shows within seconds
// that its host is gone.
//
//	prober.go  which node is probed when, and what this process has observed of each
//	node.go    what is known of one node
//	doubt.go   whether it may be the network of this process that fails
//	tcp.go     how one address is asked
//	lease.go   how long ago a node renewed its Lease, by the API server's clock
//	metrics.go metrics
//
// It observes, and decides nothing about addresses. It must import neither the backend's API nor a
// package that knows it.
package reachability
