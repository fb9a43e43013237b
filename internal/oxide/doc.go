// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

// Package oxide is the only place that calls the Oxide HTTP API. It wraps the client library
// oxide.go: it adds the token to each request and re-reads it from its file, retries reads, bounds
// every call in time, counts and times requests, and turns what comes back into plain types and
// typed errors.
//
// It knows nothing of Kubernetes, gRPC or load balancers, and nothing outside this package imports
// oxide.go.
package oxide
