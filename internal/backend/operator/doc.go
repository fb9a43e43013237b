// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

// Package operator holds the subcommands of oxide-backend that ask a running backend, over its socket
// and by its public API: whatever they do, other tooling can.
//
//	commands.go    what all of them have in common as commands
//	connection.go  the flags that all of them have, the connection, and whose load balancers it is about
//	lists.go       all pages of what the API lists
//	names.go       what people call instances and load balancers
//	owners.go      whose addresses are
//	words.go       words for what the API says
//	errors.go      exit codes, and errors for people
//	output.go      tables, JSON and YAML
//	confirm.go     the question before something is changed
//	status.go      status; status_table.go is what people see of it
//	nodes.go       the nodes of a plan, by what people call them
//	changes.go     what a plan does with each address, and why one has no place
//	plan.go        plan
//	explain.go     explain
//	rebalance.go   rebalance
//	addresses.go   addresses
//	orphans.go     orphans, and orphans delete
//	instances.go   instances
//	watch.go       watch; watch_sources.go is where its lines come from
//	firewall.go    firewall list and remove-rules
//
// It imports no other package of the backend, nothing of Oxide, and nothing of Kubernetes.
package operator
