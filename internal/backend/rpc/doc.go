// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

// Package rpc implements the gRPC services of oxide.backend.v1: each handler decodes, calls the
// domain, and encodes. It is the only place that makes gRPC status codes.
//
//	*_service.go       one per service
//	session_stream.go  SyncLoadBalancers: one goroutine receives, one sends
//	session_items.go   what a client may send, one item at a time
//	ledger.go          how much of it a session may hold
//	plan.go, queries.go  questions about load balancers
//	validate*.go       what a request must be like
//	convert_*.go       domain types to messages and back
//	skew.go            refuses what a newer client means and this backend does not know
//	decode.go          requests that are too large or cannot be decoded
//	unknown.go         methods that there are not
//	errors*.go         which status an error becomes
//	text.go            texts for people: one line, bounded
//	old_*.go           the calls that sessions replace
//
// It imports nothing of Kubernetes, and never oxide.go.
package rpc
