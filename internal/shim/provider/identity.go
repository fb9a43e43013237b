// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package provider

import (
	"context"
	"errors"
	"slices"
	"strings"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	cloudproviderapi "k8s.io/cloud-provider/api"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/proto/client"
	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

// question says which facts about an instance are asked for, and how fresh.
type question struct {
	view      backendv1.InstanceView
	freshness backendv1.Freshness
	rack      bool
	// proof is what must hold before the instance is gone; nil: nothing is destroyed on the answer.
	proof *backendv1.AbsenceProof
}

// existence is asked for every few seconds for every node that is not ready, so it must cost nothing
// that grows with their number: whether the instance is there and runs, as it was some seconds ago.
// That it is gone is never concluded from that, see absenceProof.
var existence = question{
	view:      backendv1.InstanceView_INSTANCE_VIEW_BASIC,
	freshness: backendv1.Freshness_FRESHNESS_BOUNDED,
}

// lookUp asks the backend which instance a node is, by all that is known of the node. The id is that of
// its provider ID; empty: it has none.
func (p *Provider) lookUp(ctx context.Context, node *v1.Node, id string, ask question,
) (*backendv1.Instance, error) {
	response, err := p.instances.GetInstance(ctx, &backendv1.GetInstanceRequest{
		Instance: &backendv1.GetInstanceRequest_Machine{Machine: p.machine(node, id)},
		View:     ask.view, Freshness: ask.freshness, IncludeRack: ask.rack, AbsenceProof: ask.proof,
	})
	if err != nil {
		return nil, client.AsError(err)
	}
	if response.GetInstance().GetId() == "" {
		return nil, errors.New("oxide-backend answered without an instance: please report it")
	}
	p.recordOthers(node, response)
	return response.GetInstance(), nil
}

// machine says what a node reports. Addresses are the kubelet's own only until the node is initialized.
func (p *Provider) machine(node *v1.Node, id string) *backendv1.Machine {
	machine := &backendv1.Machine{
		Id: id, SystemUuid: node.Status.NodeInfo.SystemUUID, Name: node.Name,
	}
	if id == "" {
		machine.Claims = p.claims(node)
	}
	if id == "" || IsJoining(node) {
		machine.Addresses = reportedAddresses(node)
	}
	return machine
}

// claims says what the other nodes are, and report to be.
func (p *Provider) claims(node *v1.Node) []*backendv1.MachineClaim {
	if p.nodes == nil {
		return nil
	}
	all, err := p.nodes.List(labels.Everything())
	if err != nil {
		return nil // a cache has no errors
	}
	var claims []*backendv1.MachineClaim
	for _, other := range all {
		if other.Name == node.Name {
			continue
		}
		id, ok := InstanceID(other)
		if ok {
			claims = append(claims, &backendv1.MachineClaim{Id: id, Claimant: other.Name})
		}
		if reported := other.Status.NodeInfo.SystemUUID; reported != "" &&
			!strings.EqualFold(reported, id) {
			claims = append(claims, &backendv1.MachineClaim{Id: reported, Claimant: other.Name})
		}
	}
	return claims
}

// reportedAddresses are those that the kubelet found or was given by --node-ip.
func reportedAddresses(node *v1.Node) []string {
	var addresses []string
	add := func(address string) {
		if address = strings.TrimSpace(address); address != "" && !slices.Contains(addresses, address) {
			addresses = append(addresses, address)
		}
	}
	for _, address := range node.Status.Addresses {
		if address.Type == v1.NodeInternalIP {
			add(address.Address)
		}
	}
	for given := range strings.SplitSeq(
		node.Annotations[cloudproviderapi.AnnotationAlphaProvidedIPAddr], ",") {
		add(given)
	}
	return addresses
}
