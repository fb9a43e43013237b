// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

// Package instances looks up the instances of the project with their addresses, and decides what
// "gone" means.
//
// It imports neither gRPC nor the protobuf API nor Kubernetes; Oxide is reached through
// internal/oxide alone.
package instances
