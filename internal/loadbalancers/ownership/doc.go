// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

// Package ownership says whose a floating IP is: by the marker in its description, by the name that
// it was given, and by what the load balancers of living sessions name and publish.
//
//	key.go       keys of load balancers, IP families, sources of addresses
//	marker.go    the line that says whose an address is
//	released.go  the line that says whose an address was
//	reserved.go  the line that says what was asked for when an address was reserved for itself
//	name.go      the names that addresses are given
//	registry.go  which floating IPs belong to load balancers, and so to no instance
//
// It imports no other package of this module.
package ownership
