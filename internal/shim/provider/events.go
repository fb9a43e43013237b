// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package provider

import (
	"errors"
	"fmt"

	v1 "k8s.io/api/core/v1"
	"k8s.io/klog/v2"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/shim/events"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/proto/client"
	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

// Keys of events on Nodes.
const (
	keyRemoval        = "removal"
	keyForeign        = "foreign"
	keyInitialization = "initialization"
	keyReplaced       = "replaced"
	keyName           = "name"
)

// Reasons of events on Nodes: part of what users may rely on.
const (
	// ReasonKept: the node is not ready and was asked about; it is kept, the message says why.
	ReasonKept = "NodeKept"

	// ReasonPaced: the instance is gone, and the removal of the node waits.
	ReasonPaced = "NodeRemovalPaced"

	// ReasonGone: the instance is proven to be gone, and the node is being removed.
	ReasonGone = "InstanceGone"

	// ReasonForeign: the node is of another cloud provider.
	ReasonForeign = "ForeignProviderID"

	// ReasonNotInitialized: the node cannot be initialized, because no instance is certain to be its own.
	ReasonNotInitialized = "NodeNotInitialized"

	// ReasonReplaced: the provider ID names another instance than the node's machine reports to be.
	ReasonReplaced = "InstanceReplaced"

	// ReasonNameMismatch: the node's name points to another instance than the one that it is.
	ReasonNameMismatch = "NodeNameMismatch"
)

// recordKept says on a Node why it is kept.
func (p *Provider) recordKept(node *v1.Node, why error) {
	switch {
	case errors.Is(why, errNoLonger):
		return // there is nothing left to record it on
	case client.HasReason(why, backendv1.ErrorReason_ERROR_REASON_INSTANCE_REPLACED),
		IsJoining(node) && !errors.Is(why, errStillJoining):
		p.recordUnmatched(node, why)
		return
	}
	event := events.Event{
		Key: keyRemoval, DedupKey: dedupKey(why), Type: v1.EventTypeWarning, Reason: ReasonKept,
		Message: "The Node is not ready, and is kept: " + client.OneLine(why.Error()) + remedy(why),
	}
	if errors.Is(why, errPaced) {
		event.Reason, event.Message = ReasonPaced, "The Node is not removed yet: "+why.Error()
	}
	p.reporter.Record(events.Node(node), event)
}

// dedupKey identifies why a node is kept, whatever the text says.
func dedupKey(why error) string {
	for _, known := range []error{
		errStillJoining, errNotStamped, errLastNode, errPaced, errChanged, errUnread, errMalformed,
	} {
		if errors.Is(why, known) {
			return known.Error()
		}
	}
	var be *client.Error
	switch {
	case !errors.As(why, &be):
		return "other"
	case be.Reason != backendv1.ErrorReason_ERROR_REASON_UNSPECIFIED:
		return be.Reason.String()
	default:
		return be.Code.String()
	}
}

// remedy says what to do about an error, as a sentence that follows it; empty: the error does.
func remedy(why error) string {
	switch {
	case errors.Is(why, errMalformed):
		return ". A provider ID cannot be changed: delete the Node, correct --provider-id of its kubelet, " +
			"and restart that"
	case client.HasReason(why, backendv1.ErrorReason_ERROR_REASON_INSTANCE_NOT_IDENTIFIED):
		return ". Give the Node the name or the hostname of its instance (--hostname-override of its " +
			"kubelet), or start its kubelet with --provider-id=" + providerIDPrefix + "<id of the instance>; " +
			"an instance of another project cannot be a Node"
	case client.HasReason(why, backendv1.ErrorReason_ERROR_REASON_INSTANCE_IDENTITY_CONFLICT):
		return ". Correct the one that is wrong: --node-ip of the kubelet, the project that oxide-backend " +
			"works in, or a Node that is left over and has to be deleted"
	}
	return ""
}

// recordUnmatched says on a Node why it cannot be initialized, or that its instance was replaced. Of a
// Node that is initialized other errors say nothing new.
func (p *Provider) recordUnmatched(node *v1.Node, why error) {
	switch {
	case client.HasReason(why, backendv1.ErrorReason_ERROR_REASON_INSTANCE_REPLACED):
		p.recordReplaced(node, client.OneLine(why.Error()))
	case IsJoining(node):
		p.reporter.Record(events.Node(node), events.Event{
			Key: keyInitialization, DedupKey: dedupKey(why), Type: v1.EventTypeWarning,
			Reason:  ReasonNotInitialized,
			Message: "The Node cannot be initialized: " + client.OneLine(why.Error()) + remedy(why),
		})
	}
}

// recordReplaced says that the provider ID and the machine of a Node disagree.
func (p *Provider) recordReplaced(node *v1.Node, what string) {
	recorded := p.reporter.Record(events.Node(node), events.Event{
		Key: keyReplaced, Type: v1.EventTypeWarning, Reason: ReasonReplaced,
		Message: "The provider ID is not that of the Node's machine: " + what + ". A provider ID cannot " +
			"be changed: if the instance was created again under its name, delete the Node and restart its " +
			"kubelet, so that it registers again. Until then the Node is kept",
	})
	if recorded {
		klog.InfoS("The provider ID of the node is not that of its machine", "node", node.Name,
			"provider_id", node.Spec.ProviderID, "system_uuid", node.Status.NodeInfo.SystemUUID)
	}
}

// recordOthers says on a Node which other instances something points to that it reports.
func (p *Provider) recordOthers(node *v1.Node, response *backendv1.GetInstanceResponse) {
	instance, others := response.GetInstance(), response.GetOtherInstances()
	known := response.GetIdentifiedBy() == backendv1.IdentifiedBy_IDENTIFIED_BY_ID
	switch {
	case len(others) == 0 && known:
		p.reporter.Clear(node.UID, keyReplaced)
	case len(others) == 0:
		p.reporter.Clear(node.UID, keyName)
	case known:
		p.recordReplaced(node, fmt.Sprintf("it names the instance %s (%s), but the machine reports the "+
			"system UUID of the instance %s (%s)", instance.GetName(), instance.GetId(),
			others[0].GetName(), others[0].GetId()))
	default:
		p.reporter.Record(events.Node(node), events.Event{
			Key: keyName, DedupKey: others[0].GetId(), Type: v1.EventTypeWarning,
			Reason: ReasonNameMismatch,
			Message: fmt.Sprintf("The Node is the instance %s (%s), found by its %s. By the Node's name as "+
				"%s it would be the instance %s (%s): name the Node after its own instance to avoid mistakes",
				instance.GetName(), instance.GetId(), evidence(response.GetIdentifiedBy()),
				evidence(others[0].GetIdentifiedBy()), others[0].GetName(), others[0].GetId()),
		})
	}
}

// evidence names what an instance was found by, for people.
func evidence(by backendv1.IdentifiedBy) string {
	switch by {
	case backendv1.IdentifiedBy_IDENTIFIED_BY_SYSTEM_UUID:
		return "system UUID"
	case backendv1.IdentifiedBy_IDENTIFIED_BY_NAME:
		return "name"
	case backendv1.IdentifiedBy_IDENTIFIED_BY_HOSTNAME:
		return "hostname"
	}
	return "id"
}

// recordGone says on a Node, and in the log, that it is about to be removed.
func (p *Provider) recordGone(node *v1.Node) {
	klog.InfoS("The instance of the node is gone, the backend has proven it",
		"node", node.Name, "provider_id", node.Spec.ProviderID)
	p.reporter.Record(events.Node(node), events.Event{
		Key: keyRemoval, DedupKey: ReasonGone, Type: v1.EventTypeNormal, Reason: ReasonGone,
		Message: fmt.Sprintf("Oxide does not know the instance of %s any more, while it shows the "+
			"project and the instance of another Node: the Node is removed", node.Spec.ProviderID),
	})
}

// recordForeign says once that another provider manages a node.
func (p *Provider) recordForeign(node *v1.Node) {
	recorded := p.reporter.Record(events.Node(node), events.Event{
		Key: keyForeign, Type: v1.EventTypeNormal, Reason: ReasonForeign,
		Message: fmt.Sprintf("The provider ID %q is of another cloud provider: the Oxide cloud "+
			"controller manager leaves this Node alone", node.Spec.ProviderID),
	})
	if recorded {
		klog.InfoS("The node is of another cloud provider and is left alone",
			"node", node.Name, "provider_id", node.Spec.ProviderID)
	}
}
