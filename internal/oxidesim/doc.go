// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

// Package oxidesim is a stateful, in-memory simulation of the public HTTP API of one Oxide
// rack, with its awkward corners kept: hidden attach states, stale answers, unhelpful errors,
// names that mean nothing, and hardware that fails. Tests embed it, cmd/oxide-sim serves it.
//
// It has its own JSON types on purpose and must never import an Oxide client library (nor
// any other package of this repository): a simulator that shares the client's types shares
// the client's misunderstandings. Tests live in package oxidesim_test and may use clients.
//
// How it is laid out: one file per kind of resource (rows, JSON view, handlers), one route
// table (routes.go), one set of tables behind one lock (store.go), one place that makes error
// bodies (errors.go) and one clock (clock.go). A request runs through pipeline.go.
//
// Lock discipline: Simulator.mu guards every row of every table. The pipeline takes it, for
// reading around GET handlers and for writing around the others, so handlers take no lock.
// Handlers of routes marked phased take it themselves, and never hold it while they wait.
package oxidesim
