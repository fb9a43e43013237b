// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

// Package objects makes the Kubernetes objects that a cluster without kubelets needs: Nodes as a
// kubelet with an external cloud provider registers them, kept Ready or not by hand, and Services
// of type LoadBalancer.
//
// It imports the Kubernetes API and client only.
package objects
