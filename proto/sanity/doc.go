// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

// Package sanity is the conformance suite of the API oxide.backend.v1: it holds a running backend,
// whoever wrote it, to what the comments of the .proto files promise. The command
// oxide-backend-sanity runs it; any other program may, by Run.
//
// Each case cites the sentences of the contract that it holds, word for word, which a test compares
// with the .proto files. A case passes, fails with what was expected and what came, or is skipped
// with the reason. Cases see nothing but the API; those that need a rack which fails use the
// simulator's own API, if they are given its URL.
//
// The suite changes only what it made itself: names of addresses begin with Options.Scope, and load
// balancers belong to that scope or to one that begins with it. What an earlier run left behind is
// removed at the start, and what this one has made at its end, also when it is interrupted.
// Addresses are attached only to instances in Options.Instances, and Run refuses to begin where that
// would touch a load balancer of somebody else.
//
//	options.go    what a run is given
//	case.go       the cases, in order
//	run.go        one case after the other
//	preflight.go  what is refused, and what is left over
//	checker.go    what a case expects
//	connection.go connections, and what was seen on them
//	session.go    the client's side of SyncLoadBalancers
//	wire.go       calls with a deadline that only the server knows
//	simulator.go  the API of the simulated rack
//	report.go     the outcome as text, JSON or JUnit
//	*_cases.go    the cases
//
// It imports only gRPC, protobuf and the API: nothing of Kubernetes, nothing of Oxide, and no
// other package of this repository.
package sanity
