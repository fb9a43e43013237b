// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

// Package datapath measures what clients of a Service lose when its address moves, and when the
// machine that carries it fails, and holds what must not be lost: with real kube-proxies, in their
// modes iptables and nftables, and real packets. The test binary runs itself in a network namespace
// of its own, whose machines, pods and clients are further ones. So no packet leaves it, and nothing
// of the machine that it runs on changes; all of it is gone when the binary is, however that ends. It
// needs root, so it is built only with the tag e2edatapath, by `make e2e-datapath`.
//
// What stands in for what:
//
//	a machine          a network namespace, routed as Oxide routes: no wire is shared
//	Oxide's addresses  the gateway between clients and machines: a translation for each floating IP
//	                   that the simulated rack shows attached, and a route for each external subnet,
//	                   from 20 ms after it is attached until 20 ms after it is not
//	a kubelet          a port that is open, a Node, and a Lease renewed as often as by a real one
//	kubectl drain      a cordon, and endpoints that are ending and still serve
//	Ready=Unknown      a Node that is given it, and endpoints that are not ready
//	a pod              a TCP and UDP server in a network namespace behind its machine's
//	clients            a process that makes a request every 2 ms of each kind: by TCP with a
//	                   connection each and on one, by UDP from a port each and from one
//
// The statuses of Services are written by ccm-shim, and the rack is changed by oxide-backend alone. A
// request counts as lost with a move if it began between 50 ms before the address left and its
// arrival; no other may be lost. A machine's own pods are not among what ends while it is measured:
// what they have not answered is theirs.
//
// # How much of it runs when
//
// `make e2e-datapath` takes about 10 minutes for the first mode of kube-proxy and 7 for the other one.
// `make e2e-datapath SHORT=1`, which `.ci/run` calls where root is, takes about 2 minutes on two cores:
//
//	iptables  one dead host, a stopped instance, a silent kubelet
//	both      a drain with a floating IP by IPv4 and with an external subnet by IPv6, Services with
//	          one port, externalTrafficPolicy Local, loadBalancerSourceRanges
//
// A mode for which the kernel lacks something is skipped, with what it lacks.
//
// It imports nothing of the product.
package datapath
