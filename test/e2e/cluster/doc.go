// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

// Package cluster runs a real Kubernetes control plane, etcd and kube-apiserver, on the loopback
// address of this machine.
//
// [Get] finds the two programs where KUBEBUILDER_ASSETS says, fetches them by setup-envtest where
// it may, or makes them from their Go modules, whose versions test/e2e/kube/go.mod pins, and keeps
// them in a cache outside the work tree. [Start] runs them on free ports with certificates made on
// the spot, and gives clients and kubeconfig files for any identity. [BuildForPods] and
// [StartForPods] add kube-controller-manager and kube-scheduler, without which no pod runs.
//
// It knows nothing about Oxide or about this project's programs and imports nothing of them.
package cluster
