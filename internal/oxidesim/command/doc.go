// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

// Package command is the command line of oxide-sim: options, their check, and a rack that
// serves until it is told to stop. It knows the simulator by its exported API only.
package command
