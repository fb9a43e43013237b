// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

// Package soak runs the programs for long, or often, and measures what is left of it. It runs real
// processes on a real kube-apiserver, beside the simulated rack, and holds that
//
//   - while the rack refuses all connections for ten minutes no Node is deleted, no address is
//     touched, and the backend is live and not ready; within 30 s after that everything works;
//   - after the backend was killed 100 times, while Services were created, moved, changed and
//     deleted, there are exactly the addresses that are desired, each attached once, none was
//     replaced that had been published, and they stay so;
//   - after 10,000 calls on the socket, some of which fail and some of which are cancelled, nothing
//     is left of them;
//   - after each of these both programs have no more goroutines and file descriptors than before,
//     and their resident memory has grown by less than 5 MB.
//
// What a program has is the least of ten seconds, after a rest of a minute, at first of three, and
// without idle connections to the rack. Both times everything was done once before, and the cluster
// has the same Nodes and Services.
//
// `make soak` runs all three, one after the other, and ends with a table. `RUN=regexp` selects
// tests, `LENGTH=30s` shortens the time without a rack, `KILLS=n` and `CALLS=n` change how many
// there are.
//
//	main_test.go       options, and the table at the end
//	rack_down_test.go  ten minutes without a rack
//	kills_test.go      the backend is killed
//	changes_test.go    what people change meanwhile, and what has to be in the end
//	calls_test.go      calls on the socket
//	usage_test.go      goroutines, file descriptors and memory
//	world_test.go      rack, control plane and programs
//	gate_test.go       what is between the backend and the rack
//
// It must import none of the programs' packages.
package soak
