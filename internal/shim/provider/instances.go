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
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"
	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	cloudproviderapi "k8s.io/cloud-provider/api"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/tracing"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/proto/client"
	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

// readTimeout is how long reading a Node again may take.
const readTimeout = 10 * time.Second

// maxReferences is how many reference instances the backend reads.
const maxReferences = 5

// Reasons why a node is kept although its instance was not found. A user reads them in the log, and
// deletes the node by hand if they know better.
var (
	errStillJoining = errors.New("it is still joining the cluster")
	errNotStamped   = errors.New("it has no labels " + LabelSiloID + " and " + LabelProjectID +
		", which say where its instance was seen")
	errLastNode = errors.New("no other node of this cluster names an Oxide instance, whose being " +
		"visible would prove that Oxide shows this cluster's instances")
	errChanged = errors.New("it changed while its instance was proven to be gone")
	errUnread  = errors.New("it could not be read again from the API server")
)

// errNoLonger is why a Node is not judged that is gone, or was replaced by another of its name.
var errNoLonger = errors.New("it is not there any more: another of its name may be")

// errPaced is why a node is still there although its instance is gone.
var errPaced = errors.New("its instance is gone, but many nodes are being removed: it waits for its " +
	"turn, and is checked again then")

// startSpan starts the span of a call of the framework about a Node.
func startSpan(ctx context.Context, name string, node *v1.Node) (context.Context, trace.Span) {
	ctx, span := tracing.Start(ctx, name)
	if span.IsRecording() {
		span.SetAttributes(attribute.String("k8s.node.name", node.Name))
	}
	return ctx, span
}

// InstanceExists reports whether the instance of a node exists. False makes the framework delete the
// Node at once, so it is the answer only if the backend proves it: see AbsenceProof in its API for
// what that takes. Any doubt is an error that says why the node is kept. A node of another provider
// exists as far as we are concerned, and so does one that somebody deletes already: nothing is left to
// be decided about it, however long a finalizer holds it.
func (p *Provider) InstanceExists(ctx context.Context, node *v1.Node) (exists bool, err error) {
	if node.DeletionTimestamp != nil {
		return true, nil
	}
	ctx, span := startSpan(ctx, "InstanceExists", node)
	defer func() { tracing.End(span, err) }()
	exists, err = p.instanceExists(ctx, node)
	if err != nil {
		p.recordKept(node, err)
		return false, fmt.Errorf("node %s is kept: %w", node.Name, err)
	}
	if exists {
		p.reporter.Clear(node.UID, keyRemoval)
	}
	return exists, nil
}

// instanceExists is InstanceExists; its errors are why the node is kept.
func (p *Provider) instanceExists(ctx context.Context, node *v1.Node) (bool, error) {
	id, kind, err := parseProviderID(node.Spec.ProviderID)
	switch {
	case err != nil:
		return false, err
	case kind == idForeign:
		p.recordForeign(node)
		return true, nil
	case kind == idAbsent:
		_, err := p.lookUp(ctx, node, "", existence)
		return err == nil, err
	}
	proof, nodes, unprovable := p.absenceProof(node, id)
	about := judgedBy(node, proof, unprovable)
	if err := p.unproven.pending(node, about); err != nil {
		return false, err
	}
	exists, err := p.askExistence(ctx, node, id, proof, nodes, unprovable)
	if unprovable != nil && client.HasReason(err, backendv1.ErrorReason_ERROR_REASON_INSTANCE_NOT_FOUND) ||
		client.HasReason(err, backendv1.ErrorReason_ERROR_REASON_ABSENCE_NOT_PROVEN) ||
		client.HasReason(err, backendv1.ErrorReason_ERROR_REASON_INSTANCE_REPLACED) {
		p.unproven.note(node, about, err)
	} else {
		p.unproven.forget(node.UID)
	}
	return exists, err
}

// askExistence asks the backend whether the instance of a node exists, and for the proof if it does not,
// unless that is unprovable.
func (p *Provider) askExistence(
	ctx context.Context, node *v1.Node, id string, proof *backendv1.AbsenceProof, nodes int,
	unprovable error,
) (bool, error) {
	if unprovable != nil {
		_, err := p.lookUp(ctx, node, id, existence)
		if client.HasReason(err, backendv1.ErrorReason_ERROR_REASON_INSTANCE_NOT_FOUND) {
			err = fmt.Errorf("%w, but %w", err, unprovable)
		}
		return err == nil, err
	}
	attempt := p.removals.Begin(string(node.UID), nodes)
	if attempt == nil {
		return false, errPaced
	}
	defer attempt.End()
	ask := existence
	ask.proof = proof
	_, err := p.lookUp(ctx, node, id, ask)
	if !client.HasReason(err, backendv1.ErrorReason_ERROR_REASON_INSTANCE_NOT_FOUND) {
		return err == nil, err
	}
	if err := p.stillJudged(ctx, node); err != nil {
		return false, err
	}
	if !attempt.Gone() {
		removalsPaced.Inc()
		return false, errPaced
	}
	removalsTotal.Inc()
	p.recordGone(node)
	return false, nil
}

// stillJudged returns an error unless the Node is still the one that was judged, by all that the
// judgement was about: it is deleted by its name, and the proof took a while. It is read from the API
// server, never from a cache.
func (p *Provider) stillJudged(ctx context.Context, judged *v1.Node) error {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	now, err := p.kube.Get(ctx, judged.Name, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		return errNoLonger
	case err != nil:
		return fmt.Errorf("%w: %w", errUnread, err)
	case now.UID != judged.UID:
		return errNoLonger
	case now.DeletionTimestamp != nil, IsJoining(now),
		now.Spec.ProviderID != judged.Spec.ProviderID,
		now.Status.NodeInfo.SystemUUID != judged.Status.NodeInfo.SystemUUID,
		now.Labels[LabelSiloID] != judged.Labels[LabelSiloID],
		now.Labels[LabelProjectID] != judged.Labels[LabelProjectID]:
		return errChanged
	}
	return nil
}

// absenceProof returns what the backend must prove before the instance of this node may be given
// up, and how many nodes of the cluster name an instance; or an error that says why it cannot be
// proven.
func (p *Provider) absenceProof(node *v1.Node, id string,
) (proof *backendv1.AbsenceProof, nodes int, unprovable error) {
	if IsJoining(node) {
		return nil, 0, errStillJoining
	}
	proof = &backendv1.AbsenceProof{
		SiloId:    node.Labels[LabelSiloID],
		ProjectId: node.Labels[LabelProjectID],
	}
	if proof.SiloId == "" || proof.ProjectId == "" {
		return nil, 0, errNotStamped
	}
	if p.nodes == nil {
		return nil, 0, errLastNode
	}
	all, err := p.nodes.List(labels.Everything())
	if err != nil {
		return nil, 0, err
	}
	proof.WitnessInstanceIds = referenceInstances(all, id)
	if len(proof.WitnessInstanceIds) == 0 {
		return nil, 0, errLastNode
	}
	for _, each := range all {
		if _, ok := InstanceID(each); ok {
			nodes++
		}
	}
	return proof, nodes, nil
}

// referenceInstances returns the ids of instances that the nodes name, but for one: ready nodes first,
// because their instances are the likeliest to be seen, then by name.
func referenceInstances(nodes []*v1.Node, except string) []string {
	sorted := slices.SortedFunc(slices.Values(nodes), func(a, b *v1.Node) int {
		ready := func(n *v1.Node) int {
			if IsReady(n) {
				return 0
			}
			return 1
		}
		return cmp.Or(cmp.Compare(ready(a), ready(b)), cmp.Compare(a.Name, b.Name))
	})
	var ids []string
	for _, node := range sorted {
		id, ok := InstanceID(node)
		if !ok || id == except || slices.Contains(ids, id) {
			continue
		}
		if ids = append(ids, id); len(ids) == maxReferences {
			break
		}
	}
	return ids
}

// InstanceShutdown reports whether the instance of a node is off and stays so until somebody starts
// it. The framework taints such nodes, so that volumes and pods may move on. One that is being deleted
// needs no taint, and costs nothing.
func (p *Provider) InstanceShutdown(ctx context.Context, node *v1.Node) (shutDown bool, err error) {
	if node.DeletionTimestamp != nil {
		return false, nil
	}
	ctx, span := startSpan(ctx, "InstanceShutdown", node)
	defer func() { tracing.End(span, err) }()
	id, kind, err := parseProviderID(node.Spec.ProviderID)
	if err != nil {
		return false, err
	}
	if kind == idForeign {
		return false, nil
	}
	instance, err := p.lookUp(ctx, node, id, existence)
	if err != nil {
		return false, err
	}
	return instance.GetShutDown(), nil
}

// IsJoining reports whether a node still has the taint that it registered with.
func IsJoining(node *v1.Node) bool {
	return slices.ContainsFunc(node.Spec.Taints, func(taint v1.Taint) bool {
		return taint.Key == cloudproviderapi.TaintExternalCloudProvider
	})
}

// IsReady reports whether kubelet says that the node is ready.
func IsReady(node *v1.Node) bool {
	return slices.ContainsFunc(node.Status.Conditions, func(c v1.NodeCondition) bool {
		return c.Type == v1.NodeReady && c.Status == v1.ConditionTrue
	})
}
