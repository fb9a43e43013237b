// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

// Package loadbalancers gives load balancers their addresses: it reads the facts from Oxide, makes
// one plan for all load balancers of a cluster, and executes the part of it that is asked for.
//
//	manager.go    Ensure and Delete, for one load balancer
//	reconcile.go  Reconcile and Rebalance, for the full set of a cluster
//	describe.go   Get and List
//	operator.go   what operators do by hand: adopt, release, orphans
//	facts.go      what Oxide says: floating IPs, where packets arrive, pools, firewalls
//	memory.go     what callers told, and what is under way
//	plan.go       the plan, a pure function of facts and desired set
//	claims.go     which address each load balancer has
//	proof.go      what else than a marker says whose an address is
//	place.go      which instance carries it
//	obstacle.go   why an address is attached nowhere
//	release.go    how addresses end that are no longer wanted
//	rebalance.go  a more even spread, when it is asked for
//	firewall.go   which ports the firewall closes
//	execute.go    the actions, one at a time, each safe to repeat
//	marker.go     the line in a description that says whose an address is
//	name.go       the names of the addresses made here
//
// Whose an address is stands in Oxide, as a marker in the address's description. Nothing without a
// fitting marker, or a proof as strong, is ever changed. What is remembered between calls may be
// lost at any time; callers tell it again.
//
// It imports neither gRPC nor the protobuf API nor Kubernetes; Oxide is reached through
// internal/oxide alone.
package loadbalancers
