// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package nodes

import (
	"strings"

	v1 "k8s.io/api/core/v1"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/shim/provider"
	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

// changes returns what has to change in the labels of a node so that they agree with its instance
// and with the configured topology: new values, and nil for labels to be taken away. It is empty
// if nothing has to change. A region or zone that the node has is changed only by a topology that
// says so; two labels that mean the same are in one set of changes.
func changes(
	node *v1.Node, instance *backendv1.Instance, topology provider.Topology,
) map[string]*string {
	out := make(map[string]*string)
	set := func(key, want string) {
		if has, ok := node.Labels[key]; !ok || has != want {
			out[key] = &want
		}
	}
	both := func(pair provider.LabelPair, want string) {
		set(pair.Old, want)
		set(pair.New, want)
	}
	facts := provider.InstanceLabels(instance)
	for key, want := range facts {
		set(key, want)
	}
	for key := range node.Labels {
		if _, wanted := facts[key]; !wanted && mayGo(key, instance) {
			out[key] = nil
		}
	}
	both(provider.TypeLabels(), provider.InstanceType(instance))
	for pair, want := range map[provider.LabelPair]string{
		provider.RegionLabels(): topology.Region, provider.ZoneLabels(): topology.ZoneOf(instance),
	} {
		if topology.Admits(node, pair, want) {
			both(pair, want)
		}
	}
	return out
}

// mayGo reports whether a label goes when the instance does not say it any more: an instance may do
// without a platform, and leave a group, but silence about groups says nothing.
func mayGo(key string, instance *backendv1.Instance) bool {
	return key == provider.LabelCPUPlatform ||
		strings.HasPrefix(key, provider.LabelGroupPrefix) && instance.GetAntiAffinityGroupsKnown()
}
