// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

// Package pod holds the tests of an installation: the chart and the manifest, installed by the real
// helm and kubectl, the image of `make image`, a real kubelet with a real container runtime, and a
// simulated Oxide rack that serves TLS under a private authority. They need root and change the
// machine while they run, so they are built only with the tag e2epod, by `make e2e-pod`.
package pod
