// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

// Package crash kills the programs at every request of everything that they do for people, starts them
// again, and expects exactly what is desired: no address lost, leaked or doubled, and statuses,
// finalizers, conditions, markers and firewall rules right. It uses real processes, a real
// kube-apiserver and the simulated rack, and imports nothing of the programs.
//
// First each operation is made once, and its requests to Oxide are recorded. A point of the matrix is
// one of these requests, what happens there, and when:
//
//	backend, shim, both  these programs are killed, and started again
//	drop                 the connection breaks
//	leaders              a second pair of programs acts from then on, while the first goes on
//
//	before               the rack does not get the request; what a living program has sent, it gets then
//	after                the rack has done it, and the answer is not there yet
//	late                 the rack does it when the next backend has listed the addresses
//
// Of reads, of which there are as many as time allows, the first of each kind is met, and before it
// alone: after it the same is on the rack. A second pair does not begin there.
//
// Several worlds run side by side, each with a kube-apiserver and a rack of its own, in which points
// follow each other. A proxy between backend and rack holds the request.
//
// `make crash` runs all points, `make e2e` a sample: two of each operation, 30 in all, the same ones in
// every run, in at most two minutes.
//
//	operations_test.go  the operations
//	points_test.go      which points there are, and which are run
//	matrix_test.go      the test: dry runs, and points
//	proxy_test.go       what stands between backend and rack
//	world_test.go       rack, API server and programs
//	desired_test.go     what has to be in the end
package crash
