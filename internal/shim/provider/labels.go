// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package provider

import (
	"maps"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"

	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

// Labels that say which instance a node is. The first two are its stamp: where its instance was
// seen, without which it is never removed.
const (
	LabelSiloID       = "oxide.computer/silo-id"
	LabelProjectID    = "oxide.computer/project-id"
	LabelInstanceName = "oxide.computer/instance-name"

	// LabelProject is the project's name, which may change.
	LabelProject = "oxide.computer/project"

	// LabelCPUPlatform is there only if the instance requires a platform.
	LabelCPUPlatform = "oxide.computer/cpu-platform"

	// LabelGroupPrefix and the name of an anti-affinity group are the key of a label that is there
	// on each node whose instance is in the group.
	LabelGroupPrefix = "oxide.computer/anti-affinity-group."
)

// GroupLabel returns the key of the label for an anti-affinity group, and whether there can be one:
// Oxide allows longer names than fit into a key.
func GroupLabel(group string) (string, bool) {
	key := LabelGroupPrefix + group
	return key, len(validation.IsQualifiedName(key)) == 0
}

// InstanceLabels returns the labels under oxide.computer/ that describe an instance. What cannot
// be a label value is left out: one bad label would keep a node from being initialized at all.
func InstanceLabels(instance *backendv1.Instance) map[string]string {
	all := map[string]string{
		LabelSiloID:       instance.GetSiloId(),
		LabelProjectID:    instance.GetProjectId(),
		LabelInstanceName: instance.GetName(),
		LabelProject:      instance.GetProjectName(),
		LabelCPUPlatform:  instance.GetCpuPlatform(),
	}
	for _, group := range instance.GetAntiAffinityGroups() {
		if key, ok := GroupLabel(group); ok {
			all[key] = "true"
		}
	}
	maps.DeleteFunc(all, func(_, value string) bool {
		return value == "" || len(validation.IsValidLabelValue(value)) > 0
	})
	return all
}

// Topology says where the nodes of a cluster are: what the operator says, the same for all nodes, but
// that the zone may be the rack, which Oxide reports of each instance.
type Topology struct {
	// Region and Zone are label values; empty: not labelled.
	Region, Zone string

	// ZoneFromRack takes the id of an instance's rack instead of Zone.
	ZoneFromRack bool

	// Relabel gives the labels to nodes that have others already, too. Without it a node keeps what
	// it has: volumes and pods may be bound to that.
	Relabel bool
}

// LabelPair are two labels that say the same: the old one, and the one that replaces it. The
// framework copies the old one to the new one where they differ, so both are written together.
type LabelPair struct{ Old, New string }

// RegionLabels are the labels of a region.
func RegionLabels() LabelPair {
	return LabelPair{v1.LabelFailureDomainBetaRegion, v1.LabelTopologyRegion}
}

// ZoneLabels are the labels of a zone.
func ZoneLabels() LabelPair {
	return LabelPair{v1.LabelFailureDomainBetaZone, v1.LabelTopologyZone}
}

// TypeLabels are the labels of an instance type.
func TypeLabels() LabelPair { return LabelPair{v1.LabelInstanceType, v1.LabelInstanceTypeStable} }

// ZoneOf returns the zone of an instance; empty: not labelled, as when its rack is not known.
func (t Topology) ZoneOf(instance *backendv1.Instance) string {
	if !t.ZoneFromRack {
		return t.Zone
	}
	if rack := instance.GetRackId(); len(validation.IsValidLabelValue(rack)) == 0 {
		return rack
	}
	return ""
}

// Admits reports whether a node may be given a value under a pair of labels: it has none yet, or this
// very value, or it may be relabelled.
func (t Topology) Admits(node *v1.Node, pair LabelPair, value string) bool {
	if value == "" {
		return false
	}
	for _, key := range []string{pair.Old, pair.New} {
		if has, ok := node.Labels[key]; ok && has != value {
			return t.Relabel
		}
	}
	return true
}
