// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

// Package uds serves a unix domain socket that only the own user can reach: it makes the directory
// and the socket private from the start, recovers a socket that a dead process left behind, and
// refuses peers of another user.
//
// It imports nothing of this module.
package uds
