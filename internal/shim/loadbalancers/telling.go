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

	// ReasonPortConflict: an address is reserved and attached nowhere, because its port is taken,
	// reserved or used on every node that could carry it.
	ReasonPortConflict = "PortConflict"

	// ReasonNoCandidate: an address is reserved and attached nowhere, because no node can carry it.
	ReasonNoCandidate = "NoCandidate"

	// ReasonMoved: an address has moved to another node, or was attached to one.
	ReasonMoved = "AddressMoved"

	// ReasonReplaced: a Service that had an address has another one.
	ReasonReplaced = "AddressReplaced"

	// ReasonPending: a change waits for Oxide.
	ReasonPending = "AddressPending"

	// ReasonHeld: an address stays on a node that is not ready, because so many others are not.
	ReasonHeld = "FailoverHeld"

	// ReasonDegraded: the node that carries the address is not fit for it, and no other one is.
	ReasonDegraded = "LoadBalancerDegraded"

	// ReasonNotOwned: an address is somebody else's, and was left alone.
	ReasonNotOwned = "AddressNotOwned"

	// ReasonRenamed: somebody gave an address another name.
	ReasonRenamed = "AddressRenamed"

	// ReasonForeignAttachment: the address is on an instance that never was a Node of this cluster.
	ReasonForeignAttachment = "ForeignAttachment"

	// ReasonUnknownAnnotation: an annotation is nearly one that is known.
	ReasonUnknownAnnotation = "UnknownAnnotation"

	// ReasonOneFamily: the Service prefers both IP families and gets an address of one.
	ReasonOneFamily = "OneIPFamily"
)

// conditionReasons are those of the events by which conditions are told.
var conditionReasons = map[backendv1.ConditionType]string{
	backendv1.ConditionType_CONDITION_TYPE_NO_CANDIDATE:       ReasonNoCandidate,
	backendv1.ConditionType_CONDITION_TYPE_PORT_CONFLICT:      ReasonPortConflict,
	backendv1.ConditionType_CONDITION_TYPE_FIREWALL_CLOSED:    ReasonFirewallClosed,
	backendv1.ConditionType_CONDITION_TYPE_PORT_REFUSED:       ReasonPortRefused,
	backendv1.ConditionType_CONDITION_TYPE_DEGRADED:           ReasonDegraded,
	backendv1.ConditionType_CONDITION_TYPE_NOT_OWNED:          ReasonNotOwned,
	backendv1.ConditionType_CONDITION_TYPE_FOREIGN_ATTACHMENT: ReasonForeignAttachment,
}

// tellConditions tells each condition of a load balancer once while it holds as it is.
func (c *Controller) tellConditions(
	service *v1.Service, conditions []*backendv1.Condition, f facts,
) {
	holds := make(map[string][]string)
	for _, condition := range conditions {
		reason, told := conditionReasons[condition.GetType()]
		if !told {
			continue
		}
		message := provider.OneLine(condition.GetMessage())
		cause := message
		if reason == ReasonNoCandidate {
			what, _, _ := strings.Cut(message, ": ") // why, Kubernetes knows better
			message = what + ": " + explainNoCandidate(service, f)
			cause = reason
		}
		holds[reason] = append(holds[reason], cause)
		c.warn(service, reason, cause, message)
	}
	for _, reason := range conditionReasons {
		c.config.Reporter.Settle(service.UID, reason, holds[reason]...)
	}
}

// untold returns the conditions of which no other event tells: that an address is somebody else's makes
// the framework's call fail, which that tells.
func (c *Controller) untold(
	service *v1.Service, conditions []*backendv1.Condition,
) []*backendv1.Condition {
	if c.config.ReadOnly || c.isEnsured(service) {
		return conditions
	}
	return slices.DeleteFunc(slices.Clone(conditions), func(condition *backendv1.Condition) bool {
		return condition.GetType() == backendv1.ConditionType_CONDITION_TYPE_NOT_OWNED
	})
}

// tellRenamed tells that an address has another name than a look ago. It is found by its marker, so
// nothing else comes of that.
func (c *Controller) tellRenamed(service *v1.Service, lb *backendv1.LoadBalancer) {
	names := make(map[string]string)
	for _, address := range lb.GetAddresses() {
		names[address.GetResourceId()] = address.GetResourceName()
	}
	c.mu.Lock()
	before := c.progress(loadBalancerName(service)).names
	c.progress(loadBalancerName(service)).names = names
	c.mu.Unlock()
	for _, address := range lb.GetAddresses() {
		old, name := before[address.GetResourceId()], address.GetResourceName()
		if address.GetManaged() && old != "" && old != name {
			c.config.Reporter.Settle(service.UID, ReasonRenamed)
			c.warn(service, ReasonRenamed, name, fmt.Sprintf("The floating IP of the address %s was "+
				"renamed from %s to %s: it is kept, but if its marker is lost as well it cannot be "+
				"recognized; rename it back", address.GetAddress(), old, name))
		}
	}
}

// tellHeld tells that an address stays where it is only because so many Nodes are not ready.
func (c *Controller) tellHeld(service *v1.Service, lb *backendv1.LoadBalancer, f facts) {
	names := f.nodeNames()
	for _, address := range lb.GetAddresses() {
		name := names[address.GetAttachment().GetInstanceId()]
		if f.verdicts[name].held {
			if c.warn(service, ReasonHeld, name, fmt.Sprintf("The address %s stays on %s for now, which %s:"+
				" more than half of the nodes have become so within a minute, while Oxide shows their "+
				"instances running", address.GetAddress(), name, f.verdicts[name].why)) {
				holds.Inc()
			}
			return
		}
	}
	c.config.Reporter.Settle(service.UID, ReasonHeld)
}

// tellMove tells that an address has come to a Node. Each time it is told.
func (c *Controller) tellMove(d change, address, from, to, why string) {
	message := fmt.Sprintf("Attached the address %s to %s", address, to)
	if from != "" {
		message = fmt.Sprintf("Moved the address %s from %s to %s", address, from, to)
	}
	switch {
	case why != "":
		message += ": " + from + " " + why
	case from != "":
		message += ": " + reasonOf(d.actions)
	}
	c.config.Reporter.Settle(d.service.UID, ReasonMoved)
	c.tell(d.service, v1.EventTypeNormal, ReasonMoved, message, message)
}

// tellReplaced tells that a Service that publishes an address has got another one. Each time it is told.
func (c *Controller) tellReplaced(service *v1.Service, actions []*backendv1.Action) {
	if len(service.Status.LoadBalancer.Ingress) == 0 {
		return
	}
	for _, action := range actions {
		if action.GetType() == backendv1.ActionType_ACTION_TYPE_CREATE {
			c.config.Reporter.Settle(service.UID, ReasonReplaced)
			c.tell(service, v1.EventTypeNormal, ReasonReplaced, action.GetAddress(), fmt.Sprintf(
				"Allocated the address %s: %s", action.GetAddress(), provider.OneLine(action.GetWhy())))
		}
	}
}

// reasonOf returns why an address was attached, in the backend's words.
func reasonOf(actions []*backendv1.Action) string {
	for _, action := range actions {
		if action.GetType() == backendv1.ActionType_ACTION_TYPE_ATTACH {
			return provider.OneLine(action.GetWhy())
		}
	}
	return "it was there that it could go"
}

// tellWould logs what would be done, where nothing may be changed, and each time it is another thing.
func (c *Controller) tellWould(due []change) {
	c.mu.Lock()
	defer c.mu.Unlock()
	would := make(map[string]string, len(due))
	for _, d := range due {
		name := loadBalancerName(d.service)
		for _, action := range d.actions {
			would[name] += fmt.Sprintf("%s %s %s; ", action.GetType(), action.GetResourceName(),
				action.GetInstanceId())
		}
		if would[name] == c.would[name] {
			continue
		}
		for _, action := range d.actions {
			klog.InfoS("Would change in Oxide", actionKeys(action)...)
		}
	}
	c.would = would
}

// tellOrphans logs each orphan once.
func (c *Controller) tellOrphans(orphans []*backendv1.LoadBalancer) {
	orphanedAddresses.Set(float64(len(orphans)))
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, orphan := range orphans {
		for _, address := range orphan.GetAddresses() {
			if c.orphans[address.GetResourceId()] {
				continue
			}
			c.orphans[address.GetResourceId()] = true
			klog.InfoS("No Service wants an address that is marked as this cluster's; list and delete "+
				"such by oxide.backend.v1.AddressService", "load_balancer", orphan.GetKey().GetName(),
				"address", address.GetAddress(), "resource", address.GetResourceName(),
				"retained", address.GetRetained())
		}
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

func (c *Controller) warn(service *v1.Service, reason, cause, message string) bool {
	return c.tell(service, v1.EventTypeWarning, reason, cause, message)
}

func (c *Controller) tell(service *v1.Service, kind, reason, cause, message string) bool {
	told := c.config.Reporter.Tell(events.Service(service), events.Event{
		Topic: reason, Cause: cause, Type: kind, Reason: reason, Message: message,
	})
	if told {
		klog.InfoS(message, serviceKeys(service, "reason", reason)...)
	}
	return told
}

// logActions tells what the backend changed.
func logActions(actions []*backendv1.Action) {
	for _, action := range actions {
		klog.InfoS("Changed in Oxide", actionKeys(action)...)
	}
}

func actionKeys(action *backendv1.Action) []any {
	namespace, name, _ := strings.Cut(action.GetKey().GetName(), "/")
	return []any{
		"namespace", namespace, "service", name, "load_balancer", action.GetKey().GetName(),
		"action", action.GetType(), "address", action.GetAddress(),
		"resource", action.GetResourceName(), "instance", action.GetInstanceId(),
		"why", provider.OneLine(action.GetWhy()),
	}
}

// serviceKeys returns log keys that name a Service, followed by others.
func serviceKeys(service *v1.Service, more ...any) []any {
	return append([]any{
		"namespace", service.Namespace, "service", service.Name,
		"load_balancer", loadBalancerName(service),
	}, more...)
}
