// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

// Package loadbalancers gives load balancers their addresses: it reads the facts from Oxide, makes
// one plan of them and of what is desired, and executes the plan.
//
//	facts.go    what Oxide says: floating IPs and whose they are
//	plan.go     pure functions from desired state and facts to actions with reasons
//	execute.go  the actions, one at a time, each safe to repeat
//	manager.go  the operations, made of these three
//	marker.go   the line in a description that says whose an address is
//	name.go     the names of the addresses made here
//
// Nothing is remembered between calls: whose an address is stands in Oxide, as a marker in the
// address's description. Nothing without a fitting marker is ever changed.
//
// It imports neither gRPC nor the protobuf API nor Kubernetes; Oxide is reached through
// internal/oxide alone.
package loadbalancers
