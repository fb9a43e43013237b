// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

// Package plan decides which address each load balancer has and which instance carries it. A plan
// is a pure function of its input: the same input gives the same plan. The package imports no
// context, no clock, no lock, no logger and no client, which a test holds; whoever calls it reads
// Oxide, keeps the time and carries the plan out.
//
//	types.go      what a plan is made of
//	result.go     what a plan says
//	addresses.go  the index of the floating IPs of the project
//	plan.go       Make: the order of the steps
//	claims.go     which address each load balancer has
//	creation.go   the addresses that are yet to be created
//	proof.go      what other than a marker proves whose an address is
//	places.go     which instance carries each address
//	occupancy.go  which ports are taken on instances, and by whom
//	candidates.go which candidates can take an address, and which is chosen
//	reasons.go    why an address has no place
//	verdicts.go   why each candidate was chosen, or was not
//	former.go     where addresses stay in use that are no longer desired
//	release.go    how addresses end that are no longer desired
//	rebalance.go  a more even spread, when an operator asks for it
//	actions.go    the plan as the list of changes that it takes
package plan
