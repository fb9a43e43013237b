// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

// Package backend is the process oxide-backend: its options, the gRPC server on a unix socket,
// health, metrics, logs, and an orderly end.
//
//	command.go    the command line and its exit codes
//	options.go    flags and environment, checked all at once
//	check.go      the subcommand check: is Oxide set up?
//	operator/     the subcommands that ask a running backend
//	run.go        the parts put together
//	server.go     the gRPC server and what surrounds each call
//	readiness.go  whether Oxide accepts the credentials
//	http.go       /livez, /readyz and /metrics
//	listen.go     the sockets
//
// It imports nothing of Kubernetes.
package backend
