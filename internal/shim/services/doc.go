// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

// Package services translates Services and Nodes into the items of a session with the backend, and
// what the backend says into the statuses of Services, events and metrics.
//
//	controller.go  what it is made of, and how it runs
//	items.go       which items there are, and when they are sent again
//	desired.go     a Service as an item
//	candidates.go  a Node as an item: what this process observes of it
//	targets.go     which Nodes are probed, and what that finds of a candidate
//	ports.go       ports that load balancers must leave alone, and the pods that use some
//	endpoints.go   where the endpoints of a Service are
//	selection.go   which Services are this provider's
//	framework.go   what the framework's service controller asks for, Service by Service
//	unclassed.go   which Services that controller sees
//	held.go        when controllers are notified of the end of a Service
//	classes.go     the controller of Services with a class, and class_writer.go writes their finalizers
//	status.go      a work queue that keeps the statuses of Services as the backend says
//	condition.go   the condition in the status of a Service, and condition_writer.go writes it
//	events.go      events on Services, and metrics
//
// It decides nothing: neither whether, when or where an address moves, nor in which order things are
// published and changed, nor whether a Node is healthy. It sends what is desired and what is
// observed, and writes what the backend says is to be published. So it must know neither plans,
// places, damping, run states of instances, nor the naming rules of Oxide, and it parses no text of
// the backend. It imports nothing of the backend but its API and the client of that.
package services
