// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

// Package client is the Go client of the API oxide.backend.v1, for the controllers of a cluster and
// for any other tooling.
//
// Dial connects to a backend: how long each call may take, which calls are repeated while no
// backend answers, how a lost or silent backend is noticed. FromError and HasReason read the errors
// of calls. A Session is the client's whole side of LoadBalancerService.SyncLoadBalancers: it keeps
// the latest item of each object and the latest state of each load balancer, and reconnects. An
// InstanceWatch does so for InstanceService.WatchInstances.
//
// It imports only the API itself, gRPC and protobuf: no other package of this repository, nothing
// of Kubernetes, and nothing of Oxide.
package client
