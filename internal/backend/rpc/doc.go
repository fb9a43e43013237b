// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

// Package rpc implements the gRPC services of oxide.backend.v1: each handler decodes, calls the
// domain, and encodes. It is the only place that makes gRPC status codes.
//
//	*_service.go  one per service
//	validate.go   what a request must be like
//	errors.go     which status an error becomes
//	convert.go    domain types to messages and back
//
// It imports nothing of Kubernetes, and never oxide.go.
package rpc
