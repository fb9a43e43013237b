// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

// Package tracing makes the spans of both programs. It is off unless package otlp, or a test, gives
// it a provider: then it starts no span, no goroutine, and allocates nothing.
//
// Domain packages use it, so it must import neither gRPC nor an exporter; those are in package
// otlp.
//
// What a span may hold: names and ids of Kubernetes and Oxide objects, addresses, states, status
// codes, request ids, and texts that are fit for a Kubernetes event. What it must not: a token, a
// URL, a header, or anything of an answer that was not checked.
package tracing
