// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

// Package client is the Go client of the API oxide.backend.v1, for the controllers of a cluster and
// for any other tooling.
//
// # Connecting
//
// [Dial] connects to the unix socket of a backend, as the user that the backend runs as or one that
// it lets in, and [DialTLS] to one that serves TCP, with a certificate; the connection is made
// again whenever it is lost. The stubs of package backendv1 make the calls. Each has the timeout
// that suits it, unless its context ends earlier, and those that only read are repeated while no
// backend answers.
//
// # Errors
//
// Every call on such a connection, and every stream, fails with an [*Error], which has the gRPC
// code, the reason, a line for people, how long to wait, and the id of Oxide's own log. errors.Is
// finds the reason, for example [ErrPoolExhausted]. Reasons that this version does not know are
// none: a program falls back on the code.
//
//   - A reason says whether waiting helps, by RetryDelay; without one, the same request fails again.
//   - Only [ErrInstanceNotFound] says that an instance does not exist, and only as strongly as the
//     request has asked for. Any other error, that of a call which did not arrive included, says
//     nothing about it.
//   - [ErrSessionSuperseded] ends a session for good: another process has the scope.
//
// # Following what changes
//
// An [InstanceWatch] keeps the instances of the project, and a [Session] is the client's whole side
// of LoadBalancerService.SyncLoadBalancers: it keeps the latest item of each object and the latest
// state of each load balancer. Both reconnect by themselves, and both send or receive everything
// again on a new stream, so that nothing depends on what was missed.
//
// # Versions
//
// APIRevision of package backendv1 is what this package was built for, and
// GetInfoResponse.api_revision what the backend is. An older backend refuses a changing call that
// has fields which it does not know ([ErrVersionSkew]) and never does half of it; a newer one sends
// what this package skips.
//
// This module imports only gRPC and protobuf: no other package of its repository, nothing of
// Kubernetes, and nothing of Oxide, and it requires the oldest versions that will do, so that an
// importer keeps its own.
package client
