// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

// Package preflight finds out, by reads alone, whether everything is in place that the Oxide cloud
// controller manager needs of a rack: the API within reach, a token, a project, a role, pools to
// take addresses from, and open ports. What is not in place it tells together with the remedy.
//
// It changes nothing. It knows no gRPC and nothing of Kubernetes.
package preflight
