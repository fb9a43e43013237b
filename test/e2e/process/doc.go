// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

// Package process starts programs as separate processes, keeps their output in log files, waits
// until they are ready and ends them by process id.
//
// Nothing that a [Group] starts outlives the program that started it: the group ends its processes
// in reverse order, each first asked (SIGTERM) and then forced (SIGKILL), and on Linux the kernel
// ends them too when the starting program is killed. A detached group is the exception, for demos
// that are to be left running.
//
// It knows nothing about Kubernetes or Oxide and imports nothing of them.
package process
