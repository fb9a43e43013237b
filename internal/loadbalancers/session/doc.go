// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

// Package session keeps the load balancers of a scope as they are desired, for as long as a client
// holds a session. One goroutine per session owns all of its state; it plans by package plan, and
// starts one request after the other as package plan, the publications and the instances allow.
//
//	types.go      what clients send and are sent
//	errors.go     the typed errors
//	manager.go    the sessions of the process, and what they share
//	session.go    a session as its client sees it: Send, Next, CloseSend, Close
//	loop.go       the goroutine of a session: inbox, timers, one step after the other
//	observe.go    what is read of Oxide, and when it is read again
//	step.go       one step: plan, begin what is due, send what differs
//	orders.go     what is due for one load balancer: publications before changes
//	moves.go      how an address leaves its instance
//	conclude.go   what follows from the answer to a request
//	state.go      what is said about each load balancer
//	operations.go requests under way, slots and backoff per instance; shared by all sessions
//	execute.go    one request, and what its answer means
//	places.go     the ports that are taken on instances, across all sessions
//	cache.go      answers of Oxide that are kept for a while
//	absence.go    addresses that no list shows, read directly before anything follows from that
//	addresses.go  the floating IPs of the project, listed and kept for all sessions
//	query.go      Get, List, Plan and Rebalance
//	operator.go   release and delete addresses by hand
//	adopt.go      adopt addresses by hand
//	firewall.go   the firewall rules that load balancers need, and what waits for them
//	firewall_operator.go  show and remove such rules by hand
//	address_lock.go  single addresses that calls change, and which of them they may
//	attach.go     calls that attach, detach and delete an address without a load balancer
//	reserve.go    calls that reserve an address under a name
//	listing.go    the addresses of the project for calls
//	work.go       spans: what is done for a load balancer, and because of what
//	waiting.go    how calls wait for requests under way
//
// It imports neither gRPC nor the protobuf API nor Kubernetes; Oxide is reached through
// internal/oxide.
package session
