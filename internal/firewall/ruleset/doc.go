// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

// Package ruleset makes the whole set of rules of a VPC, with those that load balancers need in it.
//
//	sources.go who may send to a load balancer
//	kept.go    the rules that a load balancer needs
//	merge.go   the whole set with those rules in it, and what differs
//
// It is pure: it reads no clock and calls nobody. Of this module it imports packages firewall and
// ownership alone.
package ruleset
