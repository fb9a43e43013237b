// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

// Package provider is the cloud provider "oxide" of k8s.io/cloud-provider: it translates what the
// controllers of Kubernetes ask into calls of oxide-backend, and the answers back. It takes no
// decision about Oxide resources.
//
// What it does decide is what Kubernetes is answered when an answer is in doubt: a node is reported as
// gone only if its absence is proven, and anything else is an error.
//
// It must not import the Oxide SDK, nor any package that knows the Oxide API.
package provider
