// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

// Package datapath measures what clients of a Service see when the host dies that carries its
// address, and holds when nothing may move: with real kube-proxies, and real packets. The test
// binary runs itself in a network namespace of its own, whose machines are further ones. So no
// packet leaves it, and nothing of the machine that it runs on changes. It needs root, so it is
// built only with the tag e2edatapath, by `make e2e-datapath`.
//
// What stands in for what:
//
//	a machine          a network namespace with an address, routed as Oxide routes: no wire is shared
//	Oxide's addresses  a rule of the gateway between clients and machines, for each floating IP that
//	                   the simulated rack shows attached
//	a kubelet          a port that is open, a Node, and a Lease renewed as often as by a real one
//	a pod              a TCP server at an address of the pod network
//
// It imports nothing of the product.
package datapath
