// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

// Package loadbalancers translates Services and Nodes into the desired load balancers of the cluster,
// sends them to the backend, and tells Services what came of it.
//
//	controller.go   the calls of the framework, and the full set
//	desired.go      a Service as a desired load balancer
//	annotations.go  what the annotations of a Service say
//	candidates.go   Nodes as instances that may carry addresses, and why others may not
//	ports.go        ports that load balancers must leave alone
//	status.go       the state of a load balancer as the status of its Service
//	telling.go      events on Services
//	clusterid.go    the scope under which the cluster owns its addresses
//
// It takes no decision about an Oxide resource, and knows nothing of the Oxide API.
package loadbalancers
