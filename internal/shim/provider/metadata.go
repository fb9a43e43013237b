// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package provider

import (
	"context"
	"fmt"
	"slices"

	v1 "k8s.io/api/core/v1"
	cloudprovider "k8s.io/cloud-provider"
	nodehelpers "k8s.io/cloud-provider/node/helpers"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/tracing"
	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

// bytesPerGiB is the unit of memory in instance types; Oxide gives memory in no smaller one.
const bytesPerGiB = 1 << 30

// InstanceMetadata returns what a node gets to know of its instance. While the node is being
// initialized the facts are read from Oxide at that moment; afterwards the framework asks every few
// minutes, for the addresses alone, and facts that the backend has at hand will do.
//
// For a node of another provider there is nothing to say. The framework skips an uninitialized node
// without metadata, but an initialized one would crash it, so that gets empty metadata.
func (p *Provider) InstanceMetadata(ctx context.Context, node *v1.Node,
) (found *cloudprovider.InstanceMetadata, err error) {
	ctx, span := startSpan(ctx, "InstanceMetadata", node)
	defer func() { tracing.End(span, err) }()
	found, err = p.instanceMetadata(ctx, node)
	if err != nil {
		p.recordUnmatched(node, err)
		return nil, err
	}
	p.reporter.Clear(node.UID, keyInitialization)
	return found, nil
}

func (p *Provider) instanceMetadata(ctx context.Context, node *v1.Node,
) (*cloudprovider.InstanceMetadata, error) {
	id, kind, err := parseProviderID(node.Spec.ProviderID)
	if err != nil {
		return nil, err
	}
	if kind == idForeign {
		p.recordForeign(node)
		if IsJoining(node) {
			return nil, nil
		}
		return &cloudprovider.InstanceMetadata{}, nil
	}
	ask := question{
		view:      backendv1.InstanceView_INSTANCE_VIEW_FULL,
		freshness: backendv1.Freshness_FRESHNESS_BOUNDED,
	}
	if IsJoining(node) {
		ask.freshness, ask.rack = backendv1.Freshness_FRESHNESS_DIRECT, p.topology.ZoneFromRack
	}
	instance, err := p.lookUp(ctx, node, id, ask)
	if err != nil {
		return nil, err
	}
	return p.metadata(node, instance)
}

// metadata translates an instance. An instance without an address is an error: the node would be
// initialized without one, and nobody could reach it.
func (p *Provider) metadata(node *v1.Node, instance *backendv1.Instance,
) (*cloudprovider.InstanceMetadata, error) {
	addresses := nodeAddresses(node, instance)
	if !slices.ContainsFunc(addresses, func(a v1.NodeAddress) bool {
		return a.Type == v1.NodeInternalIP
	}) {
		return nil, fmt.Errorf("the instance %s (%s) has no private address: "+
			"stop it, and give it a network interface", instance.GetName(), instance.GetId())
	}
	out := &cloudprovider.InstanceMetadata{
		ProviderID:       providerID(instance.GetId()),
		InstanceType:     InstanceType(instance),
		NodeAddresses:    addresses,
		AdditionalLabels: InstanceLabels(instance),
	}
	// The framework overwrites what a node says itself of where it is.
	if p.topology.Admits(node, RegionLabels(), p.topology.Region) {
		out.Region = p.topology.Region
	}
	if zone := p.topology.ZoneOf(instance); p.topology.Admits(node, ZoneLabels(), zone) {
		out.Zone = zone
	}
	return out, nil
}

// nodeAddresses lists the private addresses, those of the primary interface first, then the
// external addresses of the instance itself, then the hostname: the one that kubelet registered
// with, which its certificate names, else the instance's.
func nodeAddresses(node *v1.Node, instance *backendv1.Instance) []v1.NodeAddress {
	var addresses []v1.NodeAddress
	add := func(kind v1.NodeAddressType, address string) {
		if address != "" {
			nodehelpers.AddToNodeAddresses(&addresses,
				v1.NodeAddress{Type: kind, Address: address})
		}
	}
	for _, nic := range instance.GetNetworkInterfaces() {
		for _, address := range nic.GetAddresses() {
			add(v1.NodeInternalIP, address)
		}
	}
	for _, external := range instance.GetExternalAddresses() {
		if !instance.GetExternalAddressesProvisional() || isSettled(external) ||
			publishes(node, v1.NodeExternalIP, external.GetAddress()) {
			add(v1.NodeExternalIP, external.GetAddress())
		}
	}
	registered := slices.IndexFunc(node.Status.Addresses, func(a v1.NodeAddress) bool {
		return a.Type == v1.NodeHostName
	})
	if registered >= 0 {
		add(v1.NodeHostName, node.Status.Addresses[registered].Address)
	} else {
		add(v1.NodeHostName, instance.GetHostname())
	}
	return addresses
}

// isSettled reports whether an external address is the instance's own for certain, even while the
// backend does not know all load balancers.
func isSettled(external *backendv1.ExternalAddress) bool {
	return external.GetKind() != backendv1.ExternalAddressKind_EXTERNAL_ADDRESS_KIND_FLOATING
}

func publishes(node *v1.Node, kind v1.NodeAddressType, address string) bool {
	return slices.Contains(node.Status.Addresses, v1.NodeAddress{Type: kind, Address: address})
}

// InstanceType names the size of an instance, for example "4-16": CPUs and GiB of memory. Oxide has
// no named sizes; this is the form that clusters on Oxide have had so far.
func InstanceType(instance *backendv1.Instance) string {
	return fmt.Sprintf("%d-%d", instance.GetCpuCount(), instance.GetMemoryBytes()/bytesPerGiB)
}
