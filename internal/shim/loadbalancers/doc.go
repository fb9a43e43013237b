// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

// Package loadbalancers translates Services and Nodes into the desired load balancers of the cluster,
// sends them to the backend, and tells Services what came of it.
//
//	controller.go   what it is made of, and what the caches say
//	sync.go         what the framework's service controller asks for, Service by Service
//	run.go          when all load balancers are looked at
//	look.go         a look: what is due, and which statuses are to be mended
//	change.go       how a change is made: the status leads
//	health.go       which Nodes may carry addresses, with damping
//	candidates.go   Nodes as candidates, and why no Node can carry an address
//	endpoints.go    where the endpoints of a Service are
//	desired.go      a Service as a desired load balancer
//	annotations.go  what the annotations of a Service say
//	ports.go        ports that load balancers must leave alone
//	pods.go         the pods that use ports of their Nodes
//	status.go       the state of a load balancer as the status of its Service
//	telling.go      events on Services
//	clusterid.go    the scope under which the cluster owns its addresses
//
// It takes no decision about an Oxide resource, and knows nothing of the Oxide API.
package loadbalancers
