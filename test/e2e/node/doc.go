// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

// Package node makes this very machine a Node of a cluster: containerd and a kubelet as processes of
// their own, with all their state in one folder. It needs root, and Linux.
//
// A kubelet changes more of a machine than its own files. So a [Machine] is claimed first, by one run
// at a time; what it was like is recorded, and put back when it is released: containers are ended by
// the socket of their own containerd, mounts below the own folder are undone, control groups and
// folders that were not there before are removed, kernel settings restored. If a run is killed, the
// next one that claims the machine does this in its place.
//
// Nothing of it touches the network: containerd and the kubelet listen on loopback alone, and only
// pods in the network of the machine can run.
package node
