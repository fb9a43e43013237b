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
	keyRemoval = "removal"
	keyForeign = "foreign"
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
)

// recordKept says on a Node why it is kept.
func (p *Provider) recordKept(node *v1.Node, why error) {
	event := events.Event{
		Key: keyRemoval, DedupKey: dedupKey(why), Type: v1.EventTypeWarning, Reason: ReasonKept,
		Message: "The Node is not ready, and is kept: " + client.OneLine(why.Error()),
	}
	if errors.Is(why, errPaced) {
		event.Reason, event.Message = ReasonPaced, "The Node is not removed yet: "+why.Error()
	}
	p.reporter.Record(events.Node(node), event)
}

// dedupKey identifies why a node is kept, whatever the text says.
func dedupKey(why error) string {
	for _, known := range []error{
		errStillJoining, errNotStamped, errLastNode, errNoProviderID, errPaced,
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
