// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

// Package model tests the programs with operations that nobody has thought of: random ones, on a
// simulated rack of which a fifth of all requests fail, with real processes on a real
// kube-apiserver. After each operation it waits until everything has settled, and checks the
// invariants of the design: 2 to 8, and that no Node is deleted whose instance exists.
//
// Services ask for floating IPs and external subnets, by annotation or by class, of one IP family
// or both, for one address or several, and change that; nodes have IPv4, IPv6 or both, and are
// cordoned. Firewall rules are kept for the Services that do not refuse them, among rules of
// another client.
//
// It needs no oracle that plans as the programs do. What must be follows from the operations alone:
// which addresses Services ask for, which Nodes can carry them, which were there before, and what
// people have changed by hand.
//
//	expectation_test.go  what must be, by all operations so far
//	settled_test.go      what of that is still to become so, in a snapshot of rack and API server
//	invariants_test.go   what must not have become otherwise between two snapshots
//	kept_test.go         which addresses must still be there
//	checker_test.go      that all of this is found in snapshots that were doctored
//	operations_test.go   the operations on Services
//	shape_test.go        those that change which addresses they ask for
//	firewall_test.go     those on firewall rules, and which there must be
//	cordon_test.go       cordons, and what they oblige to
//	happenings_test.go   those on nodes, and on the programs
//	hands_test.go        those by people on the rack
//	people_test.go       how people use the rack by hand
//	world_test.go        rack, API server and programs
//	settle_test.go       when they have settled
//	model_test.go        the test
//
// The shim runs with the hidden flag --load-balancer-time-scale, because a Service moves once in 30
// seconds, and half of all Nodes are waited for two minutes. All code is the real one; only the
// waits are shorter. Several worlds run side by side, since even so most of the time is waited.
package model
