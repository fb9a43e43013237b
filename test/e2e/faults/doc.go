// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

// Package faults holds what is promised of everything that may fail around the programs: the rack, what
// is between that and them, and kube-apiserver. It runs real processes on a real kube-apiserver, lets
// one fault happen for a minute, and holds for each that
//
//   - no Node is deleted, whose instance exists, and no address is touched: invariants 1 and 2;
//   - the statuses of Services stay as they are;
//   - the backend is live all the time, and is not ready, saying why, where the rack cannot be used;
//   - WatchInstances reports no instance as missing;
//   - within 30 s after its end everything works: a Service that was created and a Node that joined
//     during the fault, the watch, readiness, with one floating IP for each Service;
//   - each program logs at most 60 lines a minute, however many nodes are not ready, and events are
//     recorded at most twice for each of those, and 20 besides.
//
// One fault is one row in rows_test.go. Each row has a rack and both programs of its own; three rows run
// side by side. A table of the figures is printed at the end. `make faults` runs all rows, `make
// faults RUN=regexp` some of them, and `make faults SAMPLE=1` the sample: the five rows that are marked
// so, always the same ones, each fault for 15 s.
//
//	rows_test.go          the faults
//	measure_test.go       what is measured of each, and the limits
//	faults_test.go        which rows run, and where
//	lane_test.go          a control plane, at which rows run one after the other
//	world_test.go         rack, programs, Nodes and Services of one row
//	gate_test.go          what fails on the way to rack and kube-apiserver
//	certificates_test.go  certificates of racks
//	table_test.go         the table
//
// It must import none of the programs' packages.
package faults
