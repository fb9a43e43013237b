// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

// Package firewall says what a VPC firewall lets through from outside, and which rule to add.
//
//	types.go   ports, rules, and what rules go by
//	stored.go  rules as Oxide shows them, and how they are written back exactly as they are
//	closed.go  which ports are closed
//	opening.go what to change for them to be open
//	explain.go what is said of that
//
// It imports no other package of this module; its callers read and write the rules. Package ruleset has
// those that load balancers need.
package firewall
