// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package loadbalancers

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	v1 "k8s.io/api/core/v1"
	"k8s.io/klog/v2"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/shim/annotations"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/shim/events"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/shim/provider"
	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

// Reasons of events on Services: part of what users may rely on. What makes a sync fail is told by the
// framework's SyncLoadBalancerFailed.
const (
	// ReasonFirewallClosed: the VPC firewall lets nothing through to a port.
	ReasonFirewallClosed = "FirewallClosed"

	// ReasonPortRefused: a port that the address serves is reserved, or used by something else.
	ReasonPortRefused = "PortRefused"

	// ReasonDegraded: the node that carries the address is not fit for it, and no other one is.
	ReasonDegraded = "LoadBalancerDegraded"

	// ReasonNotOwned: an address is somebody else's, and was left alone.
	ReasonNotOwned = "AddressNotOwned"

	// ReasonForeignAttachment: the address is on an instance that never was a Node of this cluster.
	ReasonForeignAttachment = "ForeignAttachment"

	// ReasonUnknownAnnotation: an annotation is nearly one that is known.
	ReasonUnknownAnnotation = "UnknownAnnotation"

	// ReasonOneFamily: the Service prefers both IP families and gets an address of one.
	ReasonOneFamily = "OneIPFamily"
)

// conditionReasons are those of conditions that are told by events of their own; of the others the
// framework tells.
var conditionReasons = map[backendv1.ConditionType]string{
	backendv1.ConditionType_CONDITION_TYPE_FIREWALL_CLOSED:    ReasonFirewallClosed,
	backendv1.ConditionType_CONDITION_TYPE_PORT_REFUSED:       ReasonPortRefused,
	backendv1.ConditionType_CONDITION_TYPE_DEGRADED:           ReasonDegraded,
	backendv1.ConditionType_CONDITION_TYPE_NOT_OWNED:          ReasonNotOwned,
	backendv1.ConditionType_CONDITION_TYPE_FOREIGN_ATTACHMENT: ReasonForeignAttachment,
}

// tellConditions tells each condition of a load balancer once while it holds as it is.
func (c *Controller) tellConditions(service *v1.Service, conditions []*backendv1.Condition) {
	holds := make(map[string][]string)
	for _, condition := range conditions {
		reason, told := conditionReasons[condition.GetType()]
		if !told {
			continue
		}
		message := provider.OneLine(condition.GetMessage())
		holds[reason] = append(holds[reason], message)
		c.warn(service, reason, message, message)
	}
	for _, reason := range conditionReasons {
		c.config.Reporter.Settle(service.UID, reason, holds[reason]...)
	}
}

// tellAboutWishes tells of what a Service says that will not be as its user may think.
func (c *Controller) tellAboutWishes(service *v1.Service) {
	wrong := misspelt(service)
	names := slices.Sorted(maps.Keys(wrong))
	for _, name := range names {
		c.warn(service, ReasonUnknownAnnotation, name, fmt.Sprintf(
			"The annotation %s is not known: did you mean %s?", name, wrong[name]))
	}
	c.config.Reporter.Settle(service.UID, ReasonUnknownAnnotation, names...)

	var one []string
	if family, err := wantedFamily(service); err == nil && getsOneOfTwoFamilies(service) {
		name := familyName(family)
		one = append(one, name)
		c.warn(service, ReasonOneFamily, name, fmt.Sprintf("The Service prefers both IP families, and "+
			"gets an %s address only: a second address is not supported yet", name))
	}
	c.config.Reporter.Settle(service.UID, ReasonOneFamily, one...)
}

// getsOneOfTwoFamilies tells whether a Service prefers addresses of both IP families, and does not say
// itself which one it is to have.
func getsOneOfTwoFamilies(service *v1.Service) bool {
	policy := service.Spec.IPFamilyPolicy
	return policy != nil && *policy == v1.IPFamilyPolicyPreferDualStack &&
		len(service.Spec.IPFamilies) > 1 && value(service, annotations.FloatingIPVersion) == ""
}

func (c *Controller) warn(service *v1.Service, reason, cause, message string) {
	told := c.config.Reporter.Tell(events.Service(service), events.Event{
		Topic: reason, Cause: cause, Type: v1.EventTypeWarning, Reason: reason, Message: message,
	})
	if told {
		klog.InfoS(message, serviceKeys(service, "reason", reason)...)
	}
}

// logActions tells what the backend changed.
func logActions(actions []*backendv1.Action) {
	for _, action := range actions {
		namespace, name, _ := strings.Cut(action.GetKey().GetName(), "/")
		klog.InfoS("Changed in Oxide", "namespace", namespace, "service", name,
			"load_balancer", action.GetKey().GetName(), "action", action.GetType(),
			"address", action.GetAddress(), "resource", action.GetResourceName(),
			"instance", action.GetInstanceId(), "why", provider.OneLine(action.GetWhy()))
	}
}

// serviceKeys returns log keys that name a Service, followed by others.
func serviceKeys(service *v1.Service, more ...any) []any {
	return append([]any{
		"namespace", service.Namespace, "service", service.Name,
		"load_balancer", loadBalancerName(service),
	}, more...)
}
