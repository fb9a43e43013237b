// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package provider

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	cloudproviderapi "k8s.io/cloud-provider/api"
	"k8s.io/klog/v2"

	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

// maxWitnesses is how many witnesses the backend looks at.
const maxWitnesses = 5

// Reasons why a node is kept although its instance was not found. A user reads them in the log, and
// deletes the node by hand if they know better.
var (
	errStillJoining = errors.New("it is still joining the cluster")
	errNotStamped   = errors.New("it has no labels " + LabelSiloID + " and " + LabelProjectID +
		", which say where its instance was seen")
	errLastNode = errors.New("no other node of this cluster names an Oxide instance, whose being " +
		"visible would prove that Oxide shows this cluster's instances")
	errNoProviderID = errors.New("it has no provider ID, and absence is provable by id alone")
)

// InstanceExists tells whether the instance of a node exists. False makes the framework delete the
// Node at once, so it is the answer only if the backend proves it: see AbsenceProof in its API for
// what that takes. Any doubt is an error that says why the node is kept. A node of another provider
// exists as far as we are concerned.
func (p *Provider) InstanceExists(ctx context.Context, node *v1.Node) (bool, error) {
	id, kind, err := parseProviderID(node.Spec.ProviderID)
	switch {
	case err != nil:
		return false, kept(node, err)
	case kind == idForeign:
		p.sayForeign(node)
		return true, nil
	case kind == idAbsent:
		if _, err := p.lookUp(ctx, node.Name, "", existence); err != nil {
			if hasReason(err, backendv1.ErrorReason_ERROR_REASON_INSTANCE_NOT_FOUND) {
				err = errNoProviderID
			}
			return false, kept(node, err)
		}
		return true, nil
	}

	request := &backendv1.GetInstanceRequest{
		Instance: &backendv1.GetInstanceRequest_Id{Id: id},
		View:     existence.view, Freshness: existence.freshness,
	}
	proof, unprovable := p.absenceProof(node, id)
	if unprovable == nil {
		request.AbsenceProof = proof
	}
	_, err = p.getInstance(ctx, request)
	switch {
	case err == nil:
		return true, nil
	case !hasReason(err, backendv1.ErrorReason_ERROR_REASON_INSTANCE_NOT_FOUND):
		return false, kept(node, err)
	case unprovable != nil:
		return false, kept(node, fmt.Errorf("%w, but %w", err, unprovable))
	}
	klog.InfoS("The instance of the node is gone, the backend has proven it",
		"node", node.Name, "provider_id", node.Spec.ProviderID)
	return false, nil
}

// absenceProof returns what the backend must prove before the instance of this node may be given
// up, or an error that says why it cannot be proven.
func (p *Provider) absenceProof(node *v1.Node, id string) (*backendv1.AbsenceProof, error) {
	if isJoining(node) {
		return nil, errStillJoining
	}
	proof := &backendv1.AbsenceProof{
		SiloId:    node.Labels[LabelSiloID],
		ProjectId: node.Labels[LabelProjectID],
	}
	if proof.SiloId == "" || proof.ProjectId == "" {
		return nil, errNotStamped
	}
	if p.nodes == nil {
		return nil, errLastNode
	}
	others, err := p.nodes.List(labels.Everything())
	if err != nil {
		return nil, err
	}
	proof.WitnessInstanceIds = witnesses(others, id)
	if len(proof.WitnessInstanceIds) == 0 {
		return nil, errLastNode
	}
	return proof, nil
}

// witnesses returns the ids of instances that the nodes name, but for one: ready nodes first,
// because their instances are the likeliest to be seen, then by name.
func witnesses(nodes []*v1.Node, except string) []string {
	sorted := slices.SortedFunc(slices.Values(nodes), func(a, b *v1.Node) int {
		ready := func(n *v1.Node) int {
			if isReady(n) {
				return 0
			}
			return 1
		}
		return cmp.Or(cmp.Compare(ready(a), ready(b)), cmp.Compare(a.Name, b.Name))
	})
	var ids []string
	for _, node := range sorted {
		id, kind, err := parseProviderID(node.Spec.ProviderID)
		if err != nil || kind != idOxide || id == except || slices.Contains(ids, id) {
			continue
		}
		if ids = append(ids, id); len(ids) == maxWitnesses {
			break
		}
	}
	return ids
}

// InstanceShutdown tells whether the instance of a node is off and stays so until somebody starts
// it. The framework taints such nodes, so that volumes and pods may move on.
func (p *Provider) InstanceShutdown(ctx context.Context, node *v1.Node) (bool, error) {
	id, kind, err := parseProviderID(node.Spec.ProviderID)
	if err != nil {
		return false, err
	}
	if kind == idForeign {
		return false, nil
	}
	instance, err := p.lookUp(ctx, node.Name, id, existence)
	if err != nil {
		return false, err
	}
	return instance.GetShutDown(), nil
}

// question says which facts about an instance are asked for, and how fresh.
type question struct {
	view      backendv1.InstanceView
	freshness backendv1.Freshness
}

// existence is asked for every few seconds for every node that is not ready, so it must cost nothing
// that grows with their number: whether the instance is there and runs, as it was some seconds ago.
// That it is gone is never concluded from that, see absenceProof.
var existence = question{
	backendv1.InstanceView_INSTANCE_VIEW_BASIC, backendv1.Freshness_FRESHNESS_BOUNDED,
}

// lookUp finds the instance of a node: by id if the node has one in its provider ID; else by the
// node's name as the instance's name, where it can be one, and then as its hostname, which is what
// kubelet names a node after.
func (p *Provider) lookUp(ctx context.Context, nodeName, id string, ask question,
) (*backendv1.Instance, error) {
	if id != "" {
		return p.getInstance(ctx, &backendv1.GetInstanceRequest{
			Instance: &backendv1.GetInstanceRequest_Id{Id: id}, View: ask.view, Freshness: ask.freshness,
		})
	}
	if isInstanceName(nodeName) {
		instance, err := p.getInstance(ctx, &backendv1.GetInstanceRequest{
			Instance: &backendv1.GetInstanceRequest_Name{Name: nodeName}, View: ask.view, Freshness: ask.freshness,
		})
		if !hasReason(err, backendv1.ErrorReason_ERROR_REASON_INSTANCE_NOT_FOUND) {
			return instance, err
		}
	}
	return p.getInstance(ctx, &backendv1.GetInstanceRequest{
		Instance: &backendv1.GetInstanceRequest_Hostname{Hostname: nodeName}, View: ask.view, Freshness: ask.freshness,
	})
}

// getInstance calls the backend.
func (p *Provider) getInstance(ctx context.Context, request *backendv1.GetInstanceRequest,
) (*backendv1.Instance, error) {
	response, err := p.instances.GetInstance(ctx, request)
	if err != nil {
		return nil, backendError(err)
	}
	instance := response.GetInstance()
	if instance.GetId() == "" {
		return nil, errors.New("oxide-backend answered without an instance: please report it")
	}
	return instance, nil
}

// kept is the error that keeps a node.
func kept(node *v1.Node, why error) error {
	return fmt.Errorf("node %s is kept: %w", node.Name, why)
}

// sayForeign says once per node that another provider manages it.
func (p *Provider) sayForeign(node *v1.Node) {
	if _, said := p.foreign.LoadOrStore(node.Name, struct{}{}); !said {
		klog.InfoS("The node is of another cloud provider and is left alone",
			"node", node.Name, "provider_id", node.Spec.ProviderID)
	}
}

// isJoining tells whether the node still has the taint that it registered with.
func isJoining(node *v1.Node) bool {
	return slices.ContainsFunc(node.Spec.Taints, func(taint v1.Taint) bool {
		return taint.Key == cloudproviderapi.TaintExternalCloudProvider
	})
}

// isReady tells whether kubelet says that the node is ready.
func isReady(node *v1.Node) bool {
	return slices.ContainsFunc(node.Status.Conditions, func(c v1.NodeCondition) bool {
		return c.Type == v1.NodeReady && c.Status == v1.ConditionTrue
	})
}
