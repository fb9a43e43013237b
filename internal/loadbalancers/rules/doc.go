// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

// Package rules reads the firewalls of VPCs for all sessions, and keeps in them the rules that load
// balancers need.
//
// Oxide replaces all rules of a VPC at once, and says nothing of changes that others made meanwhile. So
// there is one writer for each VPC. It gathers what is desired, reads the rules once more, puts its own
// ones in their places, writes the whole set at once, and reads back what came of it. What others write
// between that reading and the writing is lost: nothing that Oxide offers can prevent it. Nothing else
// of theirs ever is.
//
//	keeper.go   the firewalls of the process: readings, and what is desired
//	writer.go   one firewall: when it is read and written
//	write.go    a write, from the reading before it to the one after it
//	metrics.go  what is counted
//
// It imports neither gRPC nor the protobuf API nor Kubernetes; Oxide is reached through internal/oxide.
package rules
