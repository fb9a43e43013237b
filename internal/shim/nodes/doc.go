// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

// Package nodes is the controller that keeps the labels of initialized Nodes as their instances
// are. The framework labels a Node once, while it initializes it; this controller goes on: it
// restores a stamp that is missing, follows an instance that was resized, and adds a region or zone
// that was configured later.
//
// Where nothing may be changed it logs instead, and a report says what else would be done to Nodes.
//
// It reads Nodes from the shared informer and instances from the backend's stream of changes, and
// writes nothing but labels. It must not import the Oxide SDK, nor any package that knows the Oxide
// API.
package nodes
