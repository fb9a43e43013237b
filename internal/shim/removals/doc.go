// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

// Package removals decides how fast Nodes may be removed. That an instance is gone is proven for
// each Node by itself; this is the brake for the case that the proofs are right and still not what
// anybody wanted, or that all of them are wrong in the same way.
//
// It decides, and does nothing else: it must import neither a Kubernetes client nor the backend's
// API.
package removals
