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
	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

// Topics of events on Nodes.
const (
	topicRemoval = "removal"
	topicForeign = "foreign"
)

// Reasons of events on Nodes: part of what users may rely on.
const (
	// ReasonKept: the node is not ready and was looked for; it is kept, the message says why.
	ReasonKept = "NodeKept"

	// ReasonPaced: the instance is gone, and the removal of the node waits.
	ReasonPaced = "NodeRemovalPaced"

	// ReasonGone: the instance is proven to be gone, and the node is being removed.
	ReasonGone = "InstanceGone"

	// ReasonForeign: the node is of another cloud provider.
	ReasonForeign = "ForeignProviderID"
)

// tellKept says on a Node why it is kept.
func (p *Provider) tellKept(node *v1.Node, why error) {
	event := events.Event{
		Topic: topicRemoval, Cause: cause(why), Type: v1.EventTypeWarning, Reason: ReasonKept,
		Message: "The Node is not ready, and is kept: " + OneLine(why.Error()),
	}
	if errors.Is(why, errPaced) {
		event.Reason, event.Message = ReasonPaced, "The Node is not removed yet: "+why.Error()
	}
	p.reporter.Tell(events.Node(node), event)
}

// cause identifies why a node is kept, whatever the text says.
func cause(why error) string {
	for _, known := range []error{
		errStillJoining, errNotStamped, errLastNode, errNoProviderID, errPaced,
	} {
		if errors.Is(why, known) {
			return known.Error()
		}
	}
	var be *BackendError
	switch {
	case !errors.As(why, &be):
		return "other"
	case be.Reason != backendv1.ErrorReason_ERROR_REASON_UNSPECIFIED:
		return be.Reason.String()
	default:
		return be.Code.String()
	}
}

// tellGone says on a Node, and in the log, that it is about to be removed.
func (p *Provider) tellGone(node *v1.Node) {
	klog.InfoS("The instance of the node is gone, the backend has proven it",
		"node", node.Name, "provider_id", node.Spec.ProviderID)
	p.reporter.Tell(events.Node(node), events.Event{
		Topic: topicRemoval, Cause: ReasonGone, Type: v1.EventTypeNormal, Reason: ReasonGone,
		Message: fmt.Sprintf("Oxide does not know the instance of %s any more, while it shows the "+
			"project and the instance of another Node: the Node is removed", node.Spec.ProviderID),
	})
}

// tellForeign says once that another provider manages a node.
func (p *Provider) tellForeign(node *v1.Node) {
	told := p.reporter.Tell(events.Node(node), events.Event{
		Topic: topicForeign, Type: v1.EventTypeNormal, Reason: ReasonForeign,
		Message: fmt.Sprintf("The provider ID %q is of another cloud provider: the Oxide cloud "+
			"controller manager leaves this Node alone", node.Spec.ProviderID),
	})
	if told {
		klog.InfoS("The node is of another cloud provider and is left alone",
			"node", node.Name, "provider_id", node.Spec.ProviderID)
	}
}
